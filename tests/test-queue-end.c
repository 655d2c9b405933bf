/* SPDX-License-Identifier: Apache-2.0 */

/* provision/queue-end: what each end of a job makes of the workspace's record, and what is told; nothing is told that the disk has not taken, and an
 * end for which there is no memory leaves the job where it was. */

#include "tests/oom.h"
#include "tests/queue-kit.h"

static Job *job;                                /* what the workspace was to be; its spec is borrowed by the ends */

static void make_job(void) {
        _cleanup_json_ cJSON *payload = kit_payload(&(Say) { .type = "workspace.provision", .generation = 7, .job = 7,
                                                             .spec = "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"kind\":\"platform\","
                                                                     "\"data_persistence\":\"ephemeral\",\"env\":{\"A\":\"b\"},"
                                                                     "\"secrets\":{\"S\":\"YQ==\"},\"sealed_to\":\"k\"}" });
        _cleanup_free_ char *text = json_print(payload);
        JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 4 } };
        JobLabel label = {};

        job = job_free(job);
        if (job_parse(text, strlen(text), &rules, &label, &job, NULL) < 0)
                abort();
}

typedef struct Row {
        const char *name;
        JobType     type;
        ReportState state;
        const char *told;                       /* "" where nobody hears of it */
        bool        settled, container, local, of_host, rolled, started, prune, reported, not_undone, waiting;
        const char *persistence, *rescue, *phase;       /* phase: of the roll that a part leaves behind */
        FaultCode   code;                       /* where it failed */
        bool        removed, erases, fails, runs;       /* what the record says then: gone; volumes go later; wanted came to nothing; a job is at work */
} Row;

static const Row rows[] = {
        { "a first version", JOB_PROVISION, REPORT_SUCCEEDED, "succeeded", .container = true },
        { "a next version", JOB_PROVISION, REPORT_SUCCEEDED, "succeeded", .container = true, .settled = true },
        { "left running", JOB_PROVISION, REPORT_SUCCEEDED, "succeeded", .settled = true },
        { "left running, nothing settled", JOB_PROVISION, REPORT_SUCCEEDED, "succeeded" },
        { "a restart", JOB_RESTART, REPORT_SUCCEEDED, "succeeded", .container = true, .settled = true },
        { "failed before its start", JOB_PROVISION, REPORT_FAILED, "failed:pull_stalled", .code = FAULT_PULL_STALLED, .fails = true },
        { "failed after its start", JOB_PROVISION, REPORT_FAILED, "failed:crash_loop", .code = FAULT_CRASH_LOOP, .started = true, .rescue = "last words",
          .erases = true, .fails = true },
        { "failed, nothing was said", JOB_PROVISION, REPORT_FAILED, "failed:crash_loop", .code = FAULT_CRASH_LOOP, .settled = true, .rescue = "", .fails = true },
        { "a restart failed", JOB_RESTART, REPORT_FAILED, "failed:rolled_back", .code = FAULT_ROLLED_BACK, .settled = true },
        { "called off, nothing settled", JOB_PROVISION, REPORT_CANCELLED, "cancelled" },
        { "called off", JOB_PROVISION, REPORT_CANCELLED, "cancelled", .settled = true },
        { "overtaken", JOB_PROVISION, REPORT_SUPERSEDED, "superseded", .waiting = true, .runs = true },
        { "removed", JOB_DEPROVISION, REPORT_SUCCEEDED, "succeeded", .settled = true, .removed = true, .erases = true },
        { "removed and erased", JOB_DEPROVISION, REPORT_SUCCEEDED, "succeeded", .settled = true, .prune = true, .removed = true },
        { "removed, ephemeral", JOB_DEPROVISION, REPORT_SUCCEEDED, "succeeded", .settled = true, .persistence = "ephemeral", .removed = true },
        { "removed, to be kept", JOB_DEPROVISION, REPORT_SUCCEEDED, "succeeded", .settled = true, .persistence = "persist", .removed = true },
        { "not removed", JOB_DEPROVISION, REPORT_FAILED, "failed:engine_error", .code = FAULT_ENGINE_ERROR, .settled = true },
        { "not undone", JOB_PROVISION, REPORT_FAILED, "failed:rollback_failed", .code = FAULT_ROLLBACK_FAILED, .settled = true, .not_undone = true,
          .runs = true },
        { "not undone yet", JOB_PROVISION, REPORT_FAILED, "", .code = FAULT_ROLLBACK_FAILED, .settled = true, .not_undone = true, .reported = true,
          .runs = true },
        { "undone at last", JOB_PROVISION, REPORT_FAILED, "failed", .code = FAULT_ROLLED_BACK, .settled = true, .reported = true, .fails = true },
        { "a repair", JOB_PROVISION, REPORT_SUCCEEDED, "succeeded", .container = true, .settled = true, .local = true },
        { "a repair failed", JOB_PROVISION, REPORT_FAILED, "failed:start_failed", .code = FAULT_START_FAILED, .settled = true, .local = true },
        { "a repair not undone", JOB_PROVISION, REPORT_FAILED, "", .code = FAULT_ROLLBACK_FAILED, .settled = true, .local = true, .not_undone = true, .runs = true },
        { "a part", JOB_PROVISION, REPORT_SUCCEEDED, "", .container = true, .settled = true, .of_host = true, .rolled = true, .phase = "verified" },
        { "a part rolled back", JOB_PROVISION, REPORT_FAILED, "", .code = FAULT_ROLLED_BACK, .settled = true, .of_host = true, .phase = "rolled_back" },
        { "a part failed", JOB_PROVISION, REPORT_FAILED, "", .code = FAULT_CRASH_LOOP, .settled = true, .of_host = true, .phase = "failed" },
        { "a part overtaken", JOB_PROVISION, REPORT_SUPERSEDED, "", .settled = true, .of_host = true, .phase = "superseded" },
        { "a part called off", JOB_PROVISION, REPORT_CANCELLED, "", .settled = true, .of_host = true, .phase = "cancelled" },
        { "a part not undone", JOB_PROVISION, REPORT_FAILED, "", .code = FAULT_ROLLBACK_FAILED, .settled = true, .of_host = true, .not_undone = true,
          .phase = "failed", .runs = true },
        { "a part not undone yet", JOB_PROVISION, REPORT_FAILED, "", .code = FAULT_ROLLBACK_FAILED, .settled = true, .of_host = true, .not_undone = true,
          .reported = true, .runs = true },
        { "a part undone at last", JOB_PROVISION, REPORT_FAILED, "", .code = FAULT_ROLLED_BACK, .settled = true, .of_host = true, .reported = true },
        { "a part of a teardown", JOB_DEPROVISION, REPORT_SUCCEEDED, "", .settled = true, .of_host = true, .prune = true, .phase = "verified", .removed = true },
};

