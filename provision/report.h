/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The words the control plane gets about a job. Format: protocol.md §4, docs/openapi/agent.yaml "Report". Pure. */

#include "base/json.h"
#include "base/text.h"

typedef enum ReportState {
        REPORT_ACCEPTED,
        REPORT_RUNNING,
        REPORT_SUCCEEDED,               /* the rest are final */
        REPORT_FAILED,
        REPORT_REFUSED,
        REPORT_SUPERSEDED,
        REPORT_CONFLICT,
        REPORT_EXPIRED,
        REPORT_CANCELLED,
        _REPORT_STATE_MAX,
} ReportState;

typedef enum Stage {
        STAGE_NONE,
        STAGE_LAUNCHING,                /* checked */
        STAGE_INSTALLING,               /* the image is being made present */
        STAGE_STARTING,
        STAGE_CONFIGURING_HTTPS,        /* waiting for its readiness */
        STAGE_READY,
        STAGE_FAILED,
        _STAGE_MAX,
} Stage;

const char *report_state_name(ReportState s);
int         report_state_find(const char *name, ReportState *ret);
bool        report_state_is_final(ReportState s);
const char *stage_name(Stage s);        /* NULL for STAGE_NONE */

/* Everything is borrowed and may be NULL or zero where the wire field is optional. */
typedef struct Report {
        const char  *report_id;         /* NULL: made here */
        const char  *delivery_id, *job_id, *type, *source /* NULL: "job" */, *workspace_id;
        uint64_t     generation;        /* 0: none */
        ReportState  state;
        Stage        stage;
        int          progress;          /* 0..100; negative: none */
        const char  *message;           /* NULL: the fault's words, or the state's */
        const Fault *fault;             /* set: becomes error{code, message, retryable} */
} Report;

/* result is owned from here (also when it fails); NULL when out of memory. */
cJSON *report_make(const Report *r, cJSON *result);
