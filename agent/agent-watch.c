/* SPDX-License-Identifier: Apache-2.0 */

/* What followers of /v1/events are told. Jobs and pulls tell of themselves; that a workspace, the hold or the control plane is another is seen by comparing
 * with what was told last, so that whoever changes them need not think of it. */

#include <string.h>

#include "agent/agent-internal.h"

#define SETTLE_USEC (100 * USEC_PER_MSEC)       /* changes come in flocks */
#define HOLDS_TOLD  3                           /* each may have a reason of 512 bytes, and six times that in JSON */

/* Owns json; NULL: out of memory, and followers are told that they missed one. */
static void tell(Agent *a, const char *kind, cJSON *json) {
        if (json && !json_get(json, "at") && !json_add_time(json, "at", now_realtime())) {
                cJSON_Delete(json);
                json = NULL;
        }
        events_add(a->events, kind, json);
        cJSON_Delete(json);
        api_wake(a->api);
}

void agent_tell_job(Agent *a, const cJSON *report) {
        cJSON *json = cJSON_Duplicate(report, true);

        cJSON_DeleteItemFromObjectCaseSensitive(json, "result");        /* may hold what a console said */
        tell(a, "job", json);
}

void agent_tell_pull(Agent *a, const JobPull *p) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (json && json_add_string(json, "job_id", p->job_id) && (!p->workspace_id || json_add_string(json, "workspace_id", p->workspace_id)) &&
            json_add_string(json, "image_ref", p->image_ref) && json_add_i64(json, "bytes", (int64_t) p->bytes) &&
            json_add_i64(json, "total_bytes", (int64_t) p->total))
                tell(a, "pull", TAKE_PTR(json));
}

static bool is_same(const cJSON *x, const cJSON *y, const char *const *members) {
        for (; *members; members++)
                if (!str_equal(json_get_string(x, *members), json_get_string(y, *members)))
                        return false;
        return true;
}

static void tell_gone(Agent *a, const char *workspace_id) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (json && json_add_string(json, "workspace_id", workspace_id) && json_add_string(json, "status", "removed"))
                tell(a, "workspace", TAKE_PTR(json));
}

/* Two looks have nearly the same order, so the one in the same place comes first: searching would walk a list of thousands for each of thousands. */
static const cJSON *same_workspace(const cJSON *w, const cJSON *list, const cJSON **place) {
        const char *id = json_get_string(w, "workspace_id");
        const cJSON *here = *place;

        if (here)
                *place = here->next;
        return here && str_equal(json_get_string(here, "workspace_id"), id) ? here : json_find(list, "workspace_id", id);
}

static void look_at_workspaces(Agent *a, cJSON *now) {
        static const char *const members[] = { "status", "container_id", "last_error/code", NULL };
        const cJSON *w, *place = a->told.workspaces ? a->told.workspaces->child : NULL;

        cJSON_ArrayForEach(w, now) {
                const cJSON *before = same_workspace(w, a->told.workspaces, &place);

                if (!before || !is_same(before, w, members))
                        tell(a, "workspace", cJSON_Duplicate(w, true));
        }
        place = now->child;
        cJSON_ArrayForEach(w, a->told.workspaces)
                if (!same_workspace(w, now, &place))
                        tell_gone(a, json_get_string(w, "workspace_id"));
        cJSON_Delete(a->told.workspaces);
        a->told.workspaces = now;
}

/* A host with very many held workspaces: their list is left to status. */
static void tell_hold(Agent *a, const cJSON *hold) {
        cJSON *json = cJSON_Duplicate(hold, true);

        if (cJSON_GetArraySize(json_get(json, "holds")) > HOLDS_TOLD)
                cJSON_DeleteItemFromObjectCaseSensitive(json, "holds");
        tell(a, "hold", json);
}

static int on_settled(sd_event_source *s, uint64_t usec, void *userdata) {
        static const char *const members[] = { "state", "error/code", NULL };
        Agent *a = userdata;
        _cleanup_json_ cJSON *hold = queue_hold_view(a->queue);
        cJSON *workspaces = queue_local_view(a->queue), *control = agent_control_view(a);
        char *hold_text = hold ? json_print(hold) : NULL;

        (void) s;
        (void) usec;
        if (workspaces)
                look_at_workspaces(a, workspaces);
        if (!str_equal(hold_text, a->told.hold))
                tell_hold(a, hold);
        if (!is_same(control, a->told.control, members))
                tell(a, "control", cJSON_Duplicate(control, true));
        free(a->told.hold);
        cJSON_Delete(a->told.control);
        a->told.hold = hold_text;
        a->told.control = control;
        return 0;
}

void agent_watch_changed(Agent *a) {
        if (sd_event_source_get_enabled(a->told.settle, NULL) > 0)
                return;
        (void) sd_event_source_set_time_relative(a->told.settle, SETTLE_USEC);
        (void) sd_event_source_set_enabled(a->told.settle, SD_EVENT_ONESHOT);
}

int agent_watch_open(Agent *a) {
        int r = events_new(&a->events);

        return r < 0 ? r : sd_event_add_time_relative(a->event, &a->told.settle, CLOCK_BOOTTIME, SETTLE_USEC, 0, on_settled, a);
}

void agent_watch_close(Agent *a) {
        sd_event_source_disable_unref(a->told.settle);
        cJSON_Delete(a->told.workspaces);
        free(a->told.hold);
        cJSON_Delete(a->told.control);
        a->events = events_free(a->events);
}
