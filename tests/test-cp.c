/* SPDX-License-Identifier: Apache-2.0 */

/* agent/cp: what goes out with which credentials, what each answer means, when the next request may go. Real HTTP, a scripted server. */

#include <errno.h>

#include "tests/cp-kit.h"

typedef struct Result {
        int    done;
        CpKind kind;
        long   status;
        Fault  fault;
        bool   has_json;
        char   body[256], etag[128], value[64];
} Result;

static void on_answer(const CpAnswer *a, void *userdata) {
        Result *r = userdata;

        r->done++;
        r->kind = a->kind;
        r->status = a->status;
        r->fault = a->fault;
        r->has_json = a->json != NULL;
        (void) snprintf(r->body, sizeof r->body, "%.200s", a->body ?: "");
        (void) snprintf(r->etag, sizeof r->etag, "%.100s", a->etag);
        (void) snprintf(r->value, sizeof r->value, "%.60s", json_get_string(a->json, "value") ?: "");
}

static Cp *new_cp(void) {
        Config config = cp_config();
        Credentials credentials = kit_credentials("the-secret", "the-admin-token");
        Cp *cp = NULL;

        cp_kit_reset();
        if (!CHECK_INT(cp_new(event, http, &identity, &cp), 0) || !CHECK_INT(cp_configure(cp, &config, &credentials, NULL), 0))
                abort();
        return cp;
}

static Result ask(Cp *cp, const CpRequest *q) {
        Result r = {};

        if (CHECK_INT(cp_send(cp, q, on_answer, &r, NULL), 0))
                CHECK(loop_until(event, &r.done, 1, 5000));
        return r;
}

static Result get(Cp *cp, const char *path) { return ask(cp, &(CpRequest) { .path = path }); }

/* ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_host_s_request) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        Result r;

        rule("POST /api/v1/hosts", -1, 200, CP_JSON "ETag: \"e1\"\r\n", "{\"value\":\"x\"}");
        r = ask(cp, &(CpRequest) { .method = "POST", .path = "/hosts", .body = "{\"a\":1}" });
        CHECK_INT(r.kind, CP_OK);
        CHECK_INT(r.status, 200);
        CHECK_STR(r.value, "x");
        CHECK_STR(r.etag, "\"e1\"");
        CHECK(!r.fault.set && cp_fault(cp) == NULL);
        CHECK_STR(seen_line(0), "POST /api/v1/hosts");
        CHECK_STR(script->seen[0].body, "{\"a\":1}");
        CHECK(seen_header(0, "Authorization: Bearer the-secret"));
        CHECK(seen_header(0, "X-Molecule-Admin-Token: the-admin-token"));
        CHECK(seen_header(0, "X-Molecule-Org-Id: " KIT_ORG));
        CHECK(seen_header(0, "X-Molecule-Boot-Id: " CP_BOOT));
        CHECK(seen_header(0, "X-Molecule-Host-Id: " KIT_HOST));
        CHECK(seen_header(0, "X-Molecule-Agent-Protocol: 1"));
        CHECK(seen_header(0, "User-Agent: molecule-agent/" VERSION));
        CHECK(seen_header(0, "Content-Type: application/json"));
        CHECK(seen_header(0, "Accept: application/json"));
}

TEST(a_tenant_s_request_has_only_the_admin_token) {
        _cleanup_(cp_freep) Cp *cp = new_cp();

        rule("GET /api/v1/tenants/config", -1, 200, CP_JSON, "{}");
        CHECK_INT(ask(cp, &(CpRequest) { .path = "/tenants/config", .auth = CP_AUTH_TENANT }).kind, CP_OK);
        CHECK(seen_header(0, "Authorization: Bearer the-admin-token"));
        CHECK(seen_header(0, "X-Molecule-Org-Id: " KIT_ORG));
        CHECK(!strstr(script->seen[0].head, "the-secret") && !seen_header_name(0, "X-Molecule-Admin-Token"));
}

TEST(a_request_without_credentials_has_none) {
        _cleanup_(cp_freep) Cp *cp = new_cp();

        rule("GET /api/v1/x", -1, 200, CP_JSON, "{}");
        CHECK_INT(ask(cp, &(CpRequest) { .path = "/x", .auth = CP_AUTH_NONE }).kind, CP_OK);
        CHECK(!seen_header_name(0, "Authorization") && !seen_header_name(0, "X-Molecule-Admin-Token") &&
              !seen_header_name(0, "X-Molecule-Org-Id"));
        CHECK(!strstr(script->seen[0].head, "the-secret") && !strstr(script->seen[0].head, "the-admin-token"));
}

TEST(new_credentials_go_out_from_then_on) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        Config config = cp_config();
        Credentials credentials = kit_credentials("another", "token2");

        rule("GET /cp/x", -1, 200, CP_JSON, "{}");
        config.cp_prefix = (char *) "/cp";
        CHECK_INT(cp_configure(cp, &config, &credentials, NULL), 0);
        CHECK_INT(get(cp, "/x").kind, CP_OK);
        CHECK(seen_header(0, "Authorization: Bearer another") && !strstr(script->seen[0].head, "the-secret"));
}

TEST(not_modified) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        Result r;

        rule("GET /api/v1/pins", -1, 304, "ETag: \"e1\"\r\n", "");
        r = ask(cp, &(CpRequest) { .path = "/pins", .if_none_match = "\"e1\"" });
        CHECK_INT(r.kind, CP_OK);
        CHECK(r.status == 304 && !r.has_json);
        CHECK(seen_header(0, "If-None-Match: \"e1\""));
        (void) ask(cp, &(CpRequest) { .path = "/pins", .if_none_match = "" });
        CHECK(!seen_header_name(1, "If-None-Match"));
}

/* ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────── */

