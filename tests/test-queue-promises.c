/* SPDX-License-Identifier: Apache-2.0 */

/* provision/queue: what must be on the disk, or in memory, before it is said, and what waits where it cannot be. */

#include "base/file.h"
#include "tests/oom.h"
#include "tests/queue-kit.h"

#define PROVISION "workspace.provision"
#define REMOVE    "workspace.deprovision"
#define W2        KIT_OTHER
#define REASON    "{\"reason\":\"x\"}"

static Entry *entry(QueueKit *k, const char *id) { return queue_find(k->q, id); }

/* ── tombstones ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* A workspace that was removed; only its record is left. */
static void make_dead(QueueKit *k, const char *id, uint64_t generation) {
        Entry *e;

        CHECK_STR(kit_say(k, &(Say) { PROVISION, KIT_SPEC, .generation = generation, .workspace = id }), "accepted");
        e = entry(k, id);
        e->w->work = work_free(e->w->work);
        e->w->removed = true;
        e->untidy = false;
        CHECK_INT(queue_save(k->q, e, NULL), 0);
}

static bool is_known(QueueKit *k, const char *id, uint64_t floor) {
        Workspace space = {};

        return entry(k, id) || (tombstones_look(k->q->tombstones, id, &space) && space.spec_floor == floor);
}

TEST(no_record_goes_without_its_tombstone) {
        static const char *const ids[] = { KIT_WORKSPACE, W2 };
        _cleanup_queue_ QueueKit k = {};
        uint64_t floor = 1;

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        kit_start(&k);
        for (Oom o = {}; oom_next(&o) && CHECK(o.n < 2000); floor++) {
                for (size_t i = 0; i < ELEMENTS(ids); i++)
                        make_dead(&k, ids[i], floor);
                oom_begin(&o);
                upkeep(k.q);
                oom_end();
                CHECK(is_known(&k, ids[0], floor) && is_known(&k, ids[1], floor));
                upkeep(k.q);
                CHECK(!entry(&k, ids[0]) && !entry(&k, ids[1]));
                k.q->degraded = (Fault) {};
                k.q->write_failures = 0;
                kit_restart(&k);
                CHECK(is_known(&k, ids[0], floor) && is_known(&k, ids[1], floor));
        }
        CHECK(floor > 3);
}

TEST(what_is_not_accepted_leaves_the_tombstone) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        make_dead(&k, W2, 5);
        upkeep(k.q);
        CHECK(!entry(&k, W2) && is_known(&k, W2, 5));
        for (Oom o = {}; oom_next(&o) && CHECK(o.n < 2000);) {
                _cleanup_json_ cJSON *delivery = kit_delivery(&(Say) { PROVISION, KIT_SPEC, .generation = 9, .workspace = W2 });

                kit_disk_full(true);
                oom_begin(&o);
                queue_admit(k.q, delivery, KIT_NOW);
                oom_end();
                kit_disk_full(false);
                CHECK_STR(kit_told(&k), "");
                CHECK(!entry(&k, W2) && is_known(&k, W2, 5));
                k.q->degraded = (Fault) {};
                k.q->write_failures = 0;
        }
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 4, .workspace = W2), "superseded");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 6, .workspace = W2), "accepted");
}

/* ── what is promised ────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_cancel_that_is_not_on_disk_was_not_said) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        kit_disk_full(true);
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(99)), "");
        kit_disk_full(false);
        CHECK(outcomes_find(k.q->outcomes, kit_job_id(99)) == NULL);
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(99)), "succeeded");
        kit_restart(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 9, .job = 99), "again:cancelled");

        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 10), "accepted");
        kit_settle(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 1, .job = 61), "accepted");
        kit_disk_full(true);
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(61)), "");
        kit_disk_full(false);
        CHECK(!k.q->host->jobs[0]->cancelled);          /* it goes on, as after a restart */
}

