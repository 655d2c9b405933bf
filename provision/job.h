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
        _JOB_TYPE_MAX,
} JobType;
const char *job_type_name(JobType t);           /* the wire name */
int job_type_find(const char *name, JobType *ret);      /* -ENOENT */

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

typedef struct Job {
        JobType   type;
        char      job_id[UUID_SIZE], org_id[UUID_SIZE], host_id[UUID_SIZE], workspace_id[UUID_SIZE];
        uint64_t  generation;
        uint64_t  issued_at, expires_at;        /* microseconds since the epoch; expires_at 0: never */
        uint32_t  deadline_seconds;             /* 0: the host's */
        char      payload_hash[HASH_TEXT_SIZE];
        WorkspaceSpec *spec;                    /* JOB_PROVISION */
        bool      prune;                        /* JOB_DEPROVISION */
        char     *payload;                      /* the bytes as they were delivered; NULL once they are stored */
        size_t    payload_size;
} Job;

/* label is filled as far as possible, whatever is returned. Expiry is judged by job_expired(), not here: a stored job never expires. */
int  job_open(const cJSON *delivery /* {delivery_id, envelope} */, const JobRules *rules, JobLabel *label, Job **ret, Fault *reterr);
int  job_parse(const char *payload, size_t size, const JobRules *rules, JobLabel *label, Job **ret, Fault *reterr);
bool job_expired(const Job *j, uint64_t time_usec);
Job *job_free(Job *j);
DEFINE_CLEANUP(Job *, job_free)
