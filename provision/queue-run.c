/* SPDX-License-Identifier: Apache-2.0 */

/* What is at work, and how it ends. A flow's end becomes one final report; record first (outcome, settled, and the job gone, in one write), then
 * the outbox. A record that cannot be written keeps the job: nothing is called done that the disk has not taken. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/container.h"
#include "provision/queue-internal.h"
#include "provision/secrets.h"
#include "secrets/handover.h"

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
        if (w->work->reported)
                return;
        r.state = REPORT_RUNNING;
        r.stage = stage;
        r.progress = progress;
        queue_tell(q, report_make(&r, NULL), false);
        if (moved) {
                log_write(LOG_INFO, &(LogFields) { .workspace_id = w->id, .job_id = w->work->job_id, .stage = stage_name(stage) },
                          "Job %s: %s.", job_type_name(w->work->type), stage_name(stage));
                q->o.events.changed(q->o.userdata);
        }
}

static int on_new_port(Workspace *w, void *userdata) { return queue_pick_port(userdata, w); }
static void on_wrote(int r, const Fault *why, void *userdata) { queue_wrote(userdata, r, why); }
static void on_rested(Workspace *w, void *userdata) { (void) w; queue_wake(userdata); }

Report queue_report_head(const Entry *e, const Work *k) {
        return (Report) { .delivery_id = k->delivery_id, .job_id = k->local ? NULL : k->job_id, .type = job_type_name(k->type),
                          .source = k->local ? "local" : NULL, .workspace_id = e->w->id, .generation = k->generation, .progress = -1 };
}

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

static cJSON *superseded_result(const Workspace *w) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        return json && json_add_u64_text(json, "floor", w->spec_floor) ? TAKE_PTR(json) : NULL;
}

/* ── finals ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What the record becomes when the job at work ends as e->final says. The old parts stay in *old until the write is known to be good. */
static void apply_final(Entry *e, Version *settled, bool removed, Workspace *old) {
        Workspace *w = e->w;

        *old = *w;
        if (!w->work->local) {
                w->outcome = e->final;
                w->outcome_acked = false;
        }
        if (settled)
                w->settled = settled;
        if (removed) {
                w->removed = true;
                w->wanted = w->settled = NULL;
                w->port = 0;
        }
        w->work = w->next;
        w->next = NULL;
        if (!w->settled && !w->work)
                w->port = 0;                    /* nothing of it is left that could publish one */
}

static void free_replaced(const Workspace *old, const Workspace *now) {
        if (old->outcome != now->outcome)
                cJSON_Delete(old->outcome);
        if (old->settled != now->settled)
                version_free(old->settled);
        if (old->wanted != now->wanted)
                version_free(old->wanted);
        work_free(old->work);
}

static void forget_seen(Entry *e) {
        engine_container_done(&e->seen);
        e->seen = (EngineContainer) {};
        e->present = e->looked = false;
        e->inspect = true;
        e->stopped_since = 0;
        e->stage = STAGE_NONE;
        e->progress = -1;
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
        forget_seen(e);
        e->changed_at = now_boottime();
        e->untidy = true;
        q->o.events.changed(q->o.userdata);
        sweep_soon(q);
        queue_wake(q);
}

/* The generations whose files may have lost their last mention. */
static void tidy_after(const Queue *q, const Entry *e, const Workspace *old) {
        const Version *versions[] = { old->settled, old->wanted };

        workspace_tidy(&q->dir, e->w, old->work->generation);
        for (size_t i = 0; i < ELEMENTS(versions); i++)
                if (versions[i])
                        workspace_tidy(&q->dir, e->w, versions[i]->generation);
}

static int store_final(Queue *q, Entry *e, Version *settled, bool removed) {
        Workspace old;
        int r;

        apply_final(e, settled, removed, &old);
        r = queue_save(q, e, NULL);
        if (r < 0) {
                *e->w = old;
                return r;
        }
        tidy_after(q, e, &old);
        free_replaced(&old, e->w);
        after_final(q, e);
        return 0;
}

