/* SPDX-License-Identifier: Apache-2.0 */

/* The end of an organization on this host. From its acceptance on no job is taken. What bears this host's and this organization's labels is counted;
 * each workspace is removed with its volumes and keys, as a deprovision would; then whatever else is labelled so; then the keys of the host. The
 * receipt says what was there at the beginning and is not there any more. Everything ensures, so a restart goes on. */

#include "provision/host-run.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/container.h"

#define RETRY_USEC (10 * USEC_PER_SEC)

typedef enum Phase { PHASE_COUNT_CONTAINERS, PHASE_COUNT_VOLUMES, PHASE_WORKSPACES, PHASE_CONTAINERS, PHASE_VOLUMES, PHASE_KEYS } Phase;

static bool is_of_containers(const HostRun *r) { return r->phase == PHASE_COUNT_CONTAINERS || r->phase == PHASE_CONTAINERS; }
static bool is_counting(const HostRun *r) { return r->phase < PHASE_WORKSPACES; }

/* ── the workspaces ──────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_gone(const Entry *e, const char *job_id) {
        return e->w->removed && !e->w->work && !e->flow && !e->final && str_equal(json_get_string(e->w->roll, "job_id"), job_id) &&
               str_equal(json_get_string(e->w->roll, "phase"), "verified");
}

static void begin_removal(HostRun *r, Entry *e) {
        Workspace *w = e->w;
        Work *k = calloc(1, sizeof *k), *next = w->next, *work = w->work;

        if (!k)
                return;
        *k = (Work) { .type = JOB_DEPROVISION, .of_host = true, .prune = true,
                      .generation = w->spec_floor, .spec_generation = workspace_generation(w) };
        memcpy(k->job_id, r->j->job->job_id, UUID_SIZE);
        queue_put(w, k);
        if (queue_save(r->q, e, NULL) < 0) {
                w->work = work;
                w->next = next;
                w->overtaken = NULL;
                work_free(k);
                return;
        }
        queue_tell_overtaken(r->q, e);
        e->changed_at = now_boottime();
        e->repair_after = e->changed_at + RETRY_USEC;
        if (e->flow)
                flow_supersede(e->flow, k);
        queue_wake(r->q);
}

static bool part_is_there(const Entry *e, const char *job_id) {
        const Work *parts[] = { e->w->work, e->w->next };

        for (size_t i = 0; i < ELEMENTS(parts); i++)
                if (parts[i] && parts[i]->of_host && str_equal(parts[i]->job_id, job_id))
                        return true;
        return false;
}

static bool workspaces_are_gone(HostRun *r) {
        bool all = true;

        for (size_t i = 0; i < r->q->n_entries; i++) {
                Entry *e = r->q->entries[i];

                if (is_gone(e, r->j->job->job_id))
                        continue;
                all = false;
                if (!part_is_there(e, r->j->job->job_id) && !e->final && now_boottime() >= e->repair_after)
                        begin_removal(r, e);
        }
        return all;
}

/* ── what else is there ──────────────────────────────────────────────────────────────────────────────────────── */

static bool is_ours(const HostRun *r, const EngineLabels *l) {
        const Settings *s = r->q->o.settings;
        return l->managed && str_equal(l->host, s->host_id) && str_equal(l->org, s->org_id);
}

static void remove_next(HostRun *r);

static void on_removed(const EngineAnswer *a, void *userdata) {
        HostRun *r = userdata;

        r->call = NULL;
        if (a->r < 0) {                         /* busy, or the engine is away: the list is made anew with the next look */
                cJSON_Delete(r->list);
                r->list = NULL;
                return;
        }
        cJSON_DeleteItemFromArray(r->list, 0);
        remove_next(r);
}

static void remove_next(HostRun *r) {
        const char *name = cJSON_GetStringValue(cJSON_GetArrayItem(r->list, 0));

        if (!name) {
                cJSON_Delete(r->list);
                r->list = NULL;
                r->phase++;
                queue_wake(r->q);
        } else if (r->phase == PHASE_CONTAINERS)
                (void) engine_container_remove(r->q->o.engine, name, on_removed, r, &r->call);
        else
                (void) engine_volume_remove(r->q->o.engine, name, on_removed, r, &r->call);
}

