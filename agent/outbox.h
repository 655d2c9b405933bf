/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reports that wait to be taken by the control plane. Accepted and final ones lie on disk, one file each, until they are acknowledged; `running`
 * ones live in memory, the newest word per job, and may be lost. */

#include "base/json.h"

#define OUTBOX_REPORTS_MAX 10000
#define OUTBOX_BYTES_MAX   (64 * 1024 * 1024)

typedef struct Outbox Outbox;

int     outbox_open(int state_fd, Outbox **ret, Fault *reterr);         /* loads what lies there; damaged files go to quarantine/ */
Outbox *outbox_free(Outbox *o);
DEFINE_CLEANUP(Outbox *, outbox_free)

/* Owns report. durable: written and fsynced before this returns 0; what is there already (same report_id) is not written again. A failed write keeps
 * the report in memory and says so (state_degraded). */
int outbox_add(Outbox *o, cJSON *report, bool durable, Fault *reterr);

bool   outbox_knows(const Outbox *o, const char *report_id);    /* it waits here */
bool   outbox_is_full(const Outbox *o);         /* no new job may be accepted */
size_t outbox_depth(const Outbox *o);           /* durable ones */
uint64_t outbox_oldest(const Outbox *o);        /* when the oldest durable one was made, microseconds since the epoch; 0: none */
bool   outbox_is_empty(const Outbox *o);

/* The oldest reports, at most max and about 512 KiB, as an array of references (to be freed; the items stay the outbox's). NULL: none, or no memory. */
cJSON *outbox_batch(const Outbox *o, size_t max);

int    outbox_acked(Outbox *o, const char *report_id, Fault *reterr);   /* forgets it and its file; 0 also for an unknown id */
int    outbox_quarantine(Outbox *o, const char *report_id, Fault *reterr);      /* the control plane will never take it */
