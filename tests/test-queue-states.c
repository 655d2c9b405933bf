/* SPDX-License-Identifier: Apache-2.0 */

/* provision/queue in the states that a host seldom is in: what counts as idle and as waiting, what a flow tells of itself, engine events, ports that are
 * taken, directories that are none, keys and payloads that are damaged, undoing that goes on; an operator's words and a file's for which there is no
 * memory. No engine is there. */

#include <sys/socket.h>
#include <netinet/in.h>

#include "tests/oom.h"
#include "tests/queue-kit.h"

#define PROVISION "workspace.provision"
#define RESTART   "workspace.restart"
#define W2        KIT_OTHER
#define NO_OOM    "the allocator is a sanitizer's"

static QueueKit k;

static Entry *entry(const char *id) { return queue_find(k.q, id); }

/* ── idle, and waiting for a release ─────────────────────────────────────────────────────────────────────────── */

typedef struct State { bool work, reported, flow, final, held, idle, waits; } State;

static const State states[] = {
        { .idle = true },
        { .held = true, .idle = true },
        { .work = true },
        { .work = true, .held = true, .waits = true },
        { .work = true, .reported = true, .idle = true },
        { .work = true, .flow = true },
        { .work = true, .flow = true, .held = true },
        { .work = true, .final = true },
};

TEST(idle_and_waiting) {
        kit_start(&k);
        k.q->recovered = true;
        for (size_t i = 0; i < ELEMENTS(states); i++) {
                const State *s = &states[i];
                Entry *e = queue_add(k.q, workspace_new(KIT_WORKSPACE, 1));

                e->w->work = s->work ? kit_work(JOB_PROVISION, KIT_CODEX) : NULL;
                if (e->w->work)
                        e->w->work->reported = s->reported;
                if (s->flow)
                        CHECK_INT(flow_new(&k.q->context, e->w, NULL, &e->flow), 0);
                e->final = s->final ? cJSON_CreateObject() : NULL;
                CHECK_INT(s->held ? queue_hold_local(k.q, NULL, 0, "x", &(Fault) {}) : queue_release_local(k.q, NULL, "x", &(Fault) {}), 0);
                if (!CHECK(queue_is_idle(k.q) == s->idle) || !CHECK(queue_waits_for_release(k.q) == s->waits))
                        printf("#   row %zu\n", i);
                CHECK_INT(queue_jobs_running(k.q), s->flow);
                queue_remove(k.q, e);
        }
        k.q->recovered = false;
        CHECK(!queue_is_idle(k.q));
        kit_stop(&k);
}

/* ── what a flow tells of itself ─────────────────────────────────────────────────────────────────────────────── */

TEST(what_a_flow_tells) {
        const FlowEvents *f;
        Workspace *w;

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        w = entry(KIT_WORKSPACE)->w;
        f = &k.q->context.events;
        f->pulling(w, 0, 0, k.q);               /* nothing is known of it yet */
        CHECK_STR(kit_told(&k), "");
        CHECK_INT(k.pulling, 0);
        f->pulling(w, 10, 100, k.q);
        CHECK_STR(kit_told(&k), "running");
        f->pulling(w, 11, 100, k.q);            /* no step forward */
        CHECK_STR(kit_told(&k), "");
        f->pulling(w, 100, 100, k.q);
        CHECK_INT(entry(KIT_WORKSPACE)->progress, 99);
        CHECK_INT(k.pulling, 3);
        w->work->reported = true;
        (void) kit_told(&k);
        f->stage(w, STAGE_FAILED, -1, k.q);     /* its end is out */
        CHECK_STR(kit_told(&k), "");
        CHECK(!f->held(w, k.q));
        CHECK_INT(queue_hold_local(k.q, NULL, 0, "x", &(Fault) {}), 0);
        CHECK(f->held(w, k.q));
        w->work->of_host = true;
        w->work->type = JOB_DEPROVISION;
        CHECK(!f->held(w, k.q));                /* a teardown is held by nothing */
        CHECK_INT(f->new_port(w, k.q), 0);
        CHECK(w->port >= 21000 && w->port <= 21200);
        kit_stop(&k);
}

/* ── the engine's events ─────────────────────────────────────────────────────────────────────────────────────── */

