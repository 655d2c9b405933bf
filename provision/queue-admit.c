/* SPDX-License-Identifier: Apache-2.0 */

/* What comes in. Order is by generation, not by arrival; the table of protocol.md §3 is judge(). What is above its floors goes on to
 * queue-accept.c (a workspace's) or queue-host.c (the host's). */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/queue-internal.h"

/* The floors of a workspace, from its record or from its tombstone. */
static const Workspace *floors_of(const Queue *q, const Entry *e, const char *workspace_id, Workspace *space) {
        if (e)
                return e->w;
        return workspace_id[0] && tombstones_look(q->tombstones, workspace_id, space) ? space : NULL;
}

typedef struct Floor { uint64_t generation; const char *hash; } Floor;

/* A restart counts in both lines: below either it is overtaken. A provision counts in its own; one that lies below a restart satisfies it. */
static Floor floor_of(const Workspace *w, JobType t) {
        Floor spec = { w->spec_floor, w->spec_hash }, restart = { w->restart_floor, w->restart_hash };

        if (job_type_line(t) == LINE_SPEC || w->spec_floor > w->restart_floor)
                return spec;
        return restart;
}

static void judge_workspace(Queue *q, const Delivery *d, Entry *e) {
        Workspace space = {};
        const Workspace *w = floors_of(q, e, d->job->workspace_id, &space);
        Floor floor = {};

        if (w)
                floor = floor_of(w, d->job->type);
        if (d->job->generation < floor.generation)
                queue_answer_final(q, d, REPORT_SUPERSEDED, NULL, queue_floor_result(floor.generation));
        else if (w && d->job->generation == floor.generation)
                queue_answer_equal(q, d, floor.hash, floor.generation);
        else if (w && d->job->generation == w->restart_floor)
                queue_answer_final(q, d, REPORT_CONFLICT, NULL, queue_floor_result(floor.generation));
        else
                queue_accept(q, e, d);
}

static void refuse_torn_down(Queue *q, const Delivery *d) {
        Fault why = {};

        (void) fault(&why, -ESHUTDOWN, FAULT_TORN_DOWN, "This host was torn down; it takes no job until it is enrolled again.");
        queue_answer_final(q, d, REPORT_REFUSED, &why, NULL);
}

static void judge(Queue *q, Delivery *d) {
        Entry *e = d->label.workspace_id[0] ? queue_find(q, d->label.workspace_id) : NULL;
        const cJSON *outcome = queue_recorded(q, e, d->label.job_id);

        if (outcome)
                queue_answer_again(q, d, outcome);
        else if (e && d->label.job_id[0] && queue_is_at_work(e, d->label.job_id))
                queue_answer_running(q, d, e->stage, e->progress);
        else if (d->label.job_id[0] && host_state_find(q->host, d->label.job_id))
                queue_answer_running(q, d, STAGE_NONE, -1);
        else if (!d->job)
                queue_answer_final(q, d, REPORT_REFUSED, &d->fault, NULL);
        else if (job_expired(d->job, d->cp_time_usec))
                queue_answer_final(q, d, REPORT_EXPIRED, NULL, NULL);
        else if (queue_is_torn_down(q))
                refuse_torn_down(q, d);
        else if (job_type_line(d->job->type) == LINE_SPEC || job_type_line(d->job->type) == LINE_RESTART)
                judge_workspace(q, d, e);
        else
                queue_admit_host(q, d, &d->job);
}

void queue_admit(Queue *q, const cJSON *delivery, uint64_t cp_time_usec) {
        Delivery d = { .cp_time_usec = cp_time_usec };
        JobRules rules;

        if (q->stopping || queue_is_degraded(q, NULL))
                return;
        queue_job_rules(q, cp_time_usec, &rules);
        if (job_open(delivery, &rules, &d.label, &d.job, &d.fault) == -ENOMEM)
                log_error("Out of memory for a delivered job: it stays with the control plane.");
        else
                judge(q, &d);
        job_free(d.job);
}

/* ── from a file ─────────────────────────────────────────────────────────────────────────────────────────────── */

