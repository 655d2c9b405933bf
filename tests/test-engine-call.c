/* SPDX-License-Identifier: Apache-2.0 */

/* engine/engine and engine/engine-call against an engine that misbehaves on demand: its coming and going, and what each answer means. */

#include <errno.h>

#include "base/metrics.h"
#include "engine/engine-internal.h"
#include "tests/fake-engine.h"

typedef struct Result {
        int         done, r;
        long        status;
        bool        json;
        FaultCode   code;
        char        words[400], body[64];
        EngineCall **cancel;
} Result;

static bool in_call;

static void on_done(const EngineAnswer *a, void *userdata) {
        Result *r = userdata;

        CHECK(!in_call);
        CHECK((a->r < 0) == a->fault.set);
        r->done++;
        r->r = a->r;
        r->status = a->status;
        r->json = a->json;
        r->code = a->fault.code;
        (void) snprintf(r->words, sizeof r->words, "%s", a->fault.set ? a->fault.text : "");
        (void) snprintf(r->body, sizeof r->body, "%s", a->body);
        if (r->cancel)
                *r->cancel = engine_call_cancel(*r->cancel);
}

#define RUN(result, call) do { \
        (result) = (Result) {}; \
        in_call = true; \
        CHECK_INT((call), 0); \
        in_call = false; \
        CHECK(loop_until(event, &(result).done, 1, 8000)); \
        } while (0)

TEST(it_is_looked_for_until_it_is_there) {
        Result r;

        CHECK_INT(engine_state(engine), ENGINE_DOWN);
        CHECK(engine_fault(engine) == NULL);
        RUN(r, engine_container_inspect(engine, "x", on_done, &r, NULL));
        CHECK_INT(r.r, -ENOTCONN);
        CHECK_INT(r.code, FAULT_ENGINE_UNREACHABLE);

        CHECK_INT(engine_start(engine), 0);
        CHECK(loop_until(event, &downs, 1, 3000));
        CHECK_INT(last_fault.code, FAULT_ENGINE_UNREACHABLE);
        CHECK(strstr(last_fault.text, server.socket));
        loop_for(event, 1200);
        CHECK_INT(downs, 1);            /* said once, however often it is tried */

        fake_fresh();
        CHECK_INT(engine_state(engine), ENGINE_UP);
        CHECK(engine_fault(engine) == NULL);
        CHECK_STR(engine_info(engine)->version, "20.10.24");
        CHECK_STR(engine_info(engine)->root_dir, "/tmp");
        CHECK_STR(engine_info(engine)->cgroup_driver, "systemd");
}

TEST(events_and_the_way_back) {
        fake_fresh();
        CHECK(loop_until(event, &events_seen, 2, 3000));
        CHECK_STR(last_action, "start");
        CHECK(strtoull(fake->since, NULL, 10) + 60 > now_realtime() / USEC_PER_SEC);      /* nothing from long ago */

        ups = downs = 0;
        server_kill(&server);
        CHECK(loop_until(event, &downs, 1, 3000));
        CHECK_INT(engine_state(engine), ENGINE_DOWN);
        CHECK(engine_fault(engine) != NULL);
        server_start(&server, fake_serve);
        fake->since[0] = 0;
        CHECK(loop_until(event, &ups, 1, 8000));
        for (int i = 0; i < 300 && !fake->since[0]; i++)
                loop_for(event, 10);
        CHECK_STR(fake->since, "9000000000.123457001");          /* behind the last one seen */
}

TEST(an_idle_engine_costs_nothing) {
        fake_fresh();
        CHECK(loop_until(event, &events_seen, 2, 3000));
        loop_for(event, 50);
        CHECK_INT(sd_event_run(event, 2 * USEC_PER_SEC), 0);    /* no timer, no socket woke the loop */
}

TEST(a_call_that_finds_nobody_brings_it_down) {
        Result r;

        fake_fresh();
        server_kill(&server);
        RUN(r, engine_container_inspect(engine, "x", on_done, &r, NULL));
        CHECK_INT(r.r, -ENOTCONN);
        CHECK(loop_until(event, &downs, 1, 3000));
        CHECK_INT(engine_state(engine), ENGINE_DOWN);
}

