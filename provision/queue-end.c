/* SPDX-License-Identifier: Apache-2.0 */

/* How a job ends. A flow's end becomes one final report; record first (outcome, settled, and the job gone, in one write), then the outbox. A record
 * that cannot be written keeps the job: nothing is called done that the disk has not taken. A part of a host's job ends without a report of its own:
 * what became of it lies in the record, as `roll`, for that job to read. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/container.h"
#include "provision/queue-internal.h"
#include "provision/redact.h"
#include "provision/rescue.h"
#include "secrets/handover.h"

/* ── results ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool add_env_keys(cJSON *json, const WorkspaceSpec *s) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; list && i < s->n_env; i++)
                if (!cJSON_AddItemToArray(list, cJSON_CreateString(s->env[i].name)))
                        return false;
        for (size_t i = 0; list && i < s->n_boxes; i++)
                if (!cJSON_AddItemToArray(list, cJSON_CreateString(s->boxes[i].name)))
                        return false;
        return json_add_item(json, "env_keys", TAKE_PTR(list));
}

static cJSON *provision_result(const Queue *q, const Entry *e, const FlowEnd *end) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        const char *ref = end->container ? e->w->work->image_ref : e->w->settled ? e->w->settled->image_ref : NULL;
        const char *ip = end->container ? end->container->ip_address : NULL;
        bool on_target = ref && str_equal(image_ref_digest(ref), image_ref_digest(e->w->work->image_ref));
        char name[CONTAINER_NAME_SIZE], url[300];

        workspace_url(q->o.settings, end->spec->tier, e->w->port, url, sizeof url);
        if (!json || !json_add_string(json, "instance_id", container_name(e->w->id, CONTAINER_CURRENT, name)) ||
            !json_add_string(json, "state", "running") || (ip && !json_add_string(json, "private_ip", ip)) ||
            !json_add_string(json, "runtime", end->spec->runtime) || !json_add_string(json, "url", url) ||
            !json_add_string(json, "image_ref", e->w->work->image_ref) ||
            (ref && !json_add_string(json, "running_image", image_ref_digest(ref))) ||
            !json_add_bool(json, "verified_on_target", on_target) ||
            !json_add_bool(json, "container_restarted", end->container_restarted) || !add_env_keys(json, end->spec))
                return NULL;
        return TAKE_PTR(json);
}

/* The receipt: what was looked for after the end and is not there. */
static cJSON *removal_result(const Queue *q, const Entry *e, const FlowEnd *end) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *gone = cJSON_CreateObject();

        if (!json_add_item(json, "destroyed", gone) || !json_add_bool(gone, "key", !vault_has_key(q->o.vault, e->w->id)) ||
            !json_add_bool(gone, "files", !vault_has_sets(q->o.vault, e->w->id)) ||
            !json_add_bool(gone, "tmpfs", !handover_any(q->o.settings->runtime_path, e->w->id)) ||
            !json_add_bool(gone, "volumes", end->volumes_gone))
                return NULL;
        return TAKE_PTR(json);
}

static uint64_t highest_floor(const Workspace *w) { return w->spec_floor > w->restart_floor ? w->spec_floor : w->restart_floor; }

/* What a failed container said last is worth more than any of our words. */
static cJSON *rescue_result(const char *rescue) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!rescue || !rescue[0] || !json || !json_add_string(json, "rescue", text_tail(rescue, strlen(rescue), RESCUE_TOLD)))
                return NULL;
        return TAKE_PTR(json);
}

static cJSON *result_of(const Queue *q, const Entry *e, const FlowEnd *end) {
        switch (end->state) {
        case REPORT_SUCCEEDED:
                return e->w->work->type == JOB_DEPROVISION ? removal_result(q, e, end) : provision_result(q, e, end);
        case REPORT_SUPERSEDED:
                return queue_floor_result(highest_floor(e->w));
        case REPORT_FAILED:
                return rescue_result(end->rescue);
        default:
                return NULL;
        }
}

/* ── the record after the end ────────────────────────────────────────────────────────────────────────────────── */

static uint64_t grace_end(const Queue *q) { return queue_now(q) + q->o.settings->volume_grace_seconds * USEC_PER_SEC; }

