/* SPDX-License-Identifier: Apache-2.0 */

/* What hosts say about jobs. Every report is stored once and acknowledged, whatever it changes: an agent keeps what is not acknowledged
 * for ever. A job's state only goes forward, and its first final word stays. One malformed report refuses its batch (400); the agent
 * halves batches until it has found it. */

#include <errno.h>
#include <string.h>

#include "tests/devcp/hosts.h"
#include "tests/devcp/jobs.h"

#define BATCH_MAX 1000

typedef struct Report {
        char     report_id[UUID_SIZE], delivery_id[UUID_SIZE], job_id[UUID_SIZE], workspace_id[UUID_SIZE];
        uint64_t generation, at;
        uint32_t progress;
        char    *source, *state, *stage, *type, *message;
} Report;

static void report_done(Report *p) {
        free(p->source);
        free(p->state);
        free(p->stage);
        free(p->type);
        free(p->message);
}

/* In the order in which a job goes through them; all from the first final one on are final. */
static const char *const states[] = {
        "queued", "accepted", "running",
        "succeeded", "failed", "refused", "superseded", "conflict", "expired", "cancelled",
};
#define STATE_QUEUED      0
#define STATE_FIRST_FINAL 3

static int state_find(const char *word) {
        for (size_t i = 0; i < ELEMENTS(states); i++)
                if (str_equal(states[i], word))
                        return (int) i;
        return -EINVAL;
}

static const JsonField error_fields[] = {
        { "code",      cJSON_String,             NULL, 0, JSON_REQUIRED },
        { "message",   cJSON_String,             NULL, 0, JSON_REQUIRED },
        { "retryable", cJSON_True | cJSON_False, NULL, 0, JSON_OPTIONAL },
        {}
};

static const JsonField report_fields[] = {
        { "report_id",    cJSON_String, json_set_uuid,           offsetof(Report, report_id),    JSON_REQUIRED },
        { "delivery_id",  cJSON_String, json_set_uuid,           offsetof(Report, delivery_id),  JSON_NULLABLE },
        { "job_id",       cJSON_String, json_set_uuid,           offsetof(Report, job_id),       JSON_NULLABLE },
        { "type",         cJSON_String, json_set_string,         offsetof(Report, type),         JSON_NULLABLE, 64 },
        { "source",       cJSON_String, json_set_string,         offsetof(Report, source),       JSON_REQUIRED, 16 },
        { "workspace_id", cJSON_String, json_set_uuid,           offsetof(Report, workspace_id), JSON_NULLABLE },
        { "generation",   cJSON_String, json_set_u64_text,       offsetof(Report, generation),   JSON_NULLABLE },
        { "state",        cJSON_String, json_set_string,         offsetof(Report, state),        JSON_REQUIRED, 16 },
        { "stage",        cJSON_String, json_set_string,         offsetof(Report, stage),        JSON_NULLABLE, 32 },
        { "progress",     cJSON_Number, json_set_u32,            offsetof(Report, progress),     JSON_NULLABLE, 100 },
        { "message",      cJSON_String, json_set_text,           offsetof(Report, message),      JSON_REQUIRED, 1024 },
        { "error",        cJSON_Object, json_set_object_lenient, 0,                              JSON_NULLABLE, 0, error_fields },
        { "result",       cJSON_Object, NULL,                    0,                              JSON_NULLABLE },
        { "at",           cJSON_String, json_set_time,           offsetof(Report, at),           JSON_REQUIRED },
        {}
};

static const JsonField batch_fields[] = {
        { "boot_epoch", cJSON_String, json_set_u64_text, 0, JSON_REQUIRED },
        { "reports",    cJSON_Array,  NULL,              0, JSON_REQUIRED },
        {}
};

/* What the word of a job's end means for its workspace. */
static int apply_to_workspace(Server *s, const char *host_id, const cJSON *job, const char *state, const cJSON *body) {
        const char *type = json_get_string(job, "type"), *id = json_get_string(job, "workspace_id");
        int64_t generation = (int64_t) json_get_u64_text(job, "generation", 0);
        bool succeeded = str_equal(state, "succeeded");

        if (str_equal(type, "host.teardown") && succeeded)
                return store_do(s->store, SQL_WORKSPACES_GONE, "s", host_id);
        if (!id)
                return str_equal(state, "superseded") ? store_do(s->store, SQL_HOST_RAISE, "si", host_id, (int64_t) json_get_u64_text(body, "result/floor", 0)) : 0;
        if (str_equal(state, "superseded"))             /* the host has seen higher numbers than we remember giving out */
                return store_do(s->store, SQL_WORKSPACE_RAISE, "sis", id, (int64_t) json_get_u64_text(body, "result/floor", 0),
                                json_get_string(job, "org_id"));
        if (str_equal(type, "workspace.deprovision") && succeeded)
                return store_do(s->store, SQL_WORKSPACE_GONE, "ssi", id, host_id, generation);
        if (!str_equal(type, "workspace.provision"))
                return 0;
        if (!succeeded)
                return store_do(s->store, SQL_WORKSPACE_FAILED, "s", id);
        return store_do(s->store, SQL_WORKSPACE_RUNS, "ssisss", id, host_id, generation, json_get_string(body, "result/instance_id"),
                        json_get_string(body, "result/private_ip"), json_get_string(body, "result/url"));
}

