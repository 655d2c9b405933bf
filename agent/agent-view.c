/* SPDX-License-Identifier: Apache-2.0 */

/* What the agent tells of itself. Formats: protocol.md §2 and §5, docs/openapi/agent.yaml. */

#include <errno.h>
#include <string.h>

#include "agent/agent-internal.h"
#include "agent/host.h"
#include "provision/job.h"

static bool add_nullable(cJSON *json, const char *name, const char *value) {
        return value ? json_add_string(json, name, value) : cJSON_AddNullToObject(json, name) != NULL;
}

static cJSON *engine_view(const Agent *a) {
        const EngineInfo *i = engine_info(a->engine);
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !add_nullable(json, "name", i->name) || !add_nullable(json, "version", i->version) ||
            !add_nullable(json, "api_version", i->api_version) || !add_nullable(json, "driver", i->driver) ||
            !add_nullable(json, "root_dir", i->root_dir))
                return NULL;
        return TAKE_PTR(json);
}

static cJSON *program_view(void) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        return json && json_add_string(json, "version", VERSION) && json_add_string(json, "git_sha", GIT_SHA) ? TAKE_PTR(json) : NULL;
}

static cJSON *sealing_key(const HostKeys *h) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        return json && json_add_string(json, "key_id", host_keys_id(h)) && json_add_string(json, "algorithm", "x25519-sealedbox") &&
               json_add_string(json, "public_key", host_keys_public(h)) ? TAKE_PTR(json) : NULL;
}

static cJSON *features(void) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();

        for (int t = 0; list && t < _JOB_TYPE_MAX; t++)
                if (!cJSON_AddItemToArray(list, cJSON_CreateString(job_type_name((JobType) t))))
                        return NULL;
        return TAKE_PTR(list);
}

cJSON *agent_register_body(void *userdata) {
        Agent *a = userdata;
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        a->host_keys_told = a->host_keys != NULL;
        if (!json || !json_add_i64(json, "protocol", 1) || !json_add_string(json, "org_id", a->config->org_id) ||
            !json_add_string(json, "host_id", a->identity.host_id) || !json_add_string(json, "boot_id", a->identity.boot_id) ||
            !json_add_u64_text(json, "boot_epoch", a->identity.boot_epoch) ||
            !json_add_item(json, "host", host_register_view(&a->identity)) || !json_add_item(json, "agent", program_view()) ||
            !json_add_item(json, "engine", engine_view(a)) || !json_add_item(json, "features", features()) ||
            (a->host_keys && !json_add_item(json, "sealing_key", sealing_key(a->host_keys))) ||
            (a->key_proof[0] && !json_add_string(json, "previous_key_proof", a->key_proof)) ||
            !json_add_i64(json, "max_tier", a->settings.max_tier) || !json_add_item(json, "holding", queue_holding(a->queue)) ||
            !json_add_item(json, "open_jobs", queue_open_jobs(a->queue)) || !json_add_u64_text(json, "host_generation", queue_host_generation(a->queue)))
                return NULL;
        return TAKE_PTR(json);
}

static bool add_code(cJSON *list, const Fault *f) {
        return !f || !f->set || cJSON_AddItemToArray(list, cJSON_CreateString(fault_code_name(f->code)));
}

/* Whatever else keeps the agent from its control plane is over when this is read there. */
static const Fault *control_trouble(const Agent *a) {
        const Fault *f = control_fault(a->control);

        return f && f->code == FAULT_SEALING_KEY_CONFLICT ? f : NULL;
}

cJSON *agent_degraded_view(const Agent *a) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();
        Fault state = {}, torn = {};

        if (!queue_is_degraded(a->queue, &state))
                state = audit_fault(a->audit) ? *audit_fault(a->audit) : a->host_keys_fault;
        if (queue_is_torn_down(a->queue))
                (void) fault(&torn, -ESHUTDOWN, FAULT_TORN_DOWN, "This host was torn down.");
        if (!list || !add_code(list, &a->config_fault) || !add_code(list, &state) || !add_code(list, &torn) || !add_code(list, engine_fault(a->engine)) ||
            !add_code(list, vault_fault(a->vault)) || !add_code(list, control_trouble(a)))
                return NULL;
        return TAKE_PTR(list);
}

cJSON *agent_error_view(const Fault *f) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!f || !f->set)
                return cJSON_CreateNull();
        return json && json_add_string(json, "code", fault_code_name(f->code)) && json_add_string(json, "message", f->text) ?
                       TAKE_PTR(json) :
                       NULL;
}

static const Fault *worst(const Agent *a) {
        return a->config_fault.set ? &a->config_fault : vault_fault(a->vault) ?: control_trouble(a) ?:
               a->host_keys_fault.set ? &a->host_keys_fault : engine_fault(a->engine);
}

cJSON *agent_health_view(void *userdata) {
        Agent *a = userdata;
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "version", VERSION) || !json_add_time(json, "started_at", a->started_at) ||
            !json_add_u64_text(json, "memory_bytes", host_agent_memory()) || !json_add_item(json, "loops", loops_view(&a->loops)) ||
            !json_add_i64(json, "outbox_depth", (int64_t) outbox_depth(a->outbox)) ||
            !json_add_i64(json, "jobs_running", queue_jobs_running(a->queue)) ||
            !json_add_bool(json, "draining", queue_is_draining(a->queue)) || !json_add_bool(json, "held", queue_is_held(a->queue)) || !json_add_item(json, "degraded", agent_degraded_view(a)) ||
            !json_add_string(json, "audit_head", audit_head(a->audit)) || !json_add_i64(json, "reports_refused", reporter_refused(a->reporter)) ||
            !json_add_item(json, "last_error", agent_error_view(worst(a))))
                return NULL;
        return TAKE_PTR(json);
}

cJSON *agent_pins_view(void *userdata) {
        Agent *a = userdata;
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        uint64_t at = pins_fetched_at(a->pins), now = now_realtime();

        if (!json || !json_add_string(json, "etag", pins_etag(a->pins)) ||
            (at ? !json_add_i64(json, "age_seconds", now > at ? (int64_t) ((now - at) / USEC_PER_SEC) : 0) :
                  !cJSON_AddNullToObject(json, "age_seconds")))
                return NULL;
        return TAKE_PTR(json);
}

cJSON *agent_control_view(const Agent *a) {
        static const char *const names[] = { "idle", "registering", "polling", "parked" };
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        const Fault *f = a->enrol_fault.set ? &a->enrol_fault : control_fault(a->control);
        uint64_t since = control_fault_since(a->control), next = control_next_try(a->control);

        if (!json || !json_add_string(json, "state", names[control_state(a->control)]) || !json_add_item(json, "error", agent_error_view(f)) ||
            (f && since && !json_add_time(json, "since", since)) ||
            (f && next && !json_add_seconds(json, "next_try_seconds", next)))
                return NULL;
        return TAKE_PTR(json);
}
