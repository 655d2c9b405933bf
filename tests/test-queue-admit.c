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
        kit_settle(&k, KIT_WORKSPACE);
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
        kit_settle(&k, KIT_WORKSPACE);
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

TEST(cancel) {
        _cleanup_queue_ QueueKit k = {};
        Entry *e;

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .job = 11), "accepted");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 2, .job = 12), "accepted");
        e = entry(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(12), .dry = true), "dry:accepted");
        kit_disk_full(true);
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(12)), "");           /* said again by the control plane */
        kit_disk_full(false);
        CHECK(e->w->next != NULL && e->w->wanted->generation == 2);
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(12)), "cancelled succeeded");
        CHECK(e->w->next == NULL && e->w->wanted->generation == 1);     /* nothing ever makes what was called off */
        CHECK_STR(e->w->wanted->job_id, e->w->work->job_id);
        CHECK_INT(test_dir_count(&k.k.d, "ws"), 2);
        e->w->work->phase = WORK_SWAPPING;
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(11)), "failed:too_late");
        e->w->work->phase = WORK_BEGUN;
        e->w->work->reported = true;
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(11)), "failed:too_late");
        e->w->work->reported = false;
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(11)), "cancelled succeeded");
        CHECK(e->w->work == NULL);
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(11)), "failed:too_late");
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(99)), "succeeded");  /* not seen yet: it never runs */
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 9, .job = 99), "again:cancelled");

        CHECK_INT(queue_cancel_local(k.q, kit_job_id(98), &(Fault) {}), -ENOENT);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 10), "accepted");
        kit_settle(&k, KIT_WORKSPACE);
        CHECK_STR(SAY(.type = "host.redeploy", .spec = "{}", .generation = 1, .job = 61), "accepted");
        k.q->recovered = true;
        queue_run(k.q);
        CHECK_STR(SAY(.type = "job.cancel", .spec = KIT_CANCEL(61)), "succeeded");
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
        kit_settle(&k, KIT_WORKSPACE);
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
        kit_settle(&k, KIT_WORKSPACE);
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
        kit_settle(&k, KIT_WORKSPACE);
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
                        kit_forget(&k);
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

TEST_MAIN