TEST(too_old) {
        fake_fresh();
        fake->old = 1;
        downs = 0;
        CHECK_INT(engine_configure(engine, &(EngineOptions) { .socket_path = server.socket, .timeout_usec = USEC_PER_SEC }), 0);
        CHECK(loop_until(event, &downs, 2, 3000));
        CHECK_INT(engine_state(engine), ENGINE_REFUSED);
        CHECK_INT(engine_fault(engine)->code, FAULT_ENGINE_TOO_OLD);
        CHECK(strstr(engine_fault(engine)->text, "1.40"));
        fake->questions = 0;
        loop_for(event, 1500);
        CHECK_INT(fake->questions, 0);
}

TEST(no_engine_at_all) {
        fake_fresh();
        fake->broken = 1;
        downs = 0;
        CHECK_INT(engine_configure(engine, &(EngineOptions) { .socket_path = server.socket, .timeout_usec = USEC_PER_SEC }), 0);
        CHECK(loop_until(event, &downs, 2, 3000));
        CHECK_INT(engine_state(engine), ENGINE_DOWN);
        CHECK_INT(engine_fault(engine)->code, FAULT_ENGINE_ERROR);
}

/* ── what answers mean ───────────────────────────────────────────────────────────────────────────────────────── */

typedef enum Which { INSPECT, START, STOP, REMOVE, RENAME, CREATE, VOLUME, VOLUME_CREATE, VOLUME_REMOVE, VOLUME_USAGE, PUT, GET, LOGS } Which;

static int call(Which which, const char *name, Result *r) {
        static const ContainerSpec spec = { .image_id = "sha256:1" };

        switch (which) {
        case INSPECT:           return engine_container_inspect(engine, name, on_done, r, NULL);
        case START:             return engine_container_start(engine, name, on_done, r, NULL);
        case STOP:              return engine_container_stop(engine, name, 1, on_done, r, NULL);
        case REMOVE:            return engine_container_remove(engine, name, on_done, r, NULL);
        case RENAME:            return engine_container_rename(engine, name, "to", on_done, r, NULL);
        case CREATE:            return engine_container_create(engine, name, &spec, on_done, r, NULL);
        case VOLUME:            return engine_volume_inspect(engine, name, on_done, r, NULL);
        case VOLUME_CREATE:     return engine_volume_create(engine, name, NULL, 0, on_done, r, NULL);
        case VOLUME_REMOVE:     return engine_volume_remove(engine, name, on_done, r, NULL);
        case VOLUME_USAGE:      return engine_volume_usage(engine, name, on_done, r, NULL);
        case PUT:               return engine_archive_put(engine, name, "/configs", "tar", 3, on_done, r, NULL);
        case GET:               return engine_archive_get(engine, name, "/configs/a b", 10, on_done, r, NULL);
        case LOGS:              return engine_container_logs(engine, name, 10, 5, on_done, r, NULL);
        }
        return -ENOSYS;
}

