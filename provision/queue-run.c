/* SPDX-License-Identifier: Apache-2.0 */

/* What is at work: which job may begin, in which lane, and what a flow says while it goes on. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/queue-internal.h"

#define PROGRESS_STEP 5                         /* percent: a pull of an hour is twenty words, not thousands */

static void on_stage(Workspace *w, Stage stage, int progress, void *userdata) {
        Queue *q = userdata;
        Entry *e = queue_find(q, w->id);
        Report r = queue_report_head(e, w->work);
        bool moved = e->stage != stage;

        if (!moved && progress < e->progress + PROGRESS_STEP)
                return;
        e->stage = stage;
        e->progress = progress;
        if (moved)
                e->pull_bytes = e->pull_total = 0;
        if (w->work->reported)
                return;
        r.state = REPORT_RUNNING;
        r.stage = stage;
        r.progress = progress;
        queue_tell(q, report_make(&r, NULL), false);
        if (moved) {
                log_write(LOG_INFO, &(LogFields) { .workspace_id = w->id, .job_id = w->work->job_id, .stage = stage_name(stage), .event = EVENT_JOB_STAGE },
                          "Job %s: %s.", job_type_name(w->work->type), stage_name(stage));
                q->o.events.changed(q->o.userdata);
        }
}

int pull_percent(uint64_t bytes, uint64_t total) { return bytes >= total ? 99 : (int) (bytes * 100 / total); }

static void on_pulling(Workspace *w, uint64_t bytes, uint64_t total, void *userdata) {
        Queue *q = userdata;
        Entry *e = queue_find(q, w->id);

        if (!total)
                return;
        on_stage(w, STAGE_INSTALLING, pull_percent(bytes, total), q);
        e->pull_bytes = bytes;
        e->pull_total = total;
        q->o.events.pulling(&(JobPull) { w->work->job_id, w->id, w->work->image_ref, bytes, total }, q->o.userdata);
}

static int on_new_port(Workspace *w, void *userdata) { return queue_pick_port(userdata, w); }
static void on_wrote(int r, const Fault *why, void *userdata) { queue_wrote(userdata, r, why); }
static void on_rested(Workspace *w, void *userdata) { (void) w; queue_wake(userdata); }

/* A teardown is no change that a hold could be meant for. */
static bool is_torn_down(const Work *k) { return k->of_host && k->type == JOB_DEPROVISION; }
static bool on_held(const Workspace *w, void *userdata) { return !is_torn_down(w->work) && queue_holds(userdata, w->id); }

static void on_done(Workspace *w, const FlowEnd *end, void *userdata) { queue_done(userdata, queue_find(userdata, w->id), end); }

void queue_flow_events(FlowEvents *ret) {
        *ret = (FlowEvents) { .stage = on_stage, .pulling = on_pulling, .wrote = on_wrote, .held = on_held, .new_port = on_new_port, .rested = on_rested, .done = on_done };
}

Report queue_report_head(const Entry *e, const Work *k) {
        return (Report) { .delivery_id = k->delivery_id, .job_id = k->local ? NULL : k->job_id, .type = job_type_name(is_torn_down(k) ? JOB_TEARDOWN : k->type),
                          .source = k->local ? "local" : NULL, .workspace_id = e->w->id, .generation = k->of_host ? 0 : k->generation,
                          .progress = -1 };
}

/* ── begin ───────────────────────────────────────────────────────────────────────────────────────────────────── */

void queue_repair(Queue *q, Entry *e) {
        const Version *s = e->w->settled;
        Work *k;

        if (!s || queue_holds(q, e->w->id) || e->w->work || e->flow || e->final || e->w->removed || now_boottime() < e->repair_after)
                return;
        k = calloc(1, sizeof *k);
        if (!k)
                return;
        k->type = JOB_PROVISION;
        k->local = true;
        k->generation = k->spec_generation = s->generation;
        k->image_ref = strdup(s->image_ref);
        if (!k->image_ref || uuid_make(k->job_id) < 0) {
                work_free(k);
                return;
        }
        log_write(LOG_WARNING, &(LogFields) { .workspace_id = e->w->id, .event = EVENT_WORKSPACE_MADE_AGAIN }, "The settled container is gone; it is made again.");
        e->w->work = k;
        queue_wake(q);                          /* not saved: a restart finds the container missing again */
}

static int load_job(Queue *q, Entry *e, Job **ret, Fault *reterr) {
        const Work *k = e->w->work;

        return k->type == JOB_DEPROVISION ? 0 : queue_load_payload(q, e->w, k->spec_generation, ret, reterr);
}

/* A repair that ended without a word makes way for the job that waits behind it. */
static void drop_local(Queue *q, Entry *e) {
        work_free(e->w->work);
        e->w->work = TAKE_PTR(e->w->next);
        if (e->w->work)
                (void) queue_save(q, e, NULL);          /* ignoring: a record with `next` alone is read as this one */
}

static void say_wanting(Queue *q, const Entry *e, const Fault *why) {
        if (!q->wanting)
                log_write(LOG_WARNING, &(LogFields) { .workspace_id = e->w->id, .job_id = e->w->work->job_id, .fault = why },
                          "Jobs wait until the agent has what it takes: %s", why->set ? why->text : "Out of memory.");
        q->wanting = true;
}

