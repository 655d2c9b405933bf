/* SPDX-License-Identifier: Apache-2.0 */

/* provision/queue, what is told: the status of a workspace in each state that it can be in, what an operator is shown, and that a view is whole or
 * none where memory ends. */

#include "tests/oom.h"
#include "tests/queue-kit.h"

#define PROVISION "workspace.provision"

static Entry *entry(QueueKit *k) { return queue_find(k->q, KIT_WORKSPACE); }

static Version *version(const char *container) {
        Version *v = kit_version(KIT_CODEX);

        v->generation = 7;
        free(v->container_id);
        v->container_id = container ? strdup(container) : NULL;
        return v;
}

static Work *work(JobType t, WorkPhase phase) {
        Work *k = calloc(1, sizeof *k);

        k->type = t;
        k->phase = phase;
        k->generation = k->spec_generation = 7;
        k->image_ref = strdup(KIT_CODEX);
        strcpy(k->job_id, KIT_JOB);
        return k;
}

/* ── the status ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct State {
        const char *status;
        bool settled, work, local, reported, flow, touches, looked, present, crashing, running, restarting, unhealthy, stop_sure;
} State;

static const State states[] = {
        { "provisioning", .work = true },
        { "failed",       .work = true, .reported = true },
        { "failed",       .work = true, .local = true },
        { "failed" },
        { "online",       .settled = true },
        { "online",       .settled = true, .work = true, .flow = true },
        { "provisioning", .settled = true, .work = true, .flow = true, .touches = true },
        { "provisioning", .settled = true, .work = true, .flow = true, .looked = true },
        { "failed",       .settled = true, .looked = true },
        { "degraded",     .settled = true, .looked = true, .present = true, .crashing = true },
        { "online",       .settled = true, .looked = true, .present = true, .running = true },
        { "degraded",     .settled = true, .looked = true, .present = true, .running = true, .unhealthy = true },
        { "degraded",     .settled = true, .looked = true, .present = true, .running = true, .restarting = true },
        { "degraded",     .settled = true, .looked = true, .present = true, .restarting = true },
        { "degraded",     .settled = true, .looked = true, .present = true },
        { "failed",       .settled = true, .looked = true, .present = true, .stop_sure = true },
};

static void put(QueueKit *k, const State *s) {
        Workspace *w = workspace_new(KIT_WORKSPACE, 1);
        Entry *e = queue_add(k->q, w);

        w->wanted = version(NULL);
        w->settled = s->settled ? version("c0ffee") : NULL;
        w->work = s->work ? work(JOB_PROVISION, s->touches ? WORK_SWAPPING : WORK_BEGUN) : NULL;
        if (w->work) {
                w->work->local = s->local;
                w->work->reported = s->reported;
                w->work->old_ran = s->touches;
        }
        if (s->flow)
                CHECK_INT(flow_new(&k->q->context, w, NULL, &e->flow), 0);
        e->looked = s->looked;
        e->present = s->present;
        e->crashing = s->crashing;
        e->stop_sure = s->stop_sure;
        e->seen.running = s->running;
        e->seen.restarting = s->restarting;
        e->seen.health = s->unhealthy ? ENGINE_HEALTH_UNHEALTHY : ENGINE_HEALTH_NONE;
}

static void note_glance(const WorkspaceGlance *g, void *userdata) { *(WorkspaceGlance *) userdata = *g; }

TEST(every_status) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        for (size_t i = 0; i < ELEMENTS(states); i++) {
                _cleanup_json_ cJSON *view = NULL, *holding = NULL;
                const State *s = &states[i];
                WorkspaceGlance g = {};
                const cJSON *one;

                put(&k, s);
                view = queue_view(k.q);
                holding = queue_holding(k.q);
                one = cJSON_GetArrayItem(view, 0);
                queue_glance(k.q, note_glance, &g);
                if (!CHECK_STR(json_get_string(one, "status"), s->status))
                        printf("#   row %zu\n", i);
                CHECK_STR(g.status, s->status);
                CHECK(g.settled == s->settled && g.replacing == s->touches);
                CHECK_STR(json_get_string(cJSON_GetArrayItem(holding, 0), "state"), s->status);
                CHECK(json_get_bool(one, "healthz_ok", false) == ((s->settled && !s->looked) || (s->running && !s->unhealthy && !s->restarting)));
                queue_remove(k.q, entry(&k));
        }
}

/* What is gone, or whose only job was refused, is not held; what cannot be read is known, and to be said anew. */
TEST(who_is_told_of) {
        static const struct { bool wanted, removed, unreadable; int known, held; } table[] = {
                { false, false, false, 0, 0 }, { true, true, false, 0, 0 }, { true, false, true, 1, 0 }, { true, false, false, 1, 1 },
        };
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *view = NULL, *holding = NULL, *one = NULL;
                Workspace *w = workspace_new(KIT_WORKSPACE, 1);
                Entry *e = queue_add(k.q, w);

                w->wanted = table[i].wanted ? version(NULL) : NULL;
                w->removed = table[i].removed;
                e->unreadable = table[i].unreadable;
                view = queue_view(k.q);
                holding = queue_holding(k.q);
                one = queue_workspace_view(k.q, KIT_WORKSPACE);
                CHECK_INT(cJSON_GetArraySize(view), table[i].known);
                CHECK_INT(cJSON_GetArraySize(holding), table[i].held);
                CHECK((one != NULL) == !table[i].removed && queue_knows(k.q, KIT_WORKSPACE) == !table[i].removed);
                queue_remove(k.q, e);
        }
        CHECK(!queue_knows(k.q, KIT_WORKSPACE) && queue_workspace_view(k.q, KIT_WORKSPACE) == NULL);
}

