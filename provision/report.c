/* SPDX-License-Identifier: Apache-2.0 */

#include "provision/report.h"

static const char *const state_names[_REPORT_STATE_MAX] = {
        [REPORT_ACCEPTED] = "accepted",     [REPORT_RUNNING] = "running",   [REPORT_SUCCEEDED] = "succeeded",
        [REPORT_FAILED] = "failed",         [REPORT_REFUSED] = "refused",   [REPORT_SUPERSEDED] = "superseded",
        [REPORT_CONFLICT] = "conflict",     [REPORT_EXPIRED] = "expired",   [REPORT_CANCELLED] = "cancelled",
};

static const char *const stage_names[_STAGE_MAX] = {
        [STAGE_LAUNCHING] = "launching", [STAGE_INSTALLING] = "installing", [STAGE_STARTING] = "starting",
        [STAGE_CONFIGURING_HTTPS] = "configuring_https", [STAGE_READY] = "ready", [STAGE_FAILED] = "failed",
};

/* What is said where there is nothing more exact to say. */
static const char *const state_words[_REPORT_STATE_MAX] = {
        [REPORT_ACCEPTED] = "The job is stored on this host.",
        [REPORT_RUNNING] = "The job is at work.",
        [REPORT_SUCCEEDED] = "Done and verified.",
        [REPORT_FAILED] = "The job failed.",
        [REPORT_REFUSED] = "The job was refused; nothing was touched.",
        [REPORT_SUPERSEDED] = "A job of a higher generation was accepted before it.",
        [REPORT_CONFLICT] = "The same generation was accepted before with another payload.",
        [REPORT_EXPIRED] = "The job came after its expires_at.",
        [REPORT_CANCELLED] = "The job was cancelled.",
};

const char *report_state_name(ReportState s) { return state_names[s]; }
bool        report_state_is_final(ReportState s) { return s >= REPORT_SUCCEEDED; }
const char *stage_name(Stage s) { return stage_names[s]; }

int report_state_find(const char *name, ReportState *ret) {
        for (int s = 0; s < _REPORT_STATE_MAX; s++)
                if (str_equal(name, state_names[s])) {
                        *ret = (ReportState) s;
                        return 0;
                }
        return -1;
}

static bool add_given(cJSON *json, const char *name, const char *value) {
        return !value || !value[0] || json_add_string(json, name, value);
}

static bool add_error(cJSON *json, const Fault *f) {
        cJSON *error;

        if (!f || !f->set)
                return true;
        error = cJSON_CreateObject();
        return json_add_item(json, "error", error) && json_add_string(error, "code", fault_code_name(f->code)) &&
               json_add_string(error, "message", f->text) && json_add_bool(error, "retryable", fault_code_retryable(f->code));
}

static const char *words(const Report *r) { return r->message ?: r->fault && r->fault->set ? r->fault->text : state_words[r->state]; }

cJSON *report_make(const Report *r, cJSON *result) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject(), *owned = result;
        char id[UUID_SIZE];

        if (!json || (!r->report_id && uuid_make(id) < 0))
                return NULL;
        if (!json_add_string(json, "report_id", r->report_id ?: id) || !add_given(json, "delivery_id", r->delivery_id) ||
            !add_given(json, "job_id", r->job_id) || !add_given(json, "type", r->type) ||
            !json_add_string(json, "source", r->source ?: "job") || !add_given(json, "workspace_id", r->workspace_id) ||
            (r->generation && !json_add_u64_text(json, "generation", r->generation)) ||
            !json_add_string(json, "state", state_names[r->state]) || !add_given(json, "stage", stage_names[r->stage]) ||
            (r->progress >= 0 && !json_add_i64(json, "progress", r->progress)) || !json_add_string(json, "message", words(r)) ||
            !add_error(json, r->fault) || (owned && !json_add_item(json, "result", TAKE_PTR(owned))) ||
            !json_add_time(json, "at", now_realtime()))
                return NULL;
        return TAKE_PTR(json);
}