/* Called off, and the process ended before the undo had begun: what it had made is looked for. What waits behind it takes that over. */
static void undo_called_off(Workspace *w) {
        const Work *k = w->work;
        Fault why = {};

        if (!k->cancelled || k->phase != WORK_BEGUN || k->type == JOB_DEPROVISION || w->next)
                return;
        (void) work_fault_cancelled(&why);
        workspace_undo(w, &why);
}

/* False: nothing can begin now, for want of memory or descriptors. What was accepted stays so. */
static bool begin(Queue *q, Entry *e) {
        const Work *k = e->w->work;
        Job *job = NULL;
        Fault why = {};
        int r;

        undo_called_off(e->w);
        r = load_job(q, e, &job, &why);
        if (r < 0 && !queue_is_ours(r) && k->phase != WORK_BEGUN) {
                if (k->phase == WORK_SWAPPING)
                        workspace_undo(e->w, &why);     /* what was begun cannot be ended: back to the old version */
                r = 0;                          /* an undo needs no payload */
        }
        if (r >= 0 && (r = flow_new(&q->context, e->w, job, &e->flow)) < 0)
                (void) fault(&why, r, FAULT_INTERNAL, "Cannot begin the job: %m");
        if (queue_is_ours(r)) {
                say_wanting(q, e, &why);
                return false;
        }
        q->wanting = false;
        if (r >= 0) {
                if (e->w->next)                 /* taken up after a restart: what came later is known already */
                        flow_supersede(e->flow, e->w->next);
                flow_begin(e->flow);
        } else if (!k->local || queue_repair_ended(e, false, &why) || k->type == JOB_RESTART)
                queue_end_unbegun(q, e, REPORT_FAILED, &why);
        else
                drop_local(q, e);
        return e->flow || e->final || e->w->work != k;          /* else its end could not even be made */
}

/* An undo that failed was reported long ago; a newer job takes over from it. */
static void drop_unfinished_undo(Queue *q, Entry *e) {
        Work *k = e->w->work;

        if (!k || !k->reported || !e->w->next)
                return;
        e->w->work = TAKE_PTR(e->w->next);
        e->w->work->old_ran = k->old_ran;       /* it is down because the undo failed, not because someone wanted it so */
        if (queue_save(q, e, NULL) < 0) {
                e->w->next = e->w->work;
                e->w->work = k;
        } else
                work_free(k);
}

/* Its payload is whole but does not open now: a word that was given is not taken back for a key that may come with the next start. */
bool queue_waits_for_root(const Queue *q, const Entry *e) {
        const Work *k = e->w->work;
        bool given = k && (!k->local || k->type == JOB_RESTART);

        return given && vault_fault(q->o.vault) && k->type != JOB_DEPROVISION && k->phase == WORK_BEGUN && !k->cancelled && !e->w->next;
}

/* What has not begun yet does not begin under a hold, and a part of a host's job that the disk would not take waits for the disk. */
static bool must_wait(const Queue *q, const Entry *e) {
        const Work *k = e->w->work;

        return (k->phase == WORK_BEGUN && !k->cancelled && queue_holds(q, e->w->id) && !is_torn_down(k)) ||
               (k->of_host && q->degraded.set) || queue_waits_for_root(q, e);
}

static Entry *next_entry(const Queue *q, bool removals) {
        Entry *best = NULL;

        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];
                const Work *k = e->w->work;

                if (!k || e->flow || e->final || k->reported || (k->type == JOB_DEPROVISION) != removals || must_wait(q, e))
                        continue;
                if (!best || e->seq < best->seq)
                        best = e;
        }
        return best;
}

/* Removals have a lane of their own: a deprovision must not wait behind four long pulls. */
static void begin_lane(Queue *q, bool removals) {
        unsigned running = 0;
        Entry *e;

        for (size_t i = 0; i < q->n_entries; i++)
                running += q->entries[i]->flow && !flow_is_held(q->entries[i]->flow) &&
                           (q->entries[i]->w->work && q->entries[i]->w->work->type == JOB_DEPROVISION) == removals;
        while (running < q->o.settings->max_parallel_jobs && (e = next_entry(q, removals))) {
                if (!begin(q, e) || (!e->flow && e->final))
                        break;                  /* nor does the disk take its end: with the next sweep */
                running += e->flow != NULL;
        }
}

void queue_run(Queue *q) {
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];

                if (e->flow && flow_is_over(e->flow)) {
                        e->flow = flow_free(e->flow);
                        if (e->w->work && e->w->work->local && e->w->work->type != JOB_RESTART && !e->final)     /* a repair that ended without a word */
                                drop_local(q, e);
                }
                if (!e->flow)
                        drop_unfinished_undo(q, e);
        }
        if (q->stopping) {
                queue_check_stopped(q);
                return;
        }
        if (!q->recovered)
                return;
        begin_lane(q, true);
        begin_lane(q, false);
        host_run_all(q);
}