/* ── everything there is to say ──────────────────────────────────────────────────────────────────────────────── */

static void fill(QueueKit *k) {
        Workspace *w;
        Entry *e;

        CHECK_STR(kit_say(k, &(Say) { "image.ensure", "{\"runtime\":\"codex\"}" }), "accepted");
        CHECK_INT(queue_drain_local(k->q, true, "a disk", &(Fault) {}), 0);
        CHECK_INT(queue_hold_local(k->q, KIT_OTHER, 60, "a tenant", &(Fault) {}), 0);
        CHECK_INT(queue_hold_local(k->q, KIT_JOB, 0, "over", &(Fault) {}), 0);
        CHECK_INT(queue_release_local(k->q, KIT_JOB, "over", &(Fault) {}), 0);
        put(k, &(State) { .settled = true, .work = true, .flow = true, .touches = true, .looked = true, .present = true, .running = true });
        e = entry(k);
        w = e->w;
        w->next = work(JOB_DEPROVISION, WORK_BEGUN);
        w->wanted->failed = true;
        w->wanted->kind = strdup("platform");
        w->settled->kind = strdup("platform");
        w->settled->data_persistence = strdup("persist");
        w->outcome = kit_json("{\"report_id\":\"r\",\"state\":\"failed\",\"at\":\"2026-01-02T03:04:05Z\"}");
        e->stage = STAGE_STARTING;
        e->pull_bytes = 10;
        e->pull_total = 20;
        e->seen.id = strdup("c0ffee");
        e->seen.started_at = strdup("2026-01-02T03:04:05Z");
        e->stopped_since = 1;
        e->repair_after = UINT64_MAX / 2;
        (void) fault(&e->last_error, -EIO, FAULT_CRASH_LOOP, "It ends.");
        k->q->foreign = kit_json("[{\"container_id\":\"x\"}]");
}

static cJSON *one_view(const Queue *q) { return queue_workspace_view(q, KIT_WORKSPACE); }
static cJSON *outcomes_view(const Queue *q) { return queue_outcomes(q, 10); }

static const struct { const char *name; cJSON *(*view)(const Queue *q); const char *const has[8]; } views[] = {
        { "holding",   queue_holding,    { "\"state\":\"provisioning\"" } },
        { "open jobs", queue_open_jobs,  { KIT_JOB } },
        { "health",    queue_view,       { "\"pin_skew\":false", "\"crash_loop\"", "\"container_id\":\"c0ffee\"", "\"kind\":\"platform\"",
                                           "\"started_at\":\"2026-01-02T03:04:05Z\"", "\"stage\":\"starting\"", "\"url\":\"http://host.example:" } },
        { "local",     queue_local_view, { "\"next_try_seconds\":", "\"since\":" } },
        { "jobs",      queue_jobs_view,  { "\"type\":\"image.ensure\"", "\"state\":\"waiting\"", "\"bytes\":10", "\"total_bytes\":20",
                                           "\"state\":\"running\"", "\"source\":\"job\"" } },
        { "one",       one_view,         { "\"wanted\":{", "\"settled\":{", "\"failed\":true", "\"data_persistence\":\"persist\"",
                                           "\"last_outcome\":{", "\"jobs\":[{", "\"held\":false" } },
        { "holds",     queue_hold_view,  { "\"draining\":true", "\"drain_reason\":\"a disk\"", "\"reason\":\"a tenant\"", "\"until\":",
                                           "\"hold_file\":false" } },
        { "foreign",   queue_foreign,    { "\"container_id\":\"x\"" } },
        { "outcomes",  outcomes_view,    { "[" } },
};

TEST(views_say_all_of_it) {
        _cleanup_queue_ QueueKit k = {};

        kit_start(&k);
        fill(&k);
        for (size_t i = 0; i < ELEMENTS(views); i++) {
                _cleanup_json_ cJSON *view = views[i].view(k.q);
                _cleanup_free_ char *text = json_print(view);

                for (size_t n = 0; n < ELEMENTS(views[i].has) && views[i].has[n]; n++)
                        if (!CHECK(text && strstr(text, views[i].has[n])))
                                printf("#   %s: no %s in %s\n", views[i].name, views[i].has[n], text);
        }
}