static Version *version(const char *container, const char *persistence) {
        Version *v = version_new(job, KIT_CODEX);

        v->data_persistence = (free(v->data_persistence), persistence ? strdup(persistence) : NULL);
        v->container_id = container ? strdup(container) : NULL;
        return v;
}

static Work *work(const Row *row) {
        Work *k = work_new(job, "55555555-5555-4555-8555-555555555555");

        k->type = row->type;
        k->local = row->local;
        k->of_host = row->of_host;
        if (row->of_host)
                strcpy(k->job_id, KIT_OTHER);   /* the host's job, and not the one that wanted the workspace so */
        k->started = row->started;
        k->prune = row->prune;
        k->reported = row->reported;
        k->image_ref = strdup(KIT_CODEX2);
        k->image_over = row->rolled ? strdup(KIT_DIGEST) : NULL;
        return k;
}

static Entry *put(QueueKit *k, const Row *row) {
        Workspace *w = workspace_new(KIT_WORKSPACE, 1);
        Entry *e = queue_add(k->q, w);

        w->port = 21000;
        w->spec_floor = 7;
        w->wanted = version(NULL, row->persistence);
        w->settled = row->settled ? version("old", row->persistence) : NULL;
        w->work = work(row);
        w->next = row->waiting ? work(row) : NULL;
        if (row->reported && !row->of_host)
                w->outcome = kit_json("{\"report_id\":\"r\",\"state\":\"failed\"}");
        CHECK_INT(queue_save(k->q, e, NULL), 0);
        return e;
}

static void end_it(QueueKit *k, Entry *e, const Row *row) {
        EngineContainer c = { .id = (char *) "new", .ip_address = (char *) "10.0.0.2", .running = true };
        FlowEnd end = { .state = row->state, .undone = !row->not_undone, .rescue = row->rescue, .spec = job->spec,
                        .container = row->container ? &c : NULL, .container_restarted = row->container, .volumes_gone = row->prune };

        if (row->state == REPORT_FAILED)
                (void) fault(&end.fault, -EIO, row->code, "Words.");
        queue_done(k->q, e, &end);
}

static void clear(QueueKit *k, Entry *e) {
        (void) unlinkat(k->q->dir.fd, e->w->id, 0);
        queue_remove(k->q, e);
        k->q->outcomes = outcomes_free(k->q->outcomes);
        (void) unlinkat(k->k.d.fd, "outcomes", 0);
        CHECK_INT(outcomes_open(k->k.d.fd, &k->q->outcomes, NULL), 0);
        k->q->degraded = (Fault) {};
        k->q->write_failures = 0;
}