static void log_final(const Entry *e, ReportState state, const Fault *why) {
        const Work *k = e->w->work;
        LogFields l = { .workspace_id = e->w->id, .job_id = k->job_id, .fault = why };

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
        log_final(e, state, why);
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
        v->generation = k->generation;
        memcpy(v->job_id, k->job_id, UUID_SIZE);
        v->tier = end->spec->tier;
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

/* The outcome is out, but the old version does not run yet: the job stays to be undone by every sweep. */
static void end_not_undone(Queue *q, Entry *e, const FlowEnd *end) {
        if (e->w->work->reported || e->w->work->local)
                return;
        queue_final(e, REPORT_FAILED, STAGE_FAILED, &end->fault, NULL);
        if (!e->final)
                return;
        e->w->work->reported = true;
        e->changed_at = now_boottime();
        cJSON_Delete(e->w->outcome);
        e->w->outcome = cJSON_Duplicate(e->final, true);
        e->w->outcome_acked = false;
        (void) queue_save(q, e, NULL);          /* ignoring: a restart undoes again and reports under another id; the first final stays */
        queue_tell(q, TAKE_PTR(e->final), true);
}

static void on_done(Workspace *w, const FlowEnd *end, void *userdata) {
        Queue *q = userdata;
        Entry *e = queue_find(q, w->id);
        bool well = end->state == REPORT_SUCCEEDED, removed = well && w->work->type == JOB_DEPROVISION;
        cJSON *result = NULL;
        Version *settled = NULL;

        queue_wake(q);                          /* frees the flow */
        if (w->work->local && !queue_repair_ended(e, well, &end->fault))
                return;
        if (!end->undone) {
                end_not_undone(q, e, end);
                return;
        }
        if (well)
                result = removed ? removal_result(q, e, end) : provision_result(q, e, end);
        else if (end->state == REPORT_SUPERSEDED)
                result = superseded_result(w);
        if (well && new_settled(e, end, &settled) < 0) {
                cJSON_Delete(result);
                log_error("Out of memory at the end of a job: it is taken up again.");
        } else if (w->work->reported) {           /* undone at last, long after the report */
                e->final = cJSON_Duplicate(w->outcome, true);
                cJSON_Delete(result);
        } else
                queue_final(e, end->state,
                            well                        ? STAGE_READY :
                            end->state == REPORT_FAILED ? STAGE_FAILED :
                                                          STAGE_NONE,
                            &end->fault, result);
        if (e->final && store_final(q, e, settled, removed) < 0)
                version_free(settled);
}

void queue_flow_events(FlowEvents *ret) {
        *ret = (FlowEvents) { .stage = on_stage, .wrote = on_wrote, .new_port = on_new_port, .rested = on_rested, .done = on_done };
}

/* A final that the disk would not take: the flow is gone, so success is worked out anew from the world by running the job again; what failed or
 * was superseded is stored as it was. */
void sweep_store_finals(Queue *q) {
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];

                if (!e->final || e->flow)
                        continue;
                if (str_equal(json_get_string(e->final, "state"), report_state_name(REPORT_SUCCEEDED))) {
                        cJSON_Delete(e->final);
                        e->final = NULL;
                } else
                        (void) store_final(q, e, NULL, false);
        }
        queue_wake(q);
}

/* ── begin ───────────────────────────────────────────────────────────────────────────────────────────────────── */

void queue_repair(Queue *q, Entry *e) {
        const Version *s = e->w->settled;
        Work *k;

        if (!s || e->w->work || e->flow || e->final || e->w->removed || now_boottime() < e->repair_after)
                return;
        k = calloc(1, sizeof *k);
        if (!k)
                return;
        k->type = JOB_PROVISION;
        k->local = true;
        k->generation = s->generation;
        k->image_ref = strdup(s->image_ref);
        if (!k->image_ref || uuid_make(k->job_id) < 0) {
                work_free(k);
                return;
        }
        log_write(LOG_WARNING, &(LogFields) { .workspace_id = e->w->id }, "The settled container is gone; it is made again.");
        e->w->work = k;
        queue_wake(q);                          /* not saved: a restart finds the container missing again */
}

static int load_job(Queue *q, Entry *e, Job **ret, Fault *reterr) {
        const Work *k = e->w->work;
        JobRules rules = secrets_payload_rules(q->o.settings);

        if (k->type != JOB_PROVISION)
                return 0;
        return payload_load(&q->dir, e->w->id, k->generation, &rules, ret, reterr);
}

/* A repair that ended without a word makes way for the job that waits behind it. */
static void drop_local(Queue *q, Entry *e) {
        work_free(e->w->work);
        e->w->work = TAKE_PTR(e->w->next);
        if (e->w->work)
                (void) queue_save(q, e, NULL);          /* ignoring: a record with `next` alone is read as this one */
}

static void begin(Queue *q, Entry *e) {
        Job *job = NULL;
        Fault why = {};
        int r;

        r = load_job(q, e, &job, &why);
        if (r < 0 && e->w->work->phase != WORK_BEGUN) {
                if (e->w->work->phase == WORK_SWAPPING)
                        e->w->work->cause = why;        /* what was begun cannot be ended: back to the old version */
                e->w->work->phase = WORK_UNDOING;
                r = 0;                          /* an undo needs no payload */
        }
        if (r >= 0) {
                r = flow_new(&q->context, e->w, job, &e->flow);
                if (r < 0)
                        (void) fault(&why, r, FAULT_INTERNAL, "Cannot begin the job: %m");
        }
        if (r >= 0) {
                if (e->w->next)                 /* taken up after a restart: what came later is known already */
                        flow_supersede(e->flow, e->w->next->type == JOB_DEPROVISION);
                flow_begin(e->flow);
                return;
        }
        if (e->w->work->local) {
                (void) queue_repair_ended(e, false, &why);
                drop_local(q, e);
                return;
        }
        queue_final(e, REPORT_FAILED, STAGE_FAILED, &why, NULL);
        if (e->final)
                (void) store_final(q, e, NULL, false);
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
        return vault_fault(q->o.vault) && k && k->type == JOB_PROVISION && k->phase == WORK_BEGUN && !k->local && !e->w->next;
}

static Entry *next_entry(const Queue *q, bool removals) {
        Entry *best = NULL;

        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];
                const Work *k = e->w->work;

                if (!k || e->flow || e->final || k->reported || (k->type == JOB_DEPROVISION) != removals ||
                    queue_waits_for_root(q, e))
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
                running += q->entries[i]->flow && (q->entries[i]->w->work && q->entries[i]->w->work->type == JOB_DEPROVISION) == removals;
        while (running < q->o.settings->max_parallel_jobs && (e = next_entry(q, removals))) {
                begin(q, e);
                running += e->flow != NULL;
                if (!e->flow && e->final)
                        break;                  /* the disk does not take its end: with the next sweep */
        }
}

void queue_run(Queue *q) {
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];

                if (e->flow && flow_is_over(e->flow)) {
                        e->flow = flow_free(e->flow);
                        if (e->w->work && e->w->work->local && !e->final)       /* a repair that ended without a word */
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
}