static void list_containers(HostRun *r, const cJSON *json) {
        EngineContainers found = {};

        if (engine_containers_parse(json, &found, NULL) < 0) {
                cJSON_Delete(r->list);
                r->list = NULL;
                return;
        }
        for (size_t i = 0; i < found.n; i++)
                if (is_ours(r, &found.items[i].labels))
                        (void) cJSON_AddItemToArray(r->list, cJSON_CreateString(found.items[i].id));
        engine_containers_done(&found);
}

static void list_volumes(HostRun *r, const cJSON *json) {
        const cJSON *item;

        cJSON_ArrayForEach(item, json_get(json, "Volumes")) {
                EngineVolume v = {};

                if (engine_volume_parse(item, &v, NULL) == 0 && is_ours(r, &v.labels))
                        (void) cJSON_AddItemToArray(r->list, cJSON_CreateString(v.name));
                engine_volume_done(&v);
        }
}

/* Once, and kept: a restart in the middle finds less. */
static void count(HostRun *r) {
        const char *what = is_of_containers(r) ? "containers" : "volumes";

        if (!json_get(r->j->plan, what) &&
            (!json_add_i64(r->j->plan, what, cJSON_GetArraySize(r->list)) || host_save(r->q, NULL) < 0))
                log_warning("The receipt of the teardown may say less than what went.");
        cJSON_Delete(r->list);
        r->list = NULL;
        r->phase++;
        queue_wake(r->q);
}

static void on_list(const EngineAnswer *a, void *userdata) {
        HostRun *r = userdata;

        r->call = NULL;
        if (a->r < 0)
                return;                         /* with the next look */
        r->list = cJSON_CreateArray();
        if (is_of_containers(r))
                list_containers(r, a->json);
        else
                list_volumes(r, a->json);
        if (r->list && is_counting(r))
                count(r);
        else if (r->list)
                remove_next(r);
}

static void begin_list(HostRun *r) {
        if (r->call || engine_state(r->q->o.engine) != ENGINE_UP)
                return;
        if (is_of_containers(r))
                (void) engine_container_list(r->q->o.engine, LABEL_MANAGED "=true", on_list, r, &r->call);
        else
                (void) engine_volume_list(r->q->o.engine, LABEL_MANAGED "=true", on_list, r, &r->call);
}

/* ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static cJSON *receipt(const HostRun *r, bool keys) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *item = cJSON_CreateObject();
        int64_t workspaces = 0;

        for (size_t i = 0; i < r->q->n_entries; i++)
                workspaces += is_gone(r->q->entries[i], r->j->job->job_id);
        if (!json_add_item(json, "receipt", item) || !json_add_i64(item, "workspaces", workspaces) ||
            !json_add_i64(item, "containers", json_get_i64(r->j->plan, "containers", 0)) ||
            !json_add_i64(item, "volumes", json_get_i64(r->j->plan, "volumes", 0)) || !json_add_bool(item, "keys", keys))
                return NULL;
        return TAKE_PTR(json);
}

static void end(HostRun *r) {
        Fault why = {};
        bool keys = r->q->o.events.torn_down(r->q->o.userdata);

        if (!keys)
                (void) fault(&why, -EIO, FAULT_STATE_DEGRADED, "Every workspace is gone, but not every key of this host could be destroyed.");
        host_run_end(r, keys ? REPORT_SUCCEEDED : REPORT_FAILED, &why, receipt(r, keys));
}

void host_teardown_step(HostRun *r) {
        Fault why = {};

        if (r->expired) {
                (void) fault(&why, -ETIME, FAULT_DEADLINE_EXCEEDED, "The teardown did not end within its deadline; what is left is told in health.");
                host_run_end(r, REPORT_FAILED, &why, receipt(r, false));
                return;
        }
        if (r->phase == PHASE_WORKSPACES && workspaces_are_gone(r))
                r->phase = PHASE_CONTAINERS;
        if (r->phase == PHASE_KEYS)
                end(r);
        else if (r->phase != PHASE_WORKSPACES && !r->call && !r->list)
                begin_list(r);
}
