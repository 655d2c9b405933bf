/* SPDX-License-Identifier: Apache-2.0 */

/* The way of a job, on one screen: which steps there are, in which order each kind of job takes them, and how a step may end. Every step ensures
 * a state of the world, so a crash anywhere begins the way anew; what a restart must know beyond that is the phase in the record, which is
 * saved before the old container is touched and before an undo begins. */

#include "provision/flow-internal.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"

#define ENGINE_PAUSE_USEC (1 * USEC_PER_SEC)
#define ENGINE_TRIES      3
#define BUSY_TRIES        30

typedef struct StepInfo {
        const char *name;
        Stage       stage;
        void      (*begin)(Flow *f);
        bool        waits;              /* only waits: may be dropped at any time */
} StepInfo;

static const StepInfo steps[_STEP_MAX] = {
        [STEP_IMAGE]        = { "image",        STAGE_INSTALLING, step_image, true },
        [STEP_SECRETS]      = { "secrets",      STAGE_INSTALLING, step_secrets },
        [STEP_NETWORK]      = { "network",      STAGE_STARTING,   step_network },
        [STEP_FIND]         = { "find",         STAGE_STARTING,   step_find },
        [STEP_CLEAR]        = { "clear",        STAGE_STARTING,   step_clear },
        [STEP_VOLUMES]      = { "volumes",      STAGE_STARTING,   step_volumes },
        [STEP_CREATE]       = { "create",       STAGE_STARTING,   step_create },
        [STEP_COMPARE]      = { "compare",      STAGE_STARTING,   step_compare },
        [STEP_KEEP]         = { "keep",         STAGE_STARTING,   step_keep },
        [STEP_STOP]         = { "stop",         STAGE_STARTING,   step_stop },
        [STEP_SEED]         = { "seed",         STAGE_STARTING,   step_seed },
        [STEP_READ_BACK]    = { "read_back",    STAGE_STARTING,   step_read_back },
        [STEP_START]        = { "start",        STAGE_STARTING,   step_start },
        [STEP_PREV]         = { "prev",         STAGE_CONFIGURING_HTTPS,  step_prev },
        [STEP_NAME]         = { "name",         STAGE_CONFIGURING_HTTPS,  step_name },
        [STEP_GATE]         = { "gate",         STAGE_CONFIGURING_HTTPS, step_gate, true },
        [STEP_UNDO_FIND]    = { "undo_find",    STAGE_FAILED,     step_find },
        [STEP_UNDO_RESCUE]  = { "undo_rescue",  STAGE_FAILED,     step_rescue },
        [STEP_UNDO_REMOVE]  = { "undo_remove",  STAGE_FAILED,     step_undo_remove },
        [STEP_UNDO_SECRETS] = { "undo_secrets", STAGE_FAILED,     step_undo_secrets },
        [STEP_UNDO_FILES]   = { "undo_files",   STAGE_FAILED,     step_undo_files },
        [STEP_UNDO_NAME]    = { "undo_name",    STAGE_FAILED,     step_undo_name },
        [STEP_UNDO_START]   = { "undo_start",   STAGE_FAILED,     step_undo_start },
        [STEP_UNDO_VOLUMES] = { "undo_volumes", STAGE_FAILED,     step_undo_volumes },
        [STEP_RESCUE]       = { "rescue",       STAGE_STARTING,   step_rescue },
        [STEP_FORGET_KEY]   = { "forget_key",   STAGE_STARTING,   step_forget_key },
        [STEP_ERASE]        = { "erase",        STAGE_STARTING,   step_erase },
        [STEP_FORGET]       = { "forget",       STAGE_STARTING,   step_forget },
        [STEP_END]          = { "end",          STAGE_READY,      NULL },
};

static const Step provision_way[] = {
        STEP_IMAGE, STEP_SECRETS, STEP_NETWORK, STEP_FIND, STEP_CLEAR, STEP_VOLUMES, STEP_CREATE, STEP_COMPARE, STEP_KEEP,
        STEP_STOP, STEP_SEED, STEP_READ_BACK, STEP_START, STEP_GATE, STEP_PREV, STEP_NAME, STEP_END,
};
static const Step undo_way[] = {
        STEP_UNDO_FIND, STEP_UNDO_RESCUE, STEP_UNDO_REMOVE, STEP_UNDO_SECRETS, STEP_UNDO_FILES, STEP_UNDO_NAME, STEP_UNDO_START,
        STEP_UNDO_VOLUMES, STEP_END,
};
static const Step deprovision_way[] = { STEP_FIND, STEP_RESCUE, STEP_FORGET_KEY, STEP_CLEAR, STEP_ERASE, STEP_FORGET, STEP_END };

