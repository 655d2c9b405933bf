/* SPDX-License-Identifier: Apache-2.0 */

/* What is told to whoever looks: views of the parts, put together. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/api-routes.h"
#include "base/text.h"
#include "engine/disk.h"
#include "provision/outcomes.h"

#define JOBS_TOLD 20                    /* of those that ended, where the caller does not say */

/* ── the mark ────────────────────────────────────────────────────────────────────────────────────────────────── */

ApiMark api_mark_now(const Agent *a) { return (ApiMark){ now_boottime(), control_rounds(a->control) }; }

cJSON *api_with_mark(const ApiMark *m) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        char text[3 * 21];

        (void) snprintf(text, sizeof text, "%llu-%llu-%llu", (unsigned long long) m->at, (unsigned long long) m->rounds.done,
                        (unsigned long long) m->rounds.failed);
        return json && json_add_string(json, "mark", text) ? TAKE_PTR(json) : NULL;
}

static int read_mark(const char *text, ApiMark *ret) {
        char copy[3 * 21], *rest = copy, *part[3];

        if (!text || strlen(text) >= sizeof copy)
                return -EINVAL;
        memcpy(copy, text, strlen(text) + 1);
        for (size_t i = 0; i < ELEMENTS(part); i++)
                part[i] = strsep(&rest, "-");
        return rest || !part[2] || u64_parse(part[0], &ret->at) < 0 || u64_parse(part[1], &ret->rounds.done) < 0 ||
                               u64_parse(part[2], &ret->rounds.failed) < 0
                       ? -EINVAL
                       : 0;
}

/* ── reads ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* As health has them, and whether the control plane has others. */
static cJSON *pins_here(Agent *a) {
        _cleanup_json_ cJSON *json = agent_pins_view(a);

        return json && json_add_bool(json, "behind", control_pins_behind(a->control)) ? TAKE_PTR(json) : NULL;
}

int api_get_status(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        uint64_t oldest = outbox_oldest(a->outbox), now = now_realtime();

        (void) c;
        (void) reterr;
        if (!json || !json_add_string(json, "host_id", a->identity.host_id) || !json_add_item(json, "control", agent_control_view(a)) ||
            !json_add_item(json, "hold", queue_hold_view(a->queue)) || !json_add_item(json, "agent", agent_health_view(a)) ||
            (oldest && !json_add_seconds(json, "outbox_oldest_seconds", now > oldest ? now - oldest : 0)) ||
            !json_add_item(json, "pins", pins_here(a)) || !json_add_item(json, "workspaces", queue_local_view(a->queue)))
                return -ENOMEM;
        ret->json = TAKE_PTR(json);
        return 0;
}

int api_get_progress(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        ControlRounds now = control_rounds(a->control);
        ApiMark m;

        if (read_mark(api_query(c, "mark"), &m) < 0)
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "mark is not one that this API has given.");
        if (!json || !json_add_bool(json, "polled", now.done > m.rounds.done) || !json_add_bool(json, "failed", now.failed > m.rounds.failed) ||
            !json_add_bool(json, "told", outbox_is_empty(a->outbox) && health_is_current(a->health)) ||
            !json_add_bool(json, "idle", queue_is_idle(a->queue)) || !json_add_bool(json, "waits_for_release", queue_waits_for_release(a->queue)) ||
            !json_add_i64(json, "jobs_running", queue_jobs_running(a->queue)) || !json_add_item(json, "control", agent_control_view(a)) ||
            !json_add_item(json, "outcomes", queue_outcomes_since(a->queue, m.at)))
                return -ENOMEM;
        ret->json = TAKE_PTR(json);
        return 0;
}

/* One member of that name, or out of memory. */
static int answer_one(ApiAnswer *ret, const char *name, cJSON *value) {
        ret->json = cJSON_CreateObject();
        return json_add_item(ret->json, name, value) ? 0 : -ENOMEM;
}

int api_get_workspaces(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        (void) c;
        (void) reterr;
        return answer_one(ret, "workspaces", queue_local_view(a->queue));
}

int api_get_workspace(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        ret->json = queue_workspace_view(a->queue, c->part);
        if (ret->json || queue_knows(a->queue, c->part))
                return ret->json ? 0 : -ENOMEM;
        return fault(reterr, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "There is no workspace of this id on this host.");
}

int api_read_count(const ApiCall *c, const char *name, uint64_t max, uint64_t otherwise, uint64_t *ret, Fault *reterr) {
        const char *text = api_query(c, name);

        *ret = otherwise;
        if (text && (u64_parse(text, ret) < 0 || *ret > max))
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "%s is to be a number from 0 to %llu.", name, (unsigned long long) max);
        return 0;
}

int api_get_jobs(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        uint64_t tail;
        int r = api_read_count(c, "tail", OUTCOMES_MAX, JOBS_TOLD, &tail, reterr);

        if (r < 0)
                return r;
        r = answer_one(ret, "jobs", queue_jobs_view(a->queue));
        return r == 0 && json_add_item(ret->json, "outcomes", queue_outcomes(a->queue, (size_t) tail)) &&
                               json_add_u64_text(ret->json, "next_event", events_next(a->events))
                       ? 0
                       : -ENOMEM;
}

int api_get_pins(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        (void) c;
        (void) reterr;
        ret->json = pins_here(a);
        return json_add_item(ret->json, "pins", pins_view(a->pins)) ? 0 : -ENOMEM;
}

int api_get_images(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        int r = answer_one(ret, "images", images_view(a->images));

        (void) c;
        (void) reterr;
        return r == 0 && json_add_bool(ret->json, "collecting", images_is_collecting(a->images)) ? 0 : -ENOMEM;
}

static bool add_disk(cJSON *json, const char *name, const char *path) {
        cJSON *one = cJSON_CreateObject();
        Disk disk;

        if (!json_add_item(json, name, one) || !json_add_string(one, "path", path))
                return false;
        return !path || disk_look(path, &disk) < 0 ||
               (json_add_i64(one, "free_bytes", (int64_t) disk.free_bytes) && json_add_i64(one, "used_percent", disk.used_percent));
}

int api_get_df(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        const Config *config = a->config;

        (void) c;
        (void) reterr;
        ret->json = cJSON_CreateObject();
        return add_disk(ret->json, "engine", engine_info(a->engine)->root_dir) && add_disk(ret->json, "state", agent_state_path()) &&
                               json_add_i64(ret->json, "min_free_bytes", (int64_t) config->min_free_bytes) &&
                               json_add_i64(ret->json, "gc_high_percent", (int64_t) config->gc_high_percent) &&
                               json_add_i64(ret->json, "gc_low_percent", (int64_t) config->gc_low_percent)
                       ? 0
                       : -ENOMEM;
}

/* ── events ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Follower { const Events *events; EventCursor at; } Follower;

static ssize_t follow(void *state, char *to, size_t room) {
        Follower *f = state;
        return events_read(f->events, &f->at, to, room);
}

int api_get_events(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        static const ApiSource source = { .read = follow, .done = free };
        Follower *f;
        uint64_t tail, from;
        int r = api_read_count(c, "tail", EVENTS_KEPT, 0, &tail, reterr);

        if (r == 0)
                r = api_read_count(c, "from", UINT64_MAX, UINT64_MAX, &from, reterr);
        if (r < 0)
                return r;
        f = malloc(sizeof *f);
        if (!f)
                return -ENOMEM;
        *f = (Follower){ a->events, api_query(c, "from") ? events_from(a->events, from) : events_cursor(a->events, (size_t) tail) };
        *ret = (ApiAnswer){ .source = &source, .state = f, .type = "text/event-stream" };
        return 0;
}
