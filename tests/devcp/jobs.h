/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Jobs: made and numbered here, followed to their outcome here. */

#include "tests/devcp/server.h"

typedef struct JobOrder {
        const char  *org_id, *host_id, *type;
        const char  *workspace_id;      /* NULL for host jobs */
        const cJSON *spec;              /* borrowed; NULL is {} */
        const cJSON *secrets;           /* borrowed, name to value: sealed into the spec; NULL: none. Needs a workspace */
        uint64_t     generation;        /* 0: the next of the type's line */
        uint64_t     expires_at;        /* microseconds since the epoch; 0: never */
        uint32_t     deadline_seconds;  /* 0: the agent's default */
} JobOrder;

/* Numbers the job, seals its secrets, builds its payload, stores the bytes and wakes the host's poll. -EFBIG (words in reterr) when no
 * answer to a poll could carry it, -ENOKEY when there are secrets and the host has no key. The workspace's row must exist. */
int job_create(Server *s, const JobOrder *order, char ret_job_id[static UUID_SIZE], Fault *reterr);

/* The same for bytes from the operator's door: nothing is added to them and nothing need be right about them. */
int job_create_raw(Server *s, const char *org_id, const char *host_id, const void *payload, size_t size, char ret_job_id[static UUID_SIZE],
                   Fault *reterr);

/* What a stored job was told to do. */
int job_spec(Server *s, const char *job_id, cJSON **ret_spec);

/* What became of a job, or of the one that superseded it: its row and its final report. -EAGAIN while that is open. */
int job_outcome(Server *s, const char *job_id, cJSON **ret_job, cJSON **ret_report);

/* Ends a waiting request with such an outcome that is no success. */
int job_answer_failure(Request *q, const cJSON *job, const cJSON *report);
