/* SPDX-License-Identifier: Apache-2.0 */

/* The end of a workspace, and how it is. Ending is idempotent: what is gone is "terminated", and asking again while it goes waits for the
 * same job. The tenant follows from the token, never from the workspace's id. */

#include <errno.h>
#include <string.h>

#include "tests/devcp/hosts.h"
#include "tests/devcp/jobs.h"
#include "tests/devcp/manage.h"

#define WAIT_USEC (110 * USEC_PER_SEC)  /* a little less than the platform's 120 s */

/* The tenant's own workspace. 0; -ENOENT when there is none; 1: answered. */
static int find(Server *s, Request *q, cJSON **ret) {
        _cleanup_json_ cJSON *row = NULL;
        int r;

        if (!uuid_is_valid(q->parameter))
                return answered(request_error(q, 400, "bad_request", "the workspace's id is a lower-case UUID"));
        r = store_get(s->store, SQL_WORKSPACE_GET, &row, "s", q->parameter);
        if (r < 0)
                return r;
        if (!str_equal(json_get_string(row, "org_id"), q->org_id))
                return answered(request_error(q, 404, "not_found", NULL));
        *ret = TAKE_PTR(row);
        return 0;
}

static int answer_terminated(Request *q) {
        _cleanup_json_ cJSON *answer = cJSON_CreateObject();

        return json_add_string(answer, "status", "terminated") ? request_answer(q, 200, TAKE_PTR(answer)) : -ENOMEM;
}

static int delete_look(Server *s, Request *q) {
        _cleanup_json_ cJSON *job = NULL, *report = NULL;
        int r;

        r = job_outcome(s, q->job_id, &job, &report);
        if (r == -EAGAIN) {
                if (now_boottime() >= q->until)
                        return request_error(q, 504, "deprovision_in_progress", "not ended yet; ask again");
                return request_park(q, q->parameter, q->until, delete_look);
        }
        if (r < 0)
                return r;
        if (!str_equal(json_get_string(job, "final"), "succeeded"))
                return job_answer_failure(q, job, report);
        if (!str_equal(json_get_string(job, "type"), "workspace.deprovision"))
                return request_error(q, 409, "superseded", "the workspace was provisioned again meanwhile");
        return answer_terminated(q);
}

/* Is the newest order for this workspace already the one we would give? An earlier one without prune does not do for one with. */
static int find_same(Server *s, Request *q, bool prune, bool *ret_done) {
        _cleanup_json_ cJSON *job = NULL, *spec = NULL;
        const char *final;
        int r;

        r = store_get(s->store, SQL_JOB_NEWEST, &job, "s", q->parameter);
        if (r < 0)
                return r;
        final = json_get_string(job, "final");
        if (!str_equal(json_get_string(job, "type"), "workspace.deprovision") || (final && !str_equal(final, "succeeded")))
                return -ENOENT;
        r = job_spec(s, json_get_string(job, "job_id"), &spec);
        if (r < 0)
                return r;
        if (prune && !json_get_bool(spec, "prune", false))
                return -ENOENT;
        (void) strncpy(q->job_id, json_get_string(job, "job_id"), UUID_SIZE - 1);
        *ret_done = final;
        return 0;
}

/* The host that has it; of one that is gone, the host that had it last may still keep its volumes. */
static int order(Server *s, Request *q, const char *host_id, bool prune) {
        _cleanup_json_ cJSON *spec = cJSON_CreateObject();

        if (!json_add_bool(spec, "prune", prune))
                return -ENOMEM;
        return job_create(s, &(JobOrder) {
                .org_id = q->org_id,
                .host_id = host_id,
                .type = "workspace.deprovision",
                .workspace_id = q->parameter,
                .spec = spec,
        }, q->job_id, NULL);
}

int workspace_delete(Server *s, Request *q) {
        _cleanup_json_ cJSON *workspace = NULL, *last = NULL;
        const char *instance = request_query(q, "instance_id"), *known, *host_id;
        bool prune = str_equal(request_query(q, "prune"), "true"), done = false;        /* only the literal word erases */
        int r;

        r = find(s, q, &workspace);
        if (r != 0)
                return r == -ENOENT ? answer_terminated(q) : r < 0 ? r : 0;
        known = json_get_string(workspace, "instance_id");
        if (instance && *instance && known && !str_equal(instance, known))
                return request_error(q, 400, "bad_request", "instance_id is not this workspace's");

        r = find_same(s, q, prune, &done);
        if (r == -ENOENT) {
                host_id = json_get_string(workspace, "host_id");
                if (!host_id && prune && store_get(s->store, SQL_JOB_NEWEST, &last, "s", q->parameter) == 0)
                        host_id = json_get_string(last, "host_id");
                if (!host_id)
                        return answer_terminated(q);
                r = order(s, q, host_id, prune);
        }
        if (r < 0)
                return r;
        q->until = now_boottime() + WAIT_USEC;
        return done ? answer_terminated(q) : request_park(q, q->parameter, q->until, delete_look);
}

/* What the host's last full health says about the workspace. NULL when nothing. */
static const char *state_from_health(const cJSON *health, const char *workspace_id) {
        const cJSON *item;

        cJSON_ArrayForEach(item, json_get_path(health, "full/workspaces"))
                if (str_equal(json_get_string(item, "workspace_id"), workspace_id))
                        return workspace_state(json_get_string(item, "status"));
        return NULL;
}

/* A workspace that is being replaced runs, as far as the platform is concerned: another word would make it act. */
static const char *state_now(const char *stored, const char *seen) {
        if (!seen || str_equal(stored, "terminated") || (str_equal(stored, "running") && str_equal(seen, "provisioning")))
                return stored;
        return seen;
}

int workspace_status(Server *s, Request *q) {
        _cleanup_json_ cJSON *workspace = NULL, *health = NULL, *answer = cJSON_CreateObject();
        const char *instance = request_query(q, "instance_id"), *known, *state, *host_id;
        int r;

        r = find(s, q, &workspace);
        if (r != 0)
                return r == -ENOENT ? request_error(q, 404, "not_found", NULL) : r < 0 ? r : 0;
        if (!instance || !*instance)
                return request_error(q, 400, "bad_request", "instance_id is missing");
        known = json_get_string(workspace, "instance_id");
        if (known && !str_equal(instance, known))
                return request_error(q, 404, "not_found", "instance_id is not this workspace's");

        state = json_get_string(workspace, "state");
        host_id = json_get_string(workspace, "host_id");
        if (host_id && store_get(s->store, SQL_HEALTH_GET, &health, "s", host_id) == 0)
                state = state_now(state, state_from_health(health, q->parameter));
        if (!json_add_string(answer, "instance_id", known ? known : instance) || !json_add_string(answer, "state", state) ||
            !json_add_string(answer, "public_ip", "") || !json_add_string(answer, "private_ip", json_get_string(workspace, "private_ip")))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}