static void check_record(const Row *row, const Workspace *w) {
        CHECK(w->removed == row->removed && (w->erase_at != 0) == row->erases && (w->work != NULL) == row->runs);
        CHECK((w->wanted && w->wanted->failed) == row->fails);
        CHECK_STR(w->settled ? w->settled->container_id : NULL, row->removed ? NULL : row->container ? "new" : row->settled ? "old" : NULL);
        CHECK_STR(json_get_string(w->roll, "phase"), row->phase);
        CHECK_STR(w->roll_image_ref, row->rolled ? KIT_CODEX2 : NULL);
        CHECK(w->port == (w->settled || w->work ? 21000 : 0));
        if (row->container && w->settled)
                CHECK_STR(w->settled->image_ref, KIT_CODEX2);
}

TEST(every_end) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        make_job();
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Entry *e = put(&k, &rows[i]);
                _cleanup_(workspace_freep) Workspace *stored = NULL;

                printf("# %s\n", rows[i].name);
                end_it(&k, e, &rows[i]);
                CHECK_STR(kit_told(&k), rows[i].told);
                CHECK(e->final == NULL);
                check_record(&rows[i], e->w);
                if (strcmp(rows[i].name, "not undone yet") != 0 && strcmp(rows[i].name, "a part not undone yet") != 0) {
                        CHECK_INT(workspace_load(&k.q->dir, KIT_WORKSPACE, &stored, NULL), 0);
                        check_record(&rows[i], stored);
                }
                clear(&k, e);
        }
}

/* What is called off goes back to what is settled, by the pin unless its own job named the image. */
TEST(what_is_called_off_wants_what_there_is) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        make_job();
        for (int own = 0; own < 2; own++) {
                Entry *e = put(&k, &(Row) { .type = JOB_PROVISION, .settled = true });

                e->w->settled->generation = 3;
                e->w->settled->own_image = own;
                end_it(&k, e, &(Row) { .state = REPORT_CANCELLED });
                CHECK_INT(e->w->wanted->generation, 3);
                CHECK_STR(e->w->wanted->image_ref, own ? KIT_CODEX : NULL);
                CHECK(e->w->wanted->container_id == NULL);
                clear(&k, e);
        }
}

/* An erasure of our own takes what is left of a workspace that is gone, and never makes one gone. */
TEST(an_erasure) {
        static const Row row = { .type = JOB_DEPROVISION, .state = REPORT_SUCCEEDED, .local = true, .prune = true };
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        make_job();
        for (int removed = 0; removed < 2; removed++) {
                Entry *e = put(&k, &row);

                e->w->removed = removed;
                end_it(&k, e, &row);
                CHECK(e->w->removed == removed && e->w->work == NULL);
                clear(&k, e);
        }
}

/* An image that its own job named is kept apart from a pin's and a roll's. */
TEST(whose_image_it_is) {
        static const struct { const char *ref; bool own; } refs[] = { { NULL, false }, { KIT_CODEX, false }, { KIT_CODEX2, true } };
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        make_job();
        for (size_t i = 0; i < ELEMENTS(refs); i++) {
                static const Row row = { .type = JOB_PROVISION, .state = REPORT_SUCCEEDED, .container = true };
                Entry *e = put(&k, &row);

                job->spec->image_ref = (free(job->spec->image_ref), refs[i].ref ? strdup(refs[i].ref) : NULL);
                end_it(&k, e, &row);
                CHECK(e->w->settled && e->w->settled->own_image == refs[i].own);
                clear(&k, e);
        }
}

/* A restart makes good what had failed. */
TEST(a_success_of_what_had_failed) {
        _cleanup_queue_ QueueKit k = {};
        Entry *e;

        kit_start(&k);
        make_job();
        for (int rolled = 0; rolled < 2; rolled++) {
                e = put(&k, &(Row) { .type = JOB_RESTART, .settled = true, .rolled = rolled });
                e->w->wanted->failed = true;
                end_it(&k, e, &(Row) { .state = REPORT_SUCCEEDED, .container = true });
                CHECK(!e->w->wanted->failed);
                clear(&k, e);
        }
}