TEST(what_an_event_changes) {
        Entry *e;

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        kit_settle(&k, KIT_WORKSPACE);
        e = entry(KIT_WORKSPACE);
        e->inspect = false;
        queue_engine_event(k.q, &(EngineEvent) {});
        queue_engine_event(k.q, &(EngineEvent) { .workspace = (char *) W2 });
        CHECK(!e->inspect);
        queue_engine_event(k.q, &(EngineEvent) { .workspace = (char *) KIT_WORKSPACE });
        CHECK(e->inspect);
        e->stopped_since = 5;
        e->stop_sure = true;
        queue_engine_state(k.q, ENGINE_DOWN);
        CHECK_INT(e->stopped_since, 5);         /* that was somebody else */
        e->stop_sure = false;
        queue_engine_state(k.q, ENGINE_DOWN);
        CHECK_INT(e->stopped_since, 0);         /* it went with the engine */
        e->inspect = e->at_once = false;
        queue_engine_state(k.q, ENGINE_UP);
        CHECK(e->inspect && e->at_once);
        e->at_once = false;
        e->stopped_since = 5;
        queue_engine_state(k.q, ENGINE_UP);
        CHECK(!e->at_once);
        e->w->work = kit_work(JOB_PROVISION, KIT_CODEX);
        CHECK_INT(flow_new(&k.q->context, e->w, NULL, &e->flow), 0);
        k.q->sweep.phase = SWEEP_LIST;
        queue_engine_event(k.q, &(EngineEvent) { .workspace = (char *) KIT_WORKSPACE });
        CHECK(!k.q->sweep.wanted);              /* its end brings a sweep */
        e->flow = flow_free(e->flow);
        queue_engine_event(k.q, &(EngineEvent) { .workspace = (char *) KIT_WORKSPACE });
        CHECK(k.q->sweep.wanted);
        kit_stop(&k);
}

/* The next sweep of itself comes in its turn, or when the first stop is old enough to be told; it begins where the engine is not there and ends at once. */
TEST(when_the_next_sweep_comes) {
        static const struct { uint64_t stopped_ago; bool sure; uint64_t wait; } rows[] = {
                { 0, false, 60 }, { 5, false, 15 }, { 19, false, 1 }, { 25, false, 20 }, { 5, true, 60 },
        };

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        kit_settle(&k, KIT_WORKSPACE);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Entry *e = entry(KIT_WORKSPACE);
                uint64_t now = now_boottime(), due = 0;

                e->stopped_since = rows[i].stopped_ago ? now - rows[i].stopped_ago * USEC_PER_SEC : 0;
                e->stop_sure = rows[i].sure;
                sweep_soon(k.q);
                for (int n = 0; n < 100 && (sd_event_source_get_time(k.q->sweep.timer, &due) < 0 || due < now + USEC_PER_SEC / 2); n++)
                        (void) sd_event_run(k.event, 10000);
                if (!CHECK(due + 2 * USEC_PER_SEC > now + rows[i].wait * USEC_PER_SEC && due < now + (rows[i].wait + 2) * USEC_PER_SEC))
                        printf("#   row %zu: %lld ms\n", i, (long long) (due - now) / 1000);
                CHECK(k.q->sweep.phase == SWEEP_IDLE);
        }
        kit_stop(&k);
}

/* ── ports, directories, the hold file ───────────────────────────────────────────────────────────────────────── */

TEST(a_port_that_somebody_has) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof a;
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0);

        kit_start(&k);
        if (bind(fd, (struct sockaddr *) &a, sizeof a) < 0 || listen(fd, 1) < 0 || getsockname(fd, (struct sockaddr *) &a, &size) < 0)
                abort();
        k.settings.port_low = k.settings.port_high = ntohs(a.sin_port);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "refused:port_unavailable");
        kit_stop(&k);
}

TEST(a_start_where_there_is_no_directory) {
        static const char *const names[] = { "ws", "rescue" };

        kit_start(&k);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                Fault f = {};

                k.q = queue_free(k.q);
                CHECK_INT(renameat(k.k.d.fd, names[i], k.k.d.fd, "away"), 0);
                test_dir_text(&k.k.d, names[i], "no directory");
                CHECK(kit_open(&k, &f) < 0 && f.code == FAULT_STATE_DEGRADED && k.q == NULL);
                CHECK_INT(unlinkat(k.k.d.fd, names[i], 0), 0);
                CHECK_INT(renameat(k.k.d.fd, "away", k.k.d.fd, names[i]), 0);
                CHECK_INT(kit_open(&k, &f), 0);
        }
        kit_stop(&k);
}