/* What is called off, or done at once, has its final on the disk or is as it was. */
/* One write takes the job out of the line and another one in; a kill before its end is told, and before that is remembered. */
TEST(who_is_overtaken_is_told_so_by_the_next_start) {
        _cleanup_queue_ QueueKit k = {};
        _cleanup_free_ char *record = NULL;
        size_t size;

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .job = 1), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 2, .job = 2), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 3, .job = 3), "superseded accepted");
        CHECK_INT(file_read(k.q->dir.fd, KIT_WORKSPACE, 65536, &record, &size), 0);
        CHECK(strstr(record, "\"overtaken\""));
        kit_restart(&k);
        CHECK(entry(&k, KIT_WORKSPACE)->w->overtaken != NULL);
        queue_replay_reports(k.q);              /* it is known to be told */
        CHECK_STR(kit_told(&k), "accepted accepted");
        CHECK(entry(&k, KIT_WORKSPACE)->w->overtaken == NULL);

        CHECK_INT(unlinkat(k.k.d.fd, "outcomes", 0), 0);
        kit_restart(&k);
        queue_replay_reports(k.q);
        CHECK_STR(kit_told(&k), "superseded accepted accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 2, .job = 2), "again:superseded");
        CHECK_INT(queue_save(k.q, entry(&k, KIT_WORKSPACE), NULL), 0);
        CHECK_INT(unlinkat(k.k.d.fd, "outcomes", 0), 0);
        kit_restart(&k);
        queue_replay_reports(k.q);
        CHECK_STR(kit_told(&k), "accepted accepted");
}

TEST(no_final_is_lost_for_want_of_memory) {
        static const Say jobs[] = { { "job.cancel", KIT_CANCEL(12) }, { "host.drain", REASON }, { "job.cancel", KIT_CANCEL(99) } };
        _cleanup_queue_ QueueKit k = {};
        uint64_t generation = 2;

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        for (size_t i = 0; i < ELEMENTS(jobs); i++)
                for (Oom o = {}; oom_next(&o) && CHECK(o.n < 2000); generation++) {
                        Say say = jobs[i];
                        _cleanup_json_ cJSON *delivery = NULL;
                        Entry *e = entry(&k, KIT_WORKSPACE);
                        const char *told;

                        if (!e->w->next)
                                CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = generation, .job = 12), "accepted");
                        say.generation = i == 1 ? generation : 0;
                        delivery = kit_delivery(&say);
                        oom_begin(&o);
                        queue_admit(k.q, delivery, KIT_NOW);
                        oom_end();
                        told = kit_told(&k);
                        if (!CHECK(e->w->next || strstr(told, "cancelled")) || !CHECK(oom_failed || strstr(told, "succeeded")))
                                printf("#   %s, allocation %ld: %s\n", say.type, o.n, told);
                        CHECK(!strstr(told, "succeeded") || cJSON_GetArraySize(k.q->host->finals) == 1);
                        CHECK_INT(k.q->host->drain.generation == generation, i == 1 && strstr(told, "succeeded"));
                        kit_forget(&k);
                }
}

TEST(more_holds_than_are_kept) {
        _cleanup_queue_ QueueKit k = {};
        HostState *h;

        kit_start(&k);
        h = k.q->host;
        for (unsigned n = 0; n < HOST_HOLDS_MAX; n++) {
                char id[UUID_SIZE];

                (void) snprintf(id, sizeof id, "%08x-3333-4333-8333-333333333333", n);
                host_state_hold_make(h, id)->held = true;
        }
        CHECK_STR(SAY(.type = "host.hold", .spec = REASON, .generation = 1), "refused:too_large");
        h->holds[0].held = false;
        CHECK_STR(SAY(.type = "host.hold", .spec = REASON, .generation = 1), "succeeded");
}

/* ── what cannot begin now ───────────────────────────────────────────────────────────────────────────────────── */

static void no_descriptors(bool none) {
        struct rlimit l;

        (void) getrlimit(RLIMIT_NOFILE, &l);
        l.rlim_cur = none ? 0 : l.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &l);
}

/* A word that was given is not taken back because the agent is out of descriptors for a moment. */
TEST(without_descriptors_a_job_waits) {
        static const WorkPhase phases[] = { WORK_BEGUN, WORK_SWAPPING };

        for (size_t i = 0; i < ELEMENTS(phases); i++) {
                _cleanup_queue_ QueueKit k = {};
                const Work *w;

                kit_start(&k);
                CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
                CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2), "accepted");
                w = entry(&k, KIT_WORKSPACE)->w->work;
                entry(&k, KIT_WORKSPACE)->w->work->phase = phases[i];
                k.q->recovered = true;
                no_descriptors(true);
                queue_run(k.q);
                queue_run(k.q);
                no_descriptors(false);
                CHECK_STR(kit_told(&k), "");
                CHECK(entry(&k, KIT_WORKSPACE)->w->work == w && w->phase == phases[i] && !w->cause.set && queue_jobs_running(k.q) == 0);
                queue_run(k.q);                 /* as after each sweep */
                CHECK_INT(queue_jobs_running(k.q), 2);
        }
}

TEST_MAIN
