/* SPDX-License-Identifier: Apache-2.0 */

/* What an operator on the host is shown beyond health: one workspace with what is wanted of it, what is settled and how its last job ended; and the jobs
 * that are open. Nothing of a spec's environment or secrets is in here: names, digests, generations. */

#include "provision/host-run.h"

static cJSON *version_view(const Version *v) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!v)
                return cJSON_CreateNull();
        if (!json || !json_add_u64_text(json, "generation", v->generation) || !json_add_string(json, "job_id", v->job_id) ||
            !json_add_string(json, "runtime", v->runtime) || !json_add_i64(json, "tier", v->tier) ||
            (v->image_ref && !json_add_string(json, "image_ref", v->image_ref)) ||
            (v->data_persistence && !json_add_string(json, "data_persistence", v->data_persistence)) ||
            (v->container_id && !json_add_string(json, "container_id", v->container_id)) || (v->failed && !json_add_bool(json, "failed", true)))
                return NULL;
        return TAKE_PTR(json);
}

static bool add_pull(cJSON *json, const char *image_ref, uint64_t bytes, uint64_t total) {
        return !total || (json_add_string(json, "image_ref", image_ref) && json_add_i64(json, "bytes", (int64_t) bytes) &&
                          json_add_i64(json, "total_bytes", (int64_t) total));
}

/* ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static cJSON *work_view(const Entry *e, const Work *k) {
        bool first = k == e->w->work;
        const char *stage = first && e->flow ? stage_name(e->stage) : NULL;
        const char *state = !first || !e->flow ? "waiting" : flow_is_held(e->flow) ? "held" : "running";
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "job_id", k->job_id) || !json_add_string(json, "type", job_type_name(k->type)) ||
            !json_add_string(json, "source", k->local ? "local" : "job") || !json_add_string(json, "workspace_id", e->w->id) ||
            !json_add_u64_text(json, "generation", k->generation) || !json_add_string(json, "state", state) ||
            (stage && !json_add_string(json, "stage", stage)) || (first && !add_pull(json, k->image_ref, e->pull_bytes, e->pull_total)))
                return NULL;
        return TAKE_PTR(json);
}

static cJSON *host_job_view(const Queue *q, const HostJob *j) {
        const HostRun *r = host_run_find(q, j->job->job_id);
        const char *state = !r ? "waiting" : queue_holds(q, NULL) && j->job->type != JOB_TEARDOWN ? "held" : "running";
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "job_id", j->job->job_id) || !json_add_string(json, "type", job_type_name(j->job->type)) ||
            !json_add_string(json, "source", "job") || (j->job->generation && !json_add_u64_text(json, "generation", j->job->generation)) ||
            !json_add_string(json, "state", state) ||
            (r && !add_pull(json, json_get_string(j->plan, "image_ref"), r->pull_bytes, r->pull_total)))
                return NULL;
        return TAKE_PTR(json);
}

static bool add_work(cJSON *list, const Entry *e, const Work *k) {
        cJSON *json;

        if (!k || (k->reported && !e->flow))
                return true;
        json = work_view(e, k);
        return json && cJSON_AddItemToArray(list, json);
}

cJSON *queue_jobs_view(const Queue *q) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; list && i < q->host->n_jobs; i++) {
                cJSON *json = host_job_view(q, q->host->jobs[i]);

                if (!json || !cJSON_AddItemToArray(list, json))
                        return NULL;
        }
        for (size_t i = 0; list && i < q->n_entries; i++)
                if (!add_work(list, q->entries[i], q->entries[i]->w->work) || !add_work(list, q->entries[i], q->entries[i]->w->next))
                        return NULL;
        return TAKE_PTR(list);
}

/* ── one workspace ───────────────────────────────────────────────────────────────────────────────────────────── */

static bool add_jobs(cJSON *json, const Entry *e) {
        cJSON *list = cJSON_CreateArray();

        return json_add_item(json, "jobs", list) && add_work(list, e, e->w->work) && add_work(list, e, e->w->next);
}

bool queue_knows(const Queue *q, const char *workspace_id) {
        const Entry *e = queue_find(q, workspace_id);
        return e && !e->w->removed;
}

cJSON *queue_workspace_view(const Queue *q, const char *workspace_id) {
        const Entry *e = queue_find(q, workspace_id);
        _cleanup_json_ cJSON *json = queue_knows(q, workspace_id) ? queue_local_one(q, e) : NULL;

        if (!json || !json_add_bool(json, "held", queue_holds(q, workspace_id)) || !json_add_i64(json, "port", e->w->port) ||
            !json_add_item(json, "wanted", version_view(e->w->wanted)) || !json_add_item(json, "settled", version_view(e->w->settled)) ||
            !add_jobs(json, e) ||
            !json_add_item(json, "last_outcome", e->w->outcome ? cJSON_Duplicate(e->w->outcome, true) : cJSON_CreateNull()))
                return NULL;
        return TAKE_PTR(json);
}
