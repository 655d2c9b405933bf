/* SPDX-License-Identifier: Apache-2.0 */

/* provision/queue, from a delivery to its answer: order by generation, what is refused and with which code, what waits, what an operator on the host
 * does; nothing half taken when memory or the disk ends. No engine is there, so whatever is accepted waits. */

#include "tests/oom.h"
#include "tests/queue-kit.h"

#define PROVISION "workspace.provision"
#define REMOVE    "workspace.deprovision"
#define RESTART   "workspace.restart"
#define W2        KIT_OTHER
#define TIER4     "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"tier\":4}"
#define OWN(ref)  "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"image_ref\":\"" ref "\",\"image_size_bytes\":\"5\"}"
#define KEEP      "{\"prune\":false}"
#define REASON    "{\"reason\":\"x\"}"

static Entry *entry(QueueKit *k, const char *id) { return queue_find(k->q, id); }

/* As if it had been carried out. */
static void settle(QueueKit *k, const char *id) {
        Workspace *w = entry(k, id)->w;

        w->settled = version_copy(w->wanted);
        w->settled->container_id = strdup("c0ffee");
        free(w->settled->image_ref);
        w->settled->image_ref = strdup(KIT_CODEX);
        w->work = work_free(w->work);
        CHECK_INT(queue_save(k->q, entry(k, id), NULL), 0);
}

/* ── a workspace's ───────────────────────────────────────────────────────────────────────────────────────────── */

TEST(order_is_by_generation) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = RESTART, .spec = "{}", .generation = 1), "refused:unknown_workspace");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5), "running");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 6), "conflict");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 4), "superseded");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 7, .job = 7), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 8, .job = 8), "superseded accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 7, .job = 7), "again:superseded");
        CHECK_STR(SAY(.type = RESTART, .spec = "{}", .generation = 8), "conflict");
        CHECK_STR(SAY(.type = RESTART, .spec = "{}", .generation = 9, .job = 9), "superseded accepted");
        CHECK_STR(SAY(.type = RESTART, .spec = "{}", .generation = 9, .job = 9), "running");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 9), "conflict");
        CHECK_STR(SAY(.type = RESTART, .spec = "{}", .generation = 2), "superseded");
        CHECK_STR(SAY(.type = REMOVE, .spec = KEEP, .generation = 10), "superseded accepted");
        CHECK_STR(SAY(.type = RESTART, .spec = "{}", .generation = 11), "refused:unknown_workspace");
        CHECK(!queue_is_idle(k.q) && queue_jobs_running(k.q) == 0);
}

TEST(an_equal_job_after_its_end) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5), "accepted");
        queue_end_unbegun(k.q, entry(&k, KIT_WORKSPACE), REPORT_FAILED, NULL);
        CHECK_STR(kit_told(&k), "failed");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 5), "again:failed");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 5, .job = 6), "conflict");
        queue_replay_reports(k.q);
        CHECK_STR(kit_told(&k), "failed");
        queue_report_acked(k.q, "no such report");
        queue_report_acked(k.q, json_get_string(entry(&k, KIT_WORKSPACE)->w->outcome, "report_id"));
        queue_replay_reports(k.q);
        CHECK_STR(kit_told(&k), "");
}

