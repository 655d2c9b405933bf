/* SPDX-License-Identifier: Apache-2.0 */

/* A host says who it is and what it holds, and is made whole: jobs it was given but does not know are handed out again, and workspaces it
 * has lost are ordered anew (reissue.c). A key that is not the known one (keys.c) makes the answer a 409; all the rest counts even so. */

#include <errno.h>
#include <string.h>

#include "tests/devcp/hosts.h"
#include "tests/devcp/keys.h"
#include "tests/devcp/reissue.h"

#define MAX_JOBS   16                   /* the most that one poll is given */
#define LIST_MAX   4096

typedef struct Register {
        uint32_t   protocol;
        char       org_id[UUID_SIZE], host_id[UUID_SIZE], boot_id[UUID_SIZE];
        uint64_t   boot_epoch, host_generation;
        uint32_t   max_tier;
        char      *region;
        SealingKey key;
} Register;

typedef struct Holding {
        char     workspace_id[UUID_SIZE];
        uint64_t generation;
        char    *state;
} Holding;

static void register_done(Register *g) {
        free(g->region);
        key_done(&g->key);
}

static void holding_done(Holding *h) {
        free(h->state);
}

static const JsonField host_fields[] = {
        { "region", cJSON_String, json_set_string, 0, JSON_NULLABLE, 64 },
        {}
};

/* Leniently read: a newer agent may say more. What it says is checked for its type all the same. */
static const JsonField register_fields[] = {
        { "protocol",           cJSON_Number, json_set_u32,            offsetof(Register, protocol),        JSON_REQUIRED },
        { "org_id",             cJSON_String, json_set_uuid,           offsetof(Register, org_id),          JSON_REQUIRED },
        { "host_id",            cJSON_String, json_set_uuid,           offsetof(Register, host_id),         JSON_REQUIRED },
        { "boot_id",            cJSON_String, json_set_uuid,           offsetof(Register, boot_id),         JSON_REQUIRED },
        { "boot_epoch",         cJSON_String, json_set_u64_text,       offsetof(Register, boot_epoch),      JSON_REQUIRED },
        { "host",               cJSON_Object, json_set_object_lenient, offsetof(Register, region),          JSON_REQUIRED, 0, host_fields },
        { "agent",              cJSON_Object, NULL,                    0,                                   JSON_REQUIRED },
        { "engine",             cJSON_Object, NULL,                    0,                                   JSON_REQUIRED },
        { "sealing_key",        cJSON_Object, key_set,                 offsetof(Register, key),             JSON_OPTIONAL },
        { "previous_key_proof", cJSON_String, key_set_proof,           offsetof(Register, key),             JSON_OPTIONAL },
        { "features",           cJSON_Array,  NULL,                    0,                                   JSON_REQUIRED },
        { "max_tier",           cJSON_Number, json_set_u32,            offsetof(Register, max_tier),        JSON_REQUIRED, 4 },
        { "holding",            cJSON_Array,  NULL,                    0,                                   JSON_REQUIRED },
        { "open_jobs",          cJSON_Array,  NULL,                    0,                                   JSON_REQUIRED },
        { "host_generation",    cJSON_String, json_set_u64_text,       offsetof(Register, host_generation), JSON_REQUIRED, INT64_MAX },
        {}
};

static const JsonField holding_fields[] = {
        { "workspace_id", cJSON_String, json_set_uuid,     offsetof(Holding, workspace_id), JSON_REQUIRED },
        { "generation",   cJSON_String, json_set_u64_text, offsetof(Holding, generation),   JSON_REQUIRED, INT64_MAX },
        { "state",        cJSON_String, json_set_string,   offsetof(Holding, state),        JSON_REQUIRED, 32 },
        {}
};

/* Nothing of a register counts unless all of it is well-formed. */
static int check_lists(const cJSON *body, Fault *reterr) {
        const cJSON *holding = json_get(body, "holding"), *open_jobs = json_get(body, "open_jobs"), *item;
        int r;

        if (cJSON_GetArraySize(holding) > LIST_MAX || cJSON_GetArraySize(open_jobs) > LIST_MAX)
                return fault(reterr, -EBADMSG, FAULT_TOO_LARGE, "holding or open_jobs has more than %d entries", LIST_MAX);
        cJSON_ArrayForEach(item, holding) {
                _cleanup_(holding_done) Holding h = {};

                r = json_dispatch(item, holding_fields, JSON_LENIENT, &h, reterr);
                if (r < 0)
                        return fault_prefix(reterr, r, "holding: ");
        }
        cJSON_ArrayForEach(item, open_jobs)
                if (!uuid_is_valid(cJSON_GetStringValue(item)))
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "open_jobs holds something that is no UUID");
        return 0;
}

