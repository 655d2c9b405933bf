/* SPDX-License-Identifier: Apache-2.0 */

/* "Anew" means a new job with a new generation: the host may still remember having accepted the old one. Its secrets are sealed again, to
 * the key the host has now.
 *
 * A job that no key of the host opens any more is ended here, as superseded: whoever waits for it waits for the next of its line. Only the
 * newest wish for a workspace is made anew: an older one would overturn it. */

#include "tests/devcp/reissue.h"

#include <errno.h>

#include "tests/devcp/jobs.h"
#include "tests/devcp/keys.h"
#include "tests/devcp/seal.h"

static uint64_t held_generation(const cJSON *body, const char *workspace_id) {
        const cJSON *item;

        cJSON_ArrayForEach(item, json_get(body, "holding"))
                if (str_equal(json_get_string(item, "workspace_id"), workspace_id))
                        return json_get_u64_text(item, "generation", 0);
        return 0;
}

static bool has_open(const cJSON *body, const char *job_id) {
        const cJSON *item;

        cJSON_ArrayForEach(item, json_get(body, "open_jobs"))
                if (str_equal(cJSON_GetStringValue(item), job_id))
                        return true;
        return false;
}

/* A host without a key gets its secrets as it gets all env. */
int restore_env(cJSON *spec, const cJSON *secrets) {
        cJSON *env = cJSON_GetObjectItemCaseSensitive(spec, "env");
        const cJSON *item;

        if (!env)
                env = cJSON_AddObjectToObject(spec, "env");
        cJSON_ArrayForEach(item, secrets)
                if (!json_add_string(env, item->string, cJSON_GetStringValue(item)))
                        return -ENOMEM;
        return 0;
}

/* wanted: a row of SQL_WANTED. */
static int issue(Server *s, const char *org_id, const char *host_id, const cJSON *wanted) {
        _cleanup_json_ cJSON *spec = NULL, *secrets = NULL, *key = NULL;
        const char *job_id = json_get_string(wanted, "job_id");
        char made[UUID_SIZE];
        int r;

        r = job_spec(s, job_id, &spec);
        if (r == 0)
                r = seal_recall(s, job_id, spec, &secrets);
        if (r == 0)
                r = key_get(s, host_id, &key);
        if (r == 0 && secrets && !key)
                r = restore_env(spec, secrets);
        if (r < 0)
                return r;
        return job_create(s, &(JobOrder) {
                .org_id = org_id,
                .host_id = host_id,
                .type = "workspace.provision",
                .workspace_id = json_get_string(wanted, "workspace_id"),
                .spec = spec,
                .secrets = key ? secrets : NULL,
        }, made, NULL);
}

static const cJSON *find(const cJSON *rows, const char *job_id) {
        const cJSON *row;

        cJSON_ArrayForEach(row, rows)
                if (str_equal(json_get_string(row, "job_id"), job_id))
                        return row;
        return NULL;
}

int reissue_useless(Server *s, const char *org_id, const char *host_id, const cJSON *body) {
        _cleanup_json_ cJSON *useless = NULL, *wanted = NULL;
        const cJSON *row, *wish;
        const char *job_id;
        int r;

        r = store_list(s->store, SQL_SEALED_USELESS, &useless, "s", host_id);
        if (r == 0)
                r = store_list(s->store, SQL_WANTED, &wanted, "s", host_id);
        if (r < 0)
                return r;
        cJSON_ArrayForEach(row, useless) {
                job_id = json_get_string(row, "job_id");
                if (body ? has_open(body, job_id) : !str_equal(json_get_string(row, "state"), "queued"))
                        continue;
                wish = find(wanted, job_id);
                if (wish)
                        r = issue(s, org_id, host_id, wish);
                if (r == 0)
                        r = store_do(s->store, SQL_JOB_WITHDRAW, "s", job_id);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* wanted: a row of SQL_WANTED. A pending order that is handed out again by this very register says the same already. */
static bool is_lost(const cJSON *body, const cJSON *wanted) {
        const char *job_id = json_get_string(wanted, "job_id");

        if (held_generation(body, json_get_string(wanted, "workspace_id")) >= json_get_u64_text(wanted, "generation", 0))
                return false;
        return json_get_string(wanted, "final") || has_open(body, job_id);
}

int reissue_lost(Server *s, const char *org_id, const char *host_id, const cJSON *body) {
        _cleanup_json_ cJSON *rows = NULL, *key = NULL;
        const cJSON *wanted;
        bool conflict;
        int r;

        r = key_get(s, host_id, &key);
        if (r == 0)
                r = store_list(s->store, SQL_WANTED, &rows, "s", host_id);
        if (r < 0)
                return r;
        conflict = json_get_string(key, "pending_key_id");
        cJSON_ArrayForEach(wanted, rows) {
                if (!is_lost(body, wanted) || (conflict && json_get_i64(wanted, "sealed", 0)))
                        continue;
                r = issue(s, org_id, host_id, wanted);
                if (r < 0)
                        return r;
        }
        return 0;
}