TEST(what_is_refused) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = "host.upgrade", .spec = "{}"), "refused:unsupported_type");
        CHECK_STR(SAY(.type = PROVISION, .spec = "{}", .generation = 1), "refused:bad_json");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .expires_at = "2020-01-01T00:00:00Z"), "expired");
        CHECK_STR(SAY(.type = PROVISION, .spec = "{\"runtime\":\"hermes\",\"platform_url\":\"https://p.example\"}", .generation = 1),
                  "refused:RUNTIME_PIN_MISSING");
        CHECK_STR(SAY(.type = PROVISION, .spec = OWN("elsewhere.example/x@" KIT_DIGEST), .generation = 1), "refused:registry_not_allowed");
        k.settings.registries = (const char *const[]) { "other.example", NULL };
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "refused:registry_not_allowed");
        k.settings.registries = kit_registries;
        CHECK_STR(SAY(.type = PROVISION, .spec = "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"secrets\":{\"A\":\"YQ==\"},"
                                                 "\"sealed_to\":\"k\"}", .generation = 1), "refused:secret_undecryptable");
        CHECK(entry(&k, KIT_WORKSPACE) == NULL);

        CHECK_STR(SAY(.type = PROVISION, .spec = TIER4, .generation = 1), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = TIER4, .generation = 1, .workspace = W2), "refused:port_unavailable");
        CHECK_STR(SAY(.type = PROVISION, .spec = TIER4, .generation = 2), "accepted");
        settle(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = PROVISION, .spec = TIER4, .generation = 1, .workspace = W2), "refused:port_unavailable");
        k.settings.max_workspaces = 1;
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2), "refused:too_large");
        k.settings.max_workspaces = 20;
        k.settings.port_low = k.settings.port_high = entry(&k, KIT_WORKSPACE)->w->port;
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2), "refused:port_unavailable");
        CHECK(entry(&k, W2) == NULL);
        CHECK_INT(test_dir_count(&k.k.d, "ws"), 3);             /* the record, and the payloads of what is wanted and at work */
}

TEST(drain_and_holds) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        CHECK_STR(SAY(.type = "host.drain", .spec = REASON, .generation = 1, .dry = true), "dry:accepted");
        CHECK_STR(SAY(.type = "host.drain", .spec = REASON, .generation = 1, .job = 71), "succeeded");
        CHECK_STR(SAY(.type = "host.drain", .spec = REASON, .generation = 1, .job = 71), "again:succeeded");
        CHECK_STR(SAY(.type = "host.drain", .spec = REASON, .generation = 1, .job = 71, .dry = true), "dry:succeeded");
        CHECK(queue_is_draining(k.q));
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2), "refused:draining");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 2), "accepted");       /* it lives here already */
        CHECK_STR(SAY(.type = "host.undrain", .spec = "{\"reason\":\"y\"}", .generation = 1, .job = 72), "conflict");
        CHECK_STR(SAY(.type = "host.undrain", .spec = REASON, .generation = 2), "succeeded");
        CHECK_STR(SAY(.type = "host.drain", .spec = REASON, .generation = 1), "superseded");

        CHECK_STR(SAY(.type = "host.hold", .spec = "{\"reason\":\"x\",\"workspace_id\":\"" W2 "\",\"seconds\":60}", .generation = 3), "succeeded");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2), "refused:held");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2, .dry = true), "dry:refused:held");
        k.time += 61 * USEC_PER_SEC;
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2, .dry = true), "dry:accepted");
        CHECK(entry(&k, W2) == NULL);
        CHECK_STR(SAY(.type = "host.hold", .spec = REASON, .generation = 4), "succeeded");
        CHECK(queue_is_held(k.q) && queue_waits_for_release(k.q));
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"codex\"}"), "refused:held");
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 1), "refused:held");
        CHECK_STR(SAY(.type = "host.release", .spec = REASON, .generation = 3), "superseded");
        CHECK_STR(SAY(.type = "host.release", .spec = REASON, .generation = 5), "succeeded");
        CHECK(!queue_is_held(k.q));
        test_dir_text(&k.k.d, "hold", "");
        CHECK(queue_is_held(k.q));
        CHECK_INT(unlinkat(k.k.d.fd, "hold", 0), 0);
        CHECK_INT(queue_host_generation(k.q), 5);
}

