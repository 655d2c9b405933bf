/* SPDX-License-Identifier: Apache-2.0 */

/* provision/host-state: the host's line, its holds and its open jobs, over restarts, damage and bounds. */

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "provision/host-state.h"
#include "tests/kit.h"

#define SEC USEC_PER_SEC
#define NOW (UINT64_C(1790000000) * SEC)

static const JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 2 } };

static HostState *open_host(const TestDir *d, Fault *why) {
        HostState *h = NULL;

        if (!CHECK_INT(hash_init(), 0) || !CHECK(host_state_open(d->fd, &rules, &h, why) >= 0) || !h)
                abort();
        return h;
}

static char *payload(const char *type, unsigned n, const char *spec) {
        return str_printf("{\"job_id\":\"%08x-4444-4444-8444-444444444444\",\"type\":\"%s\",\"org_id\":\"" KIT_ORG "\",\"host_id\":\"" KIT_HOST "\","
                          "\"generation\":\"%u\",\"issued_at\":\"2026-01-01T00:00:00Z\",\"spec\":%s}",
                          n, type, n, spec);
}

static Job *job(const char *type, unsigned n, const char *spec) {
        _cleanup_free_ char *text = payload(type, n, spec);
        JobLabel label;
        Fault why = {};
        Job *j = NULL;

        if (!CHECK_INT(job_parse(text, strlen(text), &rules, &label, &j, &why), 0)) {
                printf("#   %s\n", why.text);
                abort();
        }
        return j;
}

static HostJob *open_job(unsigned n) {
        HostJob *j = host_job_new(job("host.redeploy", n, "{}"), KIT_OTHER);

        if (!j)
                abort();
        if (!j->payload)
                j->payload = payload("host.redeploy", n, "{}");
        return j;
}

static void hold(HostState *h, const char *workspace, uint64_t until) {
        HostHold *o = host_state_hold_make(h, workspace);

        if (!CHECK(o != NULL))
                abort();
        o->held = true;
        o->until = until;
        free(o->reason);
        o->reason = strdup("because");
}

TEST(holds_of_a_workspace_and_of_the_host) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(host_state_freep) HostState *h = open_host(&d, &why);

        CHECK(!host_state_holds(h, NULL, NOW) && !host_state_holds(h, KIT_WORKSPACE, NOW));
        hold(h, KIT_WORKSPACE, 0);
        CHECK(!host_state_holds(h, NULL, NOW) && host_state_holds(h, KIT_WORKSPACE, NOW) && !host_state_holds(h, KIT_OTHER, NOW));
        hold(h, NULL, 0);
        CHECK(host_state_holds(h, NULL, NOW) && host_state_holds(h, KIT_OTHER, NOW));
}

TEST(a_hold_ends_at_its_time) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(host_state_freep) HostState *h = open_host(&d, &why);

        hold(h, KIT_WORKSPACE, NOW + 10 * SEC);
        CHECK(host_state_holds(h, KIT_WORKSPACE, NOW + 9 * SEC) && !host_state_holds(h, KIT_WORKSPACE, NOW + 10 * SEC));
        CHECK(!host_state_expire(h, NOW + 9 * SEC));
        CHECK(host_state_expire(h, NOW + 10 * SEC) && !host_state_expire(h, NOW + 11 * SEC));
}