#define HTML "Content-Type: text/html\r\n"

static const struct { int status; const char *headers, *body; CpKind kind; const char *code; } answers[] = {
        { 200, CP_JSON, "{}", CP_OK, "" },
        { 200, "Content-Type: application/json; charset=utf-8\r\n", "{\"a\":[]}", CP_OK, "" },
        { 201, CP_JSON, "{}", CP_OK, "" },
        { 200, HTML, "<html>login</html>", CP_UNREACHABLE, "control_plane_unreachable" },
        { 200, "", "{}", CP_UNREACHABLE, "control_plane_unreachable" },
        { 200, CP_JSON, "{", CP_UNREACHABLE, "control_plane_unreachable" },
        { 200, CP_JSON, "", CP_UNREACHABLE, "control_plane_unreachable" },
        { 200, CP_JSON, "{\"a\":1,\"a\":2}", CP_UNREACHABLE, "control_plane_unreachable" },
        { 200, CP_JSON, "{}{}", CP_UNREACHABLE, "control_plane_unreachable" },
        { 200, CP_JSON, "{\"a\":\"\xff\"}", CP_UNREACHABLE, "control_plane_unreachable" },
        { 304, CP_JSON, "{}", CP_UNREACHABLE, "control_plane_unreachable" },           /* nobody asked whether it had changed */
        { 301, "Location: /api/v1/elsewhere\r\n", "", CP_UNREACHABLE, "control_plane_unreachable" },
        { 302, "Location: /api/v1/elsewhere\r\n" CP_JSON, "{}", CP_UNREACHABLE, "control_plane_unreachable" },
        { 307, "Location: /api/v1/elsewhere\r\n", "", CP_UNREACHABLE, "control_plane_unreachable" },
        { 308, "Location: /api/v1/elsewhere\r\n", "", CP_UNREACHABLE, "control_plane_unreachable" },
        { 400, CP_JSON, "{\"error\":\"x\"}", CP_REFUSED, "control_plane_unreachable" },
        { 401, CP_JSON, "{\"error\":\"unauthorized\"}", CP_AUTH, "auth_rejected" },
        { 401, HTML, "<html>", CP_AUTH, "auth_rejected" },
        { 403, CP_JSON, "{}", CP_AUTH, "auth_rejected" },
        { 404, CP_JSON, "{\"error\":\"host_unknown\"}", CP_HOST_UNKNOWN, NULL },
        { 404, CP_JSON, "{\"error\":\"other\"}", CP_NOT_FOUND, "control_plane_misrouted" },
        { 404, HTML, "host_unknown", CP_NOT_FOUND, "control_plane_misrouted" },
        { 409, CP_JSON, "{\"error\":\"host_id_in_use\"}", CP_IN_USE, "host_id_in_use" },
        { 409, CP_JSON, "{\"error\":\"sealing_key_conflict\"}", CP_CONFLICT, NULL },
        { 410, CP_JSON, "{}", CP_REVOKED, "host_revoked" },
        { 413, HTML, "too big", CP_REFUSED, "too_large" },
        { 422, CP_JSON, "{}", CP_REFUSED, NULL },
        { 426, CP_JSON, "{}", CP_PROTOCOL, "unsupported_control_plane" },
        { 429, CP_JSON, "{}", CP_LATER, "control_plane_unreachable" },
        { 500, CP_JSON, "{\"error\":\"x\"}", CP_UNREACHABLE, "control_plane_unreachable" },
        { 502, HTML, "<html>bad gateway</html>", CP_UNREACHABLE, "control_plane_unreachable" },
        { 503, CP_JSON, "{}", CP_LATER, "control_plane_unreachable" },
        { 418, CP_JSON, "{}", CP_UNREACHABLE, "control_plane_unreachable" },
        { CP_CLOSE, "", "", CP_UNREACHABLE, "control_plane_unreachable" },
};

