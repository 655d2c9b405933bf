/* SPDX-License-Identifier: Apache-2.0 */

/* The platform asks for a workspace and waits for the answer. Its request becomes the whole wanted state in one job; what the agent itself
 * judges (env names, file names, tiers) is left to the agent, whose refusal becomes the answer. Only its secrets are sealed on the way.
 *
 * A retry with the same idempotency_key never makes a second job: it is told to wait, or gets the outcome of the first. The outcome is not
 * stored beside the key, it is looked up: a job's final word does not change. */

#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "tests/devcp/keys.h"
#include "tests/devcp/manage.h"
#include "tests/devcp/seal.h"

#define WAIT_USEC            (20 * 60 * USEC_PER_SEC)  /* the platform's own patience */
#define CONFIG_FILES_MAX     (256 * 1024)
#define TEMPLATE_ASSETS_MAX  (16 * 1024 * 1024)

typedef struct Provision {
        char     org_id[UUID_SIZE], workspace_id[UUID_SIZE];
        char    *idempotency_key, *runtime, *platform_url, *data_persistence, *kind, *words, *mode;
        uint32_t tier, disk_gb, number;
} Provision;

static void provision_done(Provision *p) {
        free(p->idempotency_key);
        free(p->runtime);
        free(p->platform_url);
        free(p->data_persistence);
        free(p->kind);
        free(p->words);
        free(p->mode);
}

/* --- the request's form ----------------------------------------------------------------------------------------------------------- */

static int set_runtime(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        if (!runtime_is_valid(cJSON_GetStringValue(v)))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is no runtime's name", f->name);
        return json_set_string(f, v, place, reterr);
}

/* http or https to a host, nothing in front of the host: user info hides where a URL really goes. */
static int set_url(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *s = cJSON_GetStringValue(v), *host = s;

        if (strncmp(s, "https://", 8) == 0)
                host += 8;
        else if (strncmp(s, "http://", 7) == 0)
                host += 7;
        if (host == s || strcspn(host, "/?#") == 0 || strcspn(host, "@") < strcspn(host, "/?#"))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is no http(s) URL, or has user info", f->name);
        return json_set_string(f, v, place, reterr);
}

/* arg: the words allowed, separated by '|', the empty one always. */
static int set_word(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *s = cJSON_GetStringValue(v), *p = f->arg;
        size_t n;

        for (; *s && *p; p += n + (p[n] == '|')) {
                n = strcspn(p, "|");
                if (strlen(s) == n && strncmp(s, p, n) == 0)
                        return json_set_text(f, v, place, reterr);
        }
        return *s ? fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is none of %s", f->name, (const char *) f->arg) :
                    json_set_text(f, v, place, reterr);
}

static int check_env(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const cJSON *item;

        (void) place;
        cJSON_ArrayForEach(item, v)
                if (!cJSON_IsString(item))
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s': '%.64s' is not a string", f->name, item->string);
        return 0;
}

/* max: bytes decoded, of all files together. */
static int check_files(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const cJSON *item;
        size_t left = f->max, size;
        int r;

        (void) place;
        cJSON_ArrayForEach(item, v) {
                _cleanup_free_ uint8_t *bytes = NULL;
                const char *text = cJSON_GetStringValue(item);

                r = text ? base64_decode(text, left, &bytes, &size) : -EBADMSG;
                if (r == -EFBIG)
                        return fault(reterr, r, FAULT_TOO_LARGE, "field '%s' holds more than %lu bytes", f->name, (unsigned long) f->max);
                if (r < 0)
                        return fault(reterr, r, FAULT_BAD_JSON, "field '%s': '%.64s' is not base64", f->name, item->string);
                left -= size;
        }
        return 0;
}

static const JsonField display_fields[] = {
        { "mode",     cJSON_String, json_set_text, offsetof(Provision, mode),   JSON_OPTIONAL, 64 },
        { "protocol", cJSON_String, json_set_text, offsetof(Provision, words),  JSON_OPTIONAL, 64 },
        { "width",    cJSON_Number, json_set_u32,  offsetof(Provision, number), JSON_OPTIONAL, 3840 },
        { "height",   cJSON_Number, json_set_u32,  offsetof(Provision, number), JSON_OPTIONAL, 2160 },
        {}
};