TEST(a_start_under_a_hold) {
        kit_start(&k);
        test_dir_text(&k.k.d, "hold", "");
        kit_restart(&k);
        CHECK(k.q->was_held && queue_is_held(k.q));
        CHECK_INT(unlinkat(k.k.d.fd, "hold", 0), 0);
        for (int n = 0; n < 100 && k.q->was_held; n++)
                (void) sd_event_run(k.event, 10000);            /* the directory is watched */
        CHECK(!k.q->was_held);
        strcpy(k.hold, "no-slash-and-not-there");
        kit_restart(&k);
        CHECK(!queue_is_held(k.q));
        strcpy(k.hold, "/hold-of-nobody");
        kit_restart(&k);
        CHECK(!queue_is_held(k.q) && !k.q->was_held);
        kit_stop(&k);
}

/* ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Damage { const char *name, *file; bool removed, leaving, unreadable, said; } Damage;

static const Damage damages[] = {
        { "none", NULL },
        { "the key", "sealed/" KIT_WORKSPACE "/key.seal", .unreadable = true, .said = true },
        { "the payload of what is settled", "ws/" KIT_WORKSPACE ".g1.payload", .said = true },
        { "the payload of what is wanted", "ws/" KIT_WORKSPACE ".g2.payload", .unreadable = true, .said = true },
        { "of what is removed", "ws/" KIT_WORKSPACE ".g2.payload", .removed = true },
        { "of what is being removed", "ws/" KIT_WORKSPACE ".g2.payload", .leaving = true },
};

TEST(a_start_among_damaged_secrets) {
        for (size_t i = 0; i < ELEMENTS(damages); i++) {
                const Damage *d = &damages[i];
                Entry *e;

                kit_start(&k);
                CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
                kit_settle(&k, KIT_WORKSPACE);
                CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 2), "accepted");
                entry(KIT_WORKSPACE)->w->removed = d->removed;
                if (d->leaving)
                        entry(KIT_WORKSPACE)->w->work->type = JOB_DEPROVISION;
                CHECK_INT(queue_save(k.q, entry(KIT_WORKSPACE), NULL), 0);
                if (d->file)
                        CHECK(test_dir_has(&k.k.d, d->file));
                if (d->file)
                        test_dir_text(&k.k.d, d->file, "nothing that opens");
                kit_restart(&k);
                e = entry(KIT_WORKSPACE);
                if (!CHECK(e->unreadable == d->unreadable) || !CHECK(e->last_error.set == d->said) ||
                    !CHECK(!d->said || e->last_error.code == FAULT_SECRET_UNDECRYPTABLE))
                        printf("#   %s\n", d->name);
                kit_stop(&k);
        }
}

/* ── an undo that goes on ────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_newer_job_takes_over_from_an_undo) {
        Workspace *w;

        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1, .job = 1), "accepted");
        kit_settle(&k, KIT_WORKSPACE);
        w = entry(KIT_WORKSPACE)->w;
        w->work = kit_work(JOB_PROVISION, KIT_CODEX);
        w->work->reported = w->work->old_ran = true;
        w->work->phase = WORK_UNDOING;
        w->next = kit_work(JOB_RESTART, KIT_CODEX);
        w->next->generation = 2;
        kit_disk_full(true);
        queue_run(k.q);
        kit_disk_full(false);
        CHECK(w->next && w->work->reported);    /* not before the disk has it */
        queue_run(k.q);
        CHECK(w->next == NULL && w->work->generation == 2 && w->work->old_ran);
        kit_stop(&k);
}

/* What was taken up between its stop and its gate and cannot be read any more goes back; before its stop it fails. */
TEST(a_job_whose_payload_is_lost) {
        static const WorkPhase phases[] = { WORK_BEGUN, WORK_SWAPPING, WORK_UNDOING };

        for (size_t i = 0; i < ELEMENTS(phases); i++) {
                Workspace *w;

                kit_start(&k);
                CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
                w = entry(KIT_WORKSPACE)->w;
                w->work->phase = phases[i];
                CHECK_INT(unlinkat(k.q->dir.fd, KIT_WORKSPACE ".g1.payload", 0), 0);
                k.q->recovered = true;
                queue_run(k.q);
                if (phases[i] == WORK_BEGUN)
                        CHECK(strstr(kit_told(&k), "failed") && !w->work);
                else
                        CHECK(w->work && w->work->phase == WORK_UNDOING && (phases[i] == WORK_UNDOING || w->work->cause.set));
                kit_stop(&k);
        }
}

