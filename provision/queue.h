/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* All workspaces of this host and all jobs on them: what is admitted, what waits, what is at work, what a restart takes up again. */

#include "engine/engine.h"
#include "engine/image.h"
#include "provision/pins.h"
#include "provision/report.h"
#include "provision/settings.h"
#include "secrets/vault.h"

typedef struct Queue Queue;

/* An image on its way. total: as far as it is known by now; layers that begin later add to it. Borrowed. */
typedef struct JobPull {
        const char *job_id, *workspace_id, *image_ref;  /* workspace_id NULL: a job of the host */
        uint64_t    bytes, total;
} JobPull;

/* One workspace, for whoever counts. Borrowed. */
typedef struct WorkspaceGlance {
        const char *id, *status;        /* as health has them */
        bool settled, crashing, held, pin_skew;
        bool replacing;                 /* a job has stopped a container that ran, and the gate of the new one has not ended */
} WorkspaceGlance;

typedef struct QueueEvents {
        void (*report)(cJSON *report, bool durable, void *userdata);    /* owns the report. durable: accepted and final ones */
        void (*pulling)(const JobPull *pull, void *userdata);           /* at most once a second for each */
        void (*again)(cJSON *report, void *userdata);                   /* the same for a final one that was told before, asked for once more */
        void (*changed)(void *userdata);                                /* health would say something else now */
        void (*recovered)(void *userdata);                              /* once: every settled workspace was looked after */
        void (*stopped)(void *userdata);                                /* after queue_stop(): no engine change is in flight */
        void (*sweeping)(void *userdata);                               /* a sweep goes on: the loop lives */
        void (*swept)(void *userdata);                                  /* a sweep ended */
        uint64_t (*time)(void *userdata);                               /* the control plane's clock, microseconds since the epoch; 0: unknown */
        const char *(*slug)(void *userdata);                            /* the organization's; NULL: unknown */
        bool (*torn_down)(void *userdata);                              /* everything of the organization is gone: destroy the keys; true: done */
} QueueEvents;

typedef struct QueueOptions {
        sd_event       *event;
        Http           *http;
        Engine         *engine;
        Images         *images;
        Pins           *pins;
        Vault          *vault;
        const Settings *settings;       /* borrowed; may change its members */
        int             state_fd;       /* borrowed */
        const char     *hold_file;      /* exists or unreadable: hold. Borrowed; NULL: none */
        QueueEvents     events;
        void           *userdata;
} QueueOptions;

/* Reads every record. A damaged one goes to quarantine/ and does not stop the others. */
int    queue_new(const QueueOptions *options, Queue **ret, Fault *reterr);
Queue *queue_free(Queue *q);
DEFINE_CLEANUP(Queue *, queue_free)

void queue_engine_state(Queue *q, EngineState state);
void queue_engine_event(Queue *q, const EngineEvent *event);

/* One delivery of the control plane. Answers by reports only. cp_time_usec: its clock, 0 when unknown. */
void queue_admit(Queue *q, const cJSON *delivery, uint64_t cp_time_usec);

void queue_pins_changed(Queue *q);      /* the pin table is another one */

/* One job of this host from a file: a DSSE envelope, or a bare payload object where no signature is required. dry_run: judged only. Answers by reports as
 * a delivery does; *ret_report is the first answer (accepted, final, or running where the job is at work already), owned by the caller. */
int queue_apply(Queue *q, const cJSON *envelope_or_payload, bool dry_run, uint64_t cp_time_usec, cJSON **ret_report, Fault *reterr);

/* What an operator on the host wants, without a generation; durable when 0. workspace_id NULL: the host; seconds 0: until released. */
int queue_hold_local(Queue *q, const char *workspace_id, uint64_t seconds, const char *reason, Fault *reterr);
int queue_release_local(Queue *q, const char *workspace_id, const char *reason, Fault *reterr);
int queue_drain_local(Queue *q, bool drain, const char *reason, Fault *reterr);
int queue_restart_local(Queue *q, const char *workspace_id, Fault *reterr);
int queue_cancel_local(Queue *q, const char *job_id, Fault *reterr);

void queue_stop(Queue *q);              /* SIGTERM: pulls and gates are dropped, no step is begun; stopped() comes when nothing is in flight */
bool queue_is_idle(const Queue *q);     /* no job is at work or waits */
bool queue_waits_for_release(const Queue *q);   /* something is at work, and all of it waits for the end of a hold */
void queue_wrote(Queue *q, int r, const Fault *fault);  /* a part of the state was written, or not: counts towards `degraded` */
bool queue_is_degraded(const Queue *q, Fault *ret);     /* state cannot be written: no job is accepted */

/* At start: emits again the accepted and final reports that the records hold and that are not known to have arrived, for an outbox that lost some. */
void queue_replay_reports(Queue *q);
void queue_report_acked(Queue *q, const char *report_id);       /* the control plane has it */

/* Owned by the caller; NULL when out of memory. */
cJSON *queue_holding(const Queue *q);   /* register: [{workspace_id, generation, state}] */
cJSON *queue_open_jobs(const Queue *q); /* register: [job_id] */
cJSON *queue_view(const Queue *q);      /* health: workspaces[] */
cJSON *queue_local_view(const Queue *q);        /* the same, with since and next_try_seconds where a workspace is not well */
bool   queue_knows(const Queue *q, const char *workspace_id);            /* it is on this host */
cJSON *queue_workspace_view(const Queue *q, const char *workspace_id);  /* one of them, with its versions and jobs; NULL, too: there is none */
cJSON *queue_jobs_view(const Queue *q);         /* [{job_id, type, source, state, ...}]: at work, waiting, in the order of their acceptance */
void queue_glance(const Queue *q, void (*fn)(const WorkspaceGlance *g, void *userdata), void *userdata);
cJSON *queue_foreign(const Queue *q);   /* health: containers managed by another host id, last seen */
cJSON *queue_hold_view(const Queue *q); /* {held, draining, torn_down, hold_file, drain_reason?, holds: [{workspace_id?, reason, until?}]} */
cJSON *queue_outcomes(const Queue *q, size_t max);               /* the newest finals that are kept, newest last */
cJSON *queue_outcomes_since(const Queue *q, uint64_t boottime_usec);    /* finals since then without results, newest last, at most 50 */
unsigned queue_jobs_running(const Queue *q);
bool     queue_is_held(const Queue *q);         /* the host as a whole */
bool     queue_is_draining(const Queue *q);
bool     queue_is_torn_down(const Queue *q);
uint64_t queue_host_generation(const Queue *q);
bool     queue_keeps_image(const Queue *q, const char *digest); /* wanted, settled, at work or pinned: not to be collected */