static int check_display(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        int r = json_dispatch(v, display_fields, JSON_STRICT, place, reterr);

        return r < 0 ? fault_prefix(reterr, r, "field '%s': ", f->name) : 0;
}

static const JsonField provision_fields[] = {
        { "org_id",           cJSON_String, json_set_uuid,   offsetof(Provision, org_id),           JSON_REQUIRED },
        { "workspace_id",     cJSON_String, json_set_uuid,   offsetof(Provision, workspace_id),     JSON_REQUIRED },
        { "idempotency_key",  cJSON_String, json_set_string, offsetof(Provision, idempotency_key),  JSON_OPTIONAL, 128 },
        { "runtime",          cJSON_String, set_runtime,     offsetof(Provision, runtime),          JSON_REQUIRED },
        { "template",         cJSON_String, json_set_text,   offsetof(Provision, words),            JSON_OPTIONAL },
        { "tier",             cJSON_Number, json_set_u32,    offsetof(Provision, tier),             JSON_OPTIONAL, 4 },
        { "instance_type",    cJSON_String, json_set_text,   offsetof(Provision, words),            JSON_OPTIONAL, 128 },
        { "disk_gb",          cJSON_Number, json_set_u32,    offsetof(Provision, disk_gb),          JSON_OPTIONAL, INT32_MAX },
        { "provider",         cJSON_String, json_set_text,   offsetof(Provision, words),            JSON_OPTIONAL, 64 },
        { "data_persistence", cJSON_String, set_word,        offsetof(Provision, data_persistence), JSON_OPTIONAL, 0, "persist|ephemeral" },
        { "kind",             cJSON_String, set_word,        offsetof(Provision, kind),             JSON_OPTIONAL, 0, "platform" },
        { "display",          cJSON_Object, check_display,   0,                                     JSON_OPTIONAL },
        { "platform_url",     cJSON_String, set_url,         offsetof(Provision, platform_url),     JSON_REQUIRED, 2048 },
        { "env",              cJSON_Object, check_env,       0,                                     JSON_REQUIRED },
        { "config_files",     cJSON_Object, check_files,     0,                                     JSON_OPTIONAL, CONFIG_FILES_MAX },
        { "template_assets",  cJSON_Object, check_files,     0,                                     JSON_OPTIONAL, TEMPLATE_ASSETS_MAX },
        {}
};

/* What is left of the request is the wanted state. */
static void become_spec(cJSON *body) {
        static const char *const addressing[] = { "org_id", "workspace_id", "idempotency_key" };

        for (size_t i = 0; i < ELEMENTS(addressing); i++)
                cJSON_DeleteItemFromObjectCaseSensitive(body, addressing[i]);
}

/* --- the answer ------------------------------------------------------------------------------------------------------------------- */

static int answer_success(Request *q, const cJSON *job, const cJSON *report) {
        static const char *const fields[] = { "instance_id", "private_ip", "state", "runtime", "url" };
        _cleanup_json_ cJSON *answer = cJSON_CreateObject();
        const cJSON *result = json_get_path(report, "body/result");
        bool ok = json_add_string(answer, "workspace_id", json_get_string(job, "workspace_id"));

        for (size_t i = 0; i < ELEMENTS(fields); i++)
                ok = ok && json_add_string(answer, fields[i], json_get_string(result, fields[i]));
        return ok ? request_answer(q, 201, TAKE_PTR(answer)) : -ENOMEM;
}

/* -EAGAIN while there is none. */
static int answer_outcome(Server *s, Request *q) {
        _cleanup_json_ cJSON *job = NULL, *report = NULL;
        int r;

        r = job_outcome(s, q->job_id, &job, &report);
        if (r < 0)
                return r;
        if (!str_equal(json_get_string(job, "final"), "succeeded"))
                return job_answer_failure(q, job, report);
        if (str_equal(json_get_string(job, "type"), "workspace.deprovision"))
                return request_error(q, 409, "superseded", "the workspace was deprovisioned meanwhile");
        return answer_success(q, job, report);
}

static int provision_look(Server *s, Request *q) {
        int r = answer_outcome(s, q);

        if (r != -EAGAIN)
                return r;
        if (now_boottime() >= q->until)
                return request_error(q, 409, "provision_in_progress", "not ended yet; ask again with the same idempotency_key");
        return request_park(q, q->key, q->until, provision_look);
}

