/* SPDX-License-Identifier: Apache-2.0 */

/* The end of a tenant and of a host. A tenant is gone when each of its hosts has torn itself down and said so; only then its name is free and its token
 * worth nothing. A host that will never say so is revoked first: from then on it is answered 410. */

#include <errno.h>
#include <string.h>

#include "tests/devcp/jobs.h"
#include "tests/devcp/manage.h"
#include "tests/devcp/roll.h"

#define WAIT_USEC    (110 * USEC_PER_SEC)
#define LIST_DEFAULT 100

typedef struct Confirm {
        char *confirm;
} Confirm;

static void confirm_done(Confirm *c) { free(c->confirm); }

static const JsonField confirm_fields[] = { { "confirm", cJSON_String, json_set_string, offsetof(Confirm, confirm), JSON_REQUIRED, 64 }, {} };

/* 0, or 1 when answered: the word must be the path's. */
static int confirmed(Request *q) {
        _cleanup_(confirm_done) Confirm c = {};
        int r = request_body(q, confirm_fields, JSON_STRICT, &c, NULL);

        if (r != 0)
                return r;
        return str_equal(c.confirm, q->parameter) ? 0 : answered(request_error(q, 400, "bad_confirm", "confirm must be the tenant's slug"));
}

/* ── a tenant ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int answer_deleted(Request *q, const cJSON *purge) {
        _cleanup_json_ cJSON *answer = cJSON_CreateObject();

        if (!json_add_bool(answer, "deleted", true) || !json_add_string(answer, "slug", q->parameter) ||
            !json_add_string(answer, "purge_id", json_get_string(purge, "id")) || !json_add_string(answer, "org_id", json_get_string(purge, "org_id")))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}

/* The teardown of each host that is not revoked: ordered where there is none, or the last one failed. *ret_open: how many have not ended;
 * 1: answered, one failed after it was asked for in this very request (q->job_id is set). */
static int tear_down(Server *s, Request *q, const cJSON *purge, unsigned *ret_open) {
        _cleanup_json_ cJSON *hosts = NULL;
        const cJSON *host;
        int r = store_list(s->store, SQL_HOSTS_OF_ORG, &hosts, "s", json_get_string(purge, "org_id"));

        if (r < 0)
                return r;
        cJSON_ArrayForEach(host, hosts) {
                _cleanup_json_ cJSON *job = NULL, *report = NULL, *spec = NULL;
                const char *host_id = json_get_string(host, "host_id"), *final;
                char job_id[UUID_SIZE];

                r = store_get(s->store, SQL_TEARDOWN_OF, &job, "s", host_id);
                if (r < 0 && r != -ENOENT)
                        return r;
                final = json_get_string(job, "final");
                if (str_equal(final, "succeeded"))
                        continue;
                if (r == 0 && final && *q->job_id) {
                        (void) store_get(s->store, SQL_REPORT_GET, &report, "s", json_get_string(job, "final_report_id"));
                        return answered(job_answer_failure(q, job, report));
                }
                ++*ret_open;
                if (r == 0 && !final)
                        continue;
                spec = cJSON_CreateObject();
                if (!json_add_string(spec, "confirm", q->parameter))
                        return -ENOMEM;
                r = job_create(s, &(JobOrder){ .org_id = json_get_string(purge, "org_id"), .host_id = host_id, .type = "host.teardown", .spec = spec },
                               job_id, NULL);
                if (r < 0)
                        return r;
        }
        (void) strncpy(q->job_id, json_get_string(purge, "id"), UUID_SIZE - 1);
        return 0;
}

static int delete_look(Server *s, Request *q) {
        _cleanup_json_ cJSON *purge = NULL;
        char now[TIME_TEXT_SIZE];
        unsigned open = 0;
        int r = store_get(s->store, SQL_PURGE_OPEN, &purge, "s", q->parameter);

        if (r == 0)
                r = tear_down(s, q, purge, &open);
        if (r != 0)
                return r < 0 ? r : 0;
        if (open > 0)
                return now_boottime() < q->until ? request_park(q, json_get_string(purge, "org_id"), now_boottime() + USEC_PER_SEC, delete_look) : request_error(q, 504, "teardown_in_progress", "a host has not said that it is torn down; ask again");
        r = store_do(s->store, SQL_ORG_DELETE, "ss", json_get_string(purge, "org_id"), time_text(now_realtime(), now));
        if (r == 0)
                r = store_do(s->store, SQL_PURGE_DONE, "ss", json_get_string(purge, "id"), now);
        return r < 0 ? r : answer_deleted(q, purge);
}

int admin_tenant_delete(Server *s, Request *q) {
        _cleanup_json_ cJSON *org = NULL, *purge = NULL;
        char id[UUID_SIZE];
        int r = confirmed(q);

        if (r != 0)
                return r < 0 ? r : 0;
        r = store_get(s->store, SQL_ORG_BY_SLUG, &org, "s", q->parameter);
        if (r == -ENOENT)
                return request_error(q, 404, "org not found", NULL);
        if (r < 0)
                return r;
        if (roll_is_open(s))
                return request_error(q, 409, "roll_in_progress", "a roll is under way; cancel it, or wait for its end");
        r = store_get(s->store, SQL_PURGE_OPEN, &purge, "s", q->parameter);
        if (r == -ENOENT) {
                r = uuid_make(id);
                if (r == 0)
                        r = store_do(s->store, SQL_PURGE_ADD, "sss", id, q->parameter, json_get_string(org, "org_id"));
        }
        if (r < 0)
                return r;
        q->until = now_boottime() + WAIT_USEC;
        return delete_look(s, q);
}

