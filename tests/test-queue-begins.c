/* SPDX-License-Identifier: Apache-2.0 */

/* provision/queue: which job begins and which waits; what is called off in which state; what is said again after a restart, and what is kept. No engine is
 * there: a job that begins asks it, and no answer comes. */

#include "tests/oom.h"
#include "tests/queue-kit.h"

#define PROVISION "workspace.provision"
#define W2        KIT_OTHER
#define REASON    "{\"reason\":\"x\"}"
#define ENSURE    "{\"runtime\":\"codex\"}"

static QueueKit k;

static Entry *entry(const char *id) { return queue_find(k.q, id); }

/* ── which begins ────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Row { const char *name; JobType type; WorkPhase phase; bool cancelled, of_host, reported, local, held, degraded, final, full, begins, ends; } Row;

static const Row rows[] = {
        { "a removal",                         JOB_DEPROVISION, .begins = true },
        { "under a hold",                      JOB_DEPROVISION, .held = true },
        { "called off under a hold",           JOB_DEPROVISION, .held = true, .cancelled = true, .begins = true, .ends = true },
        { "in its swap under a hold",          JOB_PROVISION,   WORK_UNDOING, .held = true, .begins = true },
        { "a teardown's part under a hold",    JOB_DEPROVISION, .held = true, .of_host = true, .begins = true },
        { "a part where the disk is full",     JOB_DEPROVISION, .of_host = true, .degraded = true },
        { "a part",                            JOB_DEPROVISION, .of_host = true, .begins = true },
        { "another where the disk is full",    JOB_DEPROVISION, .degraded = true, .begins = true },
        { "its end is out",                    JOB_DEPROVISION, .reported = true },
        { "its end is not stored",             JOB_DEPROVISION, .final = true },
        { "as many as may are at work",        JOB_DEPROVISION, .full = true },
        { "a roll's part under a hold",        JOB_PROVISION,   .of_host = true, .held = true },
        { "a roll's way back",                 JOB_PROVISION,   WORK_UNDOING, .of_host = true, .held = true, .begins = true },
        { "a repair's way back",               JOB_PROVISION,   WORK_UNDOING, .local = true, .begins = true },
};

static void try_row(const Row *row) {
        Entry *e = kit_put(&k, KIT_WORKSPACE);

        e->w->work = kit_work(row->type, KIT_CODEX);
        e->w->work->phase = row->phase;
        e->w->work->cancelled = row->cancelled;
        e->w->work->of_host = row->of_host;
        e->w->work->reported = row->reported;
        e->w->work->local = row->local;
        e->final = row->final ? cJSON_CreateObject() : NULL;
        k.settings.max_parallel_jobs = row->full ? 0 : 4;
        if (row->held)
                CHECK_INT(queue_hold_local(k.q, NULL, 0, "x", &(Fault) {}), 0);
        k.q->degraded.set = row->degraded;
        queue_run(k.q);
        if (!CHECK((e->flow != NULL) == row->begins))
                printf("#   %s\n", row->name);
        queue_run(k.q);                         /* twice is once */
        CHECK_INT(queue_jobs_running(k.q), row->begins && !row->ends);
        CHECK(!row->ends || (strstr(kit_told(&k), "cancelled") && !e->w->work));
        k.q->degraded = (Fault) {};
        CHECK_INT(queue_release_local(k.q, NULL, "", &(Fault) {}), 0);
        queue_remove(k.q, e);
}

TEST(what_begins) {
        kit_start(&k);
        k.q->recovered = true;
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                try_row(&rows[i]);
        kit_stop(&k);
}

/* The oldest first, removals in a lane of their own. */
TEST(in_which_order) {
        static const char *const ids[] = { KIT_WORKSPACE, W2, "88888888-8888-4888-8888-888888888888" };

        kit_start(&k);
        k.q->recovered = true;
        k.settings.max_parallel_jobs = 1;
        for (size_t i = 0; i < ELEMENTS(ids); i++) {
                Entry *e = kit_put(&k, ids[i]);

                e->w->work = kit_work(i == 2 ? JOB_DEPROVISION : JOB_PROVISION, KIT_CODEX);
                e->w->work->phase = WORK_UNDOING;
                e->seq = 10 - i;
        }
        queue_run(k.q);
        CHECK(!entry(ids[0])->flow && entry(ids[1])->flow && entry(ids[2])->flow);
        k.settings.max_parallel_jobs = 4;
        queue_run(k.q);
        CHECK(entry(ids[0])->flow);
        (void) kit_told(&k);
        queue_stop(k.q);
        queue_admit(k.q, NULL, KIT_NOW);        /* nothing is taken in any more */
        CHECK_STR(kit_told(&k), "");
        CHECK_INT(k.stopped, k.q->stopped);
        kit_stop(&k);
}

