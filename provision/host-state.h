/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The host as the disk remembers it: one record, `host`. The floors of its own line, what it must not do (drain, holds, torn down), its jobs that are
 * not done, and the finals of those that are, until the control plane has them. */

#include "provision/job.h"
#include "provision/report.h"

#define HOST_JOBS_MAX   32                      /* open at once; more wait at the control plane */
#define HOST_FINALS_MAX (512 * 1024)            /* bytes of finals kept; what is older is in the outbox only */
#define HOST_FINAL_MAX  (256 * 1024)            /* of one; a longer one is kept without its result */
#define HOST_HOLDS_MAX  1024

/* The highest accepted job of a line. */
typedef struct HostFloor {
        uint64_t generation;
        char     hash[HASH_TEXT_SIZE], job_id[UUID_SIZE];
} HostFloor;

typedef struct HostHold {
        char      workspace_id[UUID_SIZE];      /* "": the host */
        HostFloor floor;
        bool      held;
        char     *reason;
        uint64_t  until;                        /* microseconds since the epoch by the best clock; 0: until released */
} HostHold;

/* A job that takes time: image.ensure, host.redeploy, host.teardown. */
typedef struct HostJob {
        char     delivery_id[UUID_SIZE], accepted_report_id[UUID_SIZE];
        Job     *job;
        char    *payload;                       /* its bytes, from which job is made again at start */
        cJSON   *plan;                          /* what was worked out once, when it began; NULL: nothing */
        bool     cancelled;                     /* asked to stop */
} HostJob;

typedef struct HostState {
        int        state_fd;
        HostFloor  redeploy, drain, teardown;
        HostHold  *holds;   size_t n_holds;
        bool       draining;
        char      *drain_reason;
        char       torn_down[UUID_SIZE];        /* the organization it was torn down for; "": it was not */
        HostJob  **jobs;    size_t n_jobs;
        cJSON     *finals;                      /* array of reports */
} HostState;

/* 0 with words in reterr where the record is damaged: it is set aside, and floors, holds and drain start anew. Negative: it cannot be read now. */
int        host_state_open(int state_fd, const JobRules *rules, HostState **ret, Fault *reterr);
HostState *host_state_free(HostState *h);
DEFINE_CLEANUP(HostState *, host_state_free)

int host_state_save(const HostState *h, Fault *reterr);         /* durable when 0 */

HostFloor *host_state_floor(HostState *h, const Job *j);        /* of its line; of a hold that is not there yet: made. NULL: out of memory or room */
HostHold  *host_state_hold(HostState *h, const char *workspace_id);     /* NULL: none was ever set */
HostHold  *host_state_hold_make(HostState *h, const char *workspace_id);
bool       host_state_holds(const HostState *h, const char *workspace_id /* NULL: the host only */, uint64_t now_usec);
bool       host_state_expire(HostState *h, uint64_t now_usec);  /* ends what is over; true if something was */
uint64_t   host_state_generation(const HostState *h);           /* the highest of the host's line */

HostJob *host_state_find(const HostState *h, const char *job_id);
int      host_state_add(HostState *h, HostJob *j);              /* owns j, also on failure */
HostJob *host_state_take(HostState *h, HostJob *j, cJSON *final);       /* in memory: j goes to the caller, its final (owned) takes its place */
void     host_state_keep_final(HostState *h, cJSON *final);              /* owned */
void     host_state_forget_final(HostState *h, const char *report_id, bool *ret_found);
HostJob *host_job_new(Job *job /* owned */, const char *delivery_id);
HostJob *host_job_free(HostJob *j);
