/* SPDX-License-Identifier: Apache-2.0 */

/* The platform asks that an image be there before it stops anything: a job image.ensure on the workspace's host, and its outcome as the answer. And the
 * machine images by region, which only new hosts use. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "tests/devcp/jobs.h"
#include "tests/devcp/manage.h"

#define WAIT_USEC (15 * 60 * USEC_PER_SEC) /* the platform's restartPrewarmBudget */

typedef struct Ensure {
        char org_id[UUID_SIZE], workspace_id[UUID_SIZE];
        char *runtime, *words;
} Ensure;

static void ensure_done(Ensure *e) {
        free(e->runtime);
        free(e->words);
}

static const JsonField ensure_fields[] = {
        { "org_id", cJSON_String, json_set_uuid, offsetof(Ensure, org_id), JSON_REQUIRED },
        { "workspace_id", cJSON_String, json_set_uuid, offsetof(Ensure, workspace_id), JSON_REQUIRED },
        { "runtime", cJSON_String, json_set_string, offsetof(Ensure, runtime), JSON_REQUIRED, 64 },
        { "template", cJSON_String, json_set_text, offsetof(Ensure, words), JSON_OPTIONAL },
        { "provider", cJSON_String, json_set_text, offsetof(Ensure, words), JSON_OPTIONAL, 64 },
        {}
};

static int look(Server *s, Request *q) {
        _cleanup_json_ cJSON *job = NULL, *report = NULL, *spec = NULL, *answer = cJSON_CreateObject();
        int r = job_outcome(s, q->job_id, &job, &report);

        if (r == -EAGAIN)
                return now_boottime() < q->until ? request_park(q, q->key, q->until, look) : request_error(q, 504, "ensure_in_progress", "the image is not there yet; ask again");
        if (r == 0 && !str_equal(json_get_string(job, "final"), "succeeded"))
                return job_answer_failure(q, job, report);
        if (r == 0)
                r = job_spec(s, q->job_id, &spec);
        if (r < 0)
                return r;
        if (!json_add_string(answer, "status", "ready") || !json_add_string(answer, "image_ref", json_get_string(spec, "image_ref")))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}

/* 0 with where, and which image; 1: answered. */
static int place(Server *s, Request *q, const Ensure *e, cJSON **ret_host, cJSON **ret_pin) {
        _cleanup_json_ cJSON *workspace = NULL;
        const char *at;
        int r = store_get(s->store, SQL_WORKSPACE_GET, &workspace, "s", e->workspace_id);

        if (r < 0 && r != -ENOENT)
                return r;
        if (r == 0 && !str_equal(json_get_string(workspace, "org_id"), q->org_id))
                return answered(request_error(q, 404, "not_found", NULL));
        at = json_get_string(workspace, "host_id");
        r = at ? store_get(s->store, SQL_HOST_GET, ret_host, "s", at) : store_get(s->store, SQL_HOST_NEWEST, ret_host, "s", q->org_id);
        if (r == -ENOENT) {
                q->retry_after = 5;
                return answered(request_error(q, 503, "no_host", "the organization has no host yet"));
        }
        if (r == 0)
                r = store_get(s->store, SQL_PIN_FOR, ret_pin, "ss", e->runtime, json_get_string(*ret_host, "region"));
        if (r == -ENOENT)
                return answered(request_error(q, 422, fault_code_name(FAULT_RUNTIME_PIN_MISSING), "no pin names an image for the runtime"));
        return r;
}

int workspace_ensure_image(Server *s, Request *q) {
        _cleanup_(ensure_done) Ensure e = {};
        _cleanup_json_ cJSON *host = NULL, *pin = NULL, *spec = cJSON_CreateObject();
        int r = request_body(q, ensure_fields, JSON_STRICT, &e, NULL);

        if (r != 0)
                return r < 0 ? r : 0;
        if (!str_equal(e.org_id, q->org_id))
                return request_error(q, 403, "wrong_tenant", "org_id is not the organization of the admin token");
        r = place(s, q, &e, &host, &pin);
        if (r != 0)
                return r < 0 ? r : 0;
        if (!json_add_string(spec, "image_ref", json_get_string(pin, "image_ref")))
                return -ENOMEM;
        r = job_create(s, &(JobOrder){ .org_id = q->org_id, .host_id = json_get_string(host, "host_id"), .type = "image.ensure", .spec = spec },
                       q->job_id, NULL);
        if (r < 0)
                return r;
        q->until = now_boottime() + WAIT_USEC;
        return request_park(q, q->job_id, q->until, look);
}

/* ── machine images ──────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Ami {
        char *region, *ami_id, *notes;
} Ami;

static void ami_done(Ami *a) {
        free(a->region);
        free(a->ami_id);
        free(a->notes);
}

static const JsonField ami_fields[] = {
        { "region", cJSON_String, json_set_string, offsetof(Ami, region), JSON_REQUIRED, 64 },
        { "ami_id", cJSON_String, json_set_string, offsetof(Ami, ami_id), JSON_REQUIRED, 128 },
        { "notes", cJSON_String, json_set_text, offsetof(Ami, notes), JSON_OPTIONAL, 500 },
        {}
};

int admin_thin_ami(Server *s, Request *q) {
        _cleanup_json_ cJSON *rows = NULL, *answer = cJSON_CreateObject();
        int r = store_list(s->store, SQL_AMI_LIST, &rows, "");

        if (r < 0)
                return r;
        return json_add_item(answer, "pins", TAKE_PTR(rows)) ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

int admin_thin_ami_promote(Server *s, Request *q) {
        _cleanup_(ami_done) Ami a = {};
        _cleanup_json_ cJSON *before = NULL, *row = NULL;
        char now[TIME_TEXT_SIZE], actor[ACTOR_SIZE];
        int r = request_body(q, ami_fields, JSON_STRICT, &a, NULL), known;

        if (r != 0)
                return r < 0 ? r : 0;
        if (strncmp(a.ami_id, "ami-", 4) != 0)
                return request_error(q, 400, "bad_request", "ami_id must begin with ami-");
        known = store_get(s->store, SQL_AMI_GET, &before, "s", a.region);
        if (known < 0 && known != -ENOENT)
                return known;
        r = store_do(s->store, SQL_AMI_PUT, "sssss", a.region, a.ami_id, a.notes ?: "", operator_name(s, actor), time_text(now_realtime(), now));
        if (r == 0)
                r = store_get(s->store, SQL_AMI_GET, &row, "s", a.region);
        if (r < 0)
                return r;
        server_wake(s, NULL);
        return request_answer(q, known == 0 ? 200 : 201, TAKE_PTR(row));
}
