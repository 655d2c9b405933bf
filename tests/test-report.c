/* SPDX-License-Identifier: Apache-2.0 */

/* provision/report: the words about a job. */

#include <errno.h>

#include "provision/report.h"
#include "tests/kit.h"

TEST(states) {
        static const struct { const char *name; bool final; } wanted[] = {
                { "accepted", false }, { "running", false }, { "succeeded", true },  { "failed", true },    { "refused", true },
                { "superseded", true }, { "conflict", true }, { "expired", true },   { "cancelled", true },
        };
        ReportState s = _REPORT_STATE_MAX;

        CHECK_INT(_REPORT_STATE_MAX, ELEMENTS(wanted));
        for (int i = 0; i < _REPORT_STATE_MAX; i++) {
                CHECK_STR(report_state_name((ReportState) i), wanted[i].name);
                CHECK(report_state_is_final((ReportState) i) == wanted[i].final);
                CHECK_INT(report_state_find(wanted[i].name, &s), 0);
                CHECK_INT(s, i);
        }
        CHECK(report_state_find("done", &s) < 0);
        CHECK(report_state_find(NULL, &s) < 0);
        CHECK_INT(s, _REPORT_STATE_MAX - 1);
}

TEST(stages_are_the_platform_s) {
        static const char *const wanted[] = { NULL, "launching", "installing", "starting", "configuring_https", "ready", "failed" };

        CHECK_INT(_STAGE_MAX, ELEMENTS(wanted));
        for (int i = 0; i < _STAGE_MAX; i++)
                CHECK_STR(stage_name((Stage) i), wanted[i]);
}

TEST(the_least) {
        _cleanup_json_ cJSON *json = report_make(&(Report) { .state = REPORT_REFUSED, .progress = -1 }, NULL);
        uint64_t at = 0;

        CHECK(uuid_is_valid(json_get_string(json, "report_id")));
        CHECK_STR(json_get_string(json, "state"), "refused");
        CHECK_STR(json_get_string(json, "source"), "job");
        CHECK(strlen(json_get_string(json, "message")) > 10);
        CHECK_INT(time_parse(json_get_string(json, "at"), &at), 0);
        CHECK(at + 5 * USEC_PER_SEC > now_realtime() && at <= now_realtime());
        CHECK_INT(cJSON_GetArraySize(json), 5);
}

TEST(ids_are_never_the_same) {
        _cleanup_json_ cJSON *a = report_make(&(Report) {}, NULL), *b = report_make(&(Report) {}, NULL);

        CHECK(strcmp(json_get_string(a, "report_id"), json_get_string(b, "report_id")) != 0);
}

TEST(everything) {
        Fault f = {};
        _cleanup_json_ cJSON *json = NULL;

        (void) fault(&f, -EIO, FAULT_PULL_STALLED, "It stood still.");
        json = report_make(&(Report) { .report_id = KIT_OTHER,
                                      .delivery_id = KIT_HOST,
                                      .job_id = KIT_JOB,
                                      .type = "workspace.provision",
                                      .source = "local",
                                      .workspace_id = KIT_WORKSPACE,
                                      .generation = UINT64_MAX,
                                      .state = REPORT_FAILED,
                                      .stage = STAGE_INSTALLING,
                                      .progress = 100,
                                      .message = "Words.",
                                      .fault = &f },
                           kit_json("{\"a\":1}"));
        CHECK_STR(json_get_string(json, "report_id"), KIT_OTHER);
        CHECK_STR(json_get_string(json, "delivery_id"), KIT_HOST);
        CHECK_STR(json_get_string(json, "job_id"), KIT_JOB);
        CHECK_STR(json_get_string(json, "type"), "workspace.provision");
        CHECK_STR(json_get_string(json, "source"), "local");
        CHECK_STR(json_get_string(json, "workspace_id"), KIT_WORKSPACE);
        CHECK_STR(json_get_string(json, "generation"), "18446744073709551615");
        CHECK_STR(json_get_string(json, "state"), "failed");
        CHECK_STR(json_get_string(json, "stage"), "installing");
        CHECK_INT(json_get_i64(json, "progress", -1), 100);
        CHECK_STR(json_get_string(json, "message"), "Words.");
        CHECK_STR(json_get_string(json, "error/code"), "pull_stalled");
        CHECK_STR(json_get_string(json, "error/message"), "It stood still.");
        CHECK(json_get_bool(json, "error/retryable", false));
        CHECK_INT(json_get_i64(json, "result/a", 0), 1);
        CHECK_INT(cJSON_GetArraySize(json), 14);
}

TEST(what_is_empty_is_left_out) {
        Fault none = {};
        _cleanup_json_ cJSON *json = report_make(&(Report) { .delivery_id = "", .job_id = "", .workspace_id = "", .fault = &none }, NULL);

        CHECK(!json_get(json, "delivery_id") && !json_get(json, "job_id") && !json_get(json, "workspace_id") && !json_get(json, "error"));
        CHECK(!json_get(json, "generation") && !json_get(json, "stage") && !json_get(json, "result"));
}

TEST(incident_42_the_message_is_the_fault_s_without_another) {
        Fault f = {};
        _cleanup_json_ cJSON *json = NULL;

        (void) fault(&f, -EIO, FAULT_WRONG_HOST, "Not here.");
        json = report_make(&(Report) { .state = REPORT_REFUSED, .fault = &f }, NULL);
        CHECK_STR(json_get_string(json, "message"), "Not here.");
        CHECK(!json_get_bool(json, "error/retryable", true));
}

TEST_MAIN