/* What the steps of a provision are measured as, in the order of the steps' numbers; what is behind them is the gate's. */
static const struct { Step last; int group; } groups[] = {
        { STEP_IMAGE, METRIC_STEP_IMAGE }, { STEP_KEEP, METRIC_STEP_PREPARE }, { STEP_START, METRIC_STEP_SWAP },
};

static void begin(Flow *f);

static bool is_undoing(const Flow *f) { return f->way == undo_way; }
bool flow_touches(const Flow *f) { return !f->ended && f->w->work->phase != WORK_BEGUN; }
bool flow_is_over(const Flow *f) { return f->ended; }
static LogFields fields(const Flow *f) {
        return (LogFields) { .workspace_id = f->w->id, .job_id = f->w->work->job_id, .stage = steps[flow_step(f)].name };
}

int flow_save(Flow *f, Fault *reterr) {
        int r = workspace_save(f->context->dir, f->w, reterr);

        f->context->events.wrote(r, reterr, f->context->userdata);
        return r;
}

/* Steps of a group that follow each other are measured as one. A hold is nobody's time. */
static void measure(Flow *f, int group) {
        uint64_t now = now_boottime();

        if (f->group == group && f->group_since)
                return;
        if (f->group_since)
                metric_observe(METRIC_JOB_STEP, (unsigned) f->group, now - f->group_since);
        f->group = group;
        f->group_since = group < 0 ? 0 : now;
}

static int group_of(const Flow *f) {
        if (is_undoing(f))
                return METRIC_STEP_UNDO;
        if (f->way == deprovision_way)
                return METRIC_STEP_REMOVE;
        for (size_t i = 0; i < ELEMENTS(groups); i++)
                if (flow_step(f) <= groups[i].last)
                        return groups[i].group;
        return METRIC_STEP_GATE;
}

static void drop_waits(Flow *f) {
        f->call = engine_call_cancel(f->call);
        f->image_wait = image_wait_cancel(f->image_wait);
        f->gate = gate_free(f->gate);
        (void) sd_event_source_set_enabled(f->timer, SD_EVENT_OFF);
}

/* ── the ends of a flow ──────────────────────────────────────────────────────────────────────────────────────── */

void flow_end(Flow *f, const FlowEnd *end) {
        drop_waits(f);
        measure(f, -1);
        (void) sd_event_source_set_enabled(f->deadline, SD_EVENT_OFF);
        f->ended = true;
        f->context->events.done(f->w, end, f->context->userdata);
}

static void end_succeeded(Flow *f) {
        FlowEnd end = { .state = REPORT_SUCCEEDED,
                        .undone = true,
                        .volumes_gone = f->volumes_gone,
                        .container_restarted = !f->kept_running,
                        .spec = f->job ? f->job->spec : NULL,
                        .container = f->job && !f->kept_running ? &f->container : NULL };
        flow_end(f, &end);
}

static void end_superseded(Flow *f) {
        flow_end(f, &(FlowEnd) { .state = REPORT_SUPERSEDED, .undone = true });
}

static void end_failed(Flow *f) {
        const Work *k = f->w->work;
        FlowEnd end = { .state = REPORT_FAILED, .fault = k->cause, .undone = true, .rescue = f->rescue };

        if (k->cancelled) {
                flow_end(f, &(FlowEnd) { .state = REPORT_CANCELLED, .undone = true });
                return;
        }
        if (k->old_container_id && f->old_id) {
                end.fault = (Fault) {};
                (void) fault(&end.fault, -EIO, FAULT_ROLLED_BACK, "%s: %s The old version %s.", fault_code_name(k->cause.code),
                             k->cause.text, k->old_ran ? "runs again" : "is back, stopped as it was");
        }
        flow_end(f, &end);
}

static void end_rollback_failed(Flow *f, const Fault *why) {
        FlowEnd end = { .state = REPORT_FAILED, .undone = false, .rescue = f->rescue };

        (void) fault(&end.fault, -EIO, FAULT_ROLLBACK_FAILED, "%s: %s Undoing failed: %s", fault_code_name(f->w->work->cause.code),
                     f->w->work->cause.text, why->text);
        flow_end(f, &end);
}

bool flow_note_started(Flow *f) {
        Work *k = f->w->work;
        bool was = k->started;

        k->started = was || f->started || (f->new_id && !f->new_created);
        return k->started != was;
}

static void undo(Flow *f, const Fault *cause) {
        LogFields l = fields(f);
        Fault ignored = {};

        workspace_undo(f->w, cause);
        (void) flow_note_started(f);
        l.fault = cause;
        log_write(LOG_WARNING, &l, "Undoing after %s: %s", fault_code_name(cause->code), cause->text);
        (void) flow_save(f, &ignored);          /* ignoring: without it a restart takes the job up where it stood and comes here again */
        f->way = undo_way;
        f->at = 0;
        f->tries = 0;
        f->rename_refused = false;
        f->trouble_since = 0;
        begin(f);
}