TEST(what_each_answer_means) {
        for (size_t i = 0; i < ELEMENTS(answers); i++) {
                _cleanup_(cp_freep) Cp *cp = new_cp();
                Result r;

                rule("GET /api/v1/x", -1, answers[i].status, answers[i].headers, answers[i].body);
                r = get(cp, "/x");
                if (!CHECK_INT(r.kind, answers[i].kind) || (answers[i].code && !CHECK_STR(kit_code(&r.fault), answers[i].code)) ||
                    !CHECK((r.kind == CP_OK) == !r.fault.set))
                        printf("#   in: %d %s %s\n", answers[i].status, answers[i].body, r.fault.text);
                CHECK((cp_fault(cp) != NULL) == r.fault.set);
                CHECK(!r.fault.set || r.kind == CP_IN_USE || r.kind == CP_HOST_UNKNOWN || strstr(r.fault.text, "127.0.0.1"));
                CHECK_INT(seen_like("GET /api/v1/elsewhere"), 0);
        }
}

TEST(incident_39_a_body_is_never_in_the_words) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        Result r;

        rule("GET /api/v1/x", 1, 500, CP_JSON, "{\"error\":\"open-sesame\"}");
        rule("GET /api/v1/x", 1, 200, HTML, "<html>open-sesame</html>");
        for (int i = 0; i < 2; i++) {
                r = get(cp, "/x");
                CHECK(r.fault.set && !strstr(r.fault.text, "sesame"));
        }
}

TEST(an_answer_over_its_limit) {
        _cleanup_(cp_freep) Cp *cp = new_cp();

        rule("GET /api/v1/x", -1, 200, CP_JSON, "{\"value\":\"0123456789012345678901234567890123456789\"}");
        CHECK_INT(ask(cp, &(CpRequest) { .path = "/x", .answer_max = 20 }).kind, CP_UNREACHABLE);
        CHECK_INT(ask(cp, &(CpRequest) { .path = "/x", .answer_max = 200 }).kind, CP_OK);
}

