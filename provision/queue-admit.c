/* SPDX-License-Identifier: Apache-2.0 */

/* What comes in. Order is by generation, not by arrival; the table of protocol.md §3 is admit(). An accepted job is one write: payload first, then
 * the record with floor, wanted and job. A refused one changes nothing. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/queue-internal.h"
#include "provision/secrets.h"

typedef struct Delivery {
        JobLabel label;
        Job     *job;                           /* NULL: it was refused by a check */
        Fault    fault;
} Delivery;

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static Report head(const Delivery *d) {
        return (Report) { .delivery_id = d->label.delivery_id,
                          .job_id = d->label.job_id,
                          .type = d->label.type,
                          .workspace_id = d->label.workspace_id,
                          .generation = d->label.has_generation ? d->label.generation : 0,
                          .progress = -1 };
}

static void answer_final(Queue *q, const Delivery *d, ReportState state, const Fault *why, cJSON *result) {
        LogFields l = { .workspace_id = d->label.workspace_id, .job_id = d->label.job_id, .fault = why };
        Report r = head(d);
        cJSON *report;

        r.state = state;
        r.fault = why;
        r.stage = state == REPORT_REFUSED ? STAGE_FAILED : STAGE_NONE;
        log_write(LOG_WARNING, &l, "Job %s: %s%s%s", report_state_name(state), why && why->set ? fault_code_name(why->code) : "",
                  why && why->set ? ": " : "", why && why->set ? why->text : "");
        report = report_make(&r, result);
        if (report)
                (void) outcomes_add(q->outcomes, report, NULL);         /* ignoring: it is kept in memory, and the outbox has the report */
        queue_tell(q, report, true);
}

/* The same words again, under the delivery that asked now. */
static void answer_again(Queue *q, const Delivery *d, const cJSON *outcome) {
        _cleanup_json_ cJSON *copy = cJSON_Duplicate(outcome, true);

        if (copy && d->label.delivery_id[0]) {
                cJSON_DeleteItemFromObjectCaseSensitive(copy, "delivery_id");
                (void) json_add_string(copy, "delivery_id", d->label.delivery_id);
        }
        queue_tell(q, TAKE_PTR(copy), true);
}

static void answer_running(Queue *q, const Delivery *d, const Entry *e) {
        Report r = head(d);

        r.state = REPORT_RUNNING;
        r.stage = e->stage ?: STAGE_LAUNCHING;
        r.progress = e->progress;
        queue_tell(q, report_make(&r, NULL), false);
}

static cJSON *floor_result(uint64_t floor) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        return json && json_add_u64_text(json, "floor", floor) ? TAKE_PTR(json) : NULL;
}

/* ── acceptance ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* By which image, decided once for the whole job. */
static int resolve_image(const Queue *q, const Job *j, Work *k, Fault *reterr) {
        const Pin *pin;

        if (j->type != JOB_PROVISION)
                return 0;
        if (j->spec->image_ref) {
                k->image_ref = strdup(j->spec->image_ref);
                k->image_size_bytes = j->spec->image_size_bytes;
                return k->image_ref ? 0 : -ENOMEM;
        }
        pin = pins_find(q->o.pins, j->spec->runtime, q->o.settings->region);
        if (!pin)
                return fault(reterr, -ENOENT, FAULT_RUNTIME_PIN_MISSING, "No pin names an image for the runtime '%s'.", j->spec->runtime);
        if (!image_ref_registry_allowed(pin->image_ref, q->o.settings->registries))
                return fault(reterr, -EPERM, FAULT_REGISTRY_NOT_ALLOWED,
                             "The registry of the pin of '%s' is not in this host's `registries`.", j->spec->runtime);
        k->image_ref = strdup(pin->image_ref);
        k->image_size_bytes = j->spec->image_size_bytes ?: pin->image_size_bytes;
        return k->image_ref ? 0 : -ENOMEM;
}

static unsigned count_workspaces(const Queue *q) {
        unsigned n = 0;

        for (size_t i = 0; i < q->n_entries; i++)
                n += q->entries[i]->w->settled || q->entries[i]->w->work;
        return n;
}

/* With the host's network there is one port 8000. */
static int check_tier4(const Queue *q, const Job *j, Fault *reterr) {
        if (j->type != JOB_PROVISION || j->spec->tier != 4)
                return 0;
        for (size_t i = 0; i < q->n_entries; i++) {
                const Workspace *w = q->entries[i]->w;
                const Version *v = w->work ? w->wanted : w->settled;

                if (v && v->tier == 4 && strcmp(w->id, j->workspace_id) != 0)
                        return fault(reterr, -EADDRINUSE, FAULT_PORT_UNAVAILABLE,
                                     "Workspace %s has the host's network already; there can be one of tier 4.", w->id);
        }
        return 0;
}

