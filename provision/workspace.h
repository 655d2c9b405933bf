/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A workspace as the disk remembers it: one small record, ws/<id>, and beside it the payloads it names. What must change together lives in
 * the record; its last write is the truth from which outbox and outcomes are rebuilt. */

#include "base/hash.h"
#include "base/record.h"
#include "base/text.h"
#include "provision/job.h"
#include "secrets/vault.h"

#define WORKSPACE_RECORD_MAX (1024 * 1024)

/* A version of the workspace: what was wanted of it, or what is settled. */
typedef struct Version {
        uint64_t  generation;
        char      job_id[UUID_SIZE];
        char     *runtime, *kind, *data_persistence;
        uint32_t  tier;
        char     *image_ref;            /* settled: what runs, by digest; wanted: only where the operator gave one */
        bool      own_image;            /* settled: its job said so, no pin and no roll */
        char     *container_id;         /* settled only */
        bool      failed;               /* wanted only: its job came to nothing; only a restart or a newer job takes it up */
} Version;

/* How far a job is, as far as a restart must know; what lies between is ensured again. */
typedef enum WorkPhase {
        WORK_BEGUN,                     /* nothing running was touched yet */
        WORK_SWAPPING,                  /* the old container may be stopped, files may be changed */
        WORK_UNDOING,                   /* it failed; cause says why */
        _WORK_PHASE_MAX,
} WorkPhase;

typedef struct Work {
        char      job_id[UUID_SIZE], delivery_id[UUID_SIZE], accepted_report_id[UUID_SIZE];
        JobType   type;
        bool      local;                /* ours, without a job of the control plane: a settled container that has to be made again, an erasure */
        bool      of_host;              /* a part of a job of the host (job_id is that one's): its end is told by that job */
        uint64_t  generation;           /* the job's place in its line */
        uint64_t  spec_generation;      /* whose payload and secrets it takes; a provision's own */
        uint32_t  deadline_seconds;
        bool      prune;
        WorkPhase phase;
        bool      cleared;              /* in memory only: a removal that erases, its key and its containers are gone */
        char     *image_ref;            /* resolved at acceptance: job or pin */
        char     *image_over;           /* image_ref came from a roll's `images`: the digest of the pin at that time, or "none" */
        uint64_t  image_size_bytes;
        char     *container_id, *old_container_id;
        bool      old_ran;              /* the old one ran before its stop */
        bool      started;              /* the new container was started: its volumes may hold its data */
        uint16_t  old_port;             /* of the old container, once the swap began; 0 */
        bool      cancelled;            /* it is being undone because someone wanted it so */
        bool      reported;             /* its outcome is out (rollback_failed); undo goes on with every sweep */
        Fault     cause;
} Work;

typedef struct Workspace {
        char      id[UUID_SIZE];
        uint64_t  spec_floor, restart_floor;
        uint64_t  first_generation;     /* of the job that made this record: what runs with a lower one is from before it was lost */
        char      spec_hash[HASH_TEXT_SIZE];    /* payload_hash of the job that moved the spec floor */
        char      spec_job_id[UUID_SIZE];
        char      restart_hash[HASH_TEXT_SIZE], restart_job_id[UUID_SIZE];      /* the same of the restart floor */
        char     *roll_image_ref;       /* a roll's image, kept over restarts until the pin of the runtime is another than roll_over; NULL */
        char     *roll_over;
        cJSON    *roll;                 /* how its part in the last roll ended: {job_id, phase, error?}; NULL */
        bool      stopped;              /* someone else stopped the settled container */
        uint64_t  erase_at;             /* when what is left of it goes, in microseconds since the epoch by the best clock; 0: no such end */
        uint16_t  port;                 /* 0: none yet */
        bool      removed;              /* deprovisioned: a tombstone */
        Version  *wanted, *settled;
        Work     *work, *next;          /* the job at work; one accepted that waits for it */
        Work     *overtaken;            /* the one that waited until the last of them came: its end must be told */
        cJSON    *outcome;              /* the last final report */
        bool      outcome_acked;        /* the control plane has it */
} Workspace;

/* <state>/ws, <state>/rescue, and what seals what lies in them. Borrowed. */
typedef struct WorkspaceDir { int fd, rescue_fd; Vault *vault; } WorkspaceDir;

Workspace *workspace_new(const char *id, uint64_t first_generation);
Workspace *workspace_free(Workspace *w);
Version   *version_new(const Job *j, const char *image_ref);    /* NULL when out of memory */
Version   *version_copy(const Version *v);                       /* the same */
Version   *version_free(Version *v);
Work      *work_new(const Job *j, const char *delivery_id);
Work      *work_free(Work *w);
DEFINE_CLEANUP(Workspace *, workspace_free)
DEFINE_CLEANUP(Version *, version_free)
DEFINE_CLEANUP(Work *, work_free)

/* Durable when 0. state_degraded otherwise. */
int workspace_save(const WorkspaceDir *d, const Workspace *w, Fault *reterr);
int workspace_load(const WorkspaceDir *d, const char *id, Workspace **ret, Fault *reterr);      /* -ENOENT, -EBADMSG … as record_read() */
int workspace_from_json(const cJSON *json, Workspace **ret, Fault *reterr);

/* The payload of an accepted provision, sealed: written before the record names it, kept while wanted, settled, work or next does.
 * payload_load(): -ENOENT, -EBADMSG (damaged), -ENOKEY (nothing can be opened here now). */
int payload_save(const WorkspaceDir *d, const char *id, const Job *j, Fault *reterr);
int payload_load(const WorkspaceDir *d, const char *id, uint64_t generation, const JobRules *rules, Job **ret, Fault *reterr);

/* The bytes that a replacement is about to change, sealed: {"files": {NAME: base64}, "absent": [NAME…]}. */
int undo_save(const WorkspaceDir *d, const char *id, uint64_t generation, const cJSON *json, Fault *reterr);
int undo_load(const WorkspaceDir *d, const char *id, uint64_t generation, cJSON **ret, Fault *reterr);  /* -ENOENT */

bool workspace_names_generation(const Workspace *w, uint64_t generation);      /* as wanted, settled, at work or next */

/* Whether a file beside the record, ws/<id>.g<generation>.<what>, is still named by it; other files are. */
bool workspace_names(const Workspace *w, const char *file);

/* Removes the payloads and undo sets of one generation if the record does not name them (any more). */
void workspace_tidy(const WorkspaceDir *d, const Workspace *w, uint64_t generation);
void workspace_tidy_after(const WorkspaceDir *d, const Workspace *w, const Workspace *old);     /* of all that `old`, the same before, named */

/* From here on the job at work is undone, and the port is the old container's again. Not saved. */
void workspace_undo(Workspace *w, const Fault *cause);
int  work_fault_cancelled(Fault *reterr);       /* -ECANCELED, the cause of the undo of what was called off */

uint64_t workspace_generation(const Workspace *w);      /* of the wanted state, else settled's, else 0 */
