/* SPDX-License-Identifier: Apache-2.0 */

/* The host's own line, and the jobs that no line orders. What is done at once (drain, hold, release, cancel) is one write: the new state, the floor and
 * the final together. What takes time is one write too, and then runs (host-run.c). */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "provision/host-run.h"

int host_save(Queue *q, Fault *reterr) {
        Fault why = {};
        int r = host_state_save(q->host, &why);

        queue_wrote(q, r, &why);
        if (r < 0 && reterr)
                *reterr = why;
        return r;
}

uint64_t queue_now(const Queue *q) { return q->o.events.time(q->o.userdata) ?: now_realtime(); }

/* ── holds ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Only "not there" is no hold: what cannot be looked at may be one. */
static bool hold_file_is_there(const Queue *q) {
        if (!q->o.hold_file)
                return false;
        return faccessat(AT_FDCWD, q->o.hold_file, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

bool queue_holds(const Queue *q, const char *workspace_id) {
        return hold_file_is_there(q) || host_state_holds(q->host, workspace_id, queue_now(q));
}

bool queue_is_held(const Queue *q) { return queue_holds(q, NULL); }
bool queue_is_draining(const Queue *q) { return q->host->draining; }
bool queue_is_torn_down(const Queue *q) { return q->host->torn_down[0] && str_equal(q->host->torn_down, q->o.settings->org_id); }
uint64_t queue_host_generation(const Queue *q) { return host_state_generation(q->host); }

void queue_hold_changed(Queue *q) {
        bool held = queue_is_held(q);

        if (held != q->was_held)
                log_write(LOG_NOTICE, &(LogFields) { .event = held ? EVENT_HELD : EVENT_RELEASED },
                          held ? "Held: nothing is changed on this host until the hold is released." : "The host is not held any more.");
        q->was_held = held;
        for (size_t i = 0; i < q->n_entries; i++)
                if (q->entries[i]->flow && !queue_holds(q, q->entries[i]->w->id))
                        flow_resume(q->entries[i]->flow);
        sweep_soon(q);
        queue_wake(q);
        q->o.events.changed(q->o.userdata);
}

/* ── what is done at once ────────────────────────────────────────────────────────────────────────────────────── */

static void raise_floor(HostFloor *f, const Job *j) {
        f->generation = j->generation;
        memcpy(f->hash, j->payload_hash, sizeof f->hash);
        memcpy(f->job_id, j->job_id, UUID_SIZE);
}

/* The job is done by this one write; floor NULL: its type has none. The caller takes back what it changed where this fails: then the job stays with
 * the control plane. */
static int keep_final(Queue *q, const Delivery *d, HostFloor *floor, ReportState state, const Fault *why, cJSON *result) {
        HostFloor old = floor ? *floor : (HostFloor) {};
        Report p = queue_answer_head(d);
        cJSON *report, *kept;
        int r;

        p.state = state;
        p.fault = why;
        p.stage = state == REPORT_FAILED ? STAGE_FAILED : STAGE_NONE;
        report = report_make(&p, result);
        kept = cJSON_Duplicate(report, true);
        if (!kept) {
                cJSON_Delete(report);
                return -ENOMEM;
        }
        if (floor)
                raise_floor(floor, d->job);
        host_state_keep_final(q->host, kept);
        r = host_save(q, NULL);
        if (r < 0) {
                bool found;

                host_state_forget_final(q->host, json_get_string(report, "report_id"), &found);
                if (floor)
                        *floor = old;
                cJSON_Delete(report);
                return r;
        }
        log_write(LOG_NOTICE, &(LogFields) { .job_id = d->job->job_id, .event = why && why->set ? EVENT_JOB_FAILED : EVENT_JOB_ENDED, .fault = why }, "Job %s %s.", job_type_name(d->job->type),
                  report_state_name(state));
        (void) outcomes_add(q->outcomes, report, NULL);         /* ignoring: the record has it */
        queue_tell(q, report, true);
        return 0;
}

static void take_drain(Queue *q, const Delivery *d, HostFloor *floor) {
        HostState *h = q->host;
        bool was = h->draining;
        char *reason = h->drain_reason;

        h->draining = d->job->type == JOB_DRAIN;
        h->drain_reason = strdup(d->job->args.reason);
        if (!h->drain_reason || keep_final(q, d, floor, REPORT_SUCCEEDED, NULL, NULL) < 0) {
                free(h->drain_reason);
                h->draining = was;
                h->drain_reason = reason;
                return;
        }
        free(reason);
        q->o.events.changed(q->o.userdata);
}

/* Sets or ends a hold; *ret_old is what it was, for the one who has to take it back. */
int host_set_hold(Queue *q, HostHold *o, bool held, const char *reason, uint64_t seconds, HostHold *ret_old) {
        char *copy = strdup(reason ?: "");

        if (!copy)
                return -ENOMEM;
        *ret_old = *o;
        o->held = held;
        o->reason = copy;
        o->until = held && seconds ? queue_now(q) + seconds * USEC_PER_SEC : 0;
        return 0;
}

static void take_hold(Queue *q, const Delivery *d, HostFloor *floor) {
        const JobArgs *a = &d->job->args;
        HostHold *o = host_state_hold(q->host, a->workspace_id), old;

        if (host_set_hold(q, o, d->job->type == JOB_HOLD, a->reason, a->seconds, &old) < 0)
                return;
        if (keep_final(q, d, floor, REPORT_SUCCEEDED, NULL, NULL) < 0) {
                free(o->reason);
                *o = old;
                return;
        }
        free(old.reason);
        queue_hold_changed(q);
}

/* ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static int too_late(Fault *reterr, const char *job_id) {
        return fault(reterr, -EALREADY, FAULT_TOO_LATE, "Job %s is past the point where it can be called off.", job_id);
}

static int cancel_waiting(Queue *q, Entry *e) {
        Work *k = e->w->next;
        Report r = queue_report_head(e, k);
        cJSON *report;
        Version *unwanted = NULL;
        int saved = -ENOMEM;

        r.state = REPORT_CANCELLED;
        report = report_make(&r, NULL);         /* before the record forgets it: nobody could say it later */
        e->w->next = NULL;
        if (!report || queue_unwant(q, e->w, k, &unwanted) < 0 || (saved = queue_save(q, e, NULL)) < 0) {
                e->w->next = k;
                if (unwanted) {
                        version_free(e->w->wanted);
                        e->w->wanted = unwanted;
                }
                cJSON_Delete(report);
                return saved;
        }
        version_free(unwanted);
        workspace_tidy(&q->dir, e->w, k->spec_generation);
        (void) outcomes_add(q->outcomes, report, NULL);         /* ignoring: as in queue_answer_final() */
        queue_tell(q, report, true);
        work_free(k);
        if (e->flow)
                flow_supersede(e->flow, NULL);
        return 0;
}

/* The key of what is removed goes first. The process before this one may have seen to it. */
static bool has_lost_its_key(const Queue *q, const Workspace *w) {
        return w->work->type == JOB_DEPROVISION && (w->settled || w->wanted) && !vault_has_key(q->o.vault, w->id);
}

static int cancel_work(Queue *q, Entry *e, Fault *reterr) {
        const char *job_id = e->w->work->job_id;

        if (e->final || e->w->work->reported)
                return too_late(reterr, job_id);
        if (e->flow)
                return flow_cancel(e->flow) < 0 ? too_late(reterr, job_id) : 0;
        if (e->w->work->phase != WORK_BEGUN || has_lost_its_key(q, e->w))
                return too_late(reterr, job_id);
        queue_end_unbegun(q, e, REPORT_CANCELLED, NULL);
        return 0;
}

static int cancel_run(Queue *q, HostRun *r, Fault *reterr) {
        bool was;

        if (r->j->job->type == JOB_TEARDOWN)
                return too_late(reterr, r->j->job->job_id);
        if (r->j->job->type != JOB_REDEPLOY) {
                host_run_end(r, REPORT_CANCELLED, NULL, NULL);
                return 0;
        }
        was = r->j->cancelled;
        r->j->cancelled = true;
        if (host_save(q, reterr) < 0) {
                r->j->cancelled = was;
                return -EIO;
        }
        for (size_t i = 0; i < q->n_entries; i++)
                if (q->entries[i]->flow && host_part_is_at_work(q->entries[i], r->j->job->job_id))
                        (void) flow_cancel(q->entries[i]->flow);        /* ignoring: past its swap it runs to its end, and the roll ends then */
        queue_wake(q);
        return 0;
}

int queue_cancel(Queue *q, const char *job_id, Fault *reterr) {
        HostJob *waiting = host_state_find(q->host, job_id);
        HostRun *r = host_run_find(q, job_id);

        if (!r && waiting && !(r = host_run_begin(q, waiting, false)))          /* before the first sweep none is begun */
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        if (r)
                return cancel_run(q, r, reterr);
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];

                if (e->w->next && !e->w->next->local && str_equal(e->w->next->job_id, job_id))
                        return cancel_waiting(q, e);
                if (e->w->work && !e->w->work->local && str_equal(e->w->work->job_id, job_id))
                        return cancel_work(q, e, reterr);
        }
        if (queue_recorded(q, NULL, job_id))
                return too_late(reterr, job_id);
        return -ENOENT;
}

