/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the flow share: the state of one job at work, and the few ways a step may end. A step's begin() starts one thing and
 * returns; each path out of it ends in exactly one of flow_next(), flow_back(), flow_fail() or flow_retry(), after which f may be gone. */

#include "provision/container.h"
#include "provision/flow.h"
#include "provision/gate.h"

typedef enum Step {
        STEP_IMAGE,             /* make the image present by digest */
        STEP_SECRETS,           /* seal the set of this generation, hand it over in memory */
        STEP_NETWORK,
        STEP_FIND,              /* which containers of this workspace are there: old, new, stale */
        STEP_CLEAR,             /* remove the stale ones (deprovision: all) */
        STEP_VOLUMES,
        STEP_CREATE,            /* or adopt what an earlier try of this job created */
        STEP_COMPARE,           /* which delivered files differ from the volume's */
        STEP_KEEP,              /* the old bytes of those, for undo */
        STEP_STOP,              /* the old one; from here the workspace is down */
        STEP_SEED,
        STEP_READ_BACK,
        STEP_START,             /* … and up again: names, which only follow, come after it */
        STEP_PREV,              /* old -> .prev */
        STEP_NAME,              /* new -> ws-<id> */
        STEP_GATE,
        STEP_UNDO_FIND,
        STEP_UNDO_RESCUE,       /* what the new one said, before it goes */
        STEP_UNDO_REMOVE,       /* the new one */
        STEP_UNDO_SECRETS,      /* the old one's own, in memory again */
        STEP_UNDO_FILES,        /* the kept bytes go back */
        STEP_UNDO_NAME,
        STEP_UNDO_START,
        STEP_UNDO_VOLUMES,      /* those a fresh provision made, unless it was started */
        STEP_RESCUE,            /* deprovision of what had failed: the same */
        STEP_FORGET_KEY,        /* deprovision that erases: the workspace's key, before anything else */
        STEP_ERASE,             /* … and its volumes */
        STEP_FORGET,            /* deprovision: sealed sets, and what is in memory */
        STEP_END,
        _STEP_MAX,
} Step;

struct Flow {
        const FlowContext *context;
        Workspace         *w;
        Job               *job;                 /* NULL for a deprovision */
        const Step        *way;
        size_t             at;                  /* way[at] is the step at work */
        bool               expired;             /* past its deadline; fails at the next step */
        bool               paused, superseded, removed_by, held, ended;
        uint64_t           deadline_left;       /* while it is held, microseconds */

        EngineCall        *call;                /* at most one of these four is waited for */
        ImageWait         *image_wait;
        Gate              *gate;
        sd_event_source   *timer;
        sd_event_source   *deadline;
        unsigned           tries;               /* of this step, after an engine error */
        int                group;               /* METRIC_STEP_… that is being measured; negative: none */
        uint64_t           group_since;         /* boottime; 0: none */
        uint64_t           trouble_since;       /* boottime since the engine is away; 0 */

        EngineImage        image;
        char              *old_id, *new_id, *taken_up;          /* taken_up: found running, though another repair had made it */
        char               old_name[CONTAINER_NAME_SIZE + 16], new_name[CONTAINER_NAME_SIZE + 16];
        uint64_t           old_generation;
        bool               old_running, new_created /* made, never started */;
        struct { char *id; bool running; } *doomed;
        size_t             n_doomed, index;     /* index: of the loop within a step */
        bool               doomed_stopped;
        bool               fresh[VOLUMES_MAX];  /* made by this job: nothing is in it but what this job put there */
        bool               measured;            /* the one at work was, once */
        bool               give[VOLUMES_MAX];   /* to be given to the workspace's user: no version has settled on it yet */
        bool              *differs;             /* by file of the spec */
        cJSON             *undo;                /* being collected; later, put back */
        size_t             undo_bytes;
        bool               names_unknown;       /* a rename's answer was lost */
        bool               rename_refused, name_taken;      /* once: names and containers are read anew, and the next refusal counts */
        bool               remade;              /* the container, once: for what lay in its way beneath the engine, or since it was gone */
        bool               port_retried, started, kept_running, volumes_gone;
        EngineContainer    container;           /* as the gate saw it last */
        char              *rescue;
};

static inline Step flow_step(const Flow *f) { return f->way[f->at]; }

void flow_next(Flow *f);
void flow_back(Flow *f, Step to);                               /* to an earlier step of the same way */
void flow_again(Flow *f, uint64_t usec);                        /* begin this step again after a pause */
void flow_fail(Flow *f, int r, const Fault *fault);
void flow_end(Flow *f, const FlowEnd *end);
int  flow_save(Flow *f, Fault *reterr);                         /* the workspace's record */
bool flow_note_started(Flow *f);                                /* in the record, not saved: whether a container of the job may have run. True: that is new */

/* For engine callbacks. True: the call went well. False: the answer was dealt with (waiting for the engine, another try, or failure) and
 * the callback returns at once. */
bool flow_answered(Flow *f, const EngineAnswer *a);
/* For the start of engine calls: negative r ends the flow's step. */
void flow_sent(Flow *f, int r);

bool flow_is_ours(const Flow *f, const EngineLabels *l);        /* this host, this org, this workspace */
bool flow_erases(const Flow *f);                                /* a removal that takes key and volumes along */

void flow_find_done(Flow *f);

void step_image(Flow *f);
void step_secrets(Flow *f);
void step_network(Flow *f);
void step_find(Flow *f);
void step_clear(Flow *f);
void step_volumes(Flow *f);
void step_create(Flow *f);
void step_compare(Flow *f);
void step_keep(Flow *f);
void step_stop(Flow *f);
void step_seed(Flow *f);
void step_read_back(Flow *f);
void step_prev(Flow *f);
void step_name(Flow *f);
void step_start(Flow *f);
void step_gate(Flow *f);
void step_rescue(Flow *f);
void step_undo_remove(Flow *f);
void step_undo_secrets(Flow *f);
void step_undo_files(Flow *f);
void step_undo_name(Flow *f);
void step_undo_start(Flow *f);
void step_undo_volumes(Flow *f);
void step_forget_key(Flow *f);
void step_erase(Flow *f);
void step_forget(Flow *f);
