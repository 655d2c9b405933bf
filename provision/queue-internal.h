/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the queue share: queue.c (life of the whole), queue-admit.c (what comes in), queue-run.c (what is at work and how it
 * ends), sweep.c (what the engine shows), queue-view.c (what is told). */

#include "provision/flow.h"
#include "provision/outcomes.h"
#include "provision/queue.h"
#include "provision/reconcile.h"

#define REPAIR_PAUSE_USEC     (UINT64_C(30) * USEC_PER_SEC)
#define REPAIR_PAUSE_MAX_USEC (UINT64_C(600) * USEC_PER_SEC)

typedef struct Entry {
        Workspace      *w;
        Flow           *flow;
        uint64_t        seq;                    /* order of acceptance */
        uint64_t        changed_at;             /* boottime: a job was accepted or ended; what a sweep saw before that is stale */
        Stage           stage;
        int             progress;
        cJSON          *final;                  /* the outcome that could not be stored yet: tried again by every sweep */
        bool            at_once;                /* from the agent's start until it was seen running: started without waiting */
        bool            looked;                 /* a sweep has looked for the settled container since it was settled */
        bool            present, inspect;       /* … and saw it; it should be looked at closely */
        EngineContainer seen;                   /* as it was last seen; empty before */
        uint64_t        stopped_since;
        uint64_t        repair_after, repair_pause;     /* boottime: not before; grows with each failure */
        Fault           last_error;
        bool            unreadable;             /* the wanted payload cannot be opened: the control plane has to say it anew */
        bool            untidy;                 /* sets of generations that nobody names may lie about */
} Entry;

typedef enum SweepPhase { SWEEP_IDLE, SWEEP_LIST, SWEEP_ACT, SWEEP_INSPECT } SweepPhase;

typedef struct Sweep {
        SweepPhase       phase;
        sd_event_source *timer;                 /* when to begin the next */
        bool             wanted;                /* again as soon as this one ends */
        bool             listed;                /* the engine answered this one's list */
        uint64_t         began;                 /* boottime */
        EngineCall      *call;
        EngineContainers found;
        ReconcileAction *actions;
        size_t           n_actions, at;
} Sweep;

struct Queue {
        QueueOptions     o;
        FlowContext      context;
        WorkspaceDir     dir;
        Outcomes        *outcomes;
        Entry          **entries;
        size_t           n_entries;
        uint64_t         seq;
        sd_event_source *run;                   /* defer: begin what may begin, free what ended */
        bool             recovered, stopping, stopped;
        unsigned         write_failures, good_probes;
        Fault            degraded;
        Sweep            sweep;
        cJSON           *foreign;
};

/* queue.c */
Entry *queue_find(const Queue *q, const char *workspace_id);
Entry *queue_add(Queue *q, Workspace *w);                       /* owns w; NULL when out of memory (w is freed) */
void   queue_remove(Queue *q, Entry *e);
int    queue_save(Queue *q, Entry *e, Fault *reterr);           /* counts failures towards `degraded` */
void   queue_wake(Queue *q);                                    /* queue_run() from the loop */
void   queue_tell(Queue *q, cJSON *report, bool durable);       /* NULL: out of memory, logged */
void   queue_check_stopped(Queue *q);
int    queue_pick_port(Queue *q, Workspace *w);                 /* -ENOSPC */
void   queue_job_rules(const Queue *q, uint64_t time_usec, JobRules *ret);

/* queue-sealed.c: what is sealed beside the records */
void queue_check_sealed(Queue *q, Entry *e);                    /* at start: what is damaged is set aside and told */
void queue_tidy_sealed(Queue *q, const EngineContainers *found);

/* queue-run.c */
void queue_run(Queue *q);
bool queue_waits_for_root(const Queue *q, const Entry *e);      /* accepted before, and not to be begun without a root key */
void queue_flow_events(FlowEvents *ret);
void queue_final(Entry *e, ReportState state, Stage stage, const Fault *why, cJSON *result);   /* w->work ended; owns result */
bool queue_repair_ended(Entry *e, bool well, const Fault *why);         /* keeps the pause before the next try; true: to be reported */
void queue_repair(Queue *q, Entry *e);                          /* the settled container is gone */
Report queue_report_head(const Entry *e, const Work *k);

/* sweep.c */
int  sweep_new(Queue *q);
void sweep_done(Queue *q);
void sweep_soon(Queue *q);                                      /* something changed: within 200 ms */
void sweep_store_finals(Queue *q);
