/* SPDX-License-Identifier: Apache-2.0 */

/* What an operator on the host changes: a call of the queue or of control, and what is said of it. Work that a change begins goes on by itself; who
 * asked can watch it with the mark that the answer gives. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent-internal.h"
#include "agent/api-routes.h"
#include "base/log.h"

typedef struct Args {
        char workspace_id[UUID_SIZE], job_id[UUID_SIZE];
        char *reason;
        const char *verb;               /* of a note, borrowed */
        uint32_t seconds;
} Args;

static int set_verb(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *verb = cJSON_GetStringValue(v);

        if (!audit_noted_verb(verb))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is no verb that is noted", f->name);
        *(const char **) place = verb;
        return 0;
}

#define AT(member) offsetof(Args, member)
static const JsonField
        none[] = { {} },
        hold_fields[] = {
                { "workspace_id", cJSON_String, json_set_uuid, AT(workspace_id), JSON_OPTIONAL, 0, NULL },
                { "reason", cJSON_String, json_set_string, AT(reason), JSON_REQUIRED, JOB_REASON_MAX, NULL },
                { "seconds", cJSON_Number, json_set_u32, AT(seconds), JSON_OPTIONAL, JOB_HOLD_SECONDS_MAX, NULL },
                {}
        },
        release_fields[] = {
                { "workspace_id", cJSON_String, json_set_uuid, AT(workspace_id), JSON_OPTIONAL, 0, NULL },
                { "reason", cJSON_String, json_set_text, AT(reason), JSON_OPTIONAL, JOB_REASON_MAX, NULL },
                {}
        },
        drain_fields[] = { { "reason", cJSON_String, json_set_string, AT(reason), JSON_REQUIRED, JOB_REASON_MAX, NULL }, {} },
        undrain_fields[] = { { "reason", cJSON_String, json_set_text, AT(reason), JSON_OPTIONAL, JOB_REASON_MAX, NULL }, {} },
        note_fields[] = {
                { "verb", cJSON_String, set_verb, AT(verb), JSON_REQUIRED, 0, NULL },
                { "reason", cJSON_String, json_set_text, AT(reason), JSON_OPTIONAL, JOB_REASON_MAX, NULL },
                {}
        },
        restart_fields[] = {
                { "workspace_id", cJSON_String, json_set_uuid, AT(workspace_id), JSON_REQUIRED, 0, NULL },
                { "reason", cJSON_String, json_set_text, AT(reason), JSON_OPTIONAL, JOB_REASON_MAX, NULL },
                {}
        },
        cancel_fields[] = {
                { "job_id", cJSON_String, json_set_uuid, AT(job_id), JSON_REQUIRED, 0, NULL },
                { "reason", cJSON_String, json_set_text, AT(reason), JSON_OPTIONAL, JOB_REASON_MAX, NULL },
                {}
        };

static void args_done(Args *a) { free(a->reason); }

/* ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef int (*Change)(Agent *a, const Args *args, Fault *reterr);

static int refused(Agent *a, const ApiCall *c, AuditLocal *l, int r, const Fault *why) {
        l->why = why;
        agent_audit_local(a, c, l);
        return r;
}

/* A change with arguments: they are read by their table, it is recorded and then made, and the mark from before it is told. */
static int change(Agent *a, const ApiCall *c, const char *verb, const char *what, const JsonField *fields, Change make, ApiAnswer *ret, Fault *reterr) {
        _cleanup_(args_done) Args args = {};
        _cleanup_json_ cJSON *empty = cJSON_CreateObject();
        ApiMark m = api_mark_now(a);
        AuditLocal l;
        int r;

        if (!empty)
                return -ENOMEM;
        r = json_dispatch(c->json ?: empty, fields, JSON_STRICT, &args, reterr);
        if (r < 0)
                return r;
        log_write(LOG_NOTICE, &(LogFields){ .workspace_id = args.workspace_id[0] ? args.workspace_id : NULL, .event = EVENT_LOCAL_CHANGE }, "%s, asked for by %s%s%s", args.verb ?: what, c->who,
                  args.reason && args.reason[0] ? ": " : ".", args.reason ?: "");
        l = (AuditLocal){ .verb = args.verb ?: verb, .reason = args.reason, .workspace_id = args.workspace_id, .job_id = args.job_id, .seconds = args.seconds };
        if (fields != none)             /* a round with the control plane changes nothing by itself */
                agent_audit_local(a, c, &l);
        r = make(a, &args, reterr);
        if (r < 0)
                return fields != none ? refused(a, c, &l, r, reterr) : r;
        ret->json = api_with_mark(&m);
        return ret->json ? 0 : -ENOMEM;
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
        health_hurry(a->health);
        reporter_hurry(a->reporter);
        (void) control_poll_now(a->control);
        return 0;
}

