/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The local API: HTTP on $RUNTIME_DIRECTORY/control.sock, for molecule-agentctl and for curl --unix-socket. agent/api*.c are the only door to
 * libmicrohttpd. Who speaks is what the kernel says of the socket's other end. Format: docs/openapi/local.yaml.
 *
 * Nobody waits in here: a request is answered, or its long answer begun, in the loop's turn in which its last byte came. */

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "agent/agent.h"
#include "base/fault.h"
#include "base/json.h"

#define API_SOCKET "control.sock"
#define API_PART_MAX 64                 /* bytes of a path's last part, and of a parameter's value */
#define API_CLAIMED_LOGINUID   "X-Molecule-Claimed-Loginuid"
#define API_CLAIMED_EXECUTABLE "X-Molecule-Claimed-Executable"

typedef struct Api Api;

/* What a peer may do; each may do what those before may. */
typedef enum ApiPeer {
        API_NOBODY,                     /* the kernel does not say who it is */
        API_GROUP,                      /* the socket's mode let it in */
        API_ADMIN,                      /* a member of admin_group */
        API_ROOT,                       /* root, or the agent's own user */
} ApiPeer;

typedef struct ApiCall {                /* borrowed during the handler */
        const char  *part;              /* the rest of the path behind the route's; "" where the route has none */
        const cJSON *json;              /* the body of a POST, an object */
        const char  *who;               /* for the log: "uid 0" */
        const void  *connection;
        uid_t        uid;               /* as the kernel names the peer */
        const char  *claimed_loginuid, *claimed_executable;     /* as the peer states them, NULL where it does not; not checked by anyone */
} ApiCall;

const char *api_query(const ApiCall *c, const char *name);      /* NULL: absent; "?", which nothing takes, where longer than API_PART_MAX */

/* One that is words, made printable; "" where it is absent; -EINVAL where it does not fit. */
int api_read_text(const ApiCall *c, const char *name, char *ret, size_t size, Fault *reterr);

/* What a long answer is read from. */
typedef struct ApiSource {
        ssize_t (*read)(void *state, char *to, size_t room);    /* bytes; 0: nothing now, api_wake() when there is; -ENODATA: the end; else broken off */
        void    (*done)(void *state);
} ApiSource;

/* One of them; owned by the caller. */
typedef struct ApiAnswer {
        cJSON           *json;
        char            *text;          /* of type */
        const ApiSource *source;        /* of type; with state */
        void            *state;
        const char      *type;
} ApiAnswer;

/* 0 with what to answer; or negative with the reason; -EUSERS: too many do this already. */
typedef int (*ApiHandler)(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr);

typedef struct ApiRoute {
        const char *method, *path;      /* a path that ends in '/' has one part more, in ApiCall.part */
        ApiPeer     needs;
        ApiHandler  handle;
        size_t      body_max;           /* bytes; 0: no body */
} ApiRoute;

extern const ApiRoute api_routes[];     /* api-routes.c; ends with {} */

/* Takes the place of a socket that an earlier process left: the caller holds the state directory's lock. -ENAMETOOLONG where the path does not fit
 * into a socket's address. admin_group: its name, NULL for none; one that this host does not have is a warning. */
int  api_start(sd_event *event, const char *runtime_path, const char *admin_group, Agent *a, Api **ret, Fault *reterr);
Api *api_stop(Api *api);                /* NULL is fine; returns NULL */
unsigned api_followers(const Api *api);  /* long answers under way; NULL is fine */
void api_wake(Api *api);                /* long answers may have something to read; NULL is fine */
