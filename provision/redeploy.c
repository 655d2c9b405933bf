/* SPDX-License-Identifier: Apache-2.0 */

/* A roll: the matching workspaces, in the order of their ids, one at a time, each with gate and rollback. How each part ended lies in its workspace's
 * record (`roll`), so one look at the records says how far the roll is, after a restart as before. Which images: worked out once, when it was
 * accepted. */

#include "provision/host-run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* ── which, and onto what ────────────────────────────────────────────────────────────────────────────────────── */

static bool list_has(const StringList *l, const char *s) {
        for (size_t i = 0; i < l->n; i++)
                if (str_equal(l->items[i], s))
                        return true;
        return false;
}

static const char *image_given(const JobArgs *a, const char *runtime) {
        for (size_t i = 0; i < a->n_images; i++)
                if (str_equal(a->images[i].runtime, runtime))
                        return a->images[i].image_ref;
        return NULL;
}

/* Where images are given, only their runtimes are meant, unless `runtimes` says otherwise. */
static bool matches(const JobArgs *a, const Workspace *w) {
        if (!w->settled || w->removed || (a->workspaces.n > 0 && !list_has(&a->workspaces, w->id)))
                return false;
        if (a->runtimes.n > 0)
                return list_has(&a->runtimes, w->settled->runtime);
        return a->n_images == 0 || image_given(a, w->settled->runtime);
}

/* What it takes its spec from: the newest that was accepted, unless that came to nothing. */
static const Version *base_of(const Workspace *w) { return w->wanted && !w->wanted->failed ? w->wanted : w->settled; }

static int plan_runtime(const Queue *q, const JobArgs *a, const Workspace *w, cJSON *plan, Fault *reterr) {
        const char *runtime = w->settled->runtime, *given = image_given(a, runtime);
        const Pin *pin = pins_find(q->o.pins, runtime, q->o.settings->region);
        _cleanup_free_ char *ref = NULL;
        uint64_t size = 0;
        cJSON *item;
        int r;

        if (json_get(plan, runtime))
                return 0;
        r = queue_resolve_image(q, NULL, runtime, given, 0, &ref, &size, reterr);
        if (r == -ENOENT && base_of(w)->image_ref) {            /* no pin, and none is needed for this one */
                *reterr = (Fault) {};
                return 0;
        }
        if (r < 0)
                return r;
        item = cJSON_CreateObject();
        if (!json_add_item(plan, runtime, item) || !json_add_string(item, "image_ref", ref) ||
            !json_add_u64_text(item, "image_size_bytes", size) ||
            (given && !json_add_string(item, "over", pin ? pin->image_digest : "none")))
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return 0;
}

int host_redeploy_plan(const Queue *q, const Job *j, cJSON **ret_plan, Fault *reterr) {
        _cleanup_json_ cJSON *plan = cJSON_CreateObject();
        size_t n = 0;
        int r = 0;

        if (!plan)
                return -ENOMEM;
        for (size_t i = 0; i < q->n_entries && r >= 0; i++)
                if (matches(&j->args, q->entries[i]->w)) {
                        n++;
                        r = plan_runtime(q, &j->args, q->entries[i]->w, plan, reterr);
                }
        if (r < 0)
                return r;
        if (n == 0)
                return fault(reterr, -ESRCH, FAULT_UNKNOWN_WORKSPACE, "No workspace of this host matches the roll.");
        *ret_plan = TAKE_PTR(plan);
        return 0;
}

/* The image of one workspace in this roll, and what it is written over (NULL: its own image, or the pin's). Borrowed. */
static const char *target_of(const HostRun *r, const Workspace *w, const char **ret_over, uint64_t *ret_size) {
        const cJSON *planned = json_get(r->j->plan, w->settled->runtime);
        const char *own = base_of(w)->image_ref;

        *ret_over = json_get_string(planned, "over");
        *ret_size = json_get_u64_text(planned, "image_size_bytes", 0);
        return !*ret_over && own ? own : json_get_string(planned, "image_ref");
}

/* ── how far it is ───────────────────────────────────────────────────────────────────────────────────────────── */

bool host_part_is_at_work(const Entry *e, const char *job_id) {
        const Work *k = e->w->work;
        return k && k->of_host && !k->reported && str_equal(k->job_id, job_id);
}

static const char *phase_of(const Entry *e, const char *job_id) {
        return str_equal(json_get_string(e->w->roll, "job_id"), job_id) ? json_get_string(e->w->roll, "phase") : NULL;
}

static bool went_well(const char *phase) { return str_equal(phase, "verified"); }