/* A root that is another or gone opens nothing: what was accepted waits for it, and what needs no secret goes on. */
TEST(without_the_root_key) {
        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2), "accepted");
        CHECK_STR(SAY(.type = "workspace.deprovision", .spec = "{\"prune\":true}", .generation = 2, .workspace = W2), "accepted");
        k.q = queue_free(k.q);
        sealed_close(&k.k);
        CHECK_INT(renameat(k.k.d.fd, "keys", k.k.d.fd, "away"), 0);
        sealed_open(&k.k);
        CHECK(vault_fault(k.k.vault) != NULL);
        CHECK_INT(kit_open(&k, NULL), 0);
        CHECK(!entry(KIT_WORKSPACE)->unreadable && !entry(KIT_WORKSPACE)->last_error.set);
        CHECK(queue_waits_for_root(k.q, entry(KIT_WORKSPACE)) && !queue_waits_for_root(k.q, entry(W2)));
        k.q->recovered = true;
        queue_run(k.q);
        CHECK(entry(KIT_WORKSPACE)->w->work && !entry(KIT_WORKSPACE)->flow);
        entry(KIT_WORKSPACE)->w->work->cancelled = true;
        CHECK(!queue_waits_for_root(k.q, entry(KIT_WORKSPACE)));        /* an undo needs no payload */
        entry(KIT_WORKSPACE)->w->work->cancelled = false;
        queue_remove(k.q, entry(W2));
        CHECK(queue_is_idle(k.q));              /* nothing can be done about it now */
        entry(KIT_WORKSPACE)->w->work->local = true;
        CHECK(!queue_waits_for_root(k.q, entry(KIT_WORKSPACE)));
        entry(KIT_WORKSPACE)->w->work->type = JOB_RESTART;      /* an operator's, accepted by the process before */
        CHECK(queue_waits_for_root(k.q, entry(KIT_WORKSPACE)));
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), -ENOKEY);
        entry(KIT_WORKSPACE)->w->work->type = JOB_PROVISION;
        entry(KIT_WORKSPACE)->w->work->local = false;
        entry(KIT_WORKSPACE)->w->work->phase = WORK_SWAPPING;
        CHECK(!queue_waits_for_root(k.q, entry(KIT_WORKSPACE)));
        entry(KIT_WORKSPACE)->w->work = work_free(entry(KIT_WORKSPACE)->w->work);
        CHECK(!queue_waits_for_root(k.q, entry(KIT_WORKSPACE)));
        kit_stop(&k);
}

/* ── called off ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Cancel { const char *name; JobType type; bool next, local, final; int r; } Cancel;

static const Cancel cancels[] = {
        { "at work",              JOB_RESTART, .r = 0 },
        { "that waits",           JOB_RESTART, .next = true, .r = 0 },
        { "a repair",             JOB_PROVISION, .local = true, .r = -ENOENT },
        { "a repair that waits",  JOB_PROVISION, .local = true, .next = true, .r = -ENOENT },
        { "whose end is known",   JOB_RESTART, .final = true, .r = -EALREADY },
};

TEST(what_is_called_off) {
        kit_start(&k);
        for (size_t i = 0; i < ELEMENTS(cancels); i++) {
                const Cancel *c = &cancels[i];
                Entry *e = kit_put(&k, KIT_WORKSPACE);
                Work *w = kit_work(c->type, KIT_CODEX);
                int r;

                w->local = c->local;
                *(c->next ? &e->w->next : &e->w->work) = w;
                if (c->next) {
                        e->w->work = kit_work(JOB_RESTART, KIT_CODEX);
                        strcpy(e->w->work->job_id, W2);
                }
                e->final = c->final ? cJSON_CreateObject() : NULL;
                r = queue_cancel(k.q, KIT_JOB, &(Fault) {});
                if (!CHECK_INT(r, c->r) || !CHECK(r == 0 ? strstr(kit_told(&k), "cancelled") != NULL : kit_told(&k)[0] == 0))
                        printf("#   %s\n", c->name);
                queue_remove(k.q, e);
                k.q->outcomes = outcomes_free(k.q->outcomes);
                (void) unlinkat(k.k.d.fd, "outcomes", 0);
                CHECK_INT(outcomes_open(k.k.d.fd, &k.q->outcomes, NULL), 0);
        }
        kit_stop(&k);
}

/* An image is not waited for any more; a roll is called off when the disk has that. */
TEST(a_host_job_that_is_called_off) {
        kit_start(&k);
        CHECK_STR(SAY(.type = "image.ensure", .spec = ENSURE, .job = 1), "accepted");
        CHECK_INT(queue_cancel(k.q, kit_job_id(1), &(Fault) {}), 0);
        CHECK_STR(kit_told(&k), "cancelled");
        CHECK_INT(k.q->host->n_jobs, 0);
        CHECK_INT(queue_cancel(k.q, kit_job_id(1), &(Fault) {}), -EALREADY);
        kit_put(&k, KIT_WORKSPACE)->w->settled = kit_version(KIT_CODEX2);
        kit_put(&k, W2)->w->work = kit_work(JOB_PROVISION, KIT_CODEX);
        entry(W2)->w->work->of_host = true;
        strcpy(entry(W2)->w->work->job_id, kit_job_id(2));
        CHECK_INT(flow_new(&k.q->context, entry(W2)->w, NULL, &entry(W2)->flow), 0);
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 1, .job = 2), "accepted");
        kit_disk_full(true);
        CHECK(queue_cancel(k.q, kit_job_id(2), &(Fault) {}) < 0);
        kit_disk_full(false);
        CHECK_INT(queue_cancel(k.q, kit_job_id(2), &(Fault) {}), 0);
        CHECK(k.q->host->jobs[0]->cancelled && entry(W2)->w->work->cancelled);
        CHECK(!queue_is_idle(k.q) && !queue_waits_for_release(k.q));
        kit_stop(&k);
}

