/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One way to ask the control plane anything: URL, headers, credentials, the meaning of what comes back, its clock, and politeness for all callers
 * together (Retry-After, a budget for retries, a spread after a lost connection). Who may talk when is decided here and nowhere else. */

#include "agent/config.h"
#include "agent/credentials.h"
#include "agent/identity.h"
#include "base/http.h"
#include "base/json.h"
#include "base/retry.h"

typedef struct Cp Cp;
typedef struct CpCall CpCall;

typedef enum CpKind {
        CP_OK,                          /* 2xx with JSON (or 304, to if_none_match only) */
        CP_UNREACHABLE,                 /* transport, 5xx, something that is not the control plane: try again */
        CP_LATER,                       /* 429, 503: not before Retry-After; status 0: not sent, cp_is_unsent() */
        CP_AUTH,                        /* 401, 403 */
        CP_HOST_UNKNOWN,                /* 404 host_unknown: register again */
        CP_NOT_FOUND,                   /* any other 404 */
        CP_IN_USE,                      /* 409 host_id_in_use */
        CP_CONFLICT,                    /* any other 409 */
        CP_REVOKED,                     /* 410 */
        CP_REFUSED,                     /* 400, 413, 422: this body, never again as it is */
        CP_PROTOCOL,                    /* 426 */
} CpKind;

typedef struct CpAnswer {               /* borrowed during the callback */
        CpKind       kind;
        long         status;
        Fault        fault;             /* set unless CP_OK */
        const cJSON *json;              /* CP_OK (not with 304), CP_CONFLICT */
        const char  *body, *etag;
        size_t       size;
} CpAnswer;
typedef void (*CpDone)(const CpAnswer *a, void *userdata);

/* It waited, and was given back without having been sent. */
static inline bool cp_is_unsent(const CpAnswer *a) { return a->kind == CP_LATER && a->status == 0; }

typedef enum CpAuth { CP_AUTH_HOST, CP_AUTH_TENANT, CP_AUTH_NONE } CpAuth;      /* provision + admin; admin token as bearer; nothing */

typedef struct CpRequest {
        const char *method;             /* NULL: GET */
        const char *path;               /* below the prefix, with its query */
        const char *body;               /* JSON; NULL: none */
        const char *if_none_match;
        size_t      answer_max;         /* 0: 64 KiB */
        uint64_t    timeout_usec;       /* 0: 30 s */
        CpAuth      auth;
        unsigned    call;               /* METRIC_CALL_…: what it is counted as */
} CpRequest;

/* identity is borrowed. */
int  cp_new(sd_event *event, Http *http, const Identity *identity, Cp **ret);
Cp  *cp_free(Cp *cp);
DEFINE_CLEANUP(Cp *, cp_free)

/* Origin, proxy, TLS and credential headers from now on. Copies what it needs. */
int  cp_configure(Cp *cp, const Config *config, const Credentials *credentials, Fault *reterr);

int     cp_send(Cp *cp, const CpRequest *q, CpDone done, void *userdata, CpCall **ret);
CpCall *cp_call_cancel(CpCall *c);

uint64_t cp_time(const Cp *cp);         /* its clock now, from the last Date of a 2xx and CLOCK_BOOTTIME since; 0: unknown */
bool     cp_clock_skew(const Cp *cp, double *ret_seconds);      /* ours minus its; false: unknown */

/* How long a loop must wait before its next request after `kind`; keeps the loop's own back-off. 0: at once. Where nobody could be reached, all
 * loops together wait for one back-off of the host's, which begins with the spread after a connection was lost. */
typedef struct CpPace { Backoff backoff; } CpPace;
#define CP_PACE_INIT { .backoff = BACKOFF_DEFAULT }
uint64_t cp_pace(Cp *cp, CpPace *pace, CpKind kind);

/* Somebody on the host waits: ends the pauses of our own, for what waits, too. What the control plane asked for and the spread stand. */
void cp_hurry(Cp *cp);

uint64_t     cp_held_back(const Cp *cp);        /* how long a request made now would wait before it is sent; microseconds */
uint64_t     cp_crowded(const Cp *cp);          /* how long what can wait should: held back, or all who lost it come back; microseconds */
const Fault *cp_fault(const Cp *cp);    /* why the last request failed; NULL after a success */
const char  *cp_host(const Cp *cp);     /* for words: "host:port" of the control plane */
