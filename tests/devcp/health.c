/* SPDX-License-Identifier: Apache-2.0 */

/* Heartbeats. A full one replaces the last; a short one says "as you know it", and when we do not, we ask for the full one. */

#include <errno.h>
#include <string.h>

#include "tests/devcp/hosts.h"

typedef struct Health {
        char *state_hash;
        bool  unchanged;
} Health;

static void health_done(Health *h) {
        free(h->state_hash);
}

static const JsonField health_fields[] = {
        { "state_hash", cJSON_String,             json_set_string, offsetof(Health, state_hash), JSON_REQUIRED, 64 },
        { "unchanged",  cJSON_True | cJSON_False, json_set_bool,   offsetof(Health, unchanged),  JSON_OPTIONAL },
        {}
};

/* "SEQ:HASH" */
static int set_audit_head(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *hash = strchr(v->valuestring, ':');
        size_t digits = strspn(v->valuestring, "0123456789");

        (void) place;
        if (!hash || digits == 0 || v->valuestring + digits != hash || strlen(hash + 1) != 64 || strspn(hash + 1, "0123456789abcdef") != 64)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "'%s' is not SEQ:HASH.", f->name);
        return 0;
}

static const JsonField agent_fields[] = {
        { "audit_head", cJSON_String, set_audit_head, 0, JSON_NULLABLE },
        {}
};

static const JsonField full_fields[] = {
        { "host",       cJSON_Object, NULL, 0, JSON_REQUIRED },
        { "agent",      cJSON_Object, json_set_object_lenient, 0, JSON_REQUIRED, 0, agent_fields },
        { "engine",     cJSON_Object, NULL, 0, JSON_REQUIRED },
        { "pins",       cJSON_Object, NULL, 0, JSON_REQUIRED },
        { "foreign",    cJSON_Array,  NULL, 0, JSON_REQUIRED },
        { "workspaces", cJSON_Array,  NULL, 0, JSON_REQUIRED },
        {}
};

static int health_answer(Request *q, bool need_full) {
        _cleanup_json_ cJSON *answer = cJSON_CreateObject();

        if ((need_full && !json_add_bool(answer, "need_full", true)) || !json_add_time(answer, "server_time", now_realtime()))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}

int host_health(Server *s, Request *q) {
        _cleanup_(health_done) Health h = {};
        _cleanup_json_ cJSON *body = NULL, *known = NULL;
        char now[TIME_TEXT_SIZE];
        Fault f = {};
        int r;

        r = host_check(s, q, NULL);
        if (r == 0)
                r = request_body(q, health_fields, JSON_LENIENT, &h, &body);
        if (r != 0)
                return r < 0 ? r : 0;
        if (h.unchanged) {
                r = store_get(s->store, SQL_HEALTH_GET, &known, "s", q->parameter);
                if (r == 0 && str_equal(json_get_string(known, "state_hash"), h.state_hash))
                        r = store_do(s->store, SQL_HEALTH_CONFIRM, "ss", q->parameter, time_text(now_realtime(), now));
                else if (r == 0)
                        return health_answer(q, true);
                return r < 0 ? r : health_answer(q, false);
        }
        if (json_dispatch(body, full_fields, JSON_LENIENT, NULL, &f) < 0)
                return request_fault(q, 400, &f);
        r = store_do(s->store, SQL_HEALTH_PUT, "ssss", q->parameter, time_text(now_realtime(), now), h.state_hash, q->body);
        return r < 0 ? r : health_answer(q, false);
}