/* The first failure of a row is told; the pause grows to its limit, and a success ends it. */
TEST(repairs) {
        static const Row good = { .state = REPORT_SUCCEEDED, .container = true }, bad = { .state = REPORT_FAILED, .code = FAULT_START_FAILED };
        _cleanup_queue_ QueueKit k = {};
        Entry *e;

        kit_start(&k);
        make_job();
        e = put(&k, &(Row) { .type = JOB_PROVISION, .settled = true, .local = true });
        for (int i = 0; i < 8; i++) {
                uint64_t wanted = REPAIR_PAUSE_USEC << i;

                if (!e->w->work)
                        e->w->work = work(&(Row) { .type = JOB_PROVISION, .local = true });
                end_it(&k, e, &bad);
                CHECK_STR(kit_told(&k), i == 0 ? "failed:start_failed" : "");
                CHECK_INT(e->repair_pause, wanted < REPAIR_PAUSE_MAX_USEC ? wanted : REPAIR_PAUSE_MAX_USEC);
        }
        queue_repair(k.q, e);                   /* not before its pause is over */
        e->w->work = e->w->work ?: work(&(Row) { .type = JOB_PROVISION, .local = true });
        end_it(&k, e, &good);
        CHECK_STR(kit_told(&k), "succeeded");
        CHECK(e->repair_pause == 0 && e->repair_after == 0 && e->w->work == NULL);
        queue_repair(k.q, e);
        CHECK(e->w->work && e->w->work->local);
}

/* ── what ends in the middle ─────────────────────────────────────────────────────────────────────────────────── */

TEST(a_disk_that_takes_no_end) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        make_job();
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const Row *row = &rows[i];
                Entry *e = put(&k, row);
                bool tells = row->not_undone && row->told[0];           /* its undo goes on whatever the disk says */

                printf("# %s\n", row->name);
                kit_disk_full(true);
                end_it(&k, e, row);
                sweep_store_finals(k.q);
                kit_disk_full(false);
                CHECK_STR(kit_told(&k), tells ? row->told : "");
                CHECK(e->w->work != NULL && !e->w->removed);
                CHECK_STR(e->w->settled ? e->w->settled->container_id : NULL, row->settled ? "old" : NULL);
                if (e->final && row->state != REPORT_SUCCEEDED) {
                        sweep_store_finals(k.q);                        /* with the next sweep */
                        CHECK_STR(kit_told(&k), row->told);
                        CHECK(e->final == NULL);
                }
                CHECK(e->final == NULL);                                /* a success is worked out anew, by the job itself */
                clear(&k, e);
        }
}

/* A restart is of a generation that may not be its own, nor wanted any more. */
TEST(the_payload_that_only_a_restart_named_goes) {
        static const Row row = { "a restart overtaken", JOB_RESTART, REPORT_SUPERSEDED, "superseded" };
        _cleanup_queue_ QueueKit k = {};
        Entry *e;

        kit_start(&k);
        make_job();
        e = put(&k, &row);
        CHECK_INT(payload_save(&k.q->dir, e->w->id, job, NULL), 0);
        CHECK_INT(faccessat(k.q->dir.fd, KIT_WORKSPACE ".g7.payload", F_OK, 0), 0);
        e->w->work->generation = 8;
        e->w->wanted->generation = 9;
        end_it(&k, e, &row);
        CHECK_STR(kit_told(&k), "superseded");
        CHECK(faccessat(k.q->dir.fd, KIT_WORKSPACE ".g7.payload", F_OK, 0) < 0 && errno == ENOENT);
        clear(&k, e);
        job = job_free(job);
}

TEST(memory_that_ends) {
        _cleanup_queue_ QueueKit k = {};

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        kit_start(&k);
        make_job();
        clear(&k, put(&k, &rows[0]));           /* room for an entry stays */
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const Row *row = &rows[i];

                for (Oom o = {}; oom_next(&o) && CHECK(o.n < 2000);) {
                        long before = oom_blocks;
                        Entry *e = put(&k, row);
                        Workspace *stored = NULL;
                        const char *told;

                        oom_begin(&o);
                        end_it(&k, e, row);
                        oom_end();
                        told = kit_told(&k);
                        if (!CHECK(told[0] == 0 || str_equal(told, row->told)))
                                printf("#   %s, allocation %ld: %s\n", row->name, o.n, told);
                        CHECK_INT(workspace_load(&k.q->dir, KIT_WORKSPACE, &stored, NULL), 0);
                        CHECK((stored->work == NULL) == (e->w->work == NULL) && stored->removed == e->w->removed);
                        CHECK(!stored->settled == !e->w->settled);
                        CHECK(!told[0] || row->of_host || row->local || stored->outcome || row->not_undone);
                        workspace_free(stored);
                        /* what is told once its undo is done at last */
                        CHECK(!e->w->work || !e->w->work->reported || row->of_host || e->w->outcome);
                        clear(&k, e);
                        if (!CHECK_INT(oom_blocks, before))
                                printf("#   %s, allocation %ld\n", row->name, o.n);
                }
        }
        job = job_free(job);
}

TEST_MAIN