static int check_room(const Queue *q, const Job *j, const Entry *e, Fault *reterr) {
        if (j->type != JOB_PROVISION || (e && (e->w->settled || e->w->work)) || count_workspaces(q) < q->o.settings->max_workspaces)
                return 0;
        return fault(reterr, -ENOSPC, FAULT_TOO_LARGE, "The host has %u workspaces already, as many as max_workspaces allows.",
                     q->o.settings->max_workspaces);
}

/* Opened and judged in memory: after acceptance nothing is refused any more. */
static int check_secrets(const Queue *q, const Job *j, Fault *reterr) {
        SecretSet set = {};
        int r = 0;

        if (j->type == JOB_PROVISION)
                r = secrets_open(j->spec, q->o.settings, j->workspace_id, vault_arena(q->o.vault), &set, reterr);
        secret_set_done(&set);
        return r;
}

/* The record as it will be; what it replaces stays in *old until the write is known to be good. */
static int apply(Queue *q, Entry *e, const Job *j, Work *k, Version *wanted, Workspace *old) {
        Workspace *w = e->w;

        *old = *w;
        w->spec_floor = j->generation;
        memcpy(w->spec_hash, j->payload_hash, sizeof w->spec_hash);
        memcpy(w->spec_job_id, j->job_id, UUID_SIZE);
        if (wanted)
                w->wanted = wanted;
        if (j->type == JOB_PROVISION) {
                w->removed = false;
                if (!w->port && queue_pick_port(q, w) < 0)
                        return -ENOSPC;
        }
        if (w->work)
                w->next = k;
        else
                w->work = k;
        return 0;
}

static void supersede_waiting(Queue *q, const Entry *e, Work *k) {
        Report r = queue_report_head(e, k);
        cJSON *report;

        r.state = REPORT_SUPERSEDED;
        report = report_make(&r, floor_result(e->w->spec_floor));
        if (report)
                (void) outcomes_add(q->outcomes, report, NULL);         /* ignoring: as in answer_final() */
        queue_tell(q, report, true);
        work_free(k);
}

static void accepted(Queue *q, Entry *e, const Job *j, const Work *k, Workspace *old) {
        Report r = queue_report_head(e, k);
        cJSON *report;

        r.report_id = k->accepted_report_id;
        r.state = REPORT_ACCEPTED;
        r.stage = STAGE_LAUNCHING;
        report = report_make(&r, NULL);
        log_write(LOG_NOTICE, &(LogFields) { .workspace_id = e->w->id, .job_id = k->job_id }, "Job %s accepted, generation %llu.",
                  job_type_name(k->type), (unsigned long long) k->generation);
        if (old->wanted && old->wanted != e->w->wanted)         /* it failed or is overtaken, and never ends again */
                workspace_tidy(&q->dir, e->w, old->wanted->generation);
        if (old->next)
                supersede_waiting(q, e, old->next);
        if (old->wanted != e->w->wanted)
                version_free(old->wanted);
        e->seq = q->seq++;
        e->changed_at = now_boottime();
        e->unreadable = false;
        if (e->flow)
                flow_supersede(e->flow, j->type == JOB_DEPROVISION);
        else
                queue_run(q);           /* its first engine call goes out before the report is written: the record has both */
        queue_tell(q, report, true);
        q->o.events.changed(q->o.userdata);
}

/* A write that failed leaves the job with the control plane, which delivers it again. */
static void accept(Queue *q, Entry *e, const Delivery *d) {
        _cleanup_(work_freep) Work *k = work_new(d->job, d->label.delivery_id);
        _cleanup_(version_freep) Version *wanted = NULL;
        bool made = !e;
        Workspace *w, old;
        Fault why = {};
        int r;

        if (!k || (d->job->type == JOB_PROVISION && !(wanted = version_new(d->job, d->job->spec->image_ref))))
                return;
        if (check_room(q, d->job, e, &why) < 0 || check_tier4(q, d->job, &why) < 0 || resolve_image(q, d->job, k, &why) < 0 ||
            check_secrets(q, d->job, &why) < 0) {
                if (why.set)
                        answer_final(q, d, REPORT_REFUSED, &why, NULL);
                return;
        }
        if (made && (!(w = workspace_new(d->job->workspace_id, d->job->generation)) || !(e = queue_add(q, w))))
                return;
        r = d->job->type == JOB_PROVISION ? payload_save(&q->dir, e->w->id, d->job, &why) : 0;
        queue_wrote(q, r, &why);
        if (r >= 0) {
                r = apply(q, e, d->job, k, wanted, &old);
                if (r == -ENOSPC) {
                        *e->w = old;
                        workspace_tidy(&q->dir, e->w, d->job->generation);
                        (void) fault(&why, r, FAULT_PORT_UNAVAILABLE, "No port of port_range is free.");
                        answer_final(q, d, REPORT_REFUSED, &why, NULL);
                } else if ((r = queue_save(q, e, &why)) < 0)
                        *e->w = old;
        }
        if (r < 0) {
                log_write(LOG_ERR, &(LogFields) { .workspace_id = d->job->workspace_id, .job_id = d->job->job_id, .fault = &why },
                          "The job is not accepted: %s", why.text);
                if (made)
                        queue_remove(q, e);
                return;
        }
        TAKE_PTR(wanted);
        accepted(q, e, d->job, TAKE_PTR(k), &old);
}

