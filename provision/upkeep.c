/* SPDX-License-Identifier: Apache-2.0 */

/* What is done now and then, after a sweep that saw the engine: volumes whose time is over go, records of what is gone become tombstones, holds end by
 * themselves, images are collected under pressure; and what restarts too often is called so, once. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "provision/queue-internal.h"

/* ── volumes whose time is over ──────────────────────────────────────────────────────────────────────────────── */

static bool is_idle(const Entry *e) { return !e->w->work && !e->w->next && !e->flow && !e->final; }

/* By the control plane's clock only, and one that was heard in this boot: a wrong clock of ours must not erase what someone may still want. */
static void erase_due(Queue *q) {
        uint64_t now = q->o.events.time(q->o.userdata);

        for (size_t i = 0; i < q->n_entries && now; i++) {
                Entry *e = q->entries[i];
                Work *k;

                if (!e->w->erase_at || now < e->w->erase_at || !is_idle(e) || e->w->settled || queue_holds(q, e->w->id) ||
                    now_boottime() < e->repair_after)
                        continue;
                k = calloc(1, sizeof *k);
                if (!k || uuid_make(k->job_id) < 0) {
                        free(k);
                        return;
                }
                k->type = JOB_DEPROVISION;
                k->local = k->prune = true;
                k->generation = e->w->spec_floor;
                k->spec_generation = workspace_generation(e->w);
                log_write(LOG_NOTICE, &(LogFields) { .workspace_id = e->w->id }, "Its volumes have outlived it for long enough; they are erased.");
                e->w->work = k;
                queue_wake(q);                  /* not saved: a restart comes here again */
        }
}

/* ── tombstones ──────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_dead(const Entry *e) {
        const Workspace *w = e->w;
        return w->removed && !w->erase_at && is_idle(e) && !e->untidy && (!w->outcome || w->outcome_acked);
}

static bool is_being_torn_down(const Queue *q) {
        for (size_t i = 0; i < q->host->n_jobs; i++)
                if (q->host->jobs[i]->job->type == JOB_TEARDOWN)
                        return true;
        return false;
}

/* The tombstones first, in one write, then the records: a crash between them leaves both, and a record wins. */
static void bury(Queue *q) {
        Fault why = {};
        bool any = false;

        if (is_being_torn_down(q))
                return;                         /* its receipt counts the records */
        for (size_t i = 0; i < q->n_entries; i++)
                if (is_dead(q->entries[i]) && !(any = tombstones_add(q->tombstones, q->entries[i]->w) >= 0))
                        break;                  /* none goes without its tombstone: all of them after the next sweep */
        if (!any)
                return;
        if (tombstones_save(q->tombstones, &why) < 0) {
                queue_wrote(q, -EIO, &why);
                return;
        }
        for (size_t i = q->n_entries; i-- > 0;)
                if (is_dead(q->entries[i]) && file_remove(q->dir.fd, q->entries[i]->w->id) >= 0)
                        queue_remove(q, q->entries[i]);
}

/* ── crash loops ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void tell_crash_loop(Queue *q, Entry *e, int64_t restarts) {
        Report r = { .source = "local", .workspace_id = e->w->id, .generation = workspace_generation(e->w), .state = REPORT_FAILED,
                     .stage = STAGE_FAILED, .progress = -1 };

        e->last_error = (Fault) {};
        (void) fault(&e->last_error, -EIO, FAULT_CRASH_LOOP, "The workspace's process ended %lld times within %u seconds (exit code %lld).",
                     (long long) restarts, q->o.settings->crash_loop_window_seconds, (long long) e->seen.exit_code);
        log_write(LOG_ERR, &(LogFields) { .workspace_id = e->w->id, .event = EVENT_WORKSPACE_CRASHES, .fault = &e->last_error }, "%s", e->last_error.text);
        r.fault = &e->last_error;
        queue_tell_again(q, report_make(&r, NULL), true);
        q->o.events.changed(q->o.userdata);
}

void upkeep_note_restarts(Queue *q, Entry *e, int64_t restarts) {
        uint64_t now = now_boottime(), window = q->o.settings->crash_loop_window_seconds * USEC_PER_SEC;
        bool passed = e->window_since && now - e->window_since > window;

        if (!e->window_since || restarts < e->restarts_before || passed) {
                if (e->crashing && passed && restarts == e->restarts_before) {
                        e->crashing = false;
                        e->last_error = (Fault) {};
                        log_write(LOG_NOTICE, &(LogFields) { .workspace_id = e->w->id, .event = EVENT_WORKSPACE_CALM }, "The workspace has not restarted for a while.");
                        q->o.events.changed(q->o.userdata);
                }
                e->window_since = now;
                e->restarts_before = restarts;
        }
        if (e->crashing || restarts - e->restarts_before < (int64_t) q->o.settings->crash_loop_restarts)
                return;
        e->crashing = true;
        tell_crash_loop(q, e, restarts - e->restarts_before);
}

/* ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A hold that is over by the clock is over without a word; who waits is woken. */
static void end_holds(Queue *q) {
        bool expired = host_state_expire(q->host, queue_now(q));

        if (expired)
                (void) host_save(q, NULL);      /* ignoring: the clock ends it again */
        if (expired || queue_is_held(q) != q->was_held)
                queue_hold_changed(q);
}

void upkeep(Queue *q) {
        end_holds(q);
        for (size_t i = 0; i < q->n_entries; i++)
                if (q->entries[i]->crashing && q->entries[i]->present)
                        q->entries[i]->inspect = true;  /* whether it is over shows only to one who looks */
        erase_due(q);
        bury(q);
        if (!queue_is_held(q))
                images_collect(q->o.images);
        prefetch_look(q->prefetch);
}