/* What the tool is about to do by itself. */
static int nothing(Agent *a, const Args *args, Fault *reterr) {
        (void) a;
        (void) args;
        (void) reterr;
        return 0;
}

static int collect(Agent *a, const Args *args, Fault *reterr) {
        (void) args;
        if (engine_state(a->engine) != ENGINE_UP)
                return fault(reterr, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "The engine does not answer, so no image can be removed.");
        if (queue_is_held(a->queue))
                return fault(reterr, -EBUSY, FAULT_HELD, "A hold forbids changes on this host, and so the removal of images.");
        images_collect_all(a->images);
        return 0;
}

#define CHANGE(verb, what, fields, make) \
        int api_post_##verb(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) { \
                return change(a, c, #verb, what, fields, make, ret, reterr); \
        }
CHANGE(sync, "A round with the control plane", none, poll_now)
CHANGE(hold, "A hold", hold_fields, hold)
CHANGE(release, "A release", release_fields, release)
CHANGE(drain, "A drain", drain_fields, drain)
CHANGE(undrain, "The end of a drain", undrain_fields, undrain)
CHANGE(restart, "A restart", restart_fields, restart)
CHANGE(cancel, "A cancel", cancel_fields, cancel)
CHANGE(note, "A note", note_fields, nothing)
CHANGE(gc, "The removal of images that nothing needs", undrain_fields, collect)

/* An id of a job that lies there in clear; in an envelope it does not. */
static const char *id_in(const cJSON *job, const char *name) {
        const char *id = json_get_string(job, name);
        return id && uuid_is_valid(id) ? id : NULL;
}

int api_post_apply(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        ApiMark m = api_mark_now(a);
        AuditLocal l = { .verb = "apply", .workspace_id = id_in(c->json, "workspace_id"), .job_id = id_in(c->json, "job_id") };
        char reason[JOB_REASON_MAX + 1];
        _cleanup_json_ cJSON *json = api_with_mark(&m), *report = NULL;
        bool dry_run = str_equal(api_query(c, "dry_run"), "true");
        int r;

        if (!c->json)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The body is to be the job.");
        r = api_read_text(c, "reason", reason, sizeof reason, reterr);
        if (r < 0)
                return r;
        l.reason = reason[0] ? reason : NULL;
        log_write(LOG_NOTICE, &(LogFields) { .event = EVENT_LOCAL_CHANGE }, "A job from a file%s, asked for by %s%s%s", dry_run ? ", to be judged only" : "", c->who,
                  reason[0] ? ": " : ".", reason);
        if (!dry_run)
                agent_audit_local(a, c, &l);
        if (a->host_keys_fault.set)             /* it would be refused for good */
                r = fault(reterr, -EIO, FAULT_STATE_DEGRADED, "%s", a->host_keys_fault.text);
        else
                r = queue_apply(a->queue, c->json, dry_run, cp_time(a->cp), &report, reterr);
        if (r < 0)
                return dry_run ? r : refused(a, c, &l, r, reterr);
        if (!json || !json_add_item(json, "report", TAKE_PTR(report)))
                return -ENOMEM;
        ret->json = TAKE_PTR(json);
        return 0;
}