void flow_fail(Flow *f, int r, const Fault *why) {
        Fault f0 = {};

        drop_waits(f);
        if (!why || !why->set) {
                (void) fault(&f0, r, FAULT_INTERNAL, "Step %s failed: %m", steps[flow_step(f)].name);
                why = &f0;
        }
        if (is_undoing(f)) {
                end_rollback_failed(f, why);
                return;
        }
        if (f->way == provision_way && (f->at > 0 || flow_touches(f))) {
                undo(f, why);
                return;
        }
        f->w->work->cause = *why;
        end_failed(f);
}

/* ── from step to step ───────────────────────────────────────────────────────────────────────────────────────── */

static void fail_expired(Flow *f) {
        Fault why = {};

        (void) fault(&why, -ETIME, FAULT_DEADLINE_EXCEEDED, "The job did not end within its deadline (at step %s).",
                     steps[flow_step(f)].name);
        flow_fail(f, -ETIME, &why);
}

static bool must_yield(const Flow *f) {
        if (!f->superseded)
                return false;
        return f->removed_by || !flow_touches(f);
}

/* The steps that a hold keeps from being begun: all that change something while it can still be left alone. */
static bool may_be_held(const Flow *f) {
        if (f->w->work->phase != WORK_BEGUN)
                return false;
        if (f->way == deprovision_way)
                return f->at == 0;
        for (size_t i = 0; i <= f->at; i++)
                if (f->way[i] == STEP_SEED)
                        return false;
        return true;
}

static bool hold(Flow *f) {
        uint64_t due = 0, now = now_boottime();

        if (!may_be_held(f) || !f->context->events.held(f->w, f->context->userdata))
                return false;
        if (!f->held) {
                (void) sd_event_source_get_time(f->deadline, &due);
                f->deadline_left = due > now ? due - now : 0;
                (void) sd_event_source_set_enabled(f->deadline, SD_EVENT_OFF);
                log_write(LOG_NOTICE, &(LogFields) { .workspace_id = f->w->id, .job_id = f->w->work->job_id },
                          "Job %s waits: a hold forbids changes.", job_type_name(f->w->work->type));
        }
        f->held = true;
        measure(f, -1);
        f->context->events.rested(f->w, f->context->userdata);
        return true;
}

static void unhold(Flow *f) {
        if (!f->held)
                return;
        f->held = false;
        (void) sd_event_source_set_time_relative(f->deadline, f->deadline_left);
        (void) sd_event_source_set_enabled(f->deadline, SD_EVENT_ONESHOT);
}

static void fail_cancelled(Flow *f) {
        Fault why = {};
        int r = work_fault_cancelled(&why);

        flow_fail(f, r, &why);
}

static void begin(Flow *f) {
        Step s = flow_step(f);

        if (f->ended)
                return;
        if (f->paused) {
                f->context->events.rested(f->w, f->context->userdata);
                return;
        }
        if (must_yield(f)) {
                end_superseded(f);
                return;
        }
        if (f->w->work->cancelled && !is_undoing(f)) {
                fail_cancelled(f);
                return;
        }
        if (f->expired && !is_undoing(f)) {
                fail_expired(f);
                return;
        }
        if (s != STEP_END && hold(f))
                return;
        unhold(f);
        if (s == STEP_END) {
                if (is_undoing(f))
                        end_failed(f);
                else
                        end_succeeded(f);
                return;
        }
        measure(f, group_of(f));
        if (f->at == 0 || steps[s].stage != steps[f->way[f->at - 1]].stage)
                f->context->events.stage(f->w, steps[s].stage, -1, f->context->userdata);
        steps[s].begin(f);
}

void flow_next(Flow *f) {
        f->at++;
        f->index = 0;
        f->tries = 0;
        f->trouble_since = 0;
        begin(f);
}

void flow_back(Flow *f, Step to) {
        while (f->at > 0 && flow_step(f) != to)
                f->at--;
        f->index = 0;
        f->tries = 0;
        begin(f);
}

void flow_again(Flow *f, uint64_t usec) {
        (void) sd_event_source_set_time_relative(f->timer, usec);
        (void) sd_event_source_set_enabled(f->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        begin(userdata);
        return 0;
}

/* A change that is in flight is awaited: the engine would go on with it behind the undo's back. */
static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        Flow *f = userdata;

        (void) s;
        (void) usec;
        if (is_undoing(f))
                return 0;
        f->expired = true;
        if (!f->call)
                fail_expired(f);
        return 0;
}