/* ── the host's ──────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(jobs_that_take_time) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = "workspace.console", .spec = "{}"), "refused:unknown_workspace");
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 1, .dry = true), "dry:failed:unknown_workspace");
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 1), "failed:unknown_workspace");
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"hermes\"}"), "refused:RUNTIME_PIN_MISSING");
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"codex\"}", .dry = true), "dry:accepted");
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"codex\"}", .job = 81), "accepted");
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"codex\"}", .job = 81), "running");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        settle(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = "workspace.console", .spec = "{}", .dry = true), "dry:accepted");
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 2, .dry = true), "dry:accepted");
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 2, .job = 82), "accepted");
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 2, .job = 82), "running");
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{\"continue_on_error\":true}", .generation = 2, .job = 83), "conflict");
        queue_replay_reports(k.q);
        CHECK_STR(kit_told(&k), "failed:unknown_workspace accepted accepted");
        kit_restart(&k);
        CHECK_INT(k.q->host->n_jobs, 2);
        CHECK(!queue_is_idle(k.q));
        for (unsigned i = 2; i < HOST_JOBS_MAX; i++)
                CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"codex\"}"), "accepted");
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"codex\"}"), "");          /* it stays with the control plane */
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 9), "");
        CHECK_STR(SAY(.type = "host.hold", .spec = REASON, .generation = 9), "succeeded");      /* what is done at once needs no room */
}

TEST(teardown_takes_the_slug) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        k.slug = NULL;
        CHECK_STR(SAY(.type = "host.teardown", .spec = "{\"confirm\":\"acme\"}", .generation = 1), "refused:torn_down");
        k.slug = "acme";
        CHECK_STR(SAY(.type = "host.teardown", .spec = "{\"confirm\":\"other\"}", .generation = 1), "refused:wrong_tenant");
        CHECK_STR(SAY(.type = "host.teardown", .spec = "{\"confirm\":\"acme\"}", .generation = 1, .dry = true), "dry:accepted");
        kit_disk_full(true);
        CHECK_STR(SAY(.type = "host.teardown", .spec = "{\"confirm\":\"acme\"}", .generation = 1), "");
        kit_disk_full(false);
        CHECK(!queue_is_torn_down(k.q));
        CHECK_STR(SAY(.type = "host.teardown", .spec = "{\"confirm\":\"acme\"}", .generation = 1, .job = 91), "accepted");
        CHECK(queue_is_torn_down(k.q));
        CHECK_STR(SAY(.type = "host.teardown", .spec = "{\"confirm\":\"acme\"}", .generation = 1, .job = 91), "running");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "refused:torn_down");
        CHECK_STR(SAY(.type = "job.cancel", .spec = "{\"job_id\":\"44444444-4444-4444-8444-000000000091\"}"), "refused:torn_down");
        CHECK_INT(queue_cancel_local(k.q, kit_job_id(91), &(Fault) {}), -EALREADY);             /* before its first step */
}

/* ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────────── */

#define CANCEL(n) "{\"job_id\":\"44444444-4444-4444-8444-0000000000" #n "\"}"

TEST(cancel) {
        _cleanup_queue_ QueueKit k = {};
        Entry *e;

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .job = 11), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 2, .job = 12), "accepted");
        e = entry(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(12), .dry = true), "dry:accepted");
        kit_disk_full(true);
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(12)), "");           /* said again by the control plane */
        kit_disk_full(false);
        CHECK(e->w->next != NULL);
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(12)), "cancelled succeeded");
        CHECK(e->w->next == NULL);
        e->w->work->phase = WORK_SWAPPING;
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(11)), "failed:too_late");
        e->w->work->phase = WORK_BEGUN;
        e->w->work->reported = true;
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(11)), "failed:too_late");
        e->w->work->reported = false;
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(11)), "cancelled succeeded");
        CHECK(e->w->work == NULL);
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(11)), "failed:too_late");
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(99)), "succeeded");  /* not seen yet: it never runs */
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 9, .job = 99), "again:cancelled");

        CHECK_INT(queue_cancel_local(k.q, kit_job_id(98), &(Fault) {}), -ENOENT);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 10), "accepted");
        settle(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 1, .job = 61), "accepted");
        k.q->recovered = true;
        queue_run(k.q);
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(61)), "succeeded");
        CHECK(k.q->host->jobs[0]->cancelled);
}

