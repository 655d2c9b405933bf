/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the records want against what the engine shows: which actions make them agree. Pure. Absence of a record never removes a workspace:
 * what is not in a record is left alone. */

#include "base/names.h"
#include "engine/engine-json.h"

#define STOPPED_SURE_USEC  (UINT64_C(20) * 1000000)     /* before that it may be the engine itself that goes */
#define STOPPED_GRACE_USEC (UINT64_C(300) * 1000000)    /* a container that someone else stopped is left so for five minutes */

typedef struct ReconcileWorkspace {
        const char *id;
        const char *settled_container;  /* NULL: nothing is settled */
        bool        busy;               /* a job is at work on it: its containers are the job's affair, but for a settled one that was not touched yet */
        bool        touched;            /* that job is past the stop */
        uint64_t    floor;              /* what carries a higher generation is not judged: this state may be an older copy */
        bool        at_once;            /* not seen running since the agent's start: no five minutes */
        bool        held;               /* nothing is changed; at the agent's start what no one had stopped is started all the same */
        bool        stopped;            /* someone else had stopped the settled one */
        uint64_t    first_generation;   /* of the job that made the record; what runs with a lower one is from before it was lost */
        bool        removed;            /* deprovisioned: whatever of it turns up is a leftover */
        uint64_t    stopped_since;      /* boottime at which the settled one was first seen stopped; 0: not */
} ReconcileWorkspace;

typedef enum ReconcileVerb {
        RECONCILE_START,                /* the settled container */
        RECONCILE_MAKE,                 /* the settled container is gone: make it again */
        RECONCILE_REMOVE,               /* a leftover of ours; never one that runs and may be all there is: from before the record was lost, or in place of a settled one that is gone */
} ReconcileVerb;

typedef struct ReconcileAction {
        ReconcileVerb verb;
        size_t        workspace;        /* index */
        const char   *container_id;     /* borrowed from found; NULL for MAKE */
} ReconcileAction;

typedef struct ReconcileRules {
        const char *host_id, *org_id;
        uint64_t    now;                /* boottime */
        bool        starting;           /* the first look after start: nothing waits five minutes */
} ReconcileRules;

/* ids: those of found, in order. At most max actions; returns how many. -ENOMEM. */
int reconcile(const ReconcileRules *rules, const ReconcileWorkspace *workspaces, size_t n, const EngineContainers *found, const Name *ids,
              ReconcileAction *ret, size_t max);
