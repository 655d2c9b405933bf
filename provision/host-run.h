/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A job of the host at work. What must outlive a restart is in its HostJob and in the records of the workspaces; this is the rest. */

#include "provision/queue-internal.h"

struct HostRun {
        HostRun         *next;
        Queue           *q;
        HostJob         *j;
        bool             own;           /* j lies nowhere else: a look at a console is not worth a record */
        bool             expired;       /* past its deadline */
        bool             over;          /* to be freed from the loop */
        ImageWait       *wait;
        EngineCall      *call;
        sd_event_source *deadline;
        int              progress;
        uint64_t         pull_bytes, pull_total;        /* image.ensure; total 0: none under way */
        int              phase;         /* teardown: which list is being worked off */
        cJSON           *list;          /* … and that list: names */
};

HostRun *host_run_begin(Queue *q, HostJob *j, bool own);        /* own: owns j, also on failure; NULL: out of memory */
HostRun *host_run_find(const Queue *q, const char *job_id);
void     host_run_tell(HostRun *r, Stage stage, int progress);  /* a `running` report, where it says something new */

/* The end: record (final in the place of the job), outcome, outbox. result is owned. r is over. */
void host_run_end(HostRun *r, ReportState state, const Fault *why, cJSON *result);

void host_ensure_begin(HostRun *r);
void host_console_begin(HostRun *r);

/* One look at how far it is: begins what may begin, ends what is done. Called whenever something may have changed. */
void host_redeploy_step(HostRun *r);
void host_teardown_step(HostRun *r);

/* redeploy.c: what a roll would mean, before it is accepted: 0 and *ret_plan; unknown_workspace (-ESRCH) where nothing matches. */
int host_redeploy_plan(const Queue *q, const Job *j, cJSON **ret_plan, Fault *reterr);
bool host_part_is_at_work(const Entry *e, const char *job_id);