/* ── an operator on the host ─────────────────────────────────────────────────────────────────────────────────── */

TEST(by_hand) {
        _cleanup_queue_ QueueKit k = {};
        Fault f = {};

        kit_start(&k);
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &f), -ENOENT);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), -EALREADY);
        settle(&k, KIT_WORKSPACE);
        CHECK_INT(queue_hold_local(k.q, KIT_WORKSPACE, 0, NULL, &(Fault) {}), 0);
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), -EBUSY);
        CHECK_INT(queue_release_local(k.q, KIT_WORKSPACE, "done", &(Fault) {}), 0);
        CHECK_INT(queue_drain_local(k.q, true, NULL, &(Fault) {}), 0);
        CHECK(queue_is_draining(k.q));
        k.settings.registries = (const char *const[]) { "other.example", NULL };
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), -EPERM);
        k.settings.registries = kit_registries;

        kit_disk_full(true);
        CHECK(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}) < 0);
        CHECK(entry(&k, KIT_WORKSPACE)->w->work == NULL);
        CHECK_INT(queue_drain_local(k.q, false, "x", &(Fault) {}), -EIO);
        CHECK_INT(queue_hold_local(k.q, NULL, 60, "x", &(Fault) {}), -EIO);
        kit_disk_full(false);
        CHECK(queue_is_draining(k.q) && !queue_is_held(k.q));
        CHECK(queue_is_degraded(k.q, &f) && f.code == FAULT_STATE_DEGRADED);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 2), "");               /* no new job is taken */
        k.q->degraded = (Fault) {};

        CHECK_INT(queue_drain_local(k.q, false, "x", &(Fault) {}), 0);
        CHECK_INT(queue_hold_local(k.q, NULL, 60, "x", &(Fault) {}), 0);
        CHECK(queue_is_held(k.q));
        CHECK_INT(queue_release_local(k.q, NULL, NULL, &(Fault) {}), 0);
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), 0);
        CHECK(entry(&k, KIT_WORKSPACE)->w->work->local);
        CHECK_INT(k.q->write_failures, 0);
}

TEST(from_a_file) {
        _cleanup_queue_ QueueKit k = {};
        _cleanup_json_ cJSON *payload = NULL, *delivery = NULL, *first = NULL, *again = NULL, *bare = NULL;
        TrustedKeys trusted = { .n = 1 };
        Fault f = {}, g = {}, h = {};

        kit_start(&k);
        payload = kit_payload(&(Say) { .type = PROVISION, .spec = KIT_SPEC, .generation = 1, .job = 31 });
        delivery = kit_delivery(&(Say) { .type = PROVISION, .spec = KIT_SPEC, .generation = 1, .job = 31 });
        CHECK_INT(queue_apply(k.q, json_get(delivery, "envelope"), false, KIT_NOW, &first, &f), 0);
        CHECK_STR(json_get_string(first, "state"), "accepted");
        CHECK_INT(queue_apply(k.q, payload, false, KIT_NOW, &again, &f), 0);
        CHECK_STR(json_get_string(again, "state"), "running");
        k.settings.trusted = &trusted;
        CHECK_INT(queue_apply(k.q, payload, false, KIT_NOW, &bare, &f), -EPERM);
        CHECK_INT(f.code, FAULT_BAD_SIGNATURE);
        k.settings.trusted = NULL;
        queue_wrote(k.q, -EIO, &(Fault) { .text = "once" });
        queue_wrote(k.q, -EIO, &(Fault) { .text = "twice" });
        CHECK_INT(queue_apply(k.q, payload, false, KIT_NOW, &bare, &g), -EIO);
        CHECK_INT(g.code, FAULT_STATE_DEGRADED);
        k.q->degraded = (Fault) {};
        queue_stop(k.q);
        CHECK_INT(k.stopped, 1);
        CHECK_INT(queue_apply(k.q, payload, false, KIT_NOW, &bare, &h), -EBUSY);
        CHECK(bare == NULL);
}