/* A job that was not seen here is remembered as cancelled, and never runs. */
static int remember_cancelled(Queue *q, const char *job_id, Fault *reterr) {
        _cleanup_json_ cJSON *report = report_make(&(Report) { .job_id = job_id, .state = REPORT_CANCELLED, .progress = -1 }, NULL);
        int r = report ? outcomes_promise(q->outcomes, report, reterr) : fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");

        queue_wrote(q, r, reterr);
        return r;
}

static void take_cancel(Queue *q, const Delivery *d) {
        const char *job_id = d->job->args.job_id;
        Fault why = {};
        int r = queue_cancel(q, job_id, &why);

        if (r == -ENOENT)
                r = remember_cancelled(q, job_id, &why);
        if (r < 0 && r != -EALREADY)
                return;                         /* the disk did not take it: the control plane says it again */
        (void) keep_final(q, d, NULL, r < 0 ? REPORT_FAILED : REPORT_SUCCEEDED, r < 0 ? &why : NULL, NULL);
}

/* ── what takes time ─────────────────────────────────────────────────────────────────────────────────────────── */

static void accepted(Queue *q, const Delivery *d, const HostJob *j) {
        Report p = queue_answer_head(d);

        p.report_id = j->accepted_report_id;
        p.state = REPORT_ACCEPTED;
        p.stage = STAGE_LAUNCHING;
        log_write(LOG_NOTICE, &(LogFields) { .job_id = j->job->job_id, .event = EVENT_JOB_ACCEPTED }, "Job %s accepted.", job_type_name(j->job->type));
        queue_tell(q, report_make(&p, NULL), true);
        q->o.events.changed(q->o.userdata);
        queue_wake(q);
}