/* A control plane that lost its memory learns here which workspaces there are, and never numbers below what a host has seen. */
static int take_holding(Server *s, const Register *g, const cJSON *body) {
        const cJSON *item;
        int r;

        cJSON_ArrayForEach(item, json_get(body, "holding")) {
                const char *id = json_get_string(item, "workspace_id"), *state = workspace_state(json_get_string(item, "state"));

                r = store_do(s->store, SQL_WORKSPACE_ADD, "ssss", id, g->org_id, g->host_id, state ? state : "provisioning");
                if (r < 0)
                        return r;
                r = store_do(s->store, SQL_WORKSPACE_RAISE, "sis", id, (int64_t) json_get_u64_text(item, "generation", 0), g->org_id);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int redeliver(Server *s, const Register *g, const cJSON *body) {
        const cJSON *item;
        int r;

        r = store_do(s->store, SQL_JOBS_DUE_AGAIN, "s", g->host_id);
        cJSON_ArrayForEach(item, json_get(body, "open_jobs"))
                if (r == 0)
                        r = store_do(s->store, SQL_JOB_RECEIVED, "ss", cJSON_GetStringValue(item), g->host_id);
        return r;
}

static int answer_conflict(Request *q, const char *challenge) {
        _cleanup_json_ cJSON *answer = cJSON_CreateObject();

        if (!json_add_string(answer, "error", fault_code_name(FAULT_SEALING_KEY_CONFLICT)) ||
            !json_add_string(answer, "message", "another sealing key is known for this host") ||
            !json_add_string(answer, "challenge", challenge))
                return -ENOMEM;
        return request_answer(q, 409, TAKE_PTR(answer));
}

static int register_answer(Server *s, Request *q, const Register *g) {
        _cleanup_json_ cJSON *org = NULL, *answer = cJSON_CreateObject();
        int r;

        r = store_get(s->store, SQL_ORG_BY_ID, &org, "s", g->org_id);
        if (r < 0)
                return r;
        if (!json_add_string(answer, "host_id", g->host_id) || !json_add_string(answer, "org_slug", json_get_string(org, "slug")) ||
            !json_add_i64(answer, "heartbeat_seconds", s->options->heartbeat_seconds) ||
            !json_add_i64(answer, "wait_seconds", s->options->wait_seconds) || !json_add_i64(answer, "max_jobs", MAX_JOBS) ||
            !json_add_time(answer, "server_time", now_realtime()))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}

/* Headers and body must tell of the same host. 0, or 1 when answered. */
static int check_identity(Server *s, Request *q, const Register *g) {
        _cleanup_json_ cJSON *known = NULL;
        int r;

        if (g->protocol != 1)
                r = request_error(q, 426, "protocol_unsupported", "this control plane speaks protocol 1");
        else if (!str_equal(g->org_id, q->org_id))
                r = request_error(q, 403, "wrong_tenant", "org_id is not the organization of the admin token");
        else if (!str_equal(g->host_id, request_header(q, "X-Molecule-Host-Id")) ||
                 !str_equal(g->boot_id, request_header(q, "X-Molecule-Boot-Id")))
                r = request_error(q, 400, "bad_request", "X-Molecule-Host-Id and X-Molecule-Boot-Id must be the body's");
        else {
                r = store_get(s->store, SQL_HOST_GET, &known, "s", g->host_id);
                if (r == 0 && json_get_string(known, "revoked_at"))
                        return answered(request_error(q, 410, fault_code_name(FAULT_HOST_REVOKED), "this host was deleted"));
                if (r == -ENOENT || (r == 0 && str_equal(json_get_string(known, "org_id"), g->org_id)))
                        return 0;
                if (r == 0)
                        r = request_error(q, 409, "host_id_in_use", "this host id belongs to another organization");
        }
        return answered(r);
}

int host_register(Server *s, Request *q) {
        _cleanup_(register_done) Register g = {};
        _cleanup_json_ cJSON *body = NULL;
        _cleanup_free_ char *challenge = NULL;
        char now[TIME_TEXT_SIZE];
        Fault f = {};
        int r;

        r = host_check_protocol(q);
        if (r == 0)
                r = request_body(q, register_fields, JSON_LENIENT, &g, &body);
        if (r == 0 && check_lists(body, &f) < 0)
                return request_fault(q, 400, &f);
        if (r == 0)
                r = check_identity(s, q, &g);
        if (r != 0)
                return r < 0 ? r : 0;

        (void) time_text(now_realtime(), now);
        r = store_do(s->store, SQL_HOST_PUT, "ssssssi", g.host_id, g.org_id, g.boot_id, g.region, q->body, now,
                     (int64_t) g.host_generation);
        if (r == 0)
                r = store_do(s->store, SQL_BOOT_ADD, "ss", g.host_id, g.boot_id);
        if (r == 0)
                r = store_do(s->store, SQL_HOST_SEEN, "ss", g.host_id, now);
        if (r == 0)
                r = take_holding(s, &g, body);
        if (r == 0)
                r = redeliver(s, &g, body);
        if (r == 0)
                r = key_take(s, g.host_id, &g.key, &challenge);
        if (r == 0)
                r = reissue_useless(s, g.org_id, g.host_id, body);
        if (r == 0)
                r = reissue_lost(s, g.org_id, g.host_id, body);
        if (r < 0)
                return r;
        server_wake(s, g.host_id);
        return challenge ? answer_conflict(q, challenge) : register_answer(s, q, &g);
}