/* ── what ends in the middle ─────────────────────────────────────────────────────────────────────────────────── */

TEST(a_disk_that_takes_nothing) {
        static const Say jobs[] = {
                { PROVISION, KIT_SPEC, .generation = 50 }, { RESTART, "{}", .generation = 50 }, { REMOVE, KEEP, .generation = 50 },
                { PROVISION, KIT_SPEC, .generation = 1, .workspace = W2 }, { "image.ensure", "{\"runtime\":\"codex\"}" },
                { "host.drain", REASON, .generation = 50 }, { "host.hold", REASON, .generation = 50 }, { "host.redeploy", "{}", .generation = 50 },
        };
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        settle(&k, KIT_WORKSPACE);
        for (size_t i = 0; i < ELEMENTS(jobs); i++) {
                kit_disk_full(true);
                CHECK_STR(kit_say(&k, &jobs[i]), "");
                kit_disk_full(false);
                CHECK(entry(&k, KIT_WORKSPACE)->w->work == NULL && entry(&k, W2) == NULL && k.q->host->n_jobs == 0);
                CHECK_INT(entry(&k, KIT_WORKSPACE)->w->spec_floor, 1);
                CHECK(!queue_is_draining(k.q) && !queue_is_held(k.q) && queue_host_generation(k.q) == 0);
                k.q->degraded = (Fault) {};
                k.q->write_failures = 0;
        }
        for (size_t i = 0; i < ELEMENTS(jobs); i++)
                CHECK(strstr(kit_say(&k, &jobs[i]), i == 5 || i == 6 ? "succeeded" : i == 7 ? "refused" : i == 3 || i == 4 ? "accepted" : ""));
}

/* What a round leaves behind would make the next one longer, without end. */
static void forget(QueueKit *k) {
        Queue *q = k->q;

        while (q->host->n_jobs > 0)
                host_job_free(q->host->jobs[--q->host->n_jobs]);
        cJSON_Delete(q->host->finals);
        q->host->finals = cJSON_CreateArray();
        q->outcomes = outcomes_free(q->outcomes);
        (void) unlinkat(k->k.d.fd, "outcomes", 0);
        CHECK_INT(outcomes_open(k->k.d.fd, &q->outcomes, NULL), 0);
        q->degraded = (Fault) {};
        q->write_failures = 0;
}

static void start_and_stop(void) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
}

/* Whatever is out of memory, a good job is accepted or stays with the control plane: it is never refused for that. */
static void admit_without_memory(void) {
        static const Say jobs[] = {
                { PROVISION, OWN(KIT_CODEX) }, { RESTART, "{}" }, { REMOVE, KEEP }, { "host.drain", REASON }, { "host.hold", REASON },
                { "host.release", REASON }, { "image.ensure", "{\"runtime\":\"codex\"}" }, { "host.redeploy", "{}" },
        };
        _cleanup_queue_ QueueKit k = {};
        uint64_t generation = 10;

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        settle(&k, KIT_WORKSPACE);
        for (size_t i = 0; i < ELEMENTS(jobs); i++) {
                bool ordered = strcmp(jobs[i].type, "image.ensure") != 0;

                for (Oom o = {}; oom_next(&o) && CHECK(o.n < 2000); generation++) {
                        Say say = jobs[i];
                        _cleanup_json_ cJSON *delivery = NULL;
                        Entry *e = entry(&k, KIT_WORKSPACE);
                        const char *told;

                        say.generation = ordered ? generation : 0;
                        delivery = kit_delivery(&say);
                        oom_begin(&o);
                        queue_admit(k.q, delivery, KIT_NOW);
                        oom_end();
                        told = kit_told(&k);
                        if (!CHECK(strstr(told, "refused") == NULL && strstr(told, "failed") == NULL))
                                printf("#   %s, allocation %ld: %s\n", say.type, o.n, told);
                        CHECK(oom_failed || strstr(told, "accepted") || strstr(told, "succeeded"));
                        CHECK(!told[0] || e->w->spec_floor <= generation);
                        if (strcmp(say.type, REMOVE) == 0) {
                                e->w->work = work_free(e->w->work);
                                e->w->next = work_free(e->w->next);
                        }
                        forget(&k);
                }
        }
}