/* One write: the job, its floor, and what the caller changed besides; -errno: nothing is kept, and the caller takes its own back. plan is owned. */
static int take(Queue *q, const Delivery *d, Job **job, HostFloor *floor, cJSON *plan) {
        HostFloor old = floor ? *floor : (HostFloor) {};
        HostJob *j = host_job_new(TAKE_PTR(*job), d->label.delivery_id);
        int r;

        if (!j || host_state_add(q->host, j) < 0) {
                cJSON_Delete(plan);
                return -ENOMEM;
        }
        j->plan = plan;
        if (floor)
                raise_floor(floor, j->job);
        r = host_save(q, NULL);
        if (r < 0) {
                q->host->n_jobs--;
                host_job_free(j);
                if (floor)
                        *floor = old;
                return r;
        }
        accepted(q, d, j);
        return 0;
}

static void take_console(Queue *q, const Delivery *d, Job **job) {
        HostJob *j = host_job_new(TAKE_PTR(*job), d->label.delivery_id);
        HostRun *r = j ? host_run_begin(q, j, true) : NULL;

        if (r)
                host_console_begin(r);
}

static int ensure_plan(const Queue *q, const JobArgs *a, cJSON **ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        _cleanup_free_ char *ref = NULL;
        uint64_t size = 0;
        int r = queue_resolve_image(q, NULL, a->runtime ?: "", a->image_ref, a->image_size_bytes, &ref, &size, reterr);

        if (r < 0)
                return r;
        if (!json || !json_add_string(json, "image_ref", ref) || !json_add_u64_text(json, "image_size_bytes", size))
                return -ENOMEM;
        *ret = TAKE_PTR(json);
        return 0;
}

static void take_ensure(Queue *q, const Delivery *d, Job **job) {
        cJSON *plan = NULL;
        Fault why = {};
        int r;

        if (queue_holds(q, NULL))
                r = fault(&why, -EBUSY, FAULT_HELD, "A hold forbids changes on this host.");
        else
                r = ensure_plan(q, &d->job->args, &plan, &why);
        if (r == -ENOMEM)
                return;
        if (r < 0)
                queue_answer_final(q, d, REPORT_REFUSED, &why, NULL);
        else if (d->dry_run) {
                cJSON_Delete(plan);
                queue_answer_dry(q, d);
        } else
                (void) take(q, d, job, NULL, plan);
}

static void take_redeploy(Queue *q, const Delivery *d, Job **job, HostFloor *floor) {
        cJSON *plan = NULL;
        Fault why = {};
        int r;

        if (queue_holds(q, NULL))
                r = fault(&why, -EBUSY, FAULT_HELD, "A hold forbids changes on this host.");
        else
                r = host_redeploy_plan(q, d->job, &plan, &why);
        if (r == -ENOMEM)
                return;
        if (r == -ESRCH && !d->dry_run)
                (void) keep_final(q, d, floor, REPORT_FAILED, &why, NULL);
        else if (r < 0)
                queue_answer_final(q, d, r == -ESRCH ? REPORT_FAILED : REPORT_REFUSED, &why, NULL);
        else if (d->dry_run) {
                cJSON_Delete(plan);
                queue_answer_dry(q, d);
        } else
                (void) take(q, d, job, floor, plan);
}

