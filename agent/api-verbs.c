/* SPDX-License-Identifier: Apache-2.0 */

/* What each path of the local API does: a call of the queue or of control, and what is said of it. Work that a change begins goes on by itself; who
 * asked can watch it with the mark that the answer gives. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent-internal.h"
#include "agent/api.h"
#include "base/log.h"

#define BODY_MAX    ((size_t) 16 * 1024)
#define JOB_MAX     ((size_t) 32 * 1024 * 1024) /* as control takes from the control plane */
#define SECONDS_MAX 31536000

/* A moment: when, and how many rounds with the control plane were behind us then. Opaque to whoever keeps it. */
typedef struct Mark {
        uint64_t at;
        ControlRounds rounds;
} Mark;

typedef struct Args {
        char workspace_id[UUID_SIZE], job_id[UUID_SIZE];
        char *reason;
        uint32_t seconds;
} Args;

#define AT(member) offsetof(Args, member)
static const JsonField
        none[] = { {} },
        hold_fields[] = {
                { "workspace_id", cJSON_String, json_set_uuid, AT(workspace_id), JSON_OPTIONAL, 0, NULL },
                { "reason", cJSON_String, json_set_string, AT(reason), JSON_REQUIRED, 512, NULL },
                { "seconds", cJSON_Number, json_set_u32, AT(seconds), JSON_OPTIONAL, SECONDS_MAX, NULL },
                {}
        },
        release_fields[] = { { "workspace_id", cJSON_String, json_set_uuid, AT(workspace_id), JSON_OPTIONAL, 0, NULL }, { "reason", cJSON_String, json_set_text, AT(reason), JSON_OPTIONAL, 512, NULL }, {} }, drain_fields[] = { { "reason", cJSON_String, json_set_string, AT(reason), JSON_REQUIRED, 512, NULL }, {} }, undrain_fields[] = { { "reason", cJSON_String, json_set_text, AT(reason), JSON_OPTIONAL, 512, NULL }, {} }, restart_fields[] = { { "workspace_id", cJSON_String, json_set_uuid, AT(workspace_id), JSON_REQUIRED, 0, NULL }, {} }, cancel_fields[] = { { "job_id", cJSON_String, json_set_uuid, AT(job_id), JSON_REQUIRED, 0, NULL }, {} };

static void args_done(Args *a) { free(a->reason); }

/* ── the mark ────────────────────────────────────────────────────────────────────────────────────────────────── */

static Mark mark_now(const Agent *a) { return (Mark){ now_boottime(), control_rounds(a->control) }; }

static cJSON *with_mark(const Mark *m) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        char text[3 * 21];

        (void) snprintf(text, sizeof text, "%llu-%llu-%llu", (unsigned long long) m->at, (unsigned long long) m->rounds.done,
                        (unsigned long long) m->rounds.failed);
        return json && json_add_string(json, "mark", text) ? TAKE_PTR(json) : NULL;
}

static int read_mark(const char *text, Mark *ret) {
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

static cJSON *control_view(const Agent *a) {
        static const char *const names[] = { "idle", "registering", "polling", "parked" };
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        const Fault *f = a->enrol_fault.set ? &a->enrol_fault : control_fault(a->control);
        uint64_t since = control_fault_since(a->control), next = control_next_try(a->control);

        if (!json || !json_add_string(json, "state", names[control_state(a->control)]) || !json_add_item(json, "error", agent_error_view(f)) ||
            (f && since && !json_add_time(json, "since", since)) ||
            (f && next && !json_add_seconds(json, "next_try_seconds", next)))
                return NULL;
        return TAKE_PTR(json);
}

static int get_status(Agent *a, const ApiCall *c, cJSON **ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        (void) c;
        (void) reterr;
        if (!json || !json_add_string(json, "host_id", a->identity.host_id) || !json_add_item(json, "control", control_view(a)) ||
            !json_add_item(json, "hold", queue_hold_view(a->queue)) || !json_add_item(json, "agent", agent_health_view(a)) ||
            !json_add_item(json, "pins", agent_pins_view(a)) || !json_add_item(json, "workspaces", queue_local_view(a->queue)))
                return -ENOMEM;
        *ret = TAKE_PTR(json);
        return 0;
}

static int get_progress(Agent *a, const ApiCall *c, cJSON **ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        ControlRounds now = control_rounds(a->control);
        Mark m;

        if (read_mark(c->query, &m) < 0)
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "mark is not one that this API has given.");
        if (!json || !json_add_bool(json, "polled", now.done > m.rounds.done) || !json_add_bool(json, "failed", now.failed > m.rounds.failed) ||
            !json_add_bool(json, "told", outbox_is_empty(a->outbox) && health_is_current(a->health)) ||
            !json_add_bool(json, "idle", queue_is_idle(a->queue)) || !json_add_bool(json, "waits_for_release", queue_waits_for_release(a->queue)) ||
            !json_add_i64(json, "jobs_running", queue_jobs_running(a->queue)) || !json_add_item(json, "control", control_view(a)) ||
            !json_add_item(json, "outcomes", queue_outcomes_since(a->queue, m.at)))
                return -ENOMEM;
        *ret = TAKE_PTR(json);
        return 0;
}

/* ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef int (*Change)(Agent *a, const Args *args, Fault *reterr);

/* A change with arguments: they are read by their table, the change is made, and the mark from before it is told. */
static int change(Agent *a, const ApiCall *c, const char *what, const JsonField *fields, Change make, cJSON **ret, Fault *reterr) {
        _cleanup_(args_done) Args args = {};
        _cleanup_json_ cJSON *empty = cJSON_CreateObject();
        Mark m = mark_now(a);
        int r;

        if (!empty)
                return -ENOMEM;
        r = json_dispatch(c->json ?: empty, fields, JSON_STRICT, &args, reterr);
        if (r < 0)
                return r;
        log_write(LOG_NOTICE, &(LogFields){ .workspace_id = args.workspace_id[0] ? args.workspace_id : NULL }, "%s, asked for by %s.", what, c->who);
        r = make(a, &args, reterr);
        if (r < 0)
                return r;
        *ret = with_mark(&m);
        return *ret ? 0 : -ENOMEM;
}

static const char *workspace_of(const Args *args) { return args->workspace_id[0] ? args->workspace_id : NULL; }

static int hold(Agent *a, const Args *args, Fault *reterr) {
        return queue_hold_local(a->queue, workspace_of(args), args->seconds, args->reason, reterr);
}

static int release(Agent *a, const Args *args, Fault *reterr) { return queue_release_local(a->queue, workspace_of(args), args->reason, reterr); }
static int drain(Agent *a, const Args *args, Fault *reterr) { return queue_drain_local(a->queue, true, args->reason, reterr); }
static int undrain(Agent *a, const Args *args, Fault *reterr) { return queue_drain_local(a->queue, false, args->reason, reterr); }
static int restart(Agent *a, const Args *args, Fault *reterr) { return queue_restart_local(a->queue, args->workspace_id, reterr); }
static int cancel(Agent *a, const Args *args, Fault *reterr) { return queue_cancel_local(a->queue, args->job_id, reterr); }

/* Credentials may have come since the last try. */
static int poll_now(Agent *a, const Args *args, Fault *reterr) {
        (void) args;
        if (a->enrol_fault.set)
                agent_start_control(a);
        if (a->enrol_fault.set) {
                *reterr = a->enrol_fault;
                return -ENOKEY;
        }
        (void) control_poll_now(a->control);
        return 0;
}

#define CHANGE(verb, what, fields, make) \
        static int post_##verb(Agent *a, const ApiCall *c, cJSON **ret, Fault *reterr) { \
                return change(a, c, what, fields, make, ret, reterr); \
        }
CHANGE(sync, "A round with the control plane", none, poll_now)
CHANGE(hold, "A hold", hold_fields, hold)
CHANGE(release, "A release", release_fields, release)
CHANGE(drain, "A drain", drain_fields, drain)
CHANGE(undrain, "The end of a drain", undrain_fields, undrain)
CHANGE(restart, "A restart", restart_fields, restart)
CHANGE(cancel, "A cancel", cancel_fields, cancel)

static int post_apply(Agent *a, const ApiCall *c, cJSON **ret, Fault *reterr) {
        Mark m = mark_now(a);
        _cleanup_json_ cJSON *json = with_mark(&m), *report = NULL;
        bool dry_run = str_equal(c->query, "true");
        int r;

        if (!c->json)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The body is to be the job.");
        log_notice("A job from a file%s, asked for by %s.", dry_run ? ", to be judged only" : "", c->who);
        r = queue_apply(a->queue, c->json, dry_run, cp_time(a->cp), &report, reterr);
        if (r < 0)
                return r;
        if (!json || !json_add_item(json, "report", TAKE_PTR(report)))
                return -ENOMEM;
        *ret = TAKE_PTR(json);
        return 0;
}

const ApiRoute api_routes[] = {
        { "GET", "/v1/status", get_status, NULL, 0 },
        { "GET", "/v1/progress", get_progress, "mark", 0 },
        { "POST", "/v1/sync", post_sync, NULL, BODY_MAX },
        { "POST", "/v1/apply", post_apply, "dry_run", JOB_MAX },
        { "POST", "/v1/hold", post_hold, NULL, BODY_MAX },
        { "POST", "/v1/release", post_release, NULL, BODY_MAX },
        { "POST", "/v1/drain", post_drain, NULL, BODY_MAX },
        { "POST", "/v1/undrain", post_undrain, NULL, BODY_MAX },
        { "POST", "/v1/restart", post_restart, NULL, BODY_MAX },
        { "POST", "/v1/cancel", post_cancel, NULL, BODY_MAX },
        {},
};
