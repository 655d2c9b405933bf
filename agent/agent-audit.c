/* SPDX-License-Identifier: Apache-2.0 */

/* What goes into the audit record: jobs, sealed generations, the configuration, and what was asked for on this host. Names, ids and codes only; the
 * record's own trouble stops nothing of it. */

#include <errno.h>
#include <sys/stat.h>

#include "agent/agent-internal.h"
#include "base/log.h"

static bool add_given(cJSON *json, const char *name, const char *value) { return !value || !value[0] || json_add_string(json, name, value); }

static void tell_trouble(Agent *a, bool failing) {
        const Fault *f = audit_fault(a->audit);

        if (f && !failing)
                log_write(LOG_ERR, &(LogFields) { .fault = f }, "What is done on this host is not recorded, and goes on: %s", f->text);
        else if (!f && failing)
                log_notice("What is done on this host is recorded again.");
        if (a->health)
                health_changed(a->health);
}

static void record(Agent *a, const char *kind, cJSON *fields) {
        bool failing = audit_fault(a->audit);

        (void) audit_add(a->audit, kind, fields, NULL);
        tell_trouble(a, failing);
}

void agent_audit_retry(Agent *a) {
        if (!audit_fault(a->audit))
                return;
        audit_retry(a->audit);
        tell_trouble(a, true);
}

int agent_open_audit(Agent *a) {
        _cleanup_(config_freep) Config *good = NULL;
        bool started_before = a->identity.boot_epoch > 1 || (!a->foreign_state && config_load_good(a->state_fd, &good, NULL) >= 0);
        int r = audit_open(a->state_fd, a->config->audit_max_bytes, started_before, &a->audit);

        if (r >= 0)
                tell_trouble(a, false);
        return r;
}

/* ── what the agent did ──────────────────────────────────────────────────────────────────────────────────────── */

void agent_audit_report(Agent *a, const cJSON *report) {
        static const char *const members[] = { "report_id", "job_id", "type", "workspace_id", "generation", "source", "state" };
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        bool ok = true;

        for (size_t i = 0; ok && i < ELEMENTS(members); i++)
                ok = add_given(json, members[i], json_get_string(report, members[i]));
        ok = ok && add_given(json, "code", json_get_string(report, "error/code"));
        record(a, "job", ok ? TAKE_PTR(json) : NULL);
}

void agent_audit_sealed(const char *workspace, uint64_t generation, size_t n, void *userdata) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        bool ok = json && json_add_string(json, "workspace_id", workspace) && json_add_u64_text(json, "generation", generation) &&
                  json_add_i64(json, "count", (int64_t) n);

        record(userdata, "secrets", ok ? TAKE_PTR(json) : NULL);
}

/* ── the configuration ───────────────────────────────────────────────────────────────────────────────────────── */

static cJSON *config_view(const Config *before, const Config *now, bool *ret_differs) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *changed = cJSON_CreateArray();
        char hash[HASH_TEXT_SIZE];

        if (!json_add_item(json, "changed", changed) || !config_differences(before, now, changed) || config_hash(now, hash) < 0 ||
            !json_add_string(json, "hash_of_all", hash))
                return NULL;
        *ret_differs = cJSON_GetArraySize(changed) > 0;
        return TAKE_PTR(json);
}

/* Recorded first, then kept: a crash in between records it twice, never not at all. */
void agent_config_taken(Agent *a, const Config *c) {
        _cleanup_(config_freep) Config *before = NULL;
        bool differs = true, first = config_load_good(a->state_fd, &before, NULL) < 0;
        cJSON *json = config_view(before, c, &differs);

        if (first || differs)
                record(a, "config", json);
        else
                cJSON_Delete(json);
        if (config_save_good(a->state_fd, c) < 0)
                log_warning("The configuration could not be kept as the last good one.");
}

/* ── what an operator asked for ──────────────────────────────────────────────────────────────────────────────── */

void agent_audit_local(Agent *a, const ApiCall *c, AuditLocal *l) {
        l->uid = c->uid;
        l->claimed_loginuid = c->claimed_loginuid;
        l->claimed_executable = c->claimed_executable;
        record(a, "local", audit_local(l));
}

/* Nobody says who made it: the owner is what the disk says. What cannot be looked at counts as there, as in the queue. */
void agent_audit_hold_file(Agent *a) {
        _cleanup_json_ cJSON *json = NULL;
        struct stat st;
        bool seen = lstat(a->hold_file, &st) == 0, there = seen || errno != ENOENT;

        if (there == a->hold_file_there)
                return;
        a->hold_file_there = there;
        json = cJSON_CreateObject();
        record(a, "hold_file", json && json_add_bool(json, "there", there) && (!seen || json_add_i64(json, "uid", st.st_uid)) ? TAKE_PTR(json) : NULL);
}
