/* SPDX-License-Identifier: Apache-2.0 */

/* agent/control in each trouble: credentials, what is said of this host, what is no control plane, and what passes. */

#include "tests/control-kit.h"

/* ── credentials ─────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(incident_27_in_the_first_90_seconds_each_second) {
        static const struct { int status; const char *body; } table[] = { { 401, "{}" }, { 404, "{\"error\":\"not found\"}" } };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_site_ Site s;

                site(&s, false);
                rule(REFRESH, -1, 503, CP_JSON, "{}");
                rule("", -1, table[i].status, CP_JSON, table[i].body);
                start(&s);
                for (int k = 0; k < 20; k++) {
                        settle(&s);
                        CHECK_STR(fault_of(&s), "");
                        CHECK_INT(rest(&s), USEC_PER_SEC);
                        CHECK_INT(seen_like(REGISTER), k + 1);
                        pass(1);
                }
                CHECK_INT(seen_like(SIBLING), 0);
                settle(&s);
                pass(90);
                settle(&s);
                CHECK_STR(fault_of(&s), i == 0 ? "auth_rejected" : "control_plane_misrouted");
        }
}

TEST(a_401_later_takes_the_new_secret) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(REFRESH, -1, 200, CP_JSON,
             "{\"MOLECULE_CP_SHARED_SECRET\":\"s2\",\"MOLECULE_CP_URL\":\"https://evil.example\",\"ADMIN_TOKEN\":\"evil\"}");
        rule(POLL, 1, 401, CP_JSON, "{}");
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(4, 3000));
        CHECK_STR(seen_line(2), REFRESH);
        CHECK(seen_header(2, "Authorization: Bearer admin") && !seen_header_name(2, "X-Molecule-Admin-Token"));
        CHECK(strncmp(seen_line(3), POLL, strlen(POLL)) == 0);
        CHECK(seen_header(3, "Authorization: Bearer s2"));
        CHECK(seen_header(3, "X-Molecule-Admin-Token: admin"));
        CHECK_STR(s.secrets, "[s2]");
}

TEST(incident_28_nothing_empty_ever_replaces_the_secret) {
        static const char *const bodies[] = { "{\"MOLECULE_CP_SHARED_SECRET\":\"\"}", "{\"MOLECULE_CP_SHARED_SECRET\":\" \\n\"}",
                                              "{\"MOLECULE_CP_SHARED_SECRET\":null}", "{\"MOLECULE_CP_SHARED_SECRET\":7}", "{}", "[]" };

        for (size_t i = 0; i < ELEMENTS(bodies); i++) {
                _cleanup_site_ Site s;

                site(&s, true);
                rule(REFRESH, -1, 200, CP_JSON, bodies[i]);
                rule(REGISTER, -1, 401, CP_JSON, "{}");
                start(&s);
                CHECK(seen_until(3, 3000));
                settle(&s);
                CHECK_INT(seen_count(), 3);
                CHECK(seen_header(2, "Authorization: Bearer s1"));
                CHECK_STR(secret_text(s.credentials.provision_secret), "s1");
                CHECK_STR(fault_of(&s), "auth_rejected");
                CHECK_INT(rest(&s), 300 * USEC_PER_SEC);
        }
}

TEST(each_round_may_refresh_once) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REFRESH, 1, 503, CP_JSON, "{}");
        rule(REFRESH, 1, 200, CP_JSON, "{\"MOLECULE_CP_SHARED_SECRET\":\"s2\"}");
        rule(REGISTER, 3, 403, CP_JSON, "{}");
        rule(REGISTER, 1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(3, 3000));
        settle(&s);
        CHECK_INT(rest(&s), 300 * USEC_PER_SEC);
        pass(299);
        loop_for(event, 50);
        CHECK_INT(seen_count(), 3);
        pass(2);
        CHECK(seen_until(7, 3000));
        CHECK_INT(seen_like(REFRESH), 2);
        CHECK(seen_header(5, "Authorization: Bearer s2"));
        CHECK_INT(control_state(s.control), CONTROL_POLLING);
        CHECK_STR(fault_of(&s), "");
}

/* ── what the control plane says of this host ────────────────────────────────────────────────────────────────── */

