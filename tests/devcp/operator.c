/* SPDX-License-Identifier: Apache-2.0 */

/* The operator's door: what hosts there are, any job to any host (also one no host should take), and what became of it. */

#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "tests/devcp/jobs.h"
#include "tests/devcp/keys.h"
#include "tests/devcp/manage.h"
#include "tests/devcp/sign.h"

typedef struct Order {
        char         *type, *raw_payload;
        char          workspace_id[UUID_SIZE];
        cJSON        *spec, *seal;
        uint64_t      generation, expires_at;
        uint32_t      deadline_seconds;
        SignatureKind signature;
} Order;

static void order_done(Order *o) {
        free(o->type);
        free(o->raw_payload);
        cJSON_Delete(o->spec);
        cJSON_Delete(o->seal);
}

/* A box of nothing is no secret. */
static int set_seal(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const cJSON *item;

        cJSON_ArrayForEach(item, v)
                if (!cJSON_IsString(item) || *cJSON_GetStringValue(item) == 0)
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s': '%.64s' is empty or no string", f->name, item->string);
        return v->child ? json_set_value(f, v, place, reterr) : 0;
}

static int set_signature(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        return signature_kind_find(cJSON_GetStringValue(v), place) == 0 ?
                0 : fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is no kind of signature", f->name);
}

static const JsonField order_fields[] = {
        { "type",             cJSON_String, json_set_string,   offsetof(Order, type),             JSON_OPTIONAL, 64 },
        { "workspace_id",     cJSON_String, json_set_uuid,     offsetof(Order, workspace_id),     JSON_OPTIONAL },
        { "spec",             cJSON_Object, json_set_value,    offsetof(Order, spec),             JSON_OPTIONAL },
        { "generation",       cJSON_String, json_set_u64_text, offsetof(Order, generation),       JSON_OPTIONAL },
        { "deadline_seconds", cJSON_Number, json_set_u32,      offsetof(Order, deadline_seconds), JSON_OPTIONAL },
        { "expires_at",       cJSON_String, json_set_time,     offsetof(Order, expires_at),       JSON_OPTIONAL },
        { "raw_payload",      cJSON_String, json_set_text,     offsetof(Order, raw_payload),      JSON_OPTIONAL, BODY_MAX_LARGE },
        { "seal",             cJSON_Object, set_seal,          offsetof(Order, seal),             JSON_OPTIONAL },
        { "signature",        cJSON_String, set_signature,     offsetof(Order, signature),        JSON_OPTIONAL },
        {}
};

