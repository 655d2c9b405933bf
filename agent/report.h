/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The sender of reports: takes batches from the outbox, one request at a time, until they are acknowledged. */

#include "agent/cp.h"
#include "agent/loops.h"
#include "agent/outbox.h"

typedef struct Reporter Reporter;

typedef struct ReporterEvents {
        void (*acked)(const char *report_id, void *userdata);
        void (*answered)(const CpAnswer *a, void *userdata);    /* how a batch went: for what concerns all loops (auth, revoked, in use) */
        void (*idle)(void *userdata);                           /* the outbox is empty */
        void *userdata;
} ReporterEvents;

/* Everything is borrowed. */
int       reporter_new(sd_event *event, Cp *cp, Outbox *outbox, const Identity *identity, Loops *loops, const ReporterEvents *events, Reporter **ret);
Reporter *reporter_free(Reporter *r);
DEFINE_CLEANUP(Reporter *, reporter_free)

void reporter_open(Reporter *r, bool open);     /* whether the control plane may be spoken to (registered, not revoked) */
void reporter_wake(Reporter *r, bool urgent);   /* something was added; urgent: accepted or final */
void reporter_hurry(Reporter *r);       /* somebody waits for it here: the pace after a failure ends */
unsigned reporter_refused(const Reporter *r);   /* reports the control plane would not take, since start */
