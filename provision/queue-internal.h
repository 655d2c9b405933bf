/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the queue share: queue.c (life of the whole), queue-admit.c (what comes in), queue-accept.c (a workspace's job is taken),
 * queue-answer.c (what is said of a delivery), queue-run.c (what is at work), queue-end.c (how it ends), queue-host.c (jobs of the host; those that take
 * time are host-run.c, redeploy.c, teardown.c), sweep.c (what the engine shows), upkeep.c (what is done now and then), prefetch.c (images that are
 * fetched early), queue-sealed.c (what lies sealed beside the records), queue-view.c (what is told), queue-local.c (what an operator on the host wants),
 * queue-look.c (what such a one is shown). */

#include "provision/flow.h"
#include "provision/host-state.h"
#include "provision/outcomes.h"
#include "provision/queue.h"
#include "provision/reconcile.h"
#include "provision/tombstones.h"

#define REPAIR_PAUSE_USEC     (UINT64_C(30) * USEC_PER_SEC)
#define REPAIR_PAUSE_MAX_USEC (UINT64_C(600) * USEC_PER_SEC)

typedef struct Entry {
        const char     *id;                     /* w's; first, since by_id is in its order */
        Workspace      *w;
        Flow           *flow;
        uint64_t        seq;                    /* order of acceptance */
        uint64_t        changed_at;             /* boottime: a job was accepted or ended; what a sweep saw before that is stale */
        Stage           stage;
        int             progress;
        uint64_t        pull_bytes, pull_total; /* of the pull under way; total 0: none */
        cJSON          *final;                  /* the outcome that could not be stored yet: tried again by every sweep */
        bool            at_once;                /* from the agent's start until it was seen running: started without waiting */
        bool            looked;                 /* a sweep has looked for the settled container since it was settled */
        bool            present, inspect;       /* … and saw it; it should be looked at closely */
        EngineContainer seen;                   /* as it was last seen; empty before */
        uint64_t        stopped_since;          /* boottime; 0: it runs, or was not seen yet */
        bool            stop_sure;              /* down for so long that it is not the engine's own going */
        uint64_t        repair_after, repair_pause;     /* boottime: not before; grows with each failure */
        Fault           last_error;
        int64_t         restarts_before;        /* what the engine counted at the beginning of the window in which restarts are counted now */
        uint64_t        window_since;
        bool            crashing;               /* so many restarts within a window; until one passes without */
        bool            unreadable;             /* the wanted payload cannot be opened: the control plane has to say it anew */
        bool            untidy;                 /* sets of generations that nobody names may lie about */
} Entry;

typedef enum SweepPhase { SWEEP_IDLE, SWEEP_LIST, SWEEP_ACT, SWEEP_INSPECT } SweepPhase;

typedef struct Sweep {
        SweepPhase       phase;
        sd_event_source *timer;                 /* when to begin the next */
        bool             wanted;                /* again as soon as this one ends */
        bool             listed;                /* the engine answered this one's list */
        bool             done_looking;          /* … and the last one's */
        uint64_t         began;                 /* boottime */
        EngineCall      *call;
        EngineContainers found;
        Name            *ids;                   /* found's, in order */
        ReconcileAction *actions;
        size_t           n_actions, at;
} Sweep;

/* One delivery under judgement. */
typedef struct Delivery {
        JobLabel label;
        Job     *job;                           /* NULL: it was refused by a check */
        Fault    fault;
        uint64_t cp_time_usec;
        bool     dry_run;                       /* judged, and nothing else: the answer goes to Queue.capture alone */
} Delivery;

typedef struct Prefetch Prefetch;
typedef struct HostRun HostRun;                 /* a job of the host at work */

struct Queue {
        QueueOptions     o;
        FlowContext      context;
        WorkspaceDir     dir;
        Outcomes        *outcomes;
        bool             recalled;              /* at start: the records knew outcomes that were missing there */
        Entry          **entries;
        void            *by_id;                 /* the same in a tree */
        size_t           n_entries;
        uint64_t         seq;
        sd_event_source *run;                   /* defer: begin what may begin, free what ended */
        bool             recovered, stopping, stopped;
        unsigned         write_failures, good_probes;
        bool             wanting;               /* a job could not begin for want of memory or descriptors, and that was said */
        Fault            degraded;
        Sweep            sweep;
        cJSON           *foreign;
        HostState       *host;
        HostRun         *runs;                  /* list */
        Tombstones      *tombstones;
        Prefetch        *prefetch;
        sd_event_source *hold_watch;            /* inotify on the directory of the hold file; NULL: looked at by sweeps */
        bool             was_held;
        bool             untold;                /* a durable report was lost for want of memory: the next sweep tells anew what records hold */
        cJSON          **capture;               /* queue_apply(): where the first answer goes, too */
};

/* queue.c */
bool   queue_is_ours(int r);                                    /* a failure for want of memory or descriptors: it says nothing about what was opened */
int    queue_load_payload(const Queue *q, const Workspace *w, uint64_t generation, Job **ret, Fault *reterr);     /* as payload_load() */
Entry *queue_find(const Queue *q, const char *workspace_id);
Entry *queue_add(Queue *q, Workspace *w);                       /* owns w; NULL when out of memory (w is freed) */
void   queue_remove(Queue *q, Entry *e);
int    queue_save(Queue *q, Entry *e, Fault *reterr);           /* counts failures towards `degraded` */
void   queue_wake(Queue *q);                                    /* queue_run() from the loop */
void   queue_tell(Queue *q, cJSON *report, bool durable);       /* NULL: out of memory, logged */
void   queue_tell_again(Queue *q, cJSON *report, bool durable); /* the same for what is not the end of a job, or was told before */
void   queue_check_stopped(Queue *q);
int    queue_pick_port(Queue *q, Workspace *w);                 /* -ENOSPC */
void   queue_job_rules(const Queue *q, uint64_t time_usec, JobRules *ret);

uint64_t queue_now(const Queue *q);             /* microseconds since the epoch: the control plane's clock, else our own */
bool   queue_holds(const Queue *q, const char *workspace_id);   /* nothing of it may be changed; NULL: of the host */
void   queue_hold_changed(Queue *q);            /* what waited goes on, or health says so */

/* queue-answer.c: what is said of a delivery */
void queue_answer_final(Queue *q, const Delivery *d, ReportState state, const Fault *why, cJSON *result);      /* owns result */
void queue_answer_again(Queue *q, const Delivery *d, const cJSON *outcome);
void queue_answer_equal(Queue *q, const Delivery *d, const char *hash, uint64_t floor);        /* its generation is the floor's */
void queue_answer_running(Queue *q, const Delivery *d, Stage stage, int progress);
void queue_answer_dry(Queue *q, const Delivery *d);             /* it would be accepted */
Report queue_answer_head(const Delivery *d);
const cJSON *queue_recorded(const Queue *q, const Entry *e, const char *job_id);        /* how it ended; NULL */
cJSON *queue_floor_result(uint64_t floor);
bool queue_is_at_work(const Entry *e, const char *job_id);

/* queue-accept.c: a workspace's job above its floors */
void queue_accept(Queue *q, Entry *e, const Delivery *d);
int  queue_resolve_image(const Queue *q, const Workspace *w, const char *runtime, const char *own_ref, uint64_t own_size, char **ret_ref,
                         uint64_t *ret_size, Fault *reterr);
void queue_put(Workspace *w, Work *k);          /* at work, or in line: whoever waited is overtaken, by the write to come; owns k */
/* What is wanted without k, which waited: what is at work, else what is settled. ret_old: what was wanted, to free or to put back; NULL: nothing has
 * changed. -ENOMEM */
int  queue_unwant(const Queue *q, Workspace *w, const Work *k, Version **ret_old);
void queue_tell_overtaken(Queue *q, Entry *e);  /* after that write */
void queue_accepted(Queue *q, Entry *e, const Work *k, cJSON *report);

/* queue-host.c: the host's own line, and jobs that no line orders */
void queue_admit_host(Queue *q, const Delivery *d, Job **job /* taken where it is kept */);
void host_run_all(Queue *q);                    /* begins what is not at work yet, looks after what is */
void host_run_free_all(Queue *q);
void host_part_ended(Queue *q, Entry *e);       /* a part of a host's job on this workspace is over */
int  host_save(Queue *q, Fault *reterr);        /* counts failures towards `degraded` */
int  host_set_hold(Queue *q, HostHold *o, bool held, const char *reason, uint64_t seconds, HostHold *ret_old); /* in memory; -ENOMEM */
int  queue_cancel(Queue *q, const char *job_id, Fault *reterr); /* 0; -EALREADY (too_late) with words; -ENOENT: not seen here */

cJSON *queue_local_one(const Queue *q, const Entry *e);         /* queue-view.c: as an operator here sees it */
int    pull_percent(uint64_t bytes, uint64_t total);            /* 0..99: the end of a pull is said by what comes behind it */

/* upkeep.c */
void upkeep(Queue *q);                          /* after each sweep that saw the engine */
void upkeep_note_restarts(Queue *q, Entry *e, int64_t restart_count);

/* prefetch.c */
int  prefetch_new(Queue *q, Prefetch **ret);
Prefetch *prefetch_free(Prefetch *p);
void prefetch_look(Prefetch *p);                /* pins may have changed */

/* queue-sealed.c: what is sealed beside the records */
void queue_check_sealed(Queue *q, Entry *e);                    /* at start: what is damaged is set aside and told */
void queue_tidy_sealed(Queue *q, const EngineContainers *found);

/* queue-run.c */
void queue_run(Queue *q);
int  queue_new_flow(Queue *q, Entry *e, Job *job);              /* owns job */
bool queue_waits_for_root(const Queue *q, const Entry *e);      /* accepted before, and not to be begun without a root key */
void queue_flow_events(FlowEvents *ret);

/* queue-end.c */
void queue_done(Queue *q, Entry *e, const FlowEnd *end);
void queue_end_unbegun(Queue *q, Entry *e, ReportState state, const Fault *why);        /* w->work never had a flow, or has none any more */
void queue_final(Entry *e, ReportState state, Stage stage, const Fault *why, cJSON *result);   /* w->work ended; owns result */
int  queue_store_final(Queue *q, Entry *e, Version *settled /* owned when 0 */, bool removed);
bool queue_repair_ended(Entry *e, bool well, const Fault *why);         /* keeps the pause before the next try; true: to be reported */
void queue_repair(Queue *q, Entry *e);                          /* the settled container is gone */
Report queue_report_head(const Entry *e, const Work *k);

/* sweep.c */
int  sweep_new(Queue *q);
void sweep_done(Queue *q);
void sweep_soon(Queue *q);                                      /* something changed: within 200 ms */
void sweep_store_finals(Queue *q);
