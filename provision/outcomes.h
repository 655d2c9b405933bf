/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The last 1,000 job ids with how they ended, so that a job delivered again long after gets the same answer. One bounded record, `outcomes`. */

#include "base/json.h"
#include "base/text.h"

#define OUTCOMES_MAX 1000

typedef struct Outcomes Outcomes;

/* A damaged record is set aside and reported; the ring starts empty (the workspaces' records give the recent ones back). Negative: it cannot be read
 * now, and must not be written over. */
int       outcomes_open(int state_fd, Outcomes **ret, Fault *reterr);
Outcomes *outcomes_free(Outcomes *o);
DEFINE_CLEANUP(Outcomes *, outcomes_free)

const cJSON *outcomes_find(const Outcomes *o, const char *job_id);      /* the final report, without its result; NULL */

/* Those remembered since then (boottime, microseconds), newest last, at most max; an array of copies, NULL when out of memory. */
cJSON *outcomes_since(const Outcomes *o, uint64_t boottime_usec, size_t max);

/* Remembers a final report, once for each job_id. Without one only what an operator on the host did is kept, each time. Durable when 0; state_degraded otherwise (it is kept in memory all
 * the same). What is there already is not written again. */
int outcomes_add(Outcomes *o, const cJSON *report, Fault *reterr);

/* The same for what nothing else will remember, and is answered from here alone: kept only where it is durable. */
int outcomes_promise(Outcomes *o, const cJSON *report, Fault *reterr);

/* The same for what a start finds in other records, in memory alone, and as from before it: 1 where it was not there yet, 0 also where it is older than
 * a full ring; -ENOMEM. outcomes_save() then makes them durable in one write. */
int outcomes_recall(Outcomes *o, const cJSON *report);
int outcomes_save(Outcomes *o, Fault *reterr);
int outcomes_save_again(Outcomes *o);   /* what the disk would not take before, if there is any */