/* A round leaves what was accepted; the queue's end leaves nothing. What libraries keep for ever they have after the first start. */
TEST(memory_that_ends) {
        long before;

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        start_and_stop();
        before = oom_blocks;
        admit_without_memory();
        CHECK_INT(oom_blocks, before);
}

/* A start reads everything or nothing; what is damaged is set aside and stops nobody. */
TEST(a_start_for_which_there_is_no_memory) {
        _cleanup_queue_ QueueKit k = {};
        long before;
        int failed = 0;

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        CHECK_STR(SAY(.type = "host.drain", .spec = REASON, .generation = 1), "succeeded");
        k.q = queue_free(k.q);
        before = oom_blocks;
        for (Oom o = {}; oom_next(&o) && CHECK(o.n < 3000);) {
                Fault f = {};
                int r;

                oom_begin(&o);
                r = kit_open(&k, &f);
                oom_end();
                failed += r < 0;
                CHECK((r < 0) == (k.q == NULL) && (r < 0) == f.set);
                CHECK(r < 0 || oom_failed || (entry(&k, KIT_WORKSPACE) && queue_is_draining(k.q)));
                k.q = queue_free(k.q);
                if (!CHECK_INT(oom_blocks, before))
                        printf("#   allocation %ld\n", o.n);
        }
        CHECK(failed > 10);
}

TEST(a_start_among_damage) {
        static const char *const files[] = { ("ws/" KIT_WORKSPACE), "outcomes", "tombstones", "host" };
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .workspace = W2), "accepted");
        for (size_t i = 0; i < ELEMENTS(files); i++)
                test_dir_text(&k.k.d, files[i], "no record\n");
        kit_restart(&k);
        CHECK(entry(&k, KIT_WORKSPACE) == NULL && entry(&k, W2) != NULL);
        CHECK(test_dir_count(&k.k.d, "quarantine") > 0);
        test_dir_text(&k.k.d, "ws/" W2 ".g1.payload", "no payload");
        test_dir_text(&k.k.d, "ws/" W2 ".g9.payload", "of a write that a crash cut off");
        test_dir_text(&k.k.d, "ws/" KIT_WORKSPACE ".g9.undo", "of a workspace that has no record any more");
        kit_restart(&k);
        CHECK(entry(&k, W2)->unreadable && entry(&k, W2)->last_error.code == FAULT_SECRET_UNDECRYPTABLE);
        CHECK(!test_dir_has(&k.k.d, "ws/" W2 ".g9.payload"));
        CHECK(!test_dir_has(&k.k.d, "ws/" KIT_WORKSPACE ".g9.undo") && !test_dir_has(&k.k.d, "ws/" KIT_WORKSPACE ".g1.payload"));
}

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
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(99)), "");
        kit_disk_full(false);
        CHECK(outcomes_find(k.q->outcomes, kit_job_id(99)) == NULL);
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(99)), "succeeded");
        kit_restart(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 9, .job = 99), "again:cancelled");

        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 10), "accepted");
        settle(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 1, .job = 61), "accepted");
        kit_disk_full(true);
        CHECK_STR(SAY(.type = "job.cancel", .spec = CANCEL(61)), "");
        kit_disk_full(false);
        CHECK(!k.q->host->jobs[0]->cancelled);          /* it goes on, as after a restart */
}

/* What is called off, or done at once, has its final on the disk or is as it was. */
TEST(no_final_is_lost_for_want_of_memory) {
        static const Say jobs[] = { { "job.cancel", CANCEL(12) }, { "host.drain", REASON }, { "job.cancel", CANCEL(99) } };
        _cleanup_queue_ QueueKit k = {};
        uint64_t generation = 1;

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = generation++), "accepted");
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
                        forget(&k);
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