TEST(a_fault_goes_with_the_next_success) {
        _cleanup_(cp_freep) Cp *cp = new_cp();

        rule("GET /api/v1/x", 1, 500, CP_JSON, "{}");
        rule("GET /api/v1/x", 1, 200, CP_JSON, "{}");
        (void) get(cp, "/x");
        CHECK_STR(kit_code(cp_fault(cp) ?: &(Fault) {}), "control_plane_unreachable");
        (void) get(cp, "/x");
        CHECK(cp_fault(cp) == NULL);
}

TEST(incident_41_no_one_listens) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        Credentials credentials = kit_credentials("s", "a");
        Config config = cp_config();
        Result r;

        config.cp_url = (char *) "http://127.0.0.1:1";
        CHECK_INT(cp_configure(cp, &config, &credentials, NULL), 0);
        r = get(cp, "/x");
        CHECK_INT(r.kind, CP_UNREACHABLE);
        CHECK_INT(r.status, 0);
        CHECK_STR(kit_code(&r.fault), "control_plane_unreachable");
        CHECK_STR(r.etag, "");
}

TEST(cancelled) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        CpCall *call = NULL;
        Result r = {};

        rule("GET /api/v1/x", -1, CP_HANG, "", "");
        CHECK_INT(cp_send(cp, &(CpRequest) { .path = "/x" }, on_answer, &r, &call), 0);
        CHECK(seen_until(1, 3000));
        CHECK(cp_call_cancel(call) == NULL && cp_call_cancel(NULL) == NULL);
        loop_for(event, 50);
        CHECK_INT(r.done, 0);
}

/* ── its clock ───────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(its_time_is_the_last_date_and_what_passed_since) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        uint64_t date = UINT64_C(784111777) * USEC_PER_SEC;
        double skew = 0;

        CHECK_INT(cp_time(cp), 0);
        CHECK(!cp_clock_skew(cp, &skew));
        rule("GET /api/v1/bad", -1, 500, CP_JSON "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "{}");
        rule("GET /api/v1/html", -1, 200, HTML "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "x");
        rule("GET /api/v1/good", -1, 200, CP_JSON "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "{}");
        rule("GET /api/v1/none", -1, 200, CP_JSON, "{}");
        (void) get(cp, "/bad");
        (void) get(cp, "/html");
        CHECK_INT(cp_time(cp), 0);                      /* only a 2xx of the control plane counts */
        (void) get(cp, "/good");
        CHECK(cp_time(cp) >= date && cp_time(cp) < date + 5 * USEC_PER_SEC);
        pass(3600);
        (void) get(cp, "/none");
        CHECK(cp_time(cp) >= date + 3600 * USEC_PER_SEC && cp_time(cp) < date + 3605 * USEC_PER_SEC);
        CHECK(cp_clock_skew(cp, &skew));
        CHECK(skew > 9e8);
}

/* ── pace ────────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_loop_s_back_off) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        CpPace pace = CP_PACE_INIT;
        uint64_t before = USEC_PER_SEC;

        CHECK_INT(cp_pace(cp, &pace, CP_OK), 0);
        for (int i = 0; i < 8; i++) {
                uint64_t wait = cp_pace(cp, &pace, CP_UNREACHABLE);

                CHECK(wait >= USEC_PER_SEC && wait <= 60 * USEC_PER_SEC && wait <= 3 * before);
                before = wait;
        }
        CHECK_INT(cp_pace(cp, &pace, CP_OK), 0);
        CHECK_INT(cp_pace(cp, &pace, CP_OK), 0);
        CHECK(cp_pace(cp, &pace, CP_UNREACHABLE) <= 3 * USEC_PER_SEC);
}

TEST(a_budget_for_all_loops_together) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        int at_cap = 0;

        for (int i = 0; i < 15; i++) {
                CpPace fresh = CP_PACE_INIT;

                at_cap += cp_pace(cp, &fresh, CP_UNREACHABLE) == 60 * USEC_PER_SEC;
        }
        CHECK_INT(at_cap, 5);                           /* ten tries of 5 out of 50 */
}