/* ── repairs ─────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Refusal { const char *name; void (*prepare)(Entry *e); } Refusal;

static void nothing_settled(Entry *e) { e->w->settled = version_free(e->w->settled); }
static void held(Entry *e) { CHECK_INT(queue_hold_local(k.q, e->w->id, 0, "x", &(Fault) {}), 0); }
static void at_work(Entry *e) { e->w->work = kit_work(JOB_RESTART, KIT_CODEX); }
static void ending(Entry *e) { e->final = cJSON_CreateObject(); }
static void gone(Entry *e) { e->w->removed = true; }
static void tried(Entry *e) { e->repair_after = now_boottime() + USEC_PER_SEC * 60; }

static const Refusal refusals[] = {
        { "nothing is settled", nothing_settled }, { "held", held }, { "at work", at_work }, { "its end is not stored", ending },
        { "removed", gone }, { "it was tried just now", tried },
};

TEST(what_is_not_made_again) {
        for (size_t i = 0; i < ELEMENTS(refusals); i++) {
                Entry *e;

                kit_start(&k);
                CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
                kit_settle(&k, KIT_WORKSPACE);
                e = entry(KIT_WORKSPACE);
                refusals[i].prepare(e);
                queue_repair(k.q, e);
                if (!CHECK(!e->w->work || !e->w->work->local))
                        printf("#   %s\n", refusals[i].name);
                kit_stop(&k);
        }
}

static Entry *settled_without_payload(void) {
        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        kit_settle(&k, KIT_WORKSPACE);
        CHECK_INT(unlinkat(k.q->dir.fd, KIT_WORKSPACE ".g1.payload", 0), 0);
        return entry(KIT_WORKSPACE);
}

TEST(a_repair_without_a_payload) {
        Entry *e = settled_without_payload();

        k.q->recovered = true;
        for (int waiting = 0; waiting < 2; waiting++) {
                e->repair_after = 0;
                queue_repair(k.q, e);
                CHECK(e->w->work && e->w->work->local);
                e->w->next = waiting ? kit_work(JOB_DEPROVISION, KIT_CODEX) : NULL;
                queue_run(k.q);
                CHECK(e->repair_pause > 0 && e->w->next == NULL);
                CHECK((e->w->work != NULL) == waiting && (!waiting || !e->w->work->local));
                CHECK((strstr(kit_told(&k), "failed") == NULL) == waiting);       /* the first of a row is told */
        }
        kit_stop(&k);
}

/* Somebody waits for its end, however often a repair came to nothing before it. */
TEST(a_restart_without_a_payload) {
        Workspace *stored = NULL;
        Entry *e = settled_without_payload();

        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), 0);
        e->repair_pause = USEC_PER_SEC;         /* a start of it failed, too */
        k.q->recovered = true;
        queue_run(k.q);
        CHECK(!e->w->work && e->last_error.set && strstr(kit_told(&k), "failed"));
        CHECK_INT(workspace_load(&k.q->dir, KIT_WORKSPACE, &stored, &(Fault) {}), 0);
        CHECK(stored && !stored->work && stored->settled);
        workspace_free(stored);
        kit_stop(&k);
}

/* ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static int hold_it(void) { return queue_hold_local(k.q, KIT_WORKSPACE, 60, "x", &(Fault) {}); }
static int release_it(void) { return queue_release_local(k.q, KIT_WORKSPACE, "x", &(Fault) {}); }
static int drain_it(void) { return queue_drain_local(k.q, true, "x", &(Fault) {}); }

static int restart_it(void) {
        Entry *e = entry(KIT_WORKSPACE);
        int r = queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {});

        CHECK((e->w->work != NULL) == (r >= 0));
        e->w->work = work_free(e->w->work);
        return r;
}

static int repair_it(void) {
        Entry *e = entry(KIT_WORKSPACE);
        bool made;

        queue_repair(k.q, e);
        made = e->w->work != NULL;
        CHECK(!made || e->w->work->image_ref);
        e->w->work = work_free(e->w->work);
        return made ? 0 : -ENOMEM;
}

static int apply_it(void) {
        _cleanup_json_ cJSON *report = NULL, *payload = NULL;
        Fault f = {};
        long left = oom_left;
        int r;

        oom_left = 0;
        payload = kit_payload(&(Say) { .type = PROVISION, .spec = KIT_SPEC, .generation = 99, .job = 99 });
        oom_left = left;
        r = queue_apply(k.q, payload, true, KIT_NOW, &report, &f);
        oom_end();
        CHECK((r < 0) == (report == NULL) && (r < 0) == f.set);
        CHECK(!report || strcmp(json_get_string(report, "state"), "accepted") == 0);
        return r;
}

/* A flow that cannot be made leaves nothing behind, its job neither. */
static int flow_it(void) {
        _cleanup_json_ cJSON *payload = NULL;
        _cleanup_free_ char *text = NULL;
        JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 4 } };
        JobLabel label = {};
        Entry *e = entry(KIT_WORKSPACE);
        Flow *f = NULL;
        Job *job = NULL;
        long left = oom_left, before;
        int r;

        oom_left = 0;
        payload = kit_payload(&(Say) { .type = PROVISION, .spec = KIT_SPEC, .generation = 99, .job = 99 });
        text = json_print(payload);
        before = oom_blocks;
        CHECK_INT(job_parse(text, strlen(text), &rules, &label, &job, NULL), 0);
        e->w->work = kit_work(JOB_PROVISION, KIT_CODEX);
        oom_left = left;
        r = flow_new(&k.q->context, e->w, job, &f);
        oom_end();
        CHECK((r < 0) == (f == NULL));
        flow_free(f);
        e->w->work = work_free(e->w->work);
        CHECK_INT(oom_blocks, before);
        return r;
}

