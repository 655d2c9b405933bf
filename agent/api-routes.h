/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Every path of the local API and what answers it, as one list from which prototypes and the table of routes (api-routes.c) are made. */

#include "agent/agent-internal.h"
#include "agent/api.h"
#include "provision/job.h"

#define API_BODY_MAX ((size_t) 16 * 1024)

/* method, path, who may, handler, bytes of body */
#define API_ROUTES(X) \
        X("GET", "/v1/status", API_GROUP, api_get_status, 0) \
        X("GET", "/v1/progress", API_GROUP, api_get_progress, 0) \
        X("GET", "/v1/workspaces", API_GROUP, api_get_workspaces, 0) \
        X("GET", "/v1/workspaces/", API_ADMIN, api_get_workspace, 0) \
        X("GET", "/v1/jobs", API_GROUP, api_get_jobs, 0) \
        X("GET", "/v1/images", API_GROUP, api_get_images, 0) \
        X("GET", "/v1/df", API_GROUP, api_get_df, 0) \
        X("GET", "/v1/pins", API_GROUP, api_get_pins, 0) \
        X("GET", "/v1/events", API_GROUP, api_get_events, 0) \
        X("GET", "/v1/logs/", API_ADMIN, api_get_logs, 0) \
        X("GET", "/metrics", API_GROUP, api_get_metrics, 0) \
        X("POST", "/v1/sync", API_ROOT, api_post_sync, API_BODY_MAX) \
        X("POST", "/v1/apply", API_ROOT, api_post_apply, JOB_BODY_MAX) \
        X("POST", "/v1/gc", API_ROOT, api_post_gc, API_BODY_MAX) \
        X("POST", "/v1/hold", API_ROOT, api_post_hold, API_BODY_MAX) \
        X("POST", "/v1/release", API_ROOT, api_post_release, API_BODY_MAX) \
        X("POST", "/v1/drain", API_ROOT, api_post_drain, API_BODY_MAX) \
        X("POST", "/v1/undrain", API_ROOT, api_post_undrain, API_BODY_MAX) \
        X("POST", "/v1/restart", API_ROOT, api_post_restart, API_BODY_MAX) \
        X("POST", "/v1/cancel", API_ROOT, api_post_cancel, API_BODY_MAX) \
        X("POST", "/v1/note", API_ROOT, api_post_note, API_BODY_MAX)

#define API_PROTOTYPE(method, path, needs, handle, body_max) int handle(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr);
API_ROUTES(API_PROTOTYPE)

/* A moment: when, and how many rounds with the control plane were behind us then. Opaque to whoever keeps it. */
typedef struct ApiMark {
        uint64_t at;
        ControlRounds rounds;
} ApiMark;

ApiMark api_mark_now(const Agent *a);
/* A parameter that is a number of at most max; otherwise where there is none. -EINVAL with words. */
int     api_read_count(const ApiCall *c, const char *name, uint64_t max, uint64_t otherwise, uint64_t *ret, Fault *reterr);
cJSON  *api_with_mark(const ApiMark *m);        /* {mark}; NULL when out of memory */