static int read_file(Queue *q, const cJSON *given, Delivery *d, Fault *reterr) {
        _cleanup_json_ cJSON *delivery = cJSON_CreateObject();
        _cleanup_free_ char *text = NULL;
        JobRules rules;
        int r = -ENOMEM;

        queue_job_rules(q, d->cp_time_usec, &rules);
        if (envelope_is(given)) {
                if (delivery && json_add_item(delivery, "envelope", cJSON_Duplicate(given, true)))
                        r = job_open(delivery, &rules, &d->label, &d->job, &d->fault);
        } else if (rules.trusted && rules.trusted->n > 0)
                return fault(reterr, -EPERM, FAULT_BAD_SIGNATURE, "The job is not signed, and this host takes only what is (signing_keys).");
        else if ((text = json_print(given))) {
                size_t size = strlen(text);

                r = job_parse(text, size, &rules, &d->label, &d->job, &d->fault);
                if (r >= 0)
                        job_keep(d->job, TAKE_PTR(text), size);
        }
        return r == -ENOMEM ? fault(reterr, r, FAULT_INTERNAL, "Out of memory.") : 0;
}

int queue_apply(Queue *q, const cJSON *given, bool dry_run, uint64_t cp_time_usec, cJSON **ret_report, Fault *reterr) {
        Delivery d = { .cp_time_usec = cp_time_usec, .dry_run = dry_run };
        Fault state = {};
        int r;

        *ret_report = NULL;
        if (q->stopping)
                return fault(reterr, -EBUSY, FAULT_INTERNAL, "The agent is stopping.");
        if (queue_is_degraded(q, &state))
                return fault(reterr, -EIO, FAULT_STATE_DEGRADED, "%s", state.text);
        r = read_file(q, given, &d, reterr);
        if (r < 0)
                return r;
        q->capture = ret_report;
        judge(q, &d);
        q->capture = NULL;
        job_free(d.job);
        return *ret_report ? 0 : fault(reterr, -EIO, FAULT_STATE_DEGRADED, "The job could not be stored; nothing was done.");
}

/* ── the control plane's side of the reports ─────────────────────────────────────────────────────────────────── */

static void tell_accepted(Queue *q, Report *r, const char *report_id) {
        r->report_id = report_id;
        r->state = REPORT_ACCEPTED;
        r->stage = STAGE_LAUNCHING;
        queue_tell(q, report_make(r, NULL), true);
}

static void replay_host(Queue *q) {
        for (int i = 0; i < cJSON_GetArraySize(q->host->finals); i++)
                queue_tell_again(q, cJSON_Duplicate(cJSON_GetArrayItem(q->host->finals, i), true), true);
        for (size_t i = 0; i < q->host->n_jobs; i++) {
                const HostJob *j = q->host->jobs[i];
                Report r = { .delivery_id = j->delivery_id, .job_id = j->job->job_id, .type = job_type_name(j->job->type),
                             .generation = j->job->generation, .progress = -1 };

                tell_accepted(q, &r, j->accepted_report_id);
        }
}

/* The accepted report of a job that waits or works, and each last outcome that the control plane may not have. */
void queue_replay_reports(Queue *q) {
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];
                const Work *open[] = { e->w->work, e->w->next };

                queue_tell_overtaken(q, e);
                if (e->w->outcome && !e->w->outcome_acked)
                        queue_tell_again(q, cJSON_Duplicate(e->w->outcome, true), true);
                for (size_t k = 0; k < ELEMENTS(open); k++) {
                        Report r;

                        if (!open[k] || open[k]->local || open[k]->of_host || open[k]->reported || !open[k]->accepted_report_id[0])
                                continue;
                        r = queue_report_head(e, open[k]);
                        tell_accepted(q, &r, open[k]->accepted_report_id);
                }
        }
        replay_host(q);
}

void queue_report_acked(Queue *q, const char *report_id) {
        bool found;

        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];

                if (e->w->outcome_acked || !e->w->outcome || !str_equal(json_get_string(e->w->outcome, "report_id"), report_id))
                        continue;
                e->w->outcome_acked = true;
                (void) queue_save(q, e, NULL);          /* ignoring: it would be sent once more after a restart */
                return;
        }
        host_state_forget_final(q->host, report_id, &found);
        if (found)
                (void) host_save(q, NULL);              /* ignoring: the same */
}
