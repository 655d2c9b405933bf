/* SPDX-License-Identifier: Apache-2.0 */

/* provision/queue: what is answered to what is known already, or stands where no job can be; which images are kept; what a workspace must have to be
 * seen. No engine is there. */

#include "tests/oom.h"
#include "tests/queue-kit.h"

#define PROVISION "workspace.provision"
#define RESTART   "workspace.restart"
#define REMOVE    "workspace.deprovision"
#define W2        KIT_OTHER
#define TIER4     "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"tier\":4}"

static QueueKit k;

static Entry *entry(const char *id) { return queue_find(k.q, id); }

/* ── a restart needs something that can be made anew ─────────────────────────────────────────────────────────── */

typedef struct Restart { const char *name, *told; bool wanted, removed, removal, work, next, final; int r; } Restart;

static const Restart restarts[] = {
        { "nothing is wanted",       "refused:unknown_workspace", .r = -ENOENT },
        { "it is removed",           "refused:unknown_workspace", .wanted = true, .removed = true, .r = -ENOENT },
        { "it is being removed",     "refused:unknown_workspace", .wanted = true, .removal = true, .r = -EALREADY },
        { "there it is",             "accepted",                  .wanted = true },
        { "one is at work",          "accepted",                  .wanted = true, .work = true, .r = -EALREADY },
        { "one waits",               "accepted",                  .wanted = true, .work = true, .next = true, .r = -EALREADY },
        { "its end is not stored",   "accepted",                  .wanted = true, .final = true, .r = -EALREADY },
};

TEST(what_can_be_made_anew) {
        for (size_t i = 0; i < ELEMENTS(restarts); i++)
                for (int local = 0; local < 2; local++) {
                        const Restart *s = &restarts[i];
                        Entry *e;
                        bool good;

                        kit_start(&k);
                        e = kit_put(&k, KIT_WORKSPACE);
                        e->unreadable = true;
                        e->w->wanted = s->wanted ? kit_version(KIT_CODEX) : NULL;
                        e->w->removed = s->removed;
                        e->w->work = s->removal || s->work ? kit_work(s->removal ? JOB_DEPROVISION : JOB_RESTART, KIT_CODEX) : NULL;
                        e->w->next = s->next ? kit_work(JOB_RESTART, KIT_CODEX) : NULL;
                        if (e->w->next)
                                e->w->next->local = true;               /* of which nobody is told */
                        e->final = s->final ? cJSON_CreateObject() : NULL;
                        good = local ? CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), s->r)
                                     : CHECK_STR(SAY(.type = RESTART, .spec = "{}", .generation = 9), s->told);
                        if (!good || !CHECK(e->unreadable))             /* it is not ordered anew */
                                printf("#   %s\n", s->name);
                        kit_stop(&k);
                }
}

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(the_same_job_when_nobody_knows_its_end) {
        _cleanup_json_ cJSON *bare = NULL;

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5), "accepted");
        entry(KIT_WORKSPACE)->stage = STAGE_STARTING;
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5), "running");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5, .dry = true), "dry:running");
        bare = kit_delivery(&(Say) { .type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5 });
        cJSON_DeleteItemFromObjectCaseSensitive(bare, "delivery_id");
        queue_admit(k.q, bare, KIT_NOW);
        CHECK_STR(kit_told(&k), "running");
        entry(KIT_WORKSPACE)->w->work = work_free(entry(KIT_WORKSPACE)->w->work);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5), "");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 6), "conflict");
        kit_stop(&k);
}

/* The order of a workspace that is gone stays, also where the disk takes no new one. */
TEST(a_tombstone_stays) {
        Workspace *w;

        kit_start(&k);
        w = workspace_new(W2, 1);
        w->spec_floor = 7;
        w->removed = true;
        CHECK(tombstones_add(k.q->tombstones, w) >= 0);
        workspace_free(w);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 6, .workspace = W2), "superseded");
        kit_disk_full(true);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 8, .workspace = W2), "");
        kit_disk_full(false);
        CHECK(entry(W2) == NULL);
        k.q->degraded = (Fault) {};
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 6, .workspace = W2), "superseded");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 8, .workspace = W2), "accepted");
        kit_stop(&k);
}