/* When what a removal left goes: never of itself (persist), or after a while. */
static uint64_t erase_after(const Queue *q, const Workspace *w) {
        const Version *v = w->settled ?: w->wanted;

        if (w->work->prune || (v && (str_equal(v->data_persistence, "ephemeral") || str_equal(v->data_persistence, "persist"))))
                return 0;
        return grace_end(q);
}

static void apply_removed(const Queue *q, Workspace *w) {
        w->erase_at = erase_after(q, w);
        w->removed = true;
        w->wanted = w->settled = NULL;
        w->roll_image_ref = w->roll_over = NULL;
        w->stopped = false;
        w->port = 0;
}

/* A removal that failed behind its key and its containers: nothing can be made again, whatever was told. Its volumes go as after any removal. */
static bool is_half_removed(const Workspace *w, ReportState state) {
        return state == REPORT_FAILED && w->work->cleared && !w->work->local && !w->next;
}

/* A roll's own image counts from now on, in place of what the operator's job said, until the pin moves. */
static int apply_rolled(Workspace *w) {
        const Work *k = w->work;

        if (!k->image_over)
                return 0;
        w->roll_image_ref = strdup(k->image_ref);
        w->roll_over = strdup(k->image_over);
        if (!w->roll_image_ref || !w->roll_over)
                return -ENOMEM;
        if (!w->wanted)
                return 0;
        w->wanted = version_copy(w->wanted);
        if (w->wanted)
                w->wanted->image_ref = (free(w->wanted->image_ref), NULL);
        return w->wanted ? 0 : -ENOMEM;
}

static int want_settled(Workspace *w) {
        Version *v = version_copy(w->settled);

        if (!v)
                return -ENOMEM;
        v->container_id = (free(v->container_id), NULL);
        if (!v->own_image)
                v->image_ref = (free(v->image_ref), NULL);
        w->wanted = v;
        return 0;
}

static Version *version_at_work(const Queue *q, const Workspace *w) {
        _cleanup_(job_freep) Job *job = NULL;

        if (!w->work || w->work->type != JOB_PROVISION || w->work->local || w->work->of_host ||
            queue_load_payload(q, w, w->work->spec_generation, &job, NULL) < 0)
                return NULL;
        return version_new(job, job->spec->image_ref);
}

int queue_unwant(const Queue *q, Workspace *w, const Work *k, Version **ret_old) {
        Version *old = w->wanted;

        *ret_old = NULL;
        if (k->type != JOB_PROVISION || !old || !str_equal(old->job_id, k->job_id))
                return 0;
        w->wanted = version_at_work(q, w);
        if (!w->wanted && w->settled && want_settled(w) < 0) {
                w->wanted = old;
                return -ENOMEM;
        }
        *ret_old = old;
        return 0;
}

/* What came to nothing stays wanted, marked; what was called off makes way for what there is. */
static int apply_failed(const Queue *q, Workspace *w, ReportState state) {
        const Work *k = w->work;
        bool own = w->wanted && k->type == JOB_PROVISION && !k->local && str_equal(w->wanted->job_id, k->job_id);

        if (!w->settled && k->started)
                w->erase_at = grace_end(q);     /* a fresh one that ran: its volumes may hold something */
        if (!own || (state != REPORT_FAILED && state != REPORT_CANCELLED))
                return 0;
        if (state == REPORT_CANCELLED) {
                w->wanted = NULL;
                return w->settled ? want_settled(w) : 0;
        }
        w->wanted = version_copy(w->wanted);
        if (!w->wanted)
                return -ENOMEM;
        w->wanted->failed = true;
        return 0;
}

static int apply_settled(Workspace *w, Version *settled) {
        Version *wanted = w->wanted;
        int r;

        w->settled = settled;
        w->stopped = false;
        r = apply_rolled(w);
        if (r < 0 || !w->wanted || !w->wanted->failed || w->wanted->generation != settled->generation)
                return r;
        if (w->wanted == wanted && !(w->wanted = version_copy(wanted)))         /* a restart made good what had failed */
                return -ENOMEM;
        w->wanted->failed = false;
        return 0;
}