TEST(unknown_registers_again) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, 1, 404, CP_JSON, "{\"error\":\"host_unknown\"}");
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(2, 3000));
        settle(&s);
        CHECK_INT(control_state(s.control), CONTROL_REGISTERING);
        CHECK(rest(&s) <= 3 * USEC_PER_SEC);
        pass(3);
        CHECK(seen_until(4, 3000));
        CHECK_STR(seen_line(2), REGISTER);
        CHECK_INT(seen_like(SIBLING), 0);
        CHECK_INT(control_state(s.control), CONTROL_POLLING);
}

TEST(revoked_asks_once_an_hour) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 410, CP_JSON, "{}");
        start(&s);
        CHECK(seen_until(1, 3000));
        settle(&s);
        CHECK_STR(fault_of(&s), "host_revoked");
        CHECK_INT(rest(&s), 3600 * USEC_PER_SEC);
        pass(3590);
        loop_for(event, 50);
        CHECK_INT(seen_count(), 1);
        pass(11);
        CHECK(seen_until(2, 3000));
}

TEST(in_use_elsewhere_is_parked_for_this_boot) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, 409, CP_JSON, "{\"error\":\"host_id_in_use\"}");
        start(&s);
        CHECK(seen_until(2, 3000));
        for (int i = 0; i < 100 && control_state(s.control) != CONTROL_PARKED; i++)
                loop_for(event, 20);
        CHECK_INT(control_state(s.control), CONTROL_PARKED);
        CHECK_STR(fault_of(&s), "host_id_in_use");
        pass(UINT64_C(2) * 86400);
        start(&s);                                      /* as a reload would */
        loop_for(event, 50);
        CHECK_INT(seen_count(), 2);
        CHECK_INT(control_state(s.control), CONTROL_PARKED);
}

TEST(other_loops_tell) {
        static const struct { CpKind kind; FaultCode code; ControlState state; } table[] = {
                { CP_IN_USE, FAULT_HOST_ID_IN_USE, CONTROL_PARKED },
                { CP_REVOKED, FAULT_HOST_REVOKED, CONTROL_POLLING },
                { CP_HOST_UNKNOWN, FAULT_CONTROL_PLANE_MISROUTED, CONTROL_REGISTERING },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_site_ Site s;
                CpAnswer a = { .kind = table[i].kind };

                (void) fault(&a.fault, -EPROTO, table[i].code, "Words.");
                at_rest(&s);
                control_answered(s.control, &a);
                CHECK_INT(control_state(s.control), table[i].state);
                CHECK_STR(fault_of(&s), fault_code_name(table[i].code));
        }
        for (int kind = CP_OK; kind <= CP_PROTOCOL; kind++) {
                if (kind == CP_IN_USE || kind == CP_REVOKED || kind == CP_HOST_UNKNOWN || kind == CP_AUTH)
                        continue;
                _cleanup_site_ Site s;
                CpAnswer a = { .kind = (CpKind) kind };

                at_rest(&s);
                control_answered(s.control, &a);
                loop_for(event, 20);
                CHECK_INT(control_state(s.control), CONTROL_POLLING);
                CHECK_STR(fault_of(&s), "");
                CHECK_INT(seen_count(), 2);             /* the poll still hangs */
        }
}

/* ── is it a control plane at all? ───────────────────────────────────────────────────────────────────────────── */