static bool runs_target(const HostRun *r, const Entry *e) {
        const char *over;
        uint64_t size;
        const char *target = target_of(r, e->w, &over, &size);

        return e->w->settled && str_equal(image_ref_digest(e->w->settled->image_ref), target ? image_ref_digest(target) : NULL) && e->looked &&
               e->present && e->seen.running && !e->seen.restarting;
}

/* Nothing to do: it runs that image, and no newer spec waits for a restart. */
static bool is_there_already(const HostRun *r, const Entry *e) {
        return runs_target(r, e) && base_of(e->w)->generation == e->w->settled->generation && !e->crashing;
}

static int by_id(const void *a, const void *b) { return strcmp((*(Entry *const *) a)->w->id, (*(Entry *const *) b)->w->id); }

/* The matching ones in order; malloc'd. */
static Entry **matching(const HostRun *r, size_t *ret_n) {
        const Queue *q = r->q;
        Entry **list = calloc(q->n_entries + 1, sizeof *list);
        size_t n = 0;

        for (size_t i = 0; list && i < q->n_entries; i++)
                if (matches(&r->j->job->args, q->entries[i]->w))
                        list[n++] = q->entries[i];
        if (list)
                qsort(list, n, sizeof *list, by_id);
        *ret_n = n;
        return list;
}

/* ── the results ─────────────────────────────────────────────────────────────────────────────────────────────── */

static bool add_result(cJSON *list, const HostRun *r, const Entry *e, const char *phase) {
        cJSON *item = cJSON_CreateObject();
        const cJSON *error = phase_of(e, r->j->job->job_id) ? json_get(e->w->roll, "error") : NULL;
        const char *running = e->w->settled ? image_ref_digest(e->w->settled->image_ref) : NULL;
        bool runs = e->looked ? e->present && e->seen.running : went_well(phase);

        return cJSON_AddItemToArray(list, item) && json_add_string(item, "workspace_id", e->w->id) && json_add_string(item, "phase", phase) &&
               (!running || json_add_string(item, "running_image", running)) &&
               json_add_bool(item, "verified_on_target", went_well(phase) || runs_target(r, e)) &&
               json_add_bool(item, "healthz_ok", runs && e->seen.health != ENGINE_HEALTH_UNHEALTHY && !e->seen.restarting) &&
               json_add_item(item, "error", error ? cJSON_Duplicate(error, true) : cJSON_CreateNull());
}

static bool add_unknown(cJSON *list, const char *workspace_id) {
        cJSON *item = cJSON_CreateObject(), *error;

        return cJSON_AddItemToArray(list, item) && json_add_string(item, "workspace_id", workspace_id) &&
               json_add_string(item, "phase", "failed") && json_add_bool(item, "verified_on_target", false) &&
               (error = cJSON_AddObjectToObject(item, "error")) && json_add_string(error, "code", fault_code_name(FAULT_UNKNOWN_WORKSPACE)) &&
               json_add_string(error, "message", "It is not on this host, or not of these runtimes.");
}

typedef struct Sum { size_t done, well; const Entry *first_bad; Fault unknown; } Sum;

static cJSON *results(const HostRun *r, Entry *const *list, size_t n, Sum *sum) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        const JobArgs *a = &r->j->job->args;
        cJSON *items = cJSON_CreateArray();

        if (!json_add_item(json, "results", items))
                return NULL;
        for (size_t i = 0; i < n; i++) {
                const char *phase = phase_of(list[i], r->j->job->job_id);

                if (!add_result(items, r, list[i], phase ? phase : is_there_already(r, list[i]) ? "already" : "not_started"))
                        return NULL;
        }
        for (size_t i = 0; i < a->workspaces.n; i++) {
                const Entry *e = queue_find(r->q, a->workspaces.items[i]);

                if (e && matches(a, e->w))
                        continue;
                if (!add_unknown(items, a->workspaces.items[i]))
                        return NULL;
                (void) fault(&sum->unknown, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "Workspace %s is not on this host, or not of these runtimes.",
                             a->workspaces.items[i]);
        }
        return TAKE_PTR(json);
}