/* Half a view would be a lie: it is whole, or there is none. */
TEST(a_view_is_whole_or_none) {
        _cleanup_queue_ QueueKit k = {};

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        kit_start(&k);
        fill(&k);
        for (size_t i = 0; i < ELEMENTS(views); i++) {
                _cleanup_json_ cJSON *whole = views[i].view(k.q);
                int none = 0;

                for (Oom o = {}; oom_next(&o);) {
                        long before = oom_blocks;
                        cJSON *view;

                        oom_begin(&o);
                        view = views[i].view(k.q);
                        oom_end();
                        none += view == NULL;
                        CHECK((view == NULL) == oom_failed);
                        CHECK(!view || cJSON_GetArraySize(view) == cJSON_GetArraySize(whole));
                        cJSON_Delete(view);
                        if (!CHECK_INT(oom_blocks, before))
                                printf("#   %s, allocation %ld\n", views[i].name, o.n);
                }
                CHECK(none > 0);
        }
}

/* A hold: what is at work waits, and says so. */
TEST(held_work) {
        _cleanup_queue_ QueueKit k = {};
        _cleanup_json_ cJSON *view = NULL, *holds = NULL;
        _cleanup_free_ char *text = NULL;
        Entry *e;

        kit_start(&k);
        CHECK(!queue_waits_for_release(k.q));
        put(&k, &(State) { .work = true, .flow = true });
        e = entry(&k);
        CHECK(!queue_waits_for_release(k.q));
        e->flow->held = true;
        CHECK(!queue_waits_for_release(k.q));                   /* it has not noticed the release yet */
        test_dir_text(&k.k.d, "hold", "");
        CHECK(queue_waits_for_release(k.q));
        e->flow->held = false;
        CHECK(!queue_waits_for_release(k.q));                   /* past the point where a hold keeps it */
        e->flow->held = true;
        view = queue_jobs_view(k.q);
        text = json_print(view);
        CHECK(strstr(text, "\"state\":\"held\"") != NULL);
        CHECK_INT(queue_jobs_running(k.q), 1);
        holds = queue_hold_view(k.q);
        CHECK(json_get_bool(holds, "hold_file", false));
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 9), "refused:held");
        queue_hold_changed(k.q);
        CHECK(k.q->was_held);
        CHECK_INT(unlinkat(k.k.d.fd, "hold", 0), 0);
        queue_hold_changed(k.q);
        CHECK(!k.q->was_held);
        k.q->o.hold_file = NULL;
        CHECK(!queue_is_held(k.q));
        k.time = 0;                                             /* the control plane was not heard yet: our own clock */
        CHECK(queue_now(k.q) > KIT_NOW - (UINT64_C(100000000) * USEC_PER_SEC));
}

/* What is reported and not at work is no job any more; what the host does is shown as far as it is. */
TEST(which_jobs_are_shown) {
        static const struct { State state; bool of_host; int jobs, open; } table[] = {
                { { .work = true }, false, 1, 1 }, { { .work = true, .local = true }, false, 1, 0 }, { { .work = true, .reported = true }, false, 0, 0 },
                { { .work = true, .reported = true, .flow = true }, false, 1, 0 }, { { .work = true }, true, 1, 0 }, { {}, false, 0, 0 },
        };
        _cleanup_queue_ QueueKit k = {};
        _cleanup_json_ cJSON *host = NULL;
        _cleanup_free_ char *text = NULL;

        kit_start(&k);
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *jobs = NULL, *open = NULL;

                put(&k, &table[i].state);
                if (entry(&k)->w->work)
                        entry(&k)->w->work->of_host = table[i].of_host;
                jobs = queue_jobs_view(k.q);
                open = queue_open_jobs(k.q);
                if (!CHECK_INT(cJSON_GetArraySize(jobs), table[i].jobs) || !CHECK_INT(cJSON_GetArraySize(open), table[i].open))
                        printf("#   row %zu\n", i);
                queue_remove(k.q, entry(&k));
        }
        CHECK_STR(SAY(.type = "image.ensure", .spec = "{\"runtime\":\"codex\"}"), "accepted");
        CHECK(host_run_begin(k.q, k.q->host->jobs[0], false) != NULL);
        k.q->runs->pull_bytes = 3;
        k.q->runs->pull_total = 4;
        CHECK_INT(queue_jobs_running(k.q), 1);
        test_dir_text(&k.k.d, "hold", "");
        host = queue_jobs_view(k.q);
        text = json_print(host);
        CHECK(strstr(text, "\"state\":\"held\"") && strstr(text, "\"bytes\":3"));
}

TEST(which_images_are_kept) {
        _cleanup_queue_ QueueKit k = {};
        Entry *e;

        kit_start(&k);
        CHECK(queue_keeps_image(k.q, KIT_DIGEST) && !queue_keeps_image(k.q, KIT_DIGEST_2));
        put(&k, &(State) { .settled = true, .work = true });
        e = entry(&k);
        e->w->next = work(JOB_DEPROVISION, WORK_BEGUN);
        e->w->next->image_ref = (free(e->w->next->image_ref), NULL);
        CHECK(!queue_keeps_image(k.q, KIT_DIGEST_2));
        e->w->roll_image_ref = strdup(KIT_CODEX2);
        CHECK(queue_keeps_image(k.q, KIT_DIGEST_2));
}

TEST_MAIN