int admin_hosts(Server *s, Request *q) {
        _cleanup_json_ cJSON *rows = NULL, *answer = cJSON_CreateObject();
        int r;

        r = store_list(s->store, SQL_HOST_LIST, &rows, "");
        if (r < 0)
                return r;
        return json_add_item(answer, "hosts", TAKE_PTR(rows)) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

int admin_jobs(Server *s, Request *q) {
        _cleanup_json_ cJSON *rows = NULL, *answer = cJSON_CreateObject();
        int r;

        r = store_list(s->store, SQL_JOB_LIST, &rows, "s", request_query(q, "host_id"));
        if (r < 0)
                return r;
        return json_add_item(answer, "jobs", TAKE_PTR(rows)) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

/* A report as it came, and when. */
static int add_reports(Server *s, cJSON *job, const char *job_id) {
        _cleanup_json_ cJSON *rows = NULL, *reports = cJSON_CreateArray();
        cJSON *row;
        int r;

        r = store_list(s->store, SQL_REPORT_LIST, &rows, "s", job_id);
        if (r < 0)
                return r;
        cJSON_ArrayForEach(row, rows) {
                cJSON *body = cJSON_DetachItemFromObjectCaseSensitive(row, "body");

                if (!cJSON_AddItemToArray(reports, body) || !json_add_string(body, "received_at", json_get_string(row, "received_at")))
                        return -ENOMEM;
        }
        return json_add_item(job, "reports", TAKE_PTR(reports)) ? 0 : -ENOMEM;
}

int admin_job(Server *s, Request *q) {
        _cleanup_json_ cJSON *job = NULL, *payload = NULL, *deliveries = NULL;
        int r;

        r = store_get(s->store, SQL_JOB_GET, &job, "s", q->parameter);
        if (r == -ENOENT)
                return request_error(q, 404, "not_found", NULL);
        if (r == 0)
                r = store_get(s->store, SQL_JOB_PAYLOAD, &payload, "s", q->parameter);
        if (r == 0)
                r = store_list(s->store, SQL_DELIVERY_LIST, &deliveries, "s", q->parameter);
        if (r == 0)
                r = add_reports(s, job, q->parameter);
        if (r < 0)
                return r;
        if (!json_add_string(job, "payload", json_get_string(payload, "payload")) ||
            !json_add_item(job, "deliveries", TAKE_PTR(deliveries)))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(job));
}

static int order_raw(Server *s, const Order *o, const cJSON *host, char job_id[static UUID_SIZE], Fault *reterr) {
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        int r;

        r = base64_decode(o->raw_payload, BODY_MAX_LARGE, &bytes, &size);
        if (r < 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "raw_payload is not base64");
        return job_create_raw(s, json_get_string(host, "org_id"), json_get_string(host, "host_id"), bytes, size, job_id, reterr);
}

static int order_made(Server *s, const Order *o, const cJSON *host, char job_id[static UUID_SIZE], Fault *reterr) {
        const char *org_id = json_get_string(host, "org_id"), *host_id = json_get_string(host, "host_id");
        int r = 0;

        if (!o->type)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "type is missing");
        if (*o->workspace_id)
                r = store_do(s->store, SQL_WORKSPACE_ADD, "ssss", o->workspace_id, org_id, host_id, "provisioning");
        if (r == 0 && *o->workspace_id && str_equal(o->type, "workspace.provision"))
                r = store_do(s->store, SQL_WORKSPACE_PLACE, "ss", o->workspace_id, host_id);
        if (r < 0)
                return r;
        return job_create(s, &(JobOrder) {
                .org_id = org_id,
                .host_id = host_id,
                .type = o->type,
                .workspace_id = *o->workspace_id ? o->workspace_id : NULL,
                .spec = o->spec,
                .secrets = o->seal,
                .generation = o->generation,
                .expires_at = o->expires_at,
                .deadline_seconds = o->deadline_seconds,
        }, job_id, reterr);
}

/* What the door wants of an order before anything of it is done. 0, or 1 when answered. */
static int order_check(Server *s, Request *q, const Order *o, const char *host_id) {
        _cleanup_json_ cJSON *key = NULL;
        const cJSON *item;
        int r;

        if (o->signature != SIGNATURE_GOOD && !s->signer)
                return answered(request_error(q, 400, "bad_request", "signature wants --signing-key-file"));
        if (!o->seal)
                return 0;
        if (!*o->workspace_id || o->raw_payload)
                return answered(request_error(q, 400, "bad_request", "seal wants a workspace_id and no raw_payload"));
        cJSON_ArrayForEach(item, o->seal)
                if (json_get(json_get(o->spec, "secrets"), item->string))
                        return answered(request_error(q, 400, "bad_request", "a name is in both seal and spec.secrets"));
        r = key_get(s, host_id, &key);
        if (r < 0 || key)
                return r;
        return answered(request_error(q, 409, "no_sealing_key", "the host has registered no key to seal to"));
}

int admin_job_create(Server *s, Request *q) {
        _cleanup_(order_done) Order o = {};
        _cleanup_json_ cJSON *host = NULL, *row = NULL;
        char job_id[UUID_SIZE] = "";
        Fault f = {};
        int r;

        r = request_body(q, order_fields, JSON_STRICT, &o, NULL);
        if (r != 0)
                return r < 0 ? r : 0;
        r = store_get(s->store, SQL_HOST_GET, &host, "s", q->parameter);
        if (r == -ENOENT)
                return request_error(q, 404, "not_found", NULL);
        if (r == 0)
                r = order_check(s, q, &o, q->parameter);
        if (r != 0)
                return r < 0 ? r : 0;
        r = o.raw_payload ? order_raw(s, &o, host, job_id, &f) : order_made(s, &o, host, job_id, &f);
        if (r == 0 && o.signature != SIGNATURE_GOOD)
                r = store_do(s->store, SQL_SIGNATURE_ADD, "ss", job_id, signature_kind_name(o.signature));
        if (r < 0)
                return f.set ? request_fault(q, r == -EFBIG ? 413 : 400, &f) : r;
        r = store_get(s->store, SQL_JOB_GET, &row, "s", job_id);
        return r < 0 ? r : request_answer(q, 201, TAKE_PTR(row));
}