TEST(what_stands_in_nobodys_way) {
        TrustedKeys nobody = {};
        _cleanup_json_ cJSON *payload = NULL, *report = NULL, *view = NULL;

        kit_start(&k);
        kit_put(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = PROVISION, .spec = TIER4, .generation = 1, .workspace = W2, .dry = true), "dry:accepted");
        entry(KIT_WORKSPACE)->w->settled = kit_version(KIT_CODEX);
        CHECK_STR(SAY(.type = PROVISION, .spec = TIER4, .generation = 1, .workspace = W2, .dry = true), "dry:accepted");
        entry(KIT_WORKSPACE)->w->settled->tier = 4;
        CHECK_STR(SAY(.type = PROVISION, .spec = TIER4, .generation = 1, .dry = true), "dry:accepted");                 /* its own */
        CHECK_STR(SAY(.type = PROVISION, .spec = TIER4, .generation = 1, .workspace = W2, .dry = true), "dry:refused:port_unavailable");
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"image_ref\":\"" KIT_CODEX2 "\"}", .dry = true), "dry:accepted");
        k.settings.trusted = &nobody;
        payload = kit_payload(&(Say) { .type = PROVISION, .spec = KIT_SPEC, .generation = 3 });
        CHECK_INT(queue_apply(k.q, payload, true, KIT_NOW, &report, &(Fault) {}), 0);
        strcpy(k.q->host->torn_down, KIT_OTHER);        /* that was for another organization */
        CHECK(!queue_is_torn_down(k.q));
        k.q->host->draining = true;
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2), "refused:draining");
        view = queue_hold_view(k.q);
        CHECK_STR(json_get_string(view, "drain_reason"), "");
        kit_stop(&k);
}

/* Where nobody can say whether the hold file is there, it is. */
TEST(a_hold_file_that_cannot_be_looked_at) {
        kit_start(&k);
        strcpy(k.hold, "/dev/null/hold");
        CHECK(queue_is_held(k.q));
        kit_stop(&k);
}

TEST(answers_for_which_there_is_no_memory) {
        static const struct { const char *type, *spec, *told; unsigned job; } jobs[] = {
                { PROVISION, "{}", "refused:bad_json", 1 }, { "host.drain", "{\"reason\":\"x\"}", "again:succeeded", 2 },
                { PROVISION, KIT_SPEC, "running", 3 },
        };

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 3, .job = 3), "accepted");
        CHECK_STR(SAY(.type = "host.drain", .spec = "{\"reason\":\"x\"}", .generation = 3, .job = 2), "succeeded");
        for (size_t i = 0; i < ELEMENTS(jobs); i++)
                for (Oom o = {}; oom_next(&o) && CHECK(o.n < 2000);) {
                        _cleanup_json_ cJSON *delivery = kit_delivery(&(Say) { .type = jobs[i].type, .spec = jobs[i].spec, .generation = 3, .job = jobs[i].job });
                        const char *told;

                        oom_begin(&o);
                        queue_admit(k.q, delivery, KIT_NOW);
                        oom_end();
                        told = kit_told(&k);
                        if (!CHECK(strcmp(told, jobs[i].told) == 0 || (oom_failed && told[0] == 0)))
                                printf("#   %s, allocation %ld: %s\n", jobs[i].type, o.n, told);
                        k.q->outcomes = outcomes_free(k.q->outcomes);
                        (void) unlinkat(k.k.d.fd, "outcomes", 0);
                        CHECK_INT(outcomes_open(k.k.d.fd, &k.q->outcomes, NULL), 0);
                }
        kit_stop(&k);
}

/* An envelope in a file. */
TEST(a_file_for_which_there_is_no_memory) {
        _cleanup_json_ cJSON *delivery = kit_delivery(&(Say) { .type = PROVISION, .spec = KIT_SPEC, .generation = 1, .job = 1 });

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        kit_start(&k);
        for (Oom o = {}; oom_next(&o) && CHECK(o.n < 2000);) {
                _cleanup_json_ cJSON *report = NULL;
                Fault f = {};
                int r;

                oom_begin(&o);
                r = queue_apply(k.q, json_get(delivery, "envelope"), true, KIT_NOW, &report, &f);
                oom_end();
                CHECK((r < 0) == (report == NULL) && (r < 0) == f.set && (r >= 0 || oom_failed));
                if (report)
                        CHECK_STR(json_get_string(report, "state"), "accepted");
        }
        kit_stop(&k);
}

/* ── what is kept, what is seen ──────────────────────────────────────────────────────────────────────────────── */

TEST(whose_image_is_kept) {
        kit_start(&k);
        for (int who = -1; who < 5; who++) {
                Workspace *w = kit_put(&k, KIT_WORKSPACE)->w;

                w->settled = who == 0 ? kit_version(KIT_CODEX2) : NULL;
                w->wanted = who == 1 ? kit_version(KIT_CODEX2) : NULL;
                w->work = who == 2 ? kit_work(JOB_RESTART, KIT_CODEX2) : NULL;
                w->next = who == 3 ? kit_work(JOB_RESTART, KIT_CODEX2) : NULL;
                w->roll_image_ref = who == 4 ? strdup(KIT_CODEX2) : NULL;
                CHECK(queue_keeps_image(k.q, KIT_DIGEST_2) == (who >= 0));
                queue_remove(k.q, entry(KIT_WORKSPACE));
        }
        kit_stop(&k);
}