/* 0: a new request; 1: answered, it came before. */
static int check_key(Server *s, Request *q, const Provision *p, const char *hash) {
        _cleanup_json_ cJSON *row = NULL;
        int r;

        if (!p->idempotency_key)
                return 0;
        r = store_get(s->store, SQL_KEY_GET, &row, "ss", q->org_id, p->idempotency_key);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (str_equal(json_get_string(row, "body_hash"), hash)) {
                (void) strncpy(q->job_id, json_get_string(row, "job_id"), UUID_SIZE - 1);
                r = answer_outcome(s, q);
                if (r == -EAGAIN)
                        r = request_error(q, 409, "provision_in_progress", NULL);
        } else
                r = request_error(q, 409, "idempotency_key_conflict", "the key came with another body before");
        return answered(r);
}

/* The host that has the workspace, else the tenant's most recently seen one. 0; 1: answered. */
static int place(Server *s, Request *q, const Provision *p, cJSON **ret_host) {
        _cleanup_json_ cJSON *workspace = NULL, *host = NULL, *pin = NULL;
        const char *at;
        int r;

        r = store_get(s->store, SQL_WORKSPACE_GET, &workspace, "s", p->workspace_id);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r == 0 && !str_equal(json_get_string(workspace, "org_id"), q->org_id))
                return answered(request_error(q, 409, "workspace_id_in_use", NULL));
        at = json_get_string(workspace, "host_id");
        r = at ? store_get(s->store, SQL_HOST_GET, &host, "s", at) : store_get(s->store, SQL_HOST_NEWEST, &host, "s", q->org_id);
        if (r == -ENOENT) {
                q->retry_after = 5;
                return answered(request_error(q, 503, "no_host", "the organization has no host yet"));
        }
        if (r == 0)
                r = store_get(s->store, SQL_PIN_FOR, &pin, "ss", p->runtime, json_get_string(host, "region"));
        if (r == -ENOENT)
                return answered(request_error(q, 422, fault_code_name(FAULT_RUNTIME_PIN_MISSING), "no pin names an image for the runtime"));
        if (r == 0)
                *ret_host = TAKE_PTR(host);
        return r;
}

/* Takes the secrets out of the spec for a host that can open them. */
static int order(Server *s, Request *q, const Provision *p, cJSON *spec, const char *host_id, Fault *reterr) {
        _cleanup_json_ cJSON *key = NULL, *secrets = NULL;
        int r;

        r = key_get(s, host_id, &key);
        if (r == 0 && key)
                r = seal_split(spec, &secrets);
        if (r == 0)
                r = store_do(s->store, SQL_WORKSPACE_ADD, "ssss", p->workspace_id, q->org_id, host_id, "provisioning");
        if (r == 0)
                r = store_do(s->store, SQL_WORKSPACE_PLACE, "ss", p->workspace_id, host_id);
        if (r < 0)
                return r;
        return job_create(s, &(JobOrder) {
                .org_id = q->org_id,
                .host_id = host_id,
                .type = "workspace.provision",
                .workspace_id = p->workspace_id,
                .spec = spec,
                .secrets = secrets,
        }, q->job_id, reterr);
}

int workspace_provision(Server *s, Request *q) {
        _cleanup_(provision_done) Provision p = {};
        _cleanup_json_ cJSON *body = NULL, *host = NULL;
        char hash[HASH_TEXT_SIZE];
        Fault f = {};
        int r;

        r = request_body(q, provision_fields, JSON_STRICT, &p, &body);
        if (r != 0)
                return r < 0 ? r : 0;
        if (!str_equal(p.org_id, q->org_id))
                return request_error(q, 403, "wrong_tenant", "org_id is not the organization of the admin token");
        hash_text(q->body, q->size, hash);
        r = check_key(s, q, &p, hash);
        if (r == 0)
                r = place(s, q, &p, &host);
        if (r != 0)
                return r < 0 ? r : 0;

        become_spec(body);
        r = order(s, q, &p, body, json_get_string(host, "host_id"), &f);
        if (r == -EFBIG)
                return request_fault(q, 413, &f);
        if (r == 0 && p.idempotency_key)
                r = store_do(s->store, SQL_KEY_ADD, "ssss", q->org_id, p.idempotency_key, hash, q->job_id);
        if (r < 0)
                return r;
        q->until = now_boottime() + WAIT_USEC;
        return request_park(q, p.workspace_id, q->until, provision_look);
}
