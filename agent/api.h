/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The local API: HTTP on $RUNTIME_DIRECTORY/control.sock, for molecule-agentctl and for curl --unix-socket. The only door to libmicrohttpd. Who speaks
 * is what the kernel says of the socket's other end: its mode lets the agent's group read, and changes are for root and the agent's own user.
 * Format: docs/openapi/local.yaml.
 *
 * Nobody waits in here: a request is answered in the loop's turn in which its last byte came. */

#include <systemd/sd-event.h>

#include "agent/agent.h"
#include "base/fault.h"
#include "base/json.h"

#define API_SOCKET "control.sock"

typedef struct Api Api;

typedef struct ApiCall {                /* borrowed during the handler */
        const char  *query;             /* the value of the route's one parameter; NULL where absent */
        const cJSON *json;              /* the body of a POST, an object */
        const char  *who;               /* for the log: "uid 0" */
} ApiCall;

/* 0 with what to answer, owned by the caller; or negative with the reason. */
typedef int (*ApiHandler)(Agent *a, const ApiCall *c, cJSON **ret, Fault *reterr);

typedef struct ApiRoute {
        const char *method, *path;
        ApiHandler  handle;
        const char *parameter;          /* of the query; NULL: none */
        size_t      body_max;           /* bytes; 0: no body */
} ApiRoute;

extern const ApiRoute api_routes[];     /* api-verbs.c; ends with {} */

/* Takes the place of a socket that an earlier process left: the caller holds the state directory's lock. -ENAMETOOLONG where the path does not fit
 * into a socket's address. */
int  api_start(sd_event *event, const char *runtime_path, Agent *a, Api **ret, Fault *reterr);
Api *api_stop(Api *api);                /* NULL is fine; returns NULL */
