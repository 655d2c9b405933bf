/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* From the bytes of one delivered envelope to a job: DSSE (payloadType application/vnd.molecule.job.v1+json), then the payload, strictly. */

#include "base/hash.h"
#include "base/text.h"
#include "provision/spec.h"
#include "secrets/envelope.h"

#define JOB_PAYLOAD_TYPE "application/vnd.molecule.job.v1+json"
#define JOB_PAYLOAD_MAX  (24 * 1024 * 1024)     /* what base64 leaves of a 32 MiB answer */

typedef enum JobType {
        JOB_PROVISION,
        JOB_DEPROVISION,
        JOB_RESTART,
        JOB_CONSOLE,
        JOB_IMAGE_ENSURE,
        JOB_REDEPLOY,
        JOB_DRAIN,
        JOB_UNDRAIN,
        JOB_HOLD,
        JOB_RELEASE,
        JOB_TEARDOWN,
        JOB_CANCEL,
        _JOB_TYPE_MAX,
} JobType;

/* What a job's generation is a place in. */
typedef enum JobLine {
        LINE_NONE,                      /* ordered by nothing, told apart by job_id */
        LINE_SPEC,                      /* the workspace's: what it should be */
        LINE_RESTART,                   /* the workspace's: when it was last to be made anew */
        LINE_REDEPLOY,                  /* the host's, from here on, a floor each */
        LINE_DRAIN,
        LINE_HOLD,                      /* one for each workspace besides */
        LINE_TEARDOWN,
        _LINE_MAX,
} JobLine;

const char *job_type_name(JobType t);           /* the wire name */
int         job_type_find(const char *name, JobType *ret);      /* -ENOENT */
JobLine     job_type_line(JobType t);
bool        job_type_names_workspace(JobType t);        /* in workspace_id of the payload */

/* Whose job it must be, and by which rules. time_usec: the control plane's time, 0 when unknown (then nothing expires). */
typedef struct JobRules {
        const char *org_id, *host_id;
        uint64_t    time_usec;
        const TrustedKeys *trusted;     /* whose signature a delivery must bear; NULL or none: not judged */
        SpecRules   spec;
} JobRules;

/* What could be read of a job even when it is refused: so that the refusal can be reported. Empty where unknown. */
typedef struct JobLabel {
        char     delivery_id[UUID_SIZE], job_id[UUID_SIZE], workspace_id[UUID_SIZE];
        char     type[64];
        bool     has_generation;
        uint64_t generation;
} JobLabel;

/* Limits of what is said, by the control plane or by an operator on the host. */
#define JOB_BODY_MAX         (32 * 1024 * 1024) /* bytes of a job, and of an answer that brings some */
#define JOB_REASON_MAX       512                /* bytes */
#define JOB_HOLD_SECONDS_MAX 31536000

typedef struct JobImage { char *runtime, *image_ref; } JobImage;

/* The `spec` of every type but workspace.provision. */
typedef struct JobArgs {
        bool       prune;                       /* deprovision */
        uint32_t   lines;                       /* console; 0: not said */
        char      *runtime, *image_ref;         /* image.ensure: one of them */
        uint64_t   image_size_bytes;            /* 0: unknown */
        JobImage  *images; size_t n_images;     /* redeploy: by runtime */
        StringList runtimes, workspaces;        /* redeploy: only these; none: all */
        bool       continue_on_error;
        char      *reason;                      /* drain, undrain, hold, release */
        uint32_t   seconds;                     /* hold; 0: until released */
        char       workspace_id[UUID_SIZE];     /* hold, release; "": the host */
        char      *confirm;                     /* teardown: the organization's slug */
        char       job_id[UUID_SIZE];           /* cancel */
} JobArgs;

typedef struct Job {
        JobType   type;
        char      job_id[UUID_SIZE], org_id[UUID_SIZE], host_id[UUID_SIZE], workspace_id[UUID_SIZE];   /* the last "" where the type has none */
        uint64_t  generation;                   /* 0 where the type has none */
        uint64_t  issued_at, expires_at;        /* microseconds since the epoch; expires_at 0: never */
        uint32_t  deadline_seconds;             /* 0: the host's */
        char      payload_hash[HASH_TEXT_SIZE];
        WorkspaceSpec *spec;                    /* JOB_PROVISION */
        JobArgs   args;                         /* every other type */
        char     *payload;                      /* the bytes as they were delivered, with a NUL behind them; NULL once they are stored */
        size_t    payload_size;
} Job;

/* label is filled as far as possible, whatever is returned. Expiry is judged by job_expired(), not here: a stored job never expires. */
int  job_open(const cJSON *delivery /* {delivery_id, envelope} */, const JobRules *rules, JobLabel *label, Job **ret, Fault *reterr);
int  job_parse(const char *payload, size_t size, const JobRules *rules, JobLabel *label, Job **ret, Fault *reterr);     /* keeps no payload */
void job_keep(Job *j, char *payload, size_t size);      /* owns payload */
bool job_expired(const Job *j, uint64_t time_usec);
Job *job_free(Job *j);

/* job-args.c: the tables of the types, and what is in them. */
int  job_args_parse(JobType t, const cJSON *spec, const JobRules *rules, JobArgs *ret, Fault *reterr);
void job_args_done(JobArgs *a);
DEFINE_CLEANUP(Job *, job_free)