/* ── consoles, tiers, rolls ──────────────────────────────────────────────────────────────────────────────────── */

TEST(a_console_of_what_is_not_there) {
        kit_start(&k);
        CHECK_STR(SAY(.type = "workspace.console", .spec = "{}"), "refused:unknown_workspace");
        kit_put(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = "workspace.console", .spec = "{}"), "refused:unknown_workspace");
        entry(KIT_WORKSPACE)->w->settled = kit_version(KIT_CODEX);
        CHECK_STR(SAY(.type = "workspace.console", .spec = "{}", .dry = true), "dry:accepted");
        (void) SAY(.type = "workspace.console", .spec = "{}", .job = 5);
        for (int i = 0; i < 300 && !strstr(k.told, "failed"); i++)
                (void) sd_event_run(k.event, 10000);
        CHECK(strstr(k.told, "failed:engine_unreachable"));
        kit_stop(&k);
}

/* An operator's restart waits for nobody: what is there, in whatever state, is said. */
TEST(a_restart_beside_what_is_there) {
        Entry *e;

        kit_start(&k);
        e = kit_put(&k, KIT_WORKSPACE);
        e->w->wanted = kit_version(KIT_CODEX);
        e->final = cJSON_CreateObject();        /* an end that the disk did not take */
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), -EALREADY);
        cJSON_Delete(TAKE_PTR(e->final));
        e->w->work = kit_work(JOB_RESTART, KIT_CODEX);
        CHECK_INT(flow_new(&k.q->context, e->w, NULL, &e->flow), 0);
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), -EALREADY);
        e->w->work = work_free(e->w->work);     /* ended, and not yet seen to */
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), -EALREADY);
        e->flow = flow_free(e->flow);
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), 0);
        kit_stop(&k);
}

/* What the next try may have, and no word on the thing itself. */
TEST(what_is_ours) {
        static const int ours[] = { -EMFILE, -ENFILE, -ENOMEM, -EINTR }, not[] = { 0, 1, -EIO, -ENOSPC, -ENOENT };

        for (size_t i = 0; i < ELEMENTS(ours); i++)
                CHECK(queue_is_ours(ours[i]));
        for (size_t i = 0; i < ELEMENTS(not); i++)
                CHECK(!queue_is_ours(not[i]));
}