TEST(incident_3_which_kind_of_404) {
        static const struct { int sibling; const char *code; } table[] = {
                { 401, "unsupported_control_plane" }, { 404, "control_plane_misrouted" }, { 200, "control_plane_misrouted" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_site_ Site s;

                site(&s, true);
                rule(SIBLING, -1, table[i].sibling, CP_JSON, "{}");
                rule("", -1, 404, "Content-Type: text/html\r\n", "<html>nothing here</html>");
                start(&s);
                CHECK(seen_until(2, 3000));
                settle(&s);
                CHECK_STR(seen_line(1), SIBLING);
                CHECK(!seen_header_name(1, "Authorization") && !seen_header_name(1, "X-Molecule-Admin-Token"));
                for (int k = 0; k < 6; k++) {           /* and goes on saying so */
                        CHECK_STR(fault_of(&s), table[i].code);
                        CHECK(rest(&s) >= USEC_PER_SEC && rest(&s) <= 60 * USEC_PER_SEC);
                        pass(60);
                        settle(&s);
                }
                CHECK(seen_like(REGISTER) >= 4);
        }
}

TEST(another_protocol) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule("", -1, 426, CP_JSON, "{}");
        start(&s);
        CHECK(seen_until(1, 3000));
        settle(&s);
        CHECK_STR(fault_of(&s), "unsupported_control_plane");
        CHECK_INT(rest(&s), 300 * USEC_PER_SEC);
}

/* ── passing trouble ─────────────────────────────────────────────────────────────────────────────────────────── */

TEST(retry_after_is_obeyed) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, 1, 503, CP_JSON "Retry-After: 120\r\n", "{}");
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(2, 3000));
        settle(&s);
        CHECK(rest(&s) > 119 * USEC_PER_SEC && rest(&s) <= 144 * USEC_PER_SEC);
        pass(118);
        loop_for(event, 50);
        CHECK_INT(seen_count(), 2);
        pass(27);
        CHECK(seen_until(3, 3000));
        CHECK_INT(seen_like(REGISTER), 1);
}

TEST(what_makes_no_sense_is_tried_again) {
        static const struct { int status; const char *headers, *body; } table[] = {
                { 200, "Content-Type: text/html\r\n", "<html>captive portal</html>" },
                { 200, CP_JSON, "{\"jobs\":" },
                { 302, "Location: /api/v1/elsewhere\r\n", "" },
                { 500, CP_JSON, "{}" },
                { 502, "", "" },
                { 400, CP_JSON, "{}" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_site_ Site s;

                site(&s, true);
                rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
                rule(POLL, 1, table[i].status, table[i].headers, table[i].body);
                rule(POLL, -1, CP_HANG, "", "");
                start(&s);
                CHECK(seen_until(2, 3000));
                settle(&s);
                CHECK_STR(fault_of(&s), "control_plane_unreachable");
                CHECK(rest(&s) >= USEC_PER_SEC && rest(&s) <= 30 * USEC_PER_SEC);
                CHECK_INT(seen_count(), 2);
                pass(31);
                if (!CHECK(seen_until(3, 3000)))
                        printf("#   in: %d %s\n", table[i].status, table[i].body);
                CHECK_INT(seen_like(REGISTER), 1);
                CHECK_INT(seen_like("GET /api/v1/elsewhere"), 0);
                CHECK_INT(s.polled, 0);
        }
}

TEST(incident_17_a_cut_connection_is_tried_again) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, 2, CP_CLOSE, "", "");                /* twice: on a kept connection the library asks anew by itself */
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(3, 3000));
        settle(&s);
        CHECK_STR(fault_of(&s), "control_plane_unreachable");
        CHECK(rest(&s) <= 30 * USEC_PER_SEC);           /* the fleet spreads over so long */
        pass(31);
        CHECK(seen_until(4, 3000));
        CHECK_INT(seen_like(REGISTER), 1);
}

TEST(odd_answers_to_a_poll_deliver_nothing) {
        static const char *const bodies[] = { "{}", "[]", "null", "{\"jobs\":7}", "{\"jobs\":{}}", "{\"jobs\":{\"a\":{}}}", "{\"pins_etag\":7,\"jobs\":null}" };

        for (size_t i = 0; i < ELEMENTS(bodies); i++) {
                _cleanup_site_ Site s;

                site(&s, true);
                rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
                rule(POLL, 1, 200, CP_JSON, bodies[i]);
                rule(POLL, -1, CP_HANG, "", "");
                start(&s);
                CHECK(seen_until(2, 3000));
                settle(&s);
                pass(1);
                CHECK(seen_until(3, 3000));
                CHECK_STR(s.delivered, "");
                CHECK_INT(seen_like(PINS), 0);
        }
}

int main(void) { return cp_kit_main(); }
