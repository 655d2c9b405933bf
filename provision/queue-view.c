/* SPDX-License-Identifier: Apache-2.0 */

/* What is told of the workspaces: to register (holding, open jobs) and to health. Unknown is never told as absent: while the engine cannot be
 * asked, what was last seen goes out, with the error beside it. */

#include "provision/container.h"
#include "provision/queue-internal.h"

static const char *status(const Entry *e) {
        const Workspace *w = e->w;
        bool at_work = w->work && !w->work->local && !w->work->reported;

        if (!w->settled)
                return at_work ? "provisioning" : "failed";
        if (e->flow && flow_touches(e->flow))
                return "provisioning";
        if (!e->looked)
                return "online";                /* it passed its gate; the engine has not said otherwise since */
        if (!e->present)
                return e->flow ? "provisioning" : "failed";
        if (e->crashing)
                return "degraded";
        if (e->seen.running && !e->seen.restarting && e->seen.health != ENGINE_HEALTH_UNHEALTHY)
                return "online";
        return e->seen.running || e->seen.restarting || !e->stop_sure ? "degraded" : "failed";
}

/* A workspace that is gone, or whose only job was refused, is nothing that a host holds. */
static bool is_known(const Entry *e) { return !e->w->removed && (e->w->wanted || e->w->settled || e->w->work); }

/* Held is what could be made again here: of the rest the control plane is to order the wanted state anew. */
static bool is_held(const Entry *e) { return is_known(e) && !e->unreadable; }

/* {workspace_id, generation, <name of the status>} */
static cJSON *item_new(const Entry *e, const char *status_field) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "workspace_id", e->w->id) ||
            !json_add_u64_text(json, "generation", workspace_generation(e->w)) || !json_add_string(json, status_field, status(e)))
                return NULL;
        return TAKE_PTR(json);
}

static cJSON *holding_one(const Queue *q, const Entry *e) {
        (void) q;
        return item_new(e, "state");
}

/* One item for each such workspace; NULL when out of memory. */
static cJSON *each(const Queue *q, bool (*which)(const Entry *e), cJSON *(*one)(const Queue *q, const Entry *e)) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; list && i < q->n_entries; i++) {
                cJSON *item;

                if (!which(q->entries[i]))
                        continue;
                item = one(q, q->entries[i]);
                if (!item || !cJSON_AddItemToArray(list, item))
                        return NULL;
        }
        return TAKE_PTR(list);
}

cJSON *queue_holding(const Queue *q) { return each(q, is_held, holding_one); }

static bool add_open(cJSON *list, const Work *k) {
        return !k || k->local || k->of_host || k->reported || cJSON_AddItemToArray(list, cJSON_CreateString(k->job_id));
}

cJSON *queue_open_jobs(const Queue *q) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; list && i < q->n_entries; i++)
                if (!add_open(list, q->entries[i]->w->work) || !add_open(list, q->entries[i]->w->next))
                        return NULL;
        for (size_t i = 0; list && i < q->host->n_jobs; i++)
                if (!cJSON_AddItemToArray(list, cJSON_CreateString(q->host->jobs[i]->job->job_id)))
                        return NULL;
        return TAKE_PTR(list);
}