/* By which image: the job's own word, a roll's until the pin moves, the pin's. */
TEST(by_which_image) {
        static const struct { const char *roll, *over, *runtime, *own, *ref; uint64_t size; } images[] = {
                { NULL, NULL, "codex", NULL, KIT_CODEX, 1000 },
                { KIT_CODEX2, KIT_DIGEST, "codex", NULL, KIT_CODEX2, 0 },
                { KIT_CODEX2, KIT_DIGEST_2, "codex", NULL, KIT_CODEX, 1000 },           /* it has moved */
                { KIT_CODEX2, "none", "hermes", NULL, KIT_CODEX2, 0 },
                { KIT_CODEX2, KIT_DIGEST, "hermes", NULL, NULL, 0 },
                { NULL, NULL, "hermes", KIT_CODEX2, KIT_CODEX2, 0 },
                { NULL, NULL, "codex", KIT_CODEX, KIT_CODEX, 1000 },
        };

        kit_start(&k);
        for (size_t i = 0; i < ELEMENTS(images); i++) {
                Entry *e = kit_put(&k, KIT_WORKSPACE);
                char *ref = NULL;
                uint64_t size = 0;
                int r;

                e->w->roll_image_ref = images[i].roll ? strdup(images[i].roll) : NULL;
                e->w->roll_over = images[i].over ? strdup(images[i].over) : NULL;
                r = queue_resolve_image(k.q, e->w, images[i].runtime, images[i].own, 0, &ref, &size, &(Fault) {});
                CHECK_INT(r, images[i].ref ? 0 : -ENOENT);
                CHECK_STR(ref, images[i].ref);
                CHECK_INT(size, images[i].size);
                free(ref);
                queue_remove(k.q, e);
        }
        kit_stop(&k);
}

/* ── what is said again, and what is kept ────────────────────────────────────────────────────────────────────── */

TEST(what_is_said_again) {
        static const struct { const char *told; bool local, of_host, reported, unnamed, outcome, acked; } again[] = {
                { "accepted" }, { "", .local = true }, { "", .of_host = true }, { "", .reported = true }, { "", .unnamed = true },
                { "failed accepted", .outcome = true }, { "accepted", .outcome = true, .acked = true },
        };

        kit_start(&k);
        for (size_t i = 0; i < ELEMENTS(again); i++) {
                Entry *e = kit_put(&k, KIT_WORKSPACE);

                e->w->work = kit_work(JOB_RESTART, KIT_CODEX);
                e->w->work->local = again[i].local;
                e->w->work->of_host = again[i].of_host;
                e->w->work->reported = again[i].reported;
                if (again[i].unnamed)
                        e->w->work->accepted_report_id[0] = 0;
                e->w->outcome = again[i].outcome ? kit_json("{\"report_id\":\"r\",\"state\":\"failed\"}") : NULL;
                e->w->outcome_acked = again[i].acked;
                queue_replay_reports(k.q);
                CHECK_STR(kit_told(&k), again[i].told);
                queue_report_acked(k.q, "another");
                CHECK(e->w->outcome_acked == again[i].acked);
                queue_report_acked(k.q, "r");
                CHECK(e->w->outcome_acked == again[i].outcome);
                queue_remove(k.q, e);
        }
        kit_stop(&k);
}

/* Where memory ends, a hold is seen whole or not at all. */
TEST(holds_that_are_seen) {
        _cleanup_json_ cJSON *view = NULL;

        kit_start(&k);
        CHECK_INT(queue_hold_local(k.q, NULL, 60, NULL, &(Fault) {}), 0);
        CHECK_INT(queue_hold_local(k.q, W2, 0, "", &(Fault) {}), 0);
        CHECK_INT(queue_hold_local(k.q, KIT_WORKSPACE, 0, "why", &(Fault) {}), 0);
        CHECK_INT(queue_release_local(k.q, KIT_WORKSPACE, NULL, &(Fault) {}), 0);
        CHECK_INT(queue_drain_local(k.q, true, "", &(Fault) {}), 0);
        view = queue_hold_view(k.q);
        CHECK_INT(cJSON_GetArraySize(json_get(view, "holds")), 2);
        CHECK(json_get_bool(view, "held", false) && !json_get_bool(view, "hold_file", true) && json_get_bool(view, "draining", false));
        for (Oom o = {}; oom_next(&o) && CHECK(o.n < 500);) {
                _cleanup_json_ cJSON *again = NULL;

                oom_begin(&o);
                again = queue_hold_view(k.q);
                oom_end();
                CHECK(oom_failed ? again == NULL : cJSON_GetArraySize(json_get(again, "holds")) == 2);
        }
        k.time += 61 * USEC_PER_SEC;
        cJSON_Delete(view);
        view = queue_hold_view(k.q);
        CHECK_INT(cJSON_GetArraySize(json_get(view, "holds")), 1);
        CHECK(!json_get_bool(view, "held", true));
        test_dir_text(&k.k.d, "hold", "");
        cJSON_Delete(view);
        view = queue_hold_view(k.q);
        CHECK(json_get_bool(view, "held", false) && json_get_bool(view, "hold_file", false));
        kit_stop(&k);
}

TEST_MAIN