/* Why the whole is no success: the first part that went wrong, in its own words. */
static void cause(const HostRun *r, const Sum *sum, Fault *ret) {
        const char *code, *words;
        FaultCode c = FAULT_INTERNAL;

        if (r->expired)
                (void) fault(ret, -ETIME, FAULT_DEADLINE_EXCEEDED, "The roll did not end within its deadline.");
        else if (sum->first_bad) {
                code = json_get_string(sum->first_bad->w->roll, "error/code");
                words = json_get_string(sum->first_bad->w->roll, "error/message");
                if (code)
                        (void) fault_code_find(code, &c);
                (void) fault(ret, -EIO, code ? c : FAULT_DEADLINE_EXCEEDED, "Workspace %s: %s", sum->first_bad->w->id,
                             words ?: "its part of the roll was overtaken by a newer job.");
        } else
                *ret = sum->unknown;
}

static void end(HostRun *r, Entry *const *list, size_t n, Sum *sum) {
        bool overtaken = r->j->job->generation < r->q->host->redeploy.generation;
        cJSON *json = results(r, list, n, sum);
        Fault why = {};

        if (overtaken || r->j->cancelled) {
                host_run_end(r, overtaken ? REPORT_SUPERSEDED : REPORT_CANCELLED, NULL, json);
                return;
        }
        if (n == 0)
                (void) fault(&why, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "No workspace of this host matches the roll any more.");
        else if (sum->well < n || sum->unknown.set || r->expired)
                cause(r, sum, &why);
        host_run_end(r, why.set ? REPORT_FAILED : REPORT_SUCCEEDED, &why, json);
}

/* ── the next part ───────────────────────────────────────────────────────────────────────────────────────────── */

static Work *part_new(const HostRun *r, const Workspace *w) {
        _cleanup_(work_freep) Work *k = calloc(1, sizeof *k);
        const char *over, *target;

        if (!k)
                return NULL;
        target = target_of(r, w, &over, &k->image_size_bytes);
        k->type = JOB_REDEPLOY;
        k->of_host = true;
        memcpy(k->job_id, r->j->job->job_id, UUID_SIZE);
        memcpy(k->delivery_id, r->j->delivery_id, UUID_SIZE);
        k->generation = k->spec_generation = base_of(w)->generation;
        k->deadline_seconds = r->j->job->deadline_seconds;
        k->image_ref = target ? strdup(target) : NULL;
        k->image_over = over ? strdup(over) : NULL;
        return k->image_ref && (!over || k->image_over) ? TAKE_PTR(k) : NULL;
}

static void begin_part(HostRun *r, Entry *e) {
        Work *k = part_new(r, e->w);

        if (!k)
                return;
        e->w->work = k;
        if (queue_save(r->q, e, NULL) < 0) {
                e->w->work = work_free(k);
                return;                         /* with the next look */
        }
        log_write(LOG_NOTICE, &(LogFields) { .workspace_id = e->w->id, .job_id = k->job_id }, "The roll comes to this workspace: %s.",
                  k->image_ref);
        e->seq = r->q->seq++;
        e->changed_at = now_boottime();
        queue_wake(r->q);
        r->q->o.events.changed(r->q->o.userdata);
}

static bool another_rolls(const HostRun *r) {
        for (size_t i = 0; i < r->q->n_entries; i++) {
                const Work *k = r->q->entries[i]->w->work;

                if (k && k->of_host && k->type == JOB_REDEPLOY && !k->reported && !str_equal(k->job_id, r->j->job->job_id))
                        return true;
        }
        return false;
}

static bool is_busy(const Entry *e) { return e->w->work || e->w->next || e->flow || e->final; }

void host_redeploy_step(HostRun *r) {
        _cleanup_free_ Entry **list = NULL;
        const Job *j = r->j->job;
        bool stop = r->j->cancelled || r->expired || j->generation < r->q->host->redeploy.generation;
        Sum sum = {};
        size_t n;

        list = matching(r, &n);
        if (!list)
                return;
        for (size_t i = 0; i < n; i++) {
                Entry *e = list[i];
                const char *phase = phase_of(e, j->job_id);

                if (host_part_is_at_work(e, j->job_id)) {
                        if (stop && e->flow)
                                (void) flow_cancel(e->flow);    /* ignoring: past its swap it runs to its end first */
                        return;
                }
                if (phase || is_there_already(r, e)) {
                        sum.done++;
                        if (!phase || went_well(phase))
                                sum.well++;
                        else {
                                sum.first_bad = sum.first_bad ?: e;
                                stop = stop || !j->args.continue_on_error;
                        }
                        continue;
                }
                if (stop)
                        continue;
                if (!e->looked || is_busy(e) || another_rolls(r) || queue_holds(r->q, e->w->id))
                        return;
                host_run_tell(r, STAGE_STARTING, (int) (sum.done * 100 / n));
                begin_part(r, e);
                return;
        }
        end(r, list, n, &sum);
}