static int apply(Server *s, const char *host_id, const cJSON *job, const Report *p, const cJSON *body) {
        const char *job_id = json_get_string(job, "job_id"), *workspace_id = json_get_string(job, "workspace_id");
        int was = state_find(json_get_string(job, "state")), is = state_find(p->state), r;

        if (json_get_string(job, "final") || is < was)
                return store_do(s->store, SQL_JOB_RECEIVED, "ss", job_id, host_id);
        if (is < STATE_FIRST_FINAL)
                return store_do(s->store, SQL_JOB_STATE, "ss", job_id, p->state);
        r = store_do(s->store, SQL_JOB_FINAL, "sss", job_id, p->state, p->report_id);
        if (r == 0)
                r = apply_to_workspace(s, host_id, job, p->state, body);
        if (r == 0)
                server_wake(s, workspace_id ?: job_id);
        return r;
}

/* The job a report is about: by the delivery that brought it, which the agent knows even of bytes it could not read, else by the id it
 * read in them. A host speaks of its own jobs only. -ENOENT when there is none: stored all the same. */
static int find_job(Server *s, const char *host_id, const Report *p, cJSON **ret) {
        _cleanup_json_ cJSON *delivery = NULL, *job = NULL;
        int r = -ENOENT;

        if (*p->delivery_id)
                r = store_get(s->store, SQL_DELIVERY_GET, &delivery, "ss", p->delivery_id, host_id);
        if (r == 0)
                r = store_get(s->store, SQL_JOB_GET, &job, "s", json_get_string(delivery, "job_id"));
        else if (r == -ENOENT && *p->job_id)
                r = store_get(s->store, SQL_JOB_GET, &job, "s", p->job_id);
        if (r == 0 && !str_equal(json_get_string(job, "host_id"), host_id))
                r = -ENOENT;
        if (r == 0)
                *ret = TAKE_PTR(job);
        return r;
}

static int note_ack(Request *q, const Report *p, const char *job_id) {
        char *lines = str_printf("%s%s %s %s\n", q->ack_lines ? q->ack_lines : "", p->report_id, job_id ? job_id : "-", p->state);

        if (!lines)
                return -ENOMEM;
        free(q->ack_lines);
        q->ack_lines = lines;
        return 0;
}

static int take(Server *s, Request *q, const Report *p, const cJSON *body) {
        _cleanup_json_ cJSON *job = NULL, *row = NULL;
        _cleanup_free_ char *text = json_print(body);
        char now[TIME_TEXT_SIZE];
        int r;

        if (!text)
                return -ENOMEM;
        r = find_job(s, q->parameter, p, &job);
        if (r < 0 && r != -ENOENT)
                return r;
        r = store_get(s->store, SQL_REPORT_ADD, &row, "sssss", p->report_id, q->parameter, json_get_string(job, "job_id"), text,
                      time_text(now_realtime(), now));
        if (r == 0 && job)
                r = apply(s, q->parameter, job, p, body);
        if (r < 0 && r != -ENOENT)                      /* -ENOENT: a report we have */
                return r;
        return note_ack(q, p, json_get_string(job, "job_id"));
}

static int check(const cJSON *body, Report *p, Fault *reterr) {
        int r = json_dispatch(body, report_fields, JSON_LENIENT, p, reterr);

        if (r < 0)
                return r;
        if (state_find(p->state) <= STATE_QUEUED)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field 'state' is no state of a job");
        if (!*p->delivery_id && !*p->job_id && !*p->workspace_id)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "the report names no delivery, job or workspace");
        return 0;
}

int host_reports(Server *s, Request *q) {
        _cleanup_json_ cJSON *body = NULL, *acked = cJSON_CreateArray(), *answer = cJSON_CreateObject();
        const cJSON *reports, *item;
        uint64_t boot_epoch;
        Fault f = {};
        int r;

        r = host_check(s, q, NULL);
        if (r == 0)
                r = request_body(q, batch_fields, JSON_LENIENT, &boot_epoch, &body);
        if (r != 0)
                return r < 0 ? r : 0;
        reports = json_get(body, "reports");
        if (cJSON_GetArraySize(reports) < 1 || cJSON_GetArraySize(reports) > BATCH_MAX)
                return request_error(q, 400, "bad_request", "a batch has 1 to 1000 reports");
        cJSON_ArrayForEach(item, reports) {             /* all are checked before the first is taken */
                _cleanup_(report_done) Report p = {};

                r = check(item, &p, &f);
                if (r < 0)
                        return r == -ENOMEM ? r : request_fault(q, 400, &f);
        }
        cJSON_ArrayForEach(item, reports) {
                _cleanup_(report_done) Report p = {};

                r = check(item, &p, NULL);
                if (r == 0)
                        r = take(s, q, &p, item);
                if (r < 0)
                        return r;
                if (!cJSON_AddItemToArray(acked, cJSON_CreateString(p.report_id)))
                        return -ENOMEM;
        }
        if (!json_add_item(answer, "acked", TAKE_PTR(acked)))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}