TEST(who_is_seen) {
        _cleanup_json_ cJSON *none = NULL, *foreign = NULL;

        kit_start(&k);
        for (int who = 0; who < 5; who++) {
                _cleanup_json_ cJSON *view = NULL;
                Workspace *w = kit_put(&k, KIT_WORKSPACE)->w;

                w->wanted = who == 1 || who == 4 ? kit_version(KIT_CODEX) : NULL;
                w->settled = who == 2 ? kit_version(KIT_CODEX) : NULL;
                w->work = who == 3 ? kit_work(JOB_RESTART, KIT_CODEX) : NULL;
                w->removed = who == 4;
                view = queue_view(k.q);
                CHECK_INT(cJSON_GetArraySize(view), who >= 1 && who <= 3);
                queue_remove(k.q, entry(KIT_WORKSPACE));
        }
        none = queue_foreign(k.q);
        CHECK_INT(cJSON_GetArraySize(none), 0);
        k.q->foreign = kit_json("[{\"container_id\":\"c0ffee\"}]");
        foreign = queue_foreign(k.q);
        CHECK_INT(cJSON_GetArraySize(foreign), 1);
        kit_stop(&k);
}

static const char *jobs_state(void) {
        static char state[20];
        _cleanup_json_ cJSON *view = queue_jobs_view(k.q);

        (void) snprintf(state, sizeof state, "%s", json_get_string(cJSON_GetArrayItem(view, 0), "state") ?: "");
        return state;
}

TEST(a_host_job_that_is_shown) {
        kit_start(&k);
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"codex\"}", .job = 1), "accepted");
        CHECK_STR(jobs_state(), "waiting");
        CHECK(!queue_is_idle(k.q) && !queue_waits_for_release(k.q));
        k.q->recovered = true;
        CHECK(!queue_is_idle(k.q));
        CHECK_INT(queue_hold_local(k.q, NULL, 0, "x", &(Fault) {}), 0);
        CHECK(queue_waits_for_release(k.q));
        CHECK_INT(queue_release_local(k.q, NULL, "x", &(Fault) {}), 0);
        queue_run(k.q);
        CHECK_STR(jobs_state(), "running");
        CHECK_INT(queue_jobs_running(k.q), 1);
        CHECK_INT(queue_hold_local(k.q, NULL, 0, "x", &(Fault) {}), 0);
        CHECK_STR(jobs_state(), "held");
        CHECK(!queue_waits_for_release(k.q));
        CHECK_INT(queue_release_local(k.q, NULL, "x", &(Fault) {}), 0);
        CHECK_INT(queue_cancel(k.q, kit_job_id(1), &(Fault) {}), 0);
        kit_put(&k, KIT_WORKSPACE)->w->settled = kit_version(KIT_CODEX2);
        (void) kit_told(&k);
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 7, .job = 2), "accepted");
        queue_run(k.q);
        CHECK_STR(jobs_state(), "running");
        queue_stop(k.q);
        queue_stop(k.q);
        CHECK_INT(k.stopped, 1);                        /* once */
        kit_stop(&k);
}

/* ── a start ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_start_among_strange_files) {
        Fault f = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        entry(KIT_WORKSPACE)->w->outcome = kit_json("{\"report_id\":\"r\",\"state\":\"failed\"}");
        CHECK_INT(queue_save(k.q, entry(KIT_WORKSPACE), NULL), 0);
        test_dir_text(&k.k.d, "ws/a-file-of-somebody-with-a-name-as-long-as-an-id.g1.payload", "x");
        kit_restart(&k);
        CHECK(entry(KIT_WORKSPACE) && entry(KIT_WORKSPACE)->w->outcome);
        CHECK(test_dir_has(&k.k.d, "ws/a-file-of-somebody-with-a-name-as-long-as-an-id.g1.payload"));
        k.q = queue_free(k.q);
        CHECK_INT(mkdirat(k.k.d.fd, "ws/" W2, 0700), 0);
        CHECK_INT(kit_open(&k, &f), 0);                 /* no record, and no one's concern */
        CHECK(entry(KIT_WORKSPACE) && !entry(W2));
        kit_stop(&k);
}

TEST_MAIN