/* What the record becomes when the job at work ends so. The old parts stay in *old until the write is known to be good. */
static int apply_end(const Queue *q, Entry *e, ReportState state, Version *settled, bool removed, Workspace *old) {
        Workspace *w = e->w;
        int r = 0;

        *old = *w;
        if (!w->work->local && !w->work->of_host) {
                w->outcome = e->final;
                w->outcome_acked = false;
        }
        if (settled)
                r = apply_settled(w, settled);
        else if (state == REPORT_FAILED || state == REPORT_CANCELLED)
                r = apply_failed(q, w, state);
        if (removed)
                apply_removed(q, w);
        else if (is_half_removed(w, state)) {
                apply_removed(q, w);
                w->erase_at = grace_end(q);
        } else if (state == REPORT_SUCCEEDED && w->work->type == JOB_DEPROVISION)
                w->erase_at = 0;
        w->work = w->next;
        w->next = NULL;
        if (!w->settled && !w->work)
                w->port = 0;                    /* nothing of it is left that could publish one */
        return r;
}

/* One of the two records goes: the parts that the other has not. */
static void free_parts(const Workspace *gone, const Workspace *kept, bool outcome, bool settled) {
        if (outcome && gone->outcome != kept->outcome)
                cJSON_Delete(gone->outcome);
        if (settled && gone->settled != kept->settled)
                version_free(gone->settled);
        if (gone->wanted != kept->wanted)
                version_free(gone->wanted);
        if (gone->roll_image_ref != kept->roll_image_ref)
                free(gone->roll_image_ref);
        if (gone->roll_over != kept->roll_over)
                free(gone->roll_over);
        if (gone->roll != kept->roll)
                cJSON_Delete(gone->roll);
}

static void forget_seen(Entry *e) {
        engine_container_done(&e->seen);
        e->seen = (EngineContainer) {};
        e->present = e->looked = e->crashing = false;
        e->inspect = true;
        e->stopped_since = e->window_since = 0;
        e->stop_sure = false;
        e->stage = STAGE_NONE;
        e->progress = -1;
}

static void after_end(Queue *q, Entry *e) {
        forget_seen(e);
        e->changed_at = now_boottime();
        e->untidy = true;
        q->o.events.changed(q->o.userdata);
        sweep_soon(q);
        queue_wake(q);
}

static void after_final(Queue *q, Entry *e) {
        Fault why = {};

        if (outcomes_add(q->outcomes, e->final, &why) < 0)
                log_write(LOG_WARNING, &(LogFields) { .fault = &why }, "An outcome is remembered in its workspace's record only: %s",
                          why.text);
        queue_tell(q, cJSON_Duplicate(e->final, true), true);
        if (e->w->outcome != e->final)
                cJSON_Delete(e->final);
        e->final = NULL;
}

static ReportState state_of(const cJSON *final) {
        ReportState s = REPORT_FAILED;
        (void) report_state_find(json_get_string(final, "state"), &s);
        return s;
}

/* The one write of an end. roll (owned, also on failure): of a part of a host's job. settled is owned when 0 is returned. */
static int store_end(Queue *q, Entry *e, ReportState state, Version *settled, bool removed, cJSON *roll) {
        Workspace old;
        int r = apply_end(q, e, state, settled, removed, &old);

        if (roll)
                e->w->roll = roll;
        if (r >= 0)
                r = queue_save(q, e, NULL);
        if (r < 0) {
                free_parts(e->w, &old, false, false);
                *e->w = old;
                return r;
        }
        workspace_tidy_after(&q->dir, e->w, &old);
        free_parts(&old, e->w, true, true);
        work_free(old.work);
        return 0;
}

int queue_store_final(Queue *q, Entry *e, Version *settled, bool removed) {
        int r = store_end(q, e, state_of(e->final), settled, removed, NULL);

        if (r < 0)
                return r;
        after_final(q, e);
        after_end(q, e);
        return 0;
}

/* ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void log_end(const Entry *e, ReportState state, const Fault *why) {
        const Work *k = e->w->work;
        LogFields l = { .workspace_id = e->w->id, .job_id = k->job_id, .event = why && why->set ? EVENT_JOB_FAILED : EVENT_JOB_ENDED, .fault = why };

        if (why && why->set)
                log_write(LOG_WARNING, &l, "Job %s %s: %s: %s", job_type_name(k->type), report_state_name(state),
                          fault_code_name(why->code), why->text);
        else
                log_write(LOG_NOTICE, &l, "Job %s %s.", job_type_name(k->type), report_state_name(state));
}

void queue_final(Entry *e, ReportState state, Stage stage, const Fault *why, cJSON *result) {
        Report r = queue_report_head(e, e->w->work);

        r.state = state;
        r.stage = stage;
        r.fault = why;
        e->last_error = why && why->set ? *why : (Fault) {};
        log_end(e, state, why);
        e->final = report_make(&r, result);
        if (!e->final)
                log_error("Out of memory for a final report: the job is taken up again at the next start.");
}

/* The settled version that a success brings; NULL when it brings none. -ENOMEM leaves the job as it is. */
static int new_settled(const Entry *e, const FlowEnd *end, Version **ret) {
        _cleanup_(version_freep) Version *v = NULL;
        const Work *k = e->w->work;

        if (!end->container)
                return 0;
        v = calloc(1, sizeof *v);
        if (!v)
                return -ENOMEM;
        v->generation = k->spec_generation;
        memcpy(v->job_id, k->job_id, UUID_SIZE);
        v->tier = end->spec->tier;
        v->own_image = end->spec->image_ref && str_equal(end->spec->image_ref, k->image_ref);
        v->runtime = strdup(end->spec->runtime);
        v->kind = end->spec->kind ? strdup(end->spec->kind) : NULL;
        v->data_persistence = end->spec->data_persistence ? strdup(end->spec->data_persistence) : NULL;
        v->image_ref = strdup(k->image_ref);
        v->container_id = strdup(end->container->id);
        if (!v->runtime || !v->image_ref || !v->container_id)
                return -ENOMEM;
        *ret = TAKE_PTR(v);
        return 0;
}

/* True where the end of a repair is to be reported: success, and the first failure of a row. */
bool queue_repair_ended(Entry *e, bool well, const Fault *why) {
        bool first = !e->repair_pause;

        if (well) {
                e->repair_pause = e->repair_after = 0;
                return true;
        }
        e->last_error = *why;
        e->repair_pause = first ? REPAIR_PAUSE_USEC : e->repair_pause * 2;
        if (e->repair_pause > REPAIR_PAUSE_MAX_USEC)
                e->repair_pause = REPAIR_PAUSE_MAX_USEC;
        e->repair_after = now_boottime() + e->repair_pause;
        return first;
}

/* ── the ends ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The outcome is out, but the old version does not run yet: the job stays to be undone by every sweep. */
static void end_not_undone(Queue *q, Entry *e, const FlowEnd *end) {
        const Work *k = e->w->work;
        cJSON *outcome;

        if (k->reported || (k->local && k->type == JOB_PROVISION))      /* a repair that failed is begun anew */
                return;
        queue_final(e, REPORT_FAILED, STAGE_FAILED, &end->fault, rescue_result(end->rescue));
        outcome = cJSON_Duplicate(e->final, true);
        if (!outcome) {                         /* it is undone again, and then told: without the outcome that would have no end */
                cJSON_Delete(TAKE_PTR(e->final));
                return;
        }
        e->w->work->reported = true;
        e->changed_at = now_boottime();
        cJSON_Delete(e->w->outcome);
        e->w->outcome = outcome;
        e->w->outcome_acked = false;
        (void) queue_save(q, e, NULL);          /* ignoring: a restart undoes again and reports under another id; the first final stays */
        queue_tell(q, TAKE_PTR(e->final), true);
}

static const char *phase_of(const FlowEnd *end) {
        if (end->state == REPORT_SUCCEEDED)
                return "verified";
        if (end->state != REPORT_FAILED)
                return report_state_name(end->state);
        return end->fault.code == FAULT_ROLLED_BACK ? "rolled_back" : "failed";
}