int admin_purges(Server *s, Request *q) {
        _cleanup_json_ cJSON *rows = NULL, *answer = cJSON_CreateObject();
        uint32_t limit;
        int r;

        if (request_query_u32(q, "limit", LIST_DEFAULT, &limit) < 0)
                return request_error(q, 400, "bad_request", "limit must be a number");
        r = store_list(s->store, SQL_PURGE_LIST, &rows, "i", (int64_t) limit);
        if (r < 0)
                return r;
        return json_add_item(answer, "purges", TAKE_PTR(rows)) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

/* The remembered values of secrets of a tenant that was deleted: nothing is ever sealed anew for it. */
int admin_tenant_scrub(Server *s, Request *q) {
        _cleanup_json_ cJSON *purge = NULL, *answer = cJSON_CreateObject();
        int r = confirmed(q);

        if (r != 0)
                return r < 0 ? r : 0;
        r = store_get(s->store, SQL_PURGE_OF, &purge, "s", q->parameter);
        if (r == -ENOENT)
                return request_error(q, 404, "org not found", "only what is left of a deleted tenant is scrubbed");
        if (r == 0)
                r = store_do(s->store, SQL_SECRETS_SCRUB, "s", json_get_string(purge, "org_id"));
        if (r < 0)
                return r;
        if (!json_add_bool(answer, "scrubbed", true) || !json_add_string(answer, "slug", q->parameter))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}

/* ── a host ──────────────────────────────────────────────────────────────────────────────────────────────────── */

int host_delete(Server *s, Request *q) {
        _cleanup_json_ cJSON *host = NULL, *answer = cJSON_CreateObject();
        char now[TIME_TEXT_SIZE];
        int r = store_get(s->store, SQL_HOST_GET, &host, "s", q->parameter);

        if (r == -ENOENT)
                return request_error(q, 404, "not_found", NULL);
        if (r == 0)
                r = store_do(s->store, SQL_HOST_REVOKE, "ss", q->parameter, time_text(now_realtime(), now));
        if (r == 0)
                r = store_do(s->store, SQL_WORKSPACES_GONE, "s", q->parameter);
        if (r < 0)
                return r;
        server_wake(s, q->parameter);
        return json_add_bool(answer, "revoked", true) && json_add_string(answer, "host_id", q->parameter) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

/* ── what a tenant has ───────────────────────────────────────────────────────────────────────────────────────── */

int admin_org_workspaces(Server *s, Request *q) {
        _cleanup_json_ cJSON *org = NULL, *rows = NULL, *answer = cJSON_CreateObject();
        int r = store_get(s->store, SQL_ORG_BY_SLUG, &org, "s", q->parameter);

        if (r == -ENOENT)
                return request_error(q, 404, "org not found", NULL);
        if (r == 0)
                r = store_list(s->store, SQL_WORKSPACES_OF_ORG, &rows, "s", json_get_string(org, "org_id"));
        if (r < 0)
                return r;
        return json_add_item(answer, "workspaces", TAKE_PTR(rows)) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

/* Of the newest provision, whatever workspace it is for: stage and progress as the agent said them last. */
int org_provision_status(Server *s, Request *q) {
        _cleanup_json_ cJSON *org = NULL, *job = NULL, *report = NULL, *answer = cJSON_CreateObject();
        const char *final, *stage, *status;
        int r = store_get(s->store, SQL_ORG_BY_SLUG, &org, "s", q->parameter);

        if (r == 0)
                r = store_get(s->store, SQL_PROVISION_NEWEST, &job, "s", json_get_string(org, "org_id"));
        if (r == -ENOENT)
                return request_error(q, 404, org ? "no_provision" : "org not found", NULL);
        if (r == 0)
                r = store_get(s->store, SQL_REPORT_LAST, &report, "s", json_get_string(job, "job_id"));
        if (r < 0 && r != -ENOENT)
                return r;
        final = json_get_string(job, "final");
        status = !final ? "provisioning" : str_equal(final, "succeeded") ? "running"
                                                                         : "failed";
        stage = !final ? json_get_string(report, "body/stage") ?: "launching" : str_equal(final, "succeeded") ? "ready"
                                                                                                              : "failed";
        if (!json_add_string(answer, "status", status) || !json_add_string(answer, "stage", stage) ||
            !json_add_i64(answer, "progress", str_equal(final, "succeeded") ? 100 : json_get_i64(report, "body/progress", 0)) ||
            !json_add_string(answer, "message", json_get_string(report, "body/message") ?: "") || !cJSON_AddNullToObject(answer, "eta_seconds"))
                return -ENOMEM;
        if (str_equal(final, "succeeded") && json_get_string(report, "body/result/url") &&
            !json_add_string(answer, "url", json_get_string(report, "body/result/url")))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}
