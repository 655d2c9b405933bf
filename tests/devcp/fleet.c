/* SPDX-License-Identifier: Apache-2.0 */

/* The platform's fleet operations: who is rolled, in which order, and how the answer waits for the end. What a roll does is roll.c's business. */

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "tests/devcp/manage.h"
#include "tests/devcp/resolve.h"
#include "tests/devcp/roll.h"

#define WAIT_USEC (590 * USEC_PER_SEC) /* a little less than the platform's 600 s */
#define FLEET_MAX 1000

typedef struct Fleet {
        char *target_tag, *canary_slug;
        cJSON *only_slugs;
        uint32_t soak_seconds, batch_size, max_stragglers;
        bool dry_run, confirm;
} Fleet;

static void fleet_done(Fleet *f) {
        free(f->target_tag);
        free(f->canary_slug);
        cJSON_Delete(f->only_slugs);
}

/* A tag's grammar: nothing that could leave its place in a URL. */
static int set_tag(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *s = cJSON_GetStringValue(v);

        for (const char *p = s; *p; p++)
                if (!isalnum((unsigned char) *p) && *p != '_' && (p == s || (*p != '.' && *p != '-')))
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is no tag", f->name);
        return json_set_string(f, v, place, reterr);
}

static int set_slugs(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const cJSON *item;

        cJSON_ArrayForEach(item, v) if (!cJSON_IsString(item)) return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' holds something other than slugs", f->name);
        return json_set_value(f, v, place, reterr);
}

static const JsonField fleet_fields[] = {
        { "target_tag", cJSON_String, set_tag, offsetof(Fleet, target_tag), JSON_NULLABLE, 128 },
        { "canary_slug", cJSON_String, json_set_string, offsetof(Fleet, canary_slug), JSON_NULLABLE, 32 },
        { "soak_seconds", cJSON_Number, json_set_u32, offsetof(Fleet, soak_seconds), JSON_OPTIONAL, 86400 },
        { "batch_size", cJSON_Number, json_set_u32, offsetof(Fleet, batch_size), JSON_OPTIONAL, FLEET_MAX },
        { "max_stragglers", cJSON_Number, json_set_u32, offsetof(Fleet, max_stragglers), JSON_OPTIONAL, FLEET_MAX },
        { "dry_run", cJSON_True | cJSON_False, json_set_bool, offsetof(Fleet, dry_run), JSON_OPTIONAL },
        { "confirm", cJSON_True | cJSON_False, json_set_bool, offsetof(Fleet, confirm), JSON_OPTIONAL },
        { "only_slugs", cJSON_Array, set_slugs, offsetof(Fleet, only_slugs), JSON_OPTIONAL },
        {}
},
                       tenant_fields[] = { { "target_tag", cJSON_String, set_tag, offsetof(Fleet, target_tag), JSON_NULLABLE, 128 }, { "dry_run", cJSON_True | cJSON_False, json_set_bool, offsetof(Fleet, dry_run), JSON_OPTIONAL }, {} };

/* ── who ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_scoped(const Fleet *f) { return cJSON_GetArraySize(f->only_slugs) > 0; }
static bool is_ephemeral(const char *slug) { return strncmp(slug, "e2e-", 4) == 0 || strncmp(slug, "rt-e2e-", 7) == 0; }

/* Every tenant that is no test's, the canary first. */
static int all_slugs(Server *s, const Fleet *f, cJSON *ret, bool *ret_canary) {
        _cleanup_json_ cJSON *rows = NULL;
        const cJSON *row;
        int r = store_list(s->store, SQL_ORG_LIST, &rows, "si", (const char *) NULL, (int64_t) FLEET_MAX);

        if (r < 0)
                return r;
        for (int canary = 1; canary >= 0; canary--)
                cJSON_ArrayForEach(row, rows) {
                        const char *slug = json_get_string(row, "slug");

                        if (str_equal(slug, f->canary_slug) != (bool) canary || is_ephemeral(slug))
                                continue;
                        *ret_canary |= canary;
                        if (!cJSON_AddItemToArray(ret, cJSON_CreateString(slug)))
                                return -ENOMEM;
                }
        return 0;
}

