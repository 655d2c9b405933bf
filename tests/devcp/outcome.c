/* SPDX-License-Identifier: Apache-2.0 */

/* What became of a job, for those who wait for it. A job that was superseded did not fail: what counts is the newer one, so a waiting
 * provision follows it; of a job we ended ourselves (reissue.c) it is the next one, whatever became of that. Which status a failure gets
 * is the platform's: 400 the request was wrong, 422 it cannot be met as it is, 502 the host could not do it. */

#include <errno.h>
#include <string.h>

#include "tests/devcp/jobs.h"

static const struct {
        FaultCode code;
        int       status;
} statuses[] = {
        { FAULT_BAD_JSON,                 400 },
        { FAULT_UNSUPPORTED_TYPE,         400 },
        { FAULT_UNSUPPORTED_FIELD,        400 },
        { FAULT_WRONG_TENANT,             400 },
        { FAULT_WRONG_HOST,               400 },
        { FAULT_PRIVILEGED_ENV_FORBIDDEN, 400 },
        { FAULT_MISSING_REQUIRED_ENV,     400 },
        { FAULT_BAD_ENV,                  400 },
        { FAULT_BAD_SECRET,               400 },
        { FAULT_BAD_PATH,                 400 },
        { FAULT_TOO_LARGE,                400 },
        { FAULT_TIER_NOT_ALLOWED,         422 },
        { FAULT_RUNTIME_PIN_MISSING,      422 },
        { FAULT_IMAGE_REF_NOT_PINNED,     422 },
        { FAULT_REGISTRY_NOT_ALLOWED,     422 },
        { FAULT_IMAGE_NOT_FOUND,          422 },
        { FAULT_IMAGE_DIGEST_MISMATCH,    422 },
};

static int status_of(const char *final, const char *code) {
        FaultCode c;

        if (str_equal(final, "superseded") || str_equal(final, "conflict") || str_equal(final, "cancelled"))
                return 409;
        if (code && fault_code_find(code, &c) == 0)
                for (size_t i = 0; i < ELEMENTS(statuses); i++)
                        if (statuses[i].code == c)
                                return statuses[i].status;
        return 502;
}

int job_outcome(Server *s, const char *job_id, cJSON **ret_job, cJSON **ret_report) {
        _cleanup_json_ cJSON *job = NULL, *report = NULL;
        uint64_t generation;
        int r;

        r = store_get(s->store, SQL_JOB_GET, &job, "s", job_id);
        while (r == 0 && str_equal(json_get_string(job, "final"), "superseded")) {
                _cleanup_json_ cJSON *next = NULL;

                generation = json_get_u64_text(job, "generation", 0);
                r = store_get(s->store, json_get_string(job, "final_report_id") ? SQL_JOB_SUCCESSOR : SQL_JOB_NEXT, &next, "si",
                              json_get_string(job, "workspace_id"), (int64_t) generation);
                if (r == -ENOENT) {
                        r = 0;
                        break;
                }
                if (r == 0)
                        r = store_get(s->store, SQL_JOB_GET, &job, "s", json_get_string(next, "job_id"));
        }
        if (r < 0)
                return r;
        if (!json_get_string(job, "final"))
                return -EAGAIN;
        r = store_get(s->store, SQL_REPORT_GET, &report, "s", json_get_string(job, "final_report_id"));
        if (r < 0 && r != -ENOENT)                      /* none: we ended it ourselves, and nothing came after it */
                return r;
        *ret_job = TAKE_PTR(job);
        *ret_report = TAKE_PTR(report);
        return 0;
}

int job_answer_failure(Request *q, const cJSON *job, const cJSON *report) {
        const char *final = json_get_string(job, "final"), *code = json_get_string(report, "body/error/code");
        const char *words = json_get_string(report, "body/error/message");

        if (!words)
                words = json_get_string(report, "body/message");
        return request_error(q, status_of(final, code), code ? code : final, words);
}
