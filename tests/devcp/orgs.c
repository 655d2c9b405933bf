/* SPDX-License-Identifier: Apache-2.0 */

/* Organizations and their tokens. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "tests/devcp/manage.h"

#define LIST_DEFAULT 500

typedef struct Org {
        char *slug, *name, *owner_user_id, *provider;
} Org;

static void org_done(Org *o) {
        free(o->slug);
        free(o->name);
        free(o->owner_user_id);
        free(o->provider);
}

static const JsonField org_fields[] = {
        { "slug",          cJSON_String, json_set_string, offsetof(Org, slug),          JSON_REQUIRED, 32 },
        { "name",          cJSON_String, json_set_string, offsetof(Org, name),          JSON_REQUIRED, 200 },
        { "owner_user_id", cJSON_String, json_set_string, offsetof(Org, owner_user_id), JSON_REQUIRED, 200 },
        { "provider",      cJSON_String, json_set_text,   offsetof(Org, provider),      JSON_OPTIONAL, 64 },
        {}
};

static bool is_org_field(const char *name) {
        for (const JsonField *f = org_fields; f->name; f++)
                if (str_equal(f->name, name))
                        return true;
        return false;
}

static bool add_name(cJSON *names, const char *name) {
        return cJSON_AddItemToArray(names, cJSON_CreateString(name));
}

/* The names of all fields that are unknown, missing or wrong: the contract wants them in a 400. */
static cJSON *bad_fields(const cJSON *body) {
        cJSON *names = cJSON_CreateArray();
        const cJSON *item;
        Org ignored = {};

        for (const JsonField *f = org_fields; names && f->name; f++) {
                const cJSON *v = json_get(body, f->name);
                bool bad = v ? !cJSON_IsString(v) || f->set(f, v, (char *) &ignored + f->offset, NULL) < 0 : f->flags & JSON_REQUIRED;

                if (bad || (v && str_equal(f->name, "slug") && !slug_is_valid(cJSON_GetStringValue(v))))
                        (void) add_name(names, f->name);
        }
        cJSON_ArrayForEach(item, body)
                if (names && item->string && !is_org_field(item->string))
                        (void) add_name(names, item->string);
        org_done(&ignored);
        return names;
}

static int refuse(Request *q, const Fault *f) {
        _cleanup_json_ cJSON *answer = cJSON_CreateObject(), *body = NULL;

        (void) json_parse(q->body ? q->body : "", q->size, &body, NULL);
        if (!json_add_string(answer, "error", fault_code_name(f->code)) || !json_add_string(answer, "message", f->text) ||
            !json_add_item(answer, "fields", body ? bad_fields(body) : cJSON_CreateArray()))
                return -ENOMEM;
        return request_answer(q, 400, TAKE_PTR(answer));
}

static int make_token(char ret[static 65]) {
        unsigned char bytes[32];

        if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
                return -EIO;
        for (size_t i = 0; i < sizeof bytes; i++)
                (void) sprintf(ret + 2 * i, "%02x", bytes[i]);
        return 0;
}

static int org_read(Request *q, Org *ret, Fault *reterr) {
        _cleanup_json_ cJSON *body = NULL;
        int r;

        r = json_parse(q->body ? q->body : "", q->size, &body, reterr);
        if (r == 0)
                r = json_dispatch(body, org_fields, JSON_STRICT, ret, reterr);
        if (r == 0 && !slug_is_valid(ret->slug))
                r = fault(reterr, -EBADMSG, FAULT_BAD_JSON, "slug must match ^[a-z][a-z0-9-]{2,31}$");
        return r;
}

int admin_org_create(Server *s, Request *q) {
        _cleanup_(org_done) Org o = {};
        _cleanup_json_ cJSON *taken = NULL, *row = NULL;
        char org_id[UUID_SIZE], token[65], now[TIME_TEXT_SIZE];
        bool dry_run = str_equal(request_query(q, "dry_run"), "true");
        Fault f = {};
        int r;

        r = org_read(q, &o, &f);
        if (r < 0)
                return r == -ENOMEM ? r : refuse(q, &f);
        r = store_get(s->store, SQL_ORG_BY_SLUG, &taken, "s", o.slug);
        if (r == 0)
                return request_error(q, 409, "slug_taken", NULL);
        if (r != -ENOENT)
                return r;
        if (dry_run) {
                row = cJSON_CreateObject();
                if (!json_add_bool(row, "dry_run", true) || !json_add_string(row, "slug", o.slug))
                        return -ENOMEM;
                return request_answer(q, 200, TAKE_PTR(row));
        }
        r = uuid_make(org_id);
        if (r == 0)
                r = make_token(token);
        if (r == 0)
                r = store_do(s->store, SQL_ORG_ADD, "sssssss", org_id, o.slug, o.name, o.owner_user_id, o.provider, token,
                             time_text(now_realtime(), now));
        if (r == 0)
                r = store_get(s->store, SQL_ORG_LIST, &row, "si", o.slug, (int64_t) 1);
        return r < 0 ? r : request_answer(q, 201, TAKE_PTR(row));
}

int admin_orgs(Server *s, Request *q) {
        _cleanup_json_ cJSON *rows = NULL, *answer = cJSON_CreateObject();
        uint32_t limit;
        int r;

        if (request_query_u32(q, "limit", LIST_DEFAULT, &limit) < 0)
                return request_error(q, 400, "bad_request", "limit must be a number");
        r = store_list(s->store, SQL_ORG_LIST, &rows, "si", (const char *) NULL, (int64_t) limit);
        if (r < 0)
                return r;
        return json_add_item(answer, "orgs", TAKE_PTR(rows)) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

int admin_org_token(Server *s, Request *q) {
        _cleanup_json_ cJSON *org = NULL;
        int r;

        r = store_get(s->store, SQL_ORG_BY_SLUG, &org, "s", q->parameter);
        if (r == -ENOENT)
                return request_error(q, 404, "org not found", NULL);
        if (r < 0)
                return r;
        cJSON_DeleteItemFromObjectCaseSensitive(org, "org_id");
        return request_answer(q, 200, TAKE_PTR(org));
}

/* Never an empty value: the other side applies what it gets. */
int tenant_config(Server *s, Request *q) {
        _cleanup_json_ cJSON *answer = cJSON_CreateObject();

        if (s->options->provision_secret && !json_add_string(answer, "MOLECULE_CP_SHARED_SECRET", s->options->provision_secret))
                return -ENOMEM;
        return json_add_string(answer, "MOLECULE_CP_URL", s->url) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

int org_instance(Server *s, Request *q) {
        _cleanup_json_ cJSON *org = NULL, *row = NULL, *answer = cJSON_CreateObject();
        int r;

        r = store_get(s->store, SQL_ORG_BY_SLUG, &org, "s", q->parameter);
        if (r == 0)
                r = store_get(s->store, SQL_ORG_LIST, &row, "si", q->parameter, (int64_t) 1);
        if (r == -ENOENT)
                return request_error(q, 404, "org not found", NULL);
        if (r < 0)
                return r;
        if (!json_add_string(answer, "slug", q->parameter) || !json_add_string(answer, "status", json_get_string(row, "instance_status")) ||
            !json_add_string(answer, "ip", NULL) || !json_add_string(answer, "org_id", json_get_string(row, "id")))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}