/* 0; 1: answered. */
static int choose(Server *s, Request *q, const Fleet *f, cJSON *ret, bool *ret_canary) {
        const cJSON *item;
        int r;

        if (!is_scoped(f)) {
                r = all_slugs(s, f, ret, ret_canary);
                if (r == 0 && f->canary_slug && !*ret_canary)
                        return answered(request_error(q, 400, "unknown_slug", "canary_slug is no tenant of the fleet"));
                return r < 0 ? r : cJSON_GetArraySize(ret) > 0 ? 0
                                                               : answered(request_error(q, 400, "empty_scope", "there is no tenant"));
        }
        cJSON_ArrayForEach(item, f->only_slugs) {
                _cleanup_json_ cJSON *org = NULL;

                r = store_get(s->store, SQL_ORG_BY_SLUG, &org, "s", cJSON_GetStringValue(item));
                if (r == -ENOENT)
                        return answered(request_error(q, 400, "unknown_slug", "only_slugs names what is no tenant"));
                if (r < 0)
                        return r;
                if (!cJSON_AddItemToArray(ret, cJSON_Duplicate(item, true)))
                        return -ENOMEM;
        }
        return 0;
}

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int answer_plan(Server *s, Request *q, const cJSON *slugs, const cJSON *images) {
        _cleanup_json_ cJSON *answer = cJSON_CreateObject();
        cJSON *results = cJSON_CreateArray();
        const cJSON *slug;

        cJSON_ArrayForEach(slug, slugs) {
                _cleanup_json_ cJSON *tenant = roll_tenant(s, cJSON_GetStringValue(slug));

                if (!tenant || !cJSON_AddItemToArray(results, roll_result(tenant, true)))
                        return -ENOMEM;
        }
        if (!json_add_bool(answer, "ok", true) || !json_add_bool(answer, "dry_run", true) || !json_add_item(answer, "results", results) ||
            !json_add_item(answer, "images", cJSON_Duplicate(images, true)) || !json_add_string(answer, "error", NULL) ||
            !json_add_item(answer, "stragglers", cJSON_CreateArray()))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}

static cJSON *roll_view(const cJSON *roll) {
        static const char *const same[] = { "roll_id", "state", "target_tag", "images", "error", "stragglers", "pins_moved" };
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *results = cJSON_CreateArray();
        const cJSON *t;

        cJSON_ArrayForEach(t, json_get(roll, "tenants")) if (!cJSON_AddItemToArray(results, roll_result(t, false))) return NULL;
        for (size_t i = 0; i < ELEMENTS(same); i++)
                if (!json_add_item(json, same[i], cJSON_Duplicate(json_get(roll, same[i]), true)))
                        return NULL;
        if (!json_add_bool(json, "ok", str_equal(json_get_string(roll, "state"), "succeeded")) || !json_add_item(json, "results", results))
                return NULL;
        return TAKE_PTR(json);
}

static int wait_for_roll(Server *s, Request *q) {
        _cleanup_json_ cJSON *roll = NULL;
        int r = roll_get(s, q->job_id, &roll);

        if (r < 0)
                return r;
        if (!str_equal(json_get_string(roll, "state"), "running"))
                return request_answer(q, str_equal(json_get_string(roll, "state"), "succeeded") ? 200 : 500, roll_view(roll));
        if (now_boottime() >= q->until)
                return request_error(q, 504, "roll_in_progress", q->job_id);
        return request_park(q, q->job_id, q->until, wait_for_roll);
}

/* ── begin ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static int pinned_images(Server *s, cJSON **ret) {
        _cleanup_json_ cJSON *rows = NULL, *images = cJSON_CreateObject();
        const cJSON *row;
        int r = store_list(s->store, SQL_PIN_LIST, &rows, "");

        if (r < 0)
                return r;
        cJSON_ArrayForEach(row, rows) if (str_equal(json_get_string(row, "region"), "global") &&
                                          !json_add_string(images, json_get_string(row, "template_name"), json_get_string(row, "image_ref"))) return -ENOMEM;
        *ret = TAKE_PTR(images);
        return 0;
}

static int begin(Server *s, Request *q, const Fleet *f, const cJSON *images, bool wait) {
        _cleanup_json_ cJSON *slugs = cJSON_CreateArray(), *answer = NULL;
        bool canary = false, scoped = is_scoped(f);
        int r = choose(s, q, f, slugs, &canary);

        if (r != 0)
                return r < 0 ? r : 0;
        if (cJSON_GetArraySize(images) == 0)
                return request_error(q, 422, fault_code_name(FAULT_RUNTIME_PIN_MISSING), "no runtime has a pin");
        if (f->dry_run)
                return answer_plan(s, q, slugs, images);
        r = roll_begin(s, &(RollPlan){ .target_tag = f->target_tag, .images = images, .slugs = slugs, .canary = canary, .scoped = scoped, .soak_seconds = scoped ? 0 : f->soak_seconds, .batch_size = scoped ? (uint32_t) cJSON_GetArraySize(slugs) : f->batch_size, .max_stragglers = f->max_stragglers }, q->job_id);
        if (r == -EBUSY)
                return request_error(q, 409, "roll_in_progress", "another roll is under way");
        if (r < 0)
                return r;
        q->until = now_boottime() + WAIT_USEC;
        if (wait)
                return request_park(q, q->job_id, q->until, wait_for_roll);
        answer = cJSON_CreateObject();
        if (!json_add_bool(answer, "ok", true) || !json_add_bool(answer, "dispatched", true) || !json_add_string(answer, "roll_id", q->job_id))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}

/* The body again: a request that waits keeps nothing but its own bytes. */
static int read_fleet(Request *q, bool one, Fleet *f) {
        *f = (Fleet){ .soak_seconds = 60, .batch_size = 3, .max_stragglers = 1 };
        int r = request_body(q, one ? tenant_fields : fleet_fields, JSON_STRICT, f, NULL);

        if (r == 0 && one) {
                f->only_slugs = cJSON_CreateArray();
                f->max_stragglers = 0;
                r = cJSON_AddItemToArray(f->only_slugs, cJSON_CreateString(q->parameter)) ? 0 : -ENOMEM;
        }
        return r;
}