/* The engine is away, or an answer was lost: begin the step again, which looks before it acts. */
static void wait_for_engine(Flow *f, const Fault *why) {
        uint64_t now = now_boottime();

        if (!f->trouble_since)
                f->trouble_since = now;
        if (now - f->trouble_since > f->context->settings->engine_wait_seconds * USEC_PER_SEC) {
                flow_fail(f, -ENOTCONN, why);
                return;
        }
        flow_again(f, ENGINE_PAUSE_USEC);
}

/* How often such an answer is worth asking for. Busy: the engine is at it already, a removal in progress, a volume not let go yet. */
static unsigned tries_of(const EngineAnswer *a) {
        if (a->r == -EBUSY)
                return BUSY_TRIES;
        return a->r == -EREMOTEIO && a->status >= 500 ? ENGINE_TRIES : 0;
}

bool flow_answered(Flow *f, const EngineAnswer *a) {
        f->call = NULL;
        if (a->r == 0) {
                if (!is_undoing(f))     /* an undo has no deadline: each of its steps gives up by the first trouble in it */
                        f->trouble_since = 0;
                return true;
        }
        if (a->r == -ENOTCONN)
                wait_for_engine(f, &a->fault);
        else if (++f->tries < tries_of(a))
                flow_again(f, ENGINE_PAUSE_USEC);
        else
                flow_fail(f, a->r, &a->fault);
        return false;
}

void flow_sent(Flow *f, int r) {
        if (r < 0)
                flow_fail(f, r, NULL);
}

bool flow_is_ours(const Flow *f, const EngineLabels *l) {
        const Settings *s = f->context->settings;
        return l->managed && str_equal(l->host, s->host_id) && str_equal(l->org, s->org_id) && str_equal(l->workspace, f->w->id);
}

/* ── from outside ────────────────────────────────────────────────────────────────────────────────────────────── */

/* It is to take another turn: at once where it only waits, else when what is in flight is over. The turn comes from the loop, as always. */
static void turn(Flow *f) {
        if (!f->held && !steps[flow_step(f)].waits && sd_event_source_get_enabled(f->timer, NULL) <= 0)
                return;
        drop_waits(f);
        flow_again(f, 0);
}

void flow_supersede(Flow *f, const Work *next) {
        f->superseded = next != NULL;
        f->removed_by = next && next->type == JOB_DEPROVISION;
        if (!f->ended && must_yield(f))
                turn(f);
}

int flow_cancel(Flow *f) {
        Fault ignored = {};

        if (f->ended || flow_touches(f) || f->way == deprovision_way)
                return -EALREADY;
        (void) flow_note_started(f);
        f->w->work->cancelled = true;
        (void) flow_save(f, &ignored);          /* ignoring: the undo saves it, too */
        turn(f);
        return 0;
}

bool flow_is_held(const Flow *f) { return f->held && !f->ended; }
void flow_resume(Flow *f) {
        if (flow_is_held(f))
                flow_again(f, 0);
}

bool flow_pause(Flow *f) {
        f->paused = true;
        if (steps[flow_step(f)].waits)
                drop_waits(f);
        return f->call != NULL;
}

static const Step *way_of(const Work *k) {
        if (k->phase == WORK_UNDOING)
                return undo_way;
        return k->type == JOB_DEPROVISION ? deprovision_way : provision_way;    /* a restart, a roll: the same way, with a spec that is there */
}

int flow_new(const FlowContext *context, Workspace *w, Job *job, Flow **ret) {
        _cleanup_(flow_freep) Flow *f = calloc(1, sizeof *f);
        uint64_t deadline = (w->work->deadline_seconds ?: context->settings->job_deadline_seconds) * USEC_PER_SEC;
        int r;

        if (!f) {
                job_free(job);
                return -ENOMEM;
        }
        f->context = context;
        f->w = w;
        f->job = job;
        f->way = way_of(w->work);
        if (job && !(f->differs = calloc(job->spec->n_files + 1, sizeof *f->differs)))
                return -ENOMEM;
        r = sd_event_add_time_relative(context->event, &f->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, f);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(f->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(context->event, &f->deadline, CLOCK_BOOTTIME, deadline, USEC_PER_SEC, on_deadline, f);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

void flow_begin(Flow *f) { begin(f); }

Flow *flow_free(Flow *f) {
        if (!f)
                return NULL;
        if (f->timer)
                drop_waits(f);
        sd_event_source_disable_unref(f->timer);
        sd_event_source_disable_unref(f->deadline);
        engine_image_done(&f->image);
        engine_container_done(&f->container);
        for (size_t i = 0; i < f->n_doomed; i++)
                free(f->doomed[i].id);
        free(f->doomed);
        free(f->old_id);
        free(f->new_id);
        free(f->taken_up);
        free(f->differs);
        cJSON_Delete(f->undo);
        job_free(f->job);
        free(f->rescue);
        free(f);
        return NULL;
}