TEST(retry_after_is_law_for_every_loop) {
        static const struct { int status; const char *header; double least, most; } table[] = {
                { 503, "Retry-After: 120\r\n", 120, 144 },
                { 429, "Retry-After: 10\r\n", 10, 12 },
                { 503, "Retry-After: 86400\r\n", 900, 1080 },
                { 503, "Retry-After: Sun, 06 Nov 1994 08:51:37 GMT\r\n", 115, 144 },
                { 500, "Retry-After: 50\r\n", 50, 60 },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_(cp_freep) Cp *cp = new_cp();
                _cleanup_free_ char *headers = str_printf(CP_JSON "%s", table[i].header);
                CpPace a = CP_PACE_INIT, other = CP_PACE_INIT;
                Result r = {};
                double wait;

                rule("GET /api/v1/date", -1, 200, CP_JSON "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "{}");
                rule("GET /api/v1/x", 1, table[i].status, headers, "{}");
                rule("GET /api/v1/", -1, 200, CP_JSON, "{}");
                (void) get(cp, "/date");
                (void) get(cp, "/x");
                wait = (double) cp_pace(cp, &a, CP_LATER) / 1e6;
                if (!CHECK(wait > table[i].least - 1 && wait <= table[i].most))
                        printf("#   in: %s %f\n", table[i].header, wait);
                CHECK((double) cp_pace(cp, &other, CP_OK) / 1e6 > table[i].least - 2);

                /* A loop that asks all the same waits here. */
                CHECK_INT(cp_send(cp, &(CpRequest) { .path = "/y" }, on_answer, &r, NULL), 0);
                loop_for(event, 50);
                CHECK_INT(r.done, 0);
                CHECK_INT(seen_like("GET /api/v1/y"), 0);
                pass((uint64_t) table[i].most + 1);
                CHECK(loop_until(event, &r.done, 1, 3000));
                CHECK_INT(r.kind, CP_OK);
        }
}

static void on_count(const CpAnswer *a, void *userdata) {
        (void) a;
        ++*(int *) userdata;
}

/* Two were on their way when the first was told to come later; the second is told so while another already waits. */
TEST(a_wait_that_grows_holds_for_those_who_wait) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        Result waits = {};
        int done = 0;

        rule("GET /api/v1/x", -1, 503, CP_JSON "Retry-After: 10\r\n", "{}");
        rule("GET /api/v1/y", -1, 200, CP_JSON, "{}");
        for (int i = 0; i < 2; i++)
                CHECK_INT(cp_send(cp, &(CpRequest) { .path = "/x" }, on_count, &done, NULL), 0);
        CHECK(loop_until(event, &done, 1, 3000) && done == 1);
        CHECK_INT(cp_send(cp, &(CpRequest) { .path = "/y" }, on_answer, &waits, NULL), 0);
        clock_push(8 * USEC_PER_SEC);
        CHECK(loop_until(event, &done, 2, 3000));
        cp_hurry(cp);                                   /* of an operator, who cannot make it longer for those who wait either */
        pass(5);
        loop_for(event, 50);
        CHECK_INT(seen_like("GET /api/v1/y"), 0);
        CHECK(waits.done == 1 && waits.kind == CP_LATER && waits.fault.set);
        CHECK(cp_held_back(cp) > 0);
}

TEST(a_request_that_waits_can_be_cancelled) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        CpCall *call = NULL;
        Result r = {};

        rule("GET /api/v1/x", 1, 503, CP_JSON "Retry-After: 30\r\n", "{}");
        (void) get(cp, "/x");
        CHECK_INT(cp_send(cp, &(CpRequest) { .method = "POST", .path = "/y", .body = "{}", .if_none_match = "z" }, on_answer, &r, &call),
                  0);
        CHECK(cp_call_cancel(call) == NULL);
        pass(60);
        loop_for(event, 50);
        CHECK_INT(r.done, 0);
        CHECK_INT(seen_like("POST"), 0);
}