/* {job_id, phase, error?}: what the host's job will read, also after a restart. */
static cJSON *roll_new(const Work *k, const FlowEnd *end) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *error;

        if (!json || !json_add_string(json, "job_id", k->job_id) || !json_add_string(json, "phase", phase_of(end)))
                return NULL;
        if (end->fault.set) {
                error = cJSON_CreateObject();
                if (!json_add_item(json, "error", error) || !json_add_string(error, "code", fault_code_name(end->fault.code)) ||
                    !json_add_string(error, "message", end->fault.text))
                        return NULL;
        }
        return TAKE_PTR(json);
}

static void part_not_undone(Queue *q, Entry *e, cJSON *roll) {
        cJSON_Delete(e->w->roll);
        e->w->roll = roll;
        e->w->work->reported = true;
        e->changed_at = now_boottime();
        (void) queue_save(q, e, NULL);          /* ignoring: a restart undoes again and comes here again */
}

static void end_part(Queue *q, Entry *e, const FlowEnd *end) {
        const Work *k = e->w->work;
        bool removed = end->state == REPORT_SUCCEEDED && k->type == JOB_DEPROVISION;
        cJSON *roll = k->reported ? NULL : roll_new(k, end);    /* reported: undone at last, long after it was told */
        Version *settled = NULL;

        e->last_error = end->fault;
        log_end(e, end->state, &end->fault);
        if ((!roll && !k->reported) || (!end->undone && k->reported)) {
                cJSON_Delete(roll);
                return;
        }
        if (!end->undone)
                part_not_undone(q, e, roll);
        else if (new_settled(e, end, &settled) < 0)
                cJSON_Delete(roll);             /* the job is taken up again, from the world as it is */
        else if (store_end(q, e, end->state, settled, removed, roll) < 0)
                version_free(settled);
        else
                after_end(q, e);
        host_part_ended(q, e);
}

static void end_job(Queue *q, Entry *e, const FlowEnd *end) {
        bool well = end->state == REPORT_SUCCEEDED;
        bool removed = well && e->w->work->type == JOB_DEPROVISION && (!e->w->work->local || e->w->removed);
        Version *settled = NULL;

        if (!end->undone) {
                end_not_undone(q, e, end);
                return;
        }
        if (new_settled(e, end, &settled) < 0)
                log_error("Out of memory at the end of a job: it is taken up again.");
        else if (e->w->work->reported)          /* undone at last, long after the report */
                e->final = cJSON_Duplicate(e->w->outcome, true);
        else
                queue_final(e, end->state,
                            well                        ? STAGE_READY :
                            end->state == REPORT_FAILED ? STAGE_FAILED :
                                                          STAGE_NONE,
                            &end->fault, result_of(q, e, end));
        if (!e->final || queue_store_final(q, e, settled, removed) < 0)
                version_free(settled);
}

void queue_done(Queue *q, Entry *e, const FlowEnd *end) {
        queue_wake(q);                          /* frees the flow */
        if (e->w->work->of_host)
                end_part(q, e, end);
        else if (!e->w->work->local || e->w->work->reported || queue_repair_ended(e, end->state == REPORT_SUCCEEDED, &end->fault) ||
                 e->w->work->type == JOB_RESTART)       /* somebody waits for its end */
                end_job(q, e, end);
}

void queue_end_unbegun(Queue *q, Entry *e, ReportState state, const Fault *why) {
        FlowEnd end = { .state = state, .undone = true, .fault = why ? *why : (Fault) {} };

        if (e->w->work->of_host) {
                end_part(q, e, &end);
                return;
        }
        queue_final(e, state, state == REPORT_FAILED ? STAGE_FAILED : STAGE_NONE, why, NULL);
        if (e->final)
                (void) queue_store_final(q, e, NULL, false);
}

/* A final that the disk would not take: the flow is gone, so success is worked out anew from the world by running the job again; what failed or
 * was superseded is stored as it was. */
void sweep_store_finals(Queue *q) {
        (void) outcomes_save_again(q->outcomes);        /* ignoring: with the next sweep; they are answered from memory meanwhile */
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];

                if (!e->final || e->flow)
                        continue;
                if (str_equal(json_get_string(e->final, "state"), report_state_name(REPORT_SUCCEEDED))) {
                        cJSON_Delete(e->final);
                        e->final = NULL;
                } else
                        (void) queue_store_final(q, e, NULL, false);
        }
        queue_wake(q);
}