static int resolved(Server *s, Request *q, bool one, Handler again) {
        _cleanup_(fleet_done) Fleet f = {};
        _cleanup_json_ cJSON *images = NULL;
        Fault why = {};
        int r = resolve_end(s, q->job_id, &images, &why);

        if (r == -EAGAIN)
                return request_park(q, q->key, q->until, again);
        if (r < 0)
                return request_fault(q, why.code == FAULT_IMAGE_NOT_FOUND ? 422 : 502, &why);
        r = read_fleet(q, one, &f);
        return r != 0 ? (r < 0 ? r : 0) : begin(s, q, &f, images, !one);
}

static int fleet_resolved(Server *s, Request *q) { return resolved(s, q, false, fleet_resolved); }
static int tenant_resolved(Server *s, Request *q) { return resolved(s, q, true, tenant_resolved); }

static int start(Server *s, Request *q, const Fleet *f, bool one) {
        _cleanup_json_ cJSON *images = NULL;
        Fault why = {};
        int r;

        if (!f->dry_run && roll_is_open(s))
                return request_error(q, 409, "roll_in_progress", "another roll is under way");
        if (!f->target_tag) {
                r = pinned_images(s, &images);
                return r < 0 ? r : begin(s, q, f, images, !one);
        }
        r = resolve_begin(s, f->target_tag, q->job_id, &why);
        if (r < 0)
                return why.set ? request_fault(q, 422, &why) : r;
        q->until = now_boottime() + 60 * USEC_PER_SEC;
        return request_park(q, q->job_id, q->until, one ? tenant_resolved : fleet_resolved);
}

int admin_redeploy_fleet(Server *s, Request *q) {
        _cleanup_(fleet_done) Fleet f = {};
        int r = read_fleet(q, false, &f);

        if (r != 0)
                return r < 0 ? r : 0;
        if (!is_scoped(&f) && !f.confirm && !f.dry_run)
                return request_error(q, 400, "confirm_required", "the whole fleet wants confirm: true, or only_slugs with a tenant in it");
        if (f.only_slugs && !is_scoped(&f))
                return request_error(q, 400, "empty_scope", "only_slugs is empty");
        if (f.batch_size == 0)
                return request_error(q, 400, "bad_request", "batch_size must be 1 or more");
        return start(s, q, &f, false);
}

int admin_redeploy(Server *s, Request *q) {
        _cleanup_(fleet_done) Fleet f = {};
        _cleanup_json_ cJSON *org = NULL;
        int r = store_get(s->store, SQL_ORG_BY_SLUG, &org, "s", q->parameter);

        if (r == -ENOENT)
                return request_error(q, 404, "org not found", NULL);
        if (r == 0)
                r = read_fleet(q, true, &f);
        return r != 0 ? (r < 0 ? r : 0) : start(s, q, &f, true);
}

/* ── rolls ───────────────────────────────────────────────────────────────────────────────────────────────────── */

int admin_roll(Server *s, Request *q) {
        _cleanup_json_ cJSON *roll = NULL;
        int r = roll_get(s, q->parameter, &roll);

        return r == -ENOENT ? request_error(q, 404, "not_found", NULL) : r < 0 ? r
                                                                               : request_answer(q, 200, roll_view(roll));
}

int admin_roll_cancel(Server *s, Request *q) {
        int r = roll_cancel(s, q->parameter);

        if (r == -ENOENT)
                return request_error(q, 404, "not_found", NULL);
        if (r == -EALREADY)
                return request_error(q, 409, "roll_ended", "the roll has ended");
        return r < 0 ? r : admin_roll(s, q);
}