TEST(answers_become_numbers) {
        static const struct { Which which; const char *name; int r; FaultCode code; } cases[] = {
                { INSPECT,       "ok",          0,              0 },
                { INSPECT,       "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
                { INSPECT,       "s500-x",      -EREMOTEIO,     FAULT_ENGINE_ERROR },
                { INSPECT,       "s301-x",      -EREMOTEIO,     FAULT_ENGINE_ERROR },
                { INSPECT,       "html-x",      -EREMOTEIO,     FAULT_ENGINE_ERROR },
                { INSPECT,       "reset-x",     -ENOTCONN,      FAULT_ENGINE_UNREACHABLE },
                { START,         "s204-x",      0,              0 },
                { START,         "s304-x",      0,              0 },
                { START,         "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
                { START,         "s500-x",      -EREMOTEIO,     FAULT_ENGINE_ERROR },
                { START,         "away-x",      -ENOTCONN,      FAULT_ENGINE_UNREACHABLE },
                { STOP,          "s304-x",      0,              0 },
                { STOP,          "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
                { REMOVE,        "s204-x",      0,              0 },
                { REMOVE,        "s404-x",      0,              0 },
                { REMOVE,        "s409-x",      -EBUSY,         FAULT_ENGINE_ERROR },
                { RENAME,        "s204-x",      0,              0 },
                { RENAME,        "s409-x",      -EEXIST,        FAULT_NAME_CONFLICT },
                { RENAME,        "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
                { CREATE,        "ok",          0,              0 },
                { CREATE,        "s409-x",      -EEXIST,        FAULT_NAME_CONFLICT },
                { CREATE,        "taken-x",     -EEXIST,        FAULT_NAME_CONFLICT },          /* podman's way */
                { CREATE,        "s500-x",      -EREMOTEIO,     FAULT_ENGINE_ERROR },
                { CREATE,        "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
                { CREATE,        "s400-x",      -EREMOTEIO,     FAULT_ENGINE_ERROR },
                { VOLUME,        "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
                { VOLUME_CREATE, "ok",          0,              0 },
                { VOLUME_CREATE, "s409-x",      -EEXIST,        FAULT_NAME_CONFLICT },
                { VOLUME_REMOVE, "s204-x",      0,              0 },
                { VOLUME_REMOVE, "s404-x",      0,              0 },
                { VOLUME_REMOVE, "s409-x",      -EBUSY,         FAULT_ENGINE_ERROR },
                { VOLUME_USAGE,  "404-x",       -ENOENT,        FAULT_ENGINE_ERROR },
                { PUT,           "ok",          0,              0 },
                { PUT,           "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
                { GET,           "ok",          0,              0 },
                { GET,           "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
                { GET,           "html-x",      -EFBIG,         FAULT_TOO_LARGE },
                { LOGS,          "ok",          0,              0 },
                { LOGS,          "s404-x",      -ENOENT,        FAULT_ENGINE_ERROR },
        };
        Result r;

        fake_fresh();
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                RUN(r, call(cases[i].which, cases[i].name, &r));
                if (!CHECK_INT(r.r, cases[i].r) || (r.r < 0 && !CHECK_INT(r.code, cases[i].code)))
                        printf("#   case %zu %s: %s\n", i, cases[i].name, r.words);
                if (r.r < 0 && cases[i].name[0] == 's' && strncmp(cases[i].name, "s301", 4) != 0)
                        CHECK(strstr(r.words, "words of the engine") && strstr(r.words, cases[i].name));
                if (cases[i].which == LOGS && r.r == 0)
                        CHECK_STR(r.body, ":\"1\"}");           /* the last five bytes */
                if (cases[i].which == INSPECT && r.r == 0)
                        CHECK(r.json);
        }
        CHECK_INT(engine_state(engine), ENGINE_UP);
}

/* It has been seen to go, and what it was asked before is answered all the same. */
TEST(an_engine_that_ends_is_no_judge) {
        static const struct { const char *name; bool gone; int r; } cases[] = {
                { "s500-x", false, -EREMOTEIO }, { "s500-x", true, -ENOTCONN }, { "s503-x", true, -ENOTCONN }, { "s404-x", true, -ENOENT },
                { "s204-x", true, 0 },
        };
        static PullProgress p;
        Fault why = {};
        Result r = {};

        (void) fault(&why, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "it went away");
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                fake_fresh();
                r = (Result) {};
                CHECK_INT(engine_container_start(engine, cases[i].name, on_done, &r, NULL), 0);
                if (cases[i].gone)
                        engine_lost(engine, &why);
                CHECK(loop_until(event, &r.done, 1, 3000));
                if (!CHECK_INT(r.r, cases[i].r))
                        printf("#   case %zu\n", i);
                CHECK(r.r == 0 || strstr(r.words, "words of the engine"));
        }
        fake_fresh();
        fake->pull = FAKE_PULL_ERROR;
        fake->fail_times = -1;
        (void) snprintf(fake->words, sizeof fake->words, "context canceled");
        r = (Result) {};
        CHECK_INT(engine_image_pull(engine, FAKE_REF, NULL, &p, NULL, on_done, &r, NULL), 0);
        engine_lost(engine, &why);
        CHECK(loop_until(event, &r.done, 1, 3000));
        CHECK_INT(r.r, -ENOTCONN);
        CHECK(strstr(r.words, "context canceled"));
}

static bool room(void *userdata) { return userdata != NULL; }

static void text(const char *words, size_t size, void *userdata) {
        Result *r = userdata;

        (void) snprintf(r->body, sizeof r->body, "%.*s", (int) size, words);
}

TEST(a_log_that_is_followed_is_not_measured) {
        static const EngineLogSink sink = { .ready = room, .text = text };
        const EngineLogQuery q = { .lines = 10, .follow = true };
        double before;
        Result r;

        fake_fresh();
        before = metric_get(METRIC_ENGINE_CALL, 0, 0);
        RUN(r, engine_container_follow(engine, "ok", &q, &sink, on_done, &r, NULL));
        CHECK_INT(r.r, 0);
        CHECK_INT(metric_get(METRIC_ENGINE_CALL, 0, 0), before);
        RUN(r, engine_container_logs(engine, "ok", 10, 5, on_done, &r, NULL));
        CHECK_INT(r.r, 0);
        CHECK_INT(metric_get(METRIC_ENGINE_CALL, 0, 0), before + 1);
}

TEST(the_end_of_long_words_is_kept) {                /* docker says last what was wrong */
        Result r;

        fake_fresh();
        RUN(r, engine_container_start(engine, "port-33fcca050e24cff09d90861a8600cc2629daae65d8636c563e5804ee9471861", on_done, &r, NULL));
        CHECK_INT(r.r, -EREMOTEIO);
        CHECK(strstr(r.words, "address already in use"));
}

TEST(an_engine_that_does_not_answer) {
        uint64_t begin = now_boottime();
        Result r;

        fake_fresh();
        RUN(r, engine_container_inspect(engine, "hang-x", on_done, &r, NULL));
        CHECK_INT(r.r, -ENOTCONN);
        CHECK(now_boottime() - begin > 1900 * USEC_PER_MSEC);
        CHECK_INT(engine_state(engine), ENGINE_UP);
}

TEST(names_that_are_none) {
        static const char *const bad[] = { "", ".", "..", "a/b", "a?b", "a b", "-a", "a%2f", "../../x", "\xc3\xa4" };
        static const Which all[] = { INSPECT, START, STOP, REMOVE, RENAME, CREATE, VOLUME, VOLUME_CREATE, VOLUME_REMOVE, PUT, GET, LOGS };
        Result r = {};

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                for (size_t k = 0; k < ELEMENTS(all); k++)
                        CHECK_INT(call(all[k], bad[i], &r), -EINVAL);
                CHECK_INT(engine_network_ensure(engine, bad[i], NULL, 0, on_done, &r, NULL), -EINVAL);
                CHECK_INT(engine_container_rename(engine, "ok", bad[i], on_done, &r, NULL), -EINVAL);
        }
        loop_for(event, 20);
        CHECK_INT(r.done, 0);
}

TEST(a_network_is_made_once) {
        Result r;

        fake_fresh();
        fake->network_there = 1;
        RUN(r, engine_network_ensure(engine, "n", NULL, 0, on_done, &r, NULL));
        CHECK_INT(r.r, 0);
        CHECK_INT(fake->networks_made, 0);
        fake->network_there = 0;
        RUN(r, engine_network_ensure(engine, "n", NULL, 0, on_done, &r, NULL));
        CHECK_INT(r.r, 0);
        CHECK_INT(fake->networks_made, 1);
        fake->network_race = 1;         /* another was faster */
        RUN(r, engine_network_ensure(engine, "n", NULL, 0, on_done, &r, NULL));
        CHECK_INT(r.r, 0);
        CHECK_INT(fake->networks_made, 2);
}

TEST(a_network_is_made_once_for_all_who_ask_at_the_same_time) {
        Result r[4] = {};
        EngineCall *first;

        fake_fresh();
        fake->network_slow = 1;
        CHECK_INT(engine_network_ensure(engine, "n", NULL, 0, on_done, &r[0], &first), 0);
        for (int i = 1; i < 3; i++)
                CHECK_INT(engine_network_ensure(engine, "n", NULL, 0, on_done, &r[i], NULL), 0);
        RUN(r[3], engine_network_ensure(engine, "another", NULL, 0, on_done, &r[3], NULL));    /* waits for nobody */
        for (int i = 0; i < 3; i++) {
                CHECK(loop_until(event, &r[i].done, 1, 8000));
                CHECK_INT(r[i].r, 0);
        }
        CHECK_INT(fake->networks_made, 2);

        fake->network_there = 0;                /* the one they wait for is given up */
        fake->networks_made = 0;
        memset(r, 0, sizeof r);
        CHECK_INT(engine_network_ensure(engine, "n", NULL, 0, on_done, &r[0], &first), 0);
        CHECK_INT(engine_network_ensure(engine, "n", NULL, 0, on_done, &r[1], NULL), 0);
        (void) engine_call_cancel(first);
        CHECK(loop_until(event, &r[1].done, 1, 8000));
        CHECK_INT(r[1].r, 0);
        CHECK_INT(r[0].done, 0);
        CHECK_INT(fake->networks_made, 1);
}

TEST(a_pull_is_judged_by_its_last_word) {
        static PullProgress p;
        Result r;

        fake_fresh();
        RUN(r, engine_image_pull(engine, FAKE_REF, "YXV0aA==", &p, NULL, on_done, &r, NULL));
        CHECK_INT(r.r, 0);
        CHECK_STR(fake->auth, "YXV0aA==");
        CHECK_STR(fake->from_image, "registry.example.com%2Fmolecule%2Ftest%40sha256%3A"
                  "5ec8cbacaa2f4ba193cf83b003e2a2e0e944d4c6fa1b78f7b3eb2a96fe61cc41");
        CHECK_INT(p.bytes, 4000000);
        fake->fail_times = 1;
        fake->pull = FAKE_PULL_ERROR;
        (void) snprintf(fake->words, sizeof fake->words, "toomanyrequests: slow down");
        p = (PullProgress) {};
        RUN(r, engine_image_pull(engine, FAKE_REF, NULL, &p, NULL, on_done, &r, NULL));
        CHECK_INT(r.r, -EREMOTEIO);
        CHECK_INT(r.status, 200);
        CHECK_INT(r.code, FAULT_IMAGE_RATE_LIMITED);
        CHECK(strstr(r.words, "slow down"));
        CHECK_STR(fake->auth, "");
}

/* ── cancelling ──────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(cancelled_calls_are_not_told) {
        EngineCall *a = NULL, *b = NULL;
        Result r_a = {}, r_b = {}, r_c = {};

        fake_fresh();
        CHECK_INT(engine_container_inspect(engine, "ok", on_done, &r_a, &a), 0);
        CHECK(engine_call_cancel(a) == NULL);
        CHECK(engine_call_cancel(NULL) == NULL);
        CHECK_INT(engine_container_inspect(engine, "hang-x", on_done, &r_b, &b), 0);
        r_c.cancel = &b;
        CHECK_INT(engine_container_inspect(engine, "ok", on_done, &r_c, NULL), 0);
        CHECK(loop_until(event, &r_c.done, 1, 3000));
        loop_for(event, 50);
        CHECK_INT(r_a.done + r_b.done, 0);

        CHECK_INT(engine_container_inspect(engine, "ok", on_done, &r_a, &a), 0);
        r_a.cancel = &a;                /* from inside its own end */
        CHECK(loop_until(event, &r_a.done, 1, 3000));
        CHECK_INT(r_a.r, 0);
}

TEST(calls_in_flight_fail_when_the_socket_changes) {
        Result r = {}, gone = {};
        EngineCall *call_gone = NULL;

        fake_fresh();
        CHECK_INT(engine_container_inspect(engine, "hang-x", on_done, &r, NULL), 0);
        CHECK_INT(engine_container_inspect(engine, "hang-y", on_done, &gone, &call_gone), 0);
        CHECK_INT(engine_configure(engine, &(EngineOptions) { .socket_path = "/no/such/socket", .timeout_usec = USEC_PER_SEC }), 0);
        CHECK_INT(r.done, 0);
        (void) engine_call_cancel(call_gone);           /* between its failure and its telling */
        CHECK(loop_until(event, &r.done, 1, 3000));
        CHECK_INT(r.r, -ENOTCONN);
        CHECK_INT(gone.done, 0);
        CHECK_INT(engine_state(engine), ENGINE_DOWN);
}

TEST(freed_with_calls_of_all_kinds) {
        Engine *mine = NULL;
        Result r = {};

        fake_fresh();
        CHECK_INT(engine_new(event, http, &(EngineOptions) { .socket_path = server.socket, .timeout_usec = USEC_PER_SEC },
                             on_state, on_event, &states_told, &mine), 0);
        CHECK_INT(engine_container_inspect(mine, "down", on_done, &r, NULL), 0);
        CHECK(engine_free(mine) == NULL);
        CHECK_INT(engine_new(event, http, &(EngineOptions) { .socket_path = server.socket, .timeout_usec = USEC_PER_SEC },
                             on_state, on_event, &states_told, &mine), 0);
        CHECK_INT(engine_start(mine), 0);
        ups = 0;
        CHECK(loop_until(event, &ups, 1, 3000));
        CHECK_INT(engine_container_inspect(mine, "hang-x", on_done, &r, NULL), 0);
        CHECK(engine_free(mine) == NULL);
        loop_for(event, 50);
        CHECK_INT(r.done, 0);
}

int main(void) {
        int bad;

        fake_setup(2 * USEC_PER_SEC);
        bad = test_run_all();
        fake_teardown();
        return bad;
}