TEST(floors_are_kept_by_kind) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(host_state_freep) HostState *h = open_host(&d, &why);
        static const struct {
                const char *type, *spec;
                unsigned generation;
        } kinds[] = {
                { "host.redeploy", "{}", 5 },
                { "host.drain", "{\"reason\":\"r\"}", 3 },
                { "host.hold", "{\"reason\":\"r\"}", 9 },
                { "host.hold", "{\"reason\":\"r\",\"workspace_id\":\"" KIT_WORKSPACE "\"}", 2 },
                { "host.teardown", "{\"confirm\":\"slug\"}", 1 },
        };

        for (int again = 0; again < 2; again++) {
                for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                        Job *j = job(kinds[i].type, kinds[i].generation, kinds[i].spec);
                        HostFloor *floor = host_state_floor(h, j);

                        CHECK(floor != NULL);
                        CHECK_INT(floor ? floor->generation : 1, again ? kinds[i].generation : 0);
                        if (floor)
                                floor->generation = kinds[i].generation;
                        job_free(j);
                }
                CHECK_INT(host_state_generation(h), 9);
                CHECK_INT(host_state_save(h, NULL), 0);
                h = (host_state_free(h), open_host(&d, &why));
                CHECK(!why.set);
        }
}

TEST(all_of_it_over_a_restart) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(host_state_freep) HostState *h = open_host(&d, &why);

        hold(h, KIT_WORKSPACE, NOW);
        h->draining = true;
        h->drain_reason = strdup("old");
        CHECK_INT(host_state_add(h, open_job(7)), 0);
        host_state_keep_final(h, kit_json("{\"report_id\":\"" KIT_JOB "\",\"state\":\"succeeded\"}"));
        CHECK_INT(host_state_save(h, NULL), 0);
        h = (host_state_free(h), open_host(&d, &why));
        CHECK(!why.set);
        CHECK(h->draining);
        CHECK_STR(h->drain_reason, "old");
        CHECK_INT(h->n_jobs, 1);
        CHECK(host_state_find(h, "00000007-4444-4444-8444-444444444444") != NULL && !host_state_find(h, KIT_JOB));
        CHECK_INT(cJSON_GetArraySize(h->finals), 1);
        CHECK(host_state_hold(h, KIT_WORKSPACE) && host_state_hold(h, KIT_WORKSPACE)->until == NOW);
}

TEST(a_final_takes_its_job_s_place_until_it_has_arrived) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(host_state_freep) HostState *h = open_host(&d, &why);
        bool found;

        CHECK_INT(host_state_add(h, open_job(7)), 0);
        host_job_free(host_state_take(h, h->jobs[0], kit_json("{\"report_id\":\"" KIT_JOB "\",\"state\":\"succeeded\"}")));
        CHECK_INT(h->n_jobs, 0);
        host_state_forget_final(h, KIT_OTHER, &found);
        CHECK(!found);
        host_state_forget_final(h, KIT_JOB, &found);
        CHECK(found);
        CHECK_INT(cJSON_GetArraySize(h->finals), 0);
}

TEST(no_more_holds_than_there_is_room_for) {
        _cleanup_dir_ TestDir d = test_dir();
        Fault why = {};
        _cleanup_(host_state_freep) HostState *h = open_host(&d, &why);
        char id[UUID_SIZE];

        for (unsigned n = 0; n < HOST_HOLDS_MAX; n++) {
                (void) snprintf(id, sizeof id, "%08x-3333-4333-8333-333333333333", n);
                hold(h, id, 0);
        }
        CHECK(!host_state_hold_make(h, KIT_OTHER));
        CHECK_INT(host_state_save(h, NULL), 0);
        h = (host_state_free(h), open_host(&d, &why));
        CHECK(!why.set);
        CHECK_INT(h->n_holds, HOST_HOLDS_MAX);
        CHECK(host_state_holds(h, id, NOW));
}

TEST(a_damaged_record_is_set_aside_and_told) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(host_state_freep) HostState *h = NULL;
        Fault why = {};

        CHECK_INT(file_write_atomic(d.fd, "host", "no record", 9), 0);
        CHECK_INT(hash_init(), 0);
        CHECK_INT(host_state_open(d.fd, &rules, &h, &why), 0);
        CHECK(why.set && h && h->n_holds == 0);
        CHECK(faccessat(d.fd, "host", F_OK, 0) < 0 && faccessat(d.fd, "quarantine/host", F_OK, 0) == 0);
}

TEST_MAIN