/* ── health ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool add_error(cJSON *json, const Queue *q, const Entry *e) {
        const Fault *f = e->last_error.set ? &e->last_error : engine_fault(q->o.engine);
        cJSON *error;

        if (!f || !f->set)
                return cJSON_AddNullToObject(json, "last_error") != NULL;
        error = cJSON_CreateObject();
        return json_add_item(json, "last_error", error) && json_add_string(error, "code", fault_code_name(f->code)) &&
               json_add_string(error, "message", f->text);
}

static const Pin *pin_of(const Queue *q, const Entry *e) {
        const Version *v = e->w->settled ?: e->w->wanted;
        return v ? pins_find(q->o.pins, v->runtime, q->o.settings->region) : NULL;
}

static bool is_skewed(const Pin *pin, const char *running) { return pin && running && !str_equal(pin->image_digest, running); }

static bool add_images(cJSON *json, const Queue *q, const Entry *e) {
        const Version *settled = e->w->settled;
        const Pin *pin = pin_of(q, e);
        const char *running = settled ? image_ref_digest(settled->image_ref) : NULL;
        bool is_running = e->looked ? e->present && e->seen.running : settled != NULL;

        return (!running || json_add_string(json, "running_image", running)) &&
               (!pin || json_add_string(json, "pinned_image", pin->image_digest)) &&
               json_add_bool(json, "pin_skew", is_skewed(pin, running)) &&
               json_add_bool(json, "verified_on_target", settled && is_running) &&
               json_add_bool(json, "healthz_ok", is_running && e->seen.health != ENGINE_HEALTH_UNHEALTHY && !e->seen.restarting);
}

static bool add_seen(cJSON *json, const Entry *e) {
        const EngineContainer *c = &e->seen;

        if (!c->id)
                return true;
        return json_add_i64(json, "restart_count", c->restart_count) && json_add_bool(json, "oom_killed", c->oom_killed) &&
               json_add_i64(json, "exit_code", c->exit_code) && (!c->started_at || json_add_string(json, "started_at", c->started_at));
}

static bool add_url(cJSON *json, const Queue *q, const Entry *e) {
        char url[300];

        if (!e->w->settled)
                return true;
        workspace_url(q->o.settings, e->w->settled->tier, e->w->port, url, sizeof url);
        return json_add_string(json, "url", url);
}

static cJSON *view_one(const Queue *q, const Entry *e) {
        const Version *v = e->w->settled ?: e->w->wanted;
        const char *stage = stage_name(e->stage);
        _cleanup_json_ cJSON *json = item_new(e, "status");

        if (!json || !json_add_string(json, "runtime", v ? v->runtime : NULL) ||
            (v && v->kind && !json_add_string(json, "kind", v->kind)) || (stage && !json_add_string(json, "stage", stage)) ||
            (e->w->settled && !json_add_string(json, "container_id", e->w->settled->container_id)) || !add_url(json, q, e) ||
            !add_images(json, q, e) || !add_seen(json, e) || !add_error(json, q, e))
                return NULL;
        return TAKE_PTR(json);
}

cJSON *queue_view(const Queue *q) { return each(q, is_known, view_one); }

/* When it went down, as far as that is known: a stop was seen, or its first job failed. 0: unknown, or it is well. */
static uint64_t down_since(const Entry *e, uint64_t now) {
        const char *at = json_get_string(e->w->outcome, "at");
        uint64_t since = 0;

        if (e->stopped_since)
                return now_realtime() - (now - e->stopped_since);
        return !e->w->settled && at && time_parse(at, &since) == 0 ? since : 0;
}

/* Ages mean something only to who looks now: they are not part of health, whose hash they would change with every second. */
cJSON *queue_local_one(const Queue *q, const Entry *e) {
        _cleanup_json_ cJSON *json = view_one(q, e);
        uint64_t now = now_boottime(), since = down_since(e, now);

        if (!json || (since && !json_add_time(json, "since", since)) ||
            (e->repair_after > now && !json_add_seconds(json, "next_try_seconds", e->repair_after - now)))
                return NULL;
        return TAKE_PTR(json);
}

cJSON *queue_local_view(const Queue *q) { return each(q, is_known, queue_local_one); }

/* Down for as long as its gate may take, and not longer: a hold ends the promise, and so does a failure. */
static bool is_replacing(const Entry *e) {
        const Work *k = e->w->work;

        return e->w->settled && e->flow && flow_touches(e->flow) && !flow_is_held(e->flow) && k->phase == WORK_SWAPPING && k->old_ran;
}

void queue_glance(const Queue *q, void (*fn)(const WorkspaceGlance *g, void *userdata), void *userdata) {
        for (size_t i = 0; i < q->n_entries; i++) {
                const Entry *e = q->entries[i];
                const Version *settled = e->w->settled;

                if (is_known(e))
                        fn(&(WorkspaceGlance){ .id = e->w->id, .status = status(e), .settled = settled, .crashing = e->crashing,
                                               .held = queue_holds(q, e->w->id), .replacing = is_replacing(e),
                                               .pin_skew = is_skewed(pin_of(q, e), settled ? image_ref_digest(settled->image_ref) : NULL) },
                           userdata);
        }
}

cJSON *queue_foreign(const Queue *q) { return q->foreign ? cJSON_Duplicate(q->foreign, true) : cJSON_CreateArray(); }