/* ── judgement ───────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_at_work(const Entry *e, const char *job_id) {
        return (e->w->work && str_equal(e->w->work->job_id, job_id)) || (e->w->next && str_equal(e->w->next->job_id, job_id));
}

static const cJSON *recorded(const Queue *q, const Entry *e, const char *job_id) {
        if (!job_id[0])
                return NULL;
        if (e && e->w->outcome && str_equal(json_get_string(e->w->outcome, "job_id"), job_id))
                return e->w->outcome;
        return outcomes_find(q->outcomes, job_id);
}

static void judge_equal(Queue *q, const Delivery *d, Entry *e) {
        const cJSON *outcome = recorded(q, e, e->w->spec_job_id);

        if (strcmp(e->w->spec_hash, d->job->payload_hash) == 0) {
                if (is_at_work(e, e->w->spec_job_id))
                        answer_running(q, d, e);
                else if (outcome)
                        answer_again(q, d, outcome);
                return;
        }
        answer_final(q, d, REPORT_CONFLICT, NULL, floor_result(e->w->spec_floor));
}

static void judge(Queue *q, const Delivery *d, uint64_t cp_time_usec) {
        Entry *e = d->label.workspace_id[0] ? queue_find(q, d->label.workspace_id) : NULL;
        const cJSON *outcome = recorded(q, e, d->label.job_id);

        if (outcome)
                answer_again(q, d, outcome);
        else if (e && d->label.job_id[0] && is_at_work(e, d->label.job_id))
                answer_running(q, d, e);
        else if (!d->job)
                answer_final(q, d, REPORT_REFUSED, &d->fault, NULL);
        else if (job_expired(d->job, cp_time_usec))
                answer_final(q, d, REPORT_EXPIRED, NULL, NULL);
        else if (e && d->job->generation < e->w->spec_floor)
                answer_final(q, d, REPORT_SUPERSEDED, NULL, floor_result(e->w->spec_floor));
        else if (e && d->job->generation == e->w->spec_floor)
                judge_equal(q, d, e);
        else
                accept(q, e, d);
}

void queue_admit(Queue *q, const cJSON *delivery, uint64_t cp_time_usec) {
        Delivery d = {};
        JobRules rules;

        if (q->stopping || queue_is_degraded(q, NULL))
                return;
        queue_job_rules(q, cp_time_usec, &rules);
        (void) job_open(delivery, &rules, &d.label, &d.job, &d.fault);
        judge(q, &d, cp_time_usec);
        job_free(d.job);
}

/* The accepted report of a job that waits or works, and each last outcome that the control plane may not have. */
void queue_replay_reports(Queue *q) {
        for (size_t i = 0; i < q->n_entries; i++) {
                const Entry *e = q->entries[i];
                const Work *open[] = { e->w->work, e->w->next };

                if (e->w->outcome && !e->w->outcome_acked)
                        queue_tell(q, cJSON_Duplicate(e->w->outcome, true), true);
                for (size_t k = 0; k < ELEMENTS(open); k++) {
                        Report r;

                        if (!open[k] || open[k]->local || open[k]->reported || !open[k]->accepted_report_id[0])
                                continue;
                        r = queue_report_head(e, open[k]);
                        r.report_id = open[k]->accepted_report_id;
                        r.state = REPORT_ACCEPTED;
                        r.stage = STAGE_LAUNCHING;
                        queue_tell(q, report_make(&r, NULL), true);
                }
        }
}

void queue_report_acked(Queue *q, const char *report_id) {
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];

                if (e->w->outcome_acked || !e->w->outcome || !str_equal(json_get_string(e->w->outcome, "report_id"), report_id))
                        continue;
                e->w->outcome_acked = true;
                (void) queue_save(q, e, NULL);          /* ignoring: it would be sent once more after a restart */
                return;
        }
}