/* What waits is called off, or waits on. */
static int cancel_it(void) {
        Entry *e = entry(KIT_WORKSPACE);
        long left = oom_left;
        int r;

        oom_left = 0;
        e->w->work = kit_work(JOB_PROVISION, KIT_CODEX);
        e->w->next = kit_work(JOB_RESTART, KIT_CODEX);
        strcpy(e->w->next->job_id, W2);
        oom_left = left;
        r = queue_cancel(k.q, W2, &(Fault) {});
        oom_end();
        CHECK((r < 0) == (e->w->next != NULL));
        (void) kit_told(&k);
        e->w->next = work_free(e->w->next);
        e->w->work = work_free(e->w->work);
        return r;
}

static int (*const words[])(void) = { hold_it, release_it, drain_it, restart_it, repair_it, apply_it, flow_it, cancel_it };

TEST(words_for_which_there_is_no_memory) {
        if (!oom_is_here())
                SKIP(NO_OOM);
        kit_start(&k);
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "accepted");
        kit_settle(&k, KIT_WORKSPACE);
        for (size_t i = 0; i < ELEMENTS(words); i++) {
                int failed = 0;

                for (Oom o = {}; oom_next(&o) && CHECK(o.n < 2000);) {
                        int r;

                        oom_begin(&o);
                        r = words[i]();
                        oom_end();
                        CHECK(r >= 0 || oom_failed);
                        failed += r < 0;
                        k.q->degraded = (Fault) {};
                        k.q->write_failures = 0;
                }
                CHECK(failed > 0);
                CHECK_INT(queue_release_local(k.q, KIT_WORKSPACE, "x", &(Fault) {}), 0);
        }
        kit_stop(&k);
}

/* ── what is said without names ──────────────────────────────────────────────────────────────────────────────── */

TEST(a_delivery_that_names_nothing) {
        _cleanup_json_ cJSON *nothing = kit_json("{\"a\":1}"), *report = NULL, *payload = NULL, *other = NULL;

        kit_start(&k);
        queue_admit(k.q, nothing, KIT_NOW);
        CHECK_STR(kit_told(&k), "");            /* a report about nothing would hold up those behind it */
        CHECK_INT(queue_apply(k.q, nothing, false, KIT_NOW, &report, &(Fault) {}), 0);
        CHECK_STR(json_get_string(report, "state"), "refused");
        CHECK_STR(kit_told(&k), "");
        payload = kit_payload(&(Say) { .type = PROVISION, .spec = KIT_SPEC, .generation = 1 });
        kit_set(payload, "job_id", "\"no id\"");
        CHECK_INT(queue_apply(k.q, payload, false, KIT_NOW, &other, &(Fault) {}), 0);
        CHECK_STR(kit_told(&k), "refused:bad_json");    /* it says of which workspace */
        kit_stop(&k);
}

TEST(reports_that_are_heard) {
        const cJSON *final;

        kit_start(&k);
        CHECK_STR(SAY(.type = "host.drain", .spec = "{\"reason\":\"x\"}", .generation = 1), "succeeded");
        final = cJSON_GetArrayItem(k.q->host->finals, 0);
        queue_report_acked(k.q, json_get_string(final, "report_id"));
        CHECK_INT(cJSON_GetArraySize(k.q->host->finals), 0);
        queue_replay_reports(k.q);
        CHECK_STR(kit_told(&k), "");
        CHECK_STR(SAY(.type = PROVISION, .spec = KIT_SPEC, .generation = 1), "refused:draining");
        kit_stop(&k);
}

TEST_MAIN
