/* SPDX-License-Identifier: Apache-2.0 */

/* Another env for a workspace that is there: arithmetic on its wanted state, which becomes one provision at the next generation. Nothing is patched on the
 * host, so what runs, what is wanted and what a reissue would bring are the same. The answer names keys and never a value. */

#include <errno.h>
#include <string.h>

#include "tests/devcp/jobs.h"
#include "tests/devcp/keys.h"
#include "tests/devcp/manage.h"
#include "tests/devcp/reissue.h"
#include "tests/devcp/seal.h"

#define WAIT_USEC (20 * 60 * USEC_PER_SEC)

typedef struct Env {
        cJSON *env;
        bool merge, force;
} Env;

static void env_done(Env *e) { cJSON_Delete(e->env); }

static int set_env(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const cJSON *item;

        if (!v->child)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' names no key", f->name);
        cJSON_ArrayForEach(item, v) if (!cJSON_IsString(item)) return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s': '%.64s' is not a string", f->name, item->string);
        return json_set_value(f, v, place, reterr);
}

static const JsonField env_fields[] = {
        { "env", cJSON_Object, set_env, offsetof(Env, env), JSON_REQUIRED },
        { "merge", cJSON_True | cJSON_False, json_set_bool, offsetof(Env, merge), JSON_OPTIONAL },
        { "force", cJSON_True | cJSON_False, json_set_bool, offsetof(Env, force), JSON_OPTIONAL },
        {}
};

/* ── arithmetic ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* Each key of more takes the place of that in env; without merge env was emptied before. True: env is another one now. */
static int apply(cJSON *env, const Env *e, bool *ret_changed) {
        _cleanup_json_ cJSON *before = cJSON_Duplicate(env, true);
        const cJSON *item;

        if (!before)
                return -ENOMEM;
        if (!e->merge)
                while (env->child)
                        cJSON_Delete(cJSON_DetachItemViaPointer(env, env->child));
        cJSON_ArrayForEach(item, e->env) {
                cJSON_DeleteItemFromObjectCaseSensitive(env, item->string);
                if (!json_add_string(env, item->string, cJSON_GetStringValue(item)))
                        return -ENOMEM;
        }
        *ret_changed = !cJSON_Compare(before, env, true);
        return 0;
}

static cJSON *keys_of(const cJSON *object) {
        cJSON *list = cJSON_CreateArray();
        const cJSON *item;

        cJSON_ArrayForEach(item, object) if (list && item->string && !cJSON_AddItemToArray(list, cJSON_CreateString(item->string))) return NULL;
        return list;
}

/* ── the answer ──────────────────────────────────────────────────────────────────────────────────────────────── */

static int answer(Request *q, const cJSON *workspace, bool restarted, const cJSON *applied, const cJSON *after) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json_add_bool(json, "ok", true) || !json_add_string(json, "workspace_id", json_get_string(workspace, "workspace_id")) ||
            !json_add_string(json, "instance_id", json_get_string(workspace, "instance_id")) || !json_add_string(json, "ssm_status", "Success") ||
            !json_add_i64(json, "ssm_exit_code", 0) || !json_add_bool(json, "container_restarted", restarted) ||
            !json_add_item(json, "applied_keys", keys_of(applied)) || !json_add_item(json, "env_keys_after", keys_of(after)))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(json));
}

/* Spec and secrets of what is wanted, as one env. *ret_env is a part of *ret_spec. */
static int wanted(Server *s, const char *workspace_id, cJSON **ret_spec, cJSON **ret_env) {
        _cleanup_json_ cJSON *row = NULL, *spec = NULL, *secrets = NULL;
        int r = store_get(s->store, SQL_WANTED_OF, &row, "s", workspace_id);

        if (r == 0 && !str_equal(json_get_string(row, "type"), "workspace.provision"))
                r = -ENOENT;
        if (r == 0)
                r = job_spec(s, json_get_string(row, "job_id"), &spec);
        if (r == 0)
                r = seal_recall(s, json_get_string(row, "job_id"), spec, &secrets);
        if (r == 0)
                r = restore_env(spec, secrets);
        if (r < 0)
                return r;
        *ret_env = cJSON_GetObjectItemCaseSensitive(spec, "env");
        *ret_spec = TAKE_PTR(spec);
        return 0;
}

static int look(Server *s, Request *q) {
        _cleanup_(env_done) Env e = { .merge = true };
        _cleanup_json_ cJSON *job = NULL, *report = NULL, *workspace = NULL, *spec = NULL;
        cJSON *env = NULL;
        int r = job_outcome(s, q->job_id, &job, &report);

        if (r == -EAGAIN)
                return now_boottime() < q->until ? request_park(q, q->key, q->until, look) : request_error(q, 504, "provision_in_progress", "not ended yet; look at the workspace's status");
        if (r < 0)
                return r;
        if (!str_equal(json_get_string(job, "final"), "succeeded"))
                return job_answer_failure(q, job, report);
        r = request_body(q, env_fields, JSON_STRICT, &e, NULL);
        if (r == 0)
                r = store_get(s->store, SQL_WORKSPACE_GET, &workspace, "s", q->parameter);
        if (r == 0)
                r = wanted(s, q->parameter, &spec, &env);
        return r != 0 ? r : answer(q, workspace, json_get_bool(report, "body/result/container_restarted", true), e.env, env);
}

/* Takes the secrets out of the env again, for a host that can open them. */
static int order(Server *s, Request *q, const cJSON *workspace, cJSON *spec) {
        _cleanup_json_ cJSON *key = NULL, *secrets = NULL;
        const char *host_id = json_get_string(workspace, "host_id");
        int r = key_get(s, host_id, &key);

        if (r == 0 && key)
                r = seal_split(spec, &secrets);
        return r < 0 ? r : job_create(s, &(JobOrder){ .org_id = json_get_string(workspace, "org_id"), .host_id = host_id, .type = "workspace.provision", .workspace_id = q->parameter, .spec = spec, .secrets = secrets }, q->job_id, NULL);
}

int admin_workspace_env(Server *s, Request *q) {
        _cleanup_(env_done) Env e = { .merge = true };
        _cleanup_json_ cJSON *workspace = NULL, *spec = NULL;
        cJSON *env = NULL;
        const cJSON *item;
        bool changed = false;
        int r = request_body(q, env_fields, JSON_STRICT, &e, NULL);

        if (r != 0)
                return r < 0 ? r : 0;
        cJSON_ArrayForEach(item, e.env) if (seal_is_secret(item->string) && !e.force) return request_error(q, 400, "force_required", "a key is named as a secret is; with force it is sealed to the host");
        r = store_get(s->store, SQL_WORKSPACE_GET, &workspace, "s", q->parameter);
        if (r == 0)
                r = wanted(s, q->parameter, &spec, &env);
        if (r == -ENOENT || (r == 0 && !json_get_string(workspace, "host_id")))
                return request_error(q, 404, "not_found", "there is no such workspace that is wanted anywhere");
        if (r == 0)
                r = apply(env, &e, &changed);
        if (r < 0)
                return r;
        if (!changed)
                return answer(q, workspace, false, e.env, env);
        r = order(s, q, workspace, spec);
        if (r < 0)
                return r;
        q->until = now_boottime() + WAIT_USEC;
        return request_park(q, q->parameter, q->until, look);
}