TEST(a_lost_connection_spreads_the_fleet) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        uint64_t most = 0;

        for (int i = 0; i < 12; i++) {
                CpPace pace = CP_PACE_INIT;

                forget_rules();
                rule("GET /api/v1/good", -1, 200, CP_JSON, "{}");
                rule("GET /api/v1/lost", -1, CP_CLOSE, "", "");
                (void) get(cp, "/good");
                (void) get(cp, "/lost");
                CHECK(cp_pace(cp, &pace, CP_OK) <= 30 * USEC_PER_SEC);
                most = cp_pace(cp, &pace, CP_OK) > most ? cp_pace(cp, &pace, CP_OK) : most;
                pass(31);
        }
        CHECK(most > 5 * USEC_PER_SEC);                 /* all twelve within the first five of thirty seconds: once in 10^9 runs */
}

/* Nobody there: all loops together wait longer each time, and what was on its way meanwhile does not count. */
TEST(nobody_there_is_the_whole_host_s_back_off) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        uint64_t before, wait = USEC_PER_SEC;
        int done = 0;

        rule("GET /api/v1/good", -1, 200, CP_JSON, "{}");
        rule("GET /api/v1/lost", -1, CP_CLOSE, "", "");
        for (int i = 0; i < 6; i++) {
                before = wait;
                done = 0;
                for (int n = 0; n < 3; n++)
                        CHECK_INT(cp_send(cp, &(CpRequest) { .path = "/lost" }, on_count, &done, NULL), 0);
                CHECK(loop_until(event, &done, 3, 3000));
                wait = cp_held_back(cp);
                CHECK(wait > USEC_PER_SEC / 2 && wait <= 60 * USEC_PER_SEC && wait <= 3 * before + USEC_PER_SEC);
                pass(wait / USEC_PER_SEC + 1);
        }
        (void) get(cp, "/good");
        (void) get(cp, "/good");
        (void) get(cp, "/lost");
        before = cp_held_back(cp);
        CHECK(before <= 30 * USEC_PER_SEC);
        pass(31);
        (void) get(cp, "/lost");
        CHECK(cp_held_back(cp) <= (before > USEC_PER_SEC ? 3 * before : 3 * USEC_PER_SEC) + USEC_PER_SEC);
}

/* Somebody waits on the host: of what holds requests back, only what the control plane asked for and the spread stand. */
TEST(a_hurry_ends_our_own_pause_alone) {
        _cleanup_(cp_freep) Cp *cp = new_cp();
        int waiting = 0;
        uint64_t spread;

        rule("GET /api/v1/good", -1, 200, CP_JSON, "{}");
        rule("GET /api/v1/lost", -1, CP_CLOSE, "", "");
        rule("GET /api/v1/later", -1, 503, CP_JSON "Retry-After: 20\r\n", "{}");
        (void) get(cp, "/good");
        (void) get(cp, "/lost");
        spread = cp_held_back(cp);
        cp_hurry(cp);
        CHECK(cp_held_back(cp) + USEC_PER_SEC > spread);
        pass(31);
        (void) get(cp, "/lost");
        CHECK(cp_held_back(cp) > USEC_PER_SEC / 2);
        CHECK_INT(cp_send(cp, &(CpRequest) { .path = "/good" }, on_count, &waiting, NULL), 0);
        CHECK_INT(cp_send(cp, &(CpRequest) { .path = "/later" }, on_count, &waiting, NULL), 0);
        loop_for(event, 100);
        CHECK_INT(waiting, 0);
        cp_hurry(cp);
        CHECK_INT(cp_held_back(cp), 0);
        CHECK(loop_until(event, &waiting, 2, 3000));
        CHECK(cp_held_back(cp) > 15 * USEC_PER_SEC);
        cp_hurry(cp);
        CHECK(cp_held_back(cp) > 15 * USEC_PER_SEC);
}

int main(void) { return cp_kit_main(); }