static void take_teardown(Queue *q, const Delivery *d, Job **job, HostFloor *floor) {
        const char *slug = q->o.events.slug(q->o.userdata);
        Fault why = {};

        if (!slug)
                (void) fault(&why, -ENODATA, FAULT_TORN_DOWN, "The organization's slug is not known here (org_slug, or a register), so 'confirm' proves nothing.");
        else if (!str_equal(slug, d->job->args.confirm))
                (void) fault(&why, -EPERM, FAULT_WRONG_TENANT, "'confirm' is not the slug of this host's organization; nothing was removed.");
        if (why.set) {
                queue_answer_final(q, d, REPORT_REFUSED, &why, NULL);
                return;
        }
        if (d->dry_run) {
                queue_answer_dry(q, d);
                return;
        }
        memcpy(q->host->torn_down, q->o.settings->org_id, UUID_SIZE);
        if (take(q, d, job, floor, cJSON_CreateObject()) < 0)
                q->host->torn_down[0] = 0;
}

/* ── judgement ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* Its floor could not be made. Out of memory it stays with the control plane; among so many holds there would be no room the next time either. */
static void refuse_hold(Queue *q, const Delivery *d) {
        Fault why = {};

        if (q->host->n_holds < HOST_HOLDS_MAX)
                return;
        (void) fault(&why, -ENOSPC, FAULT_TOO_LARGE, "This host keeps %d holds already; release some.", HOST_HOLDS_MAX);
        queue_answer_final(q, d, REPORT_REFUSED, &why, NULL);
}

static void take_ordered(Queue *q, const Delivery *d, Job **job) {
        HostFloor *floor = host_state_floor(q->host, d->job);

        if (!floor) {
                refuse_hold(q, d);
                return;
        }
        switch (job_type_line(d->job->type)) {
        case LINE_REDEPLOY:
                take_redeploy(q, d, job, floor);
                return;
        case LINE_TEARDOWN:
                take_teardown(q, d, job, floor);
                return;
        default:
                break;
        }
        if (d->dry_run)
                queue_answer_dry(q, d);
        else if (job_type_line(d->job->type) == LINE_DRAIN)
                take_drain(q, d, floor);
        else
                take_hold(q, d, floor);
}

static void judge_ordered(Queue *q, const Delivery *d, Job **job) {
        const HostHold *hold = job_type_line(d->job->type) == LINE_HOLD ? host_state_hold(q->host, d->job->args.workspace_id) : NULL;
        static const HostFloor none = {};
        const HostFloor *floor = job_type_line(d->job->type) != LINE_HOLD ? host_state_floor(q->host, d->job) : hold ? &hold->floor : &none;

        if (d->job->generation < floor->generation) {
                queue_answer_final(q, d, REPORT_SUPERSEDED, NULL, queue_floor_result(floor->generation));
                return;
        }
        if (d->job->generation > floor->generation) {
                take_ordered(q, d, job);
                return;
        }
        queue_answer_equal(q, d, floor->hash, floor->generation);
}

static void refuse_unknown(Queue *q, const Delivery *d) {
        Fault why = {};

        (void) fault(&why, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "There is no container of workspace %s on this host.", d->job->workspace_id);
        queue_answer_final(q, d, REPORT_REFUSED, &why, NULL);
}

void queue_admit_host(Queue *q, const Delivery *d, Job **job) {
        const Entry *e;

        if (q->host->n_jobs >= HOST_JOBS_MAX && (d->job->type == JOB_IMAGE_ENSURE || d->job->type == JOB_REDEPLOY))
                return;                         /* with the next handing-out */
        switch (d->job->type) {
        case JOB_CONSOLE:
                e = queue_find(q, d->job->workspace_id);
                if (!e || !e->w->settled)
                        refuse_unknown(q, d);
                else if (d->dry_run)
                        queue_answer_dry(q, d);
                else
                        take_console(q, d, job);
                return;
        case JOB_IMAGE_ENSURE:
                take_ensure(q, d, job);
                return;
        case JOB_CANCEL:
                if (d->dry_run)
                        queue_answer_dry(q, d);
                else
                        take_cancel(q, d);
                return;
        default:
                judge_ordered(q, d, job);
        }
}
