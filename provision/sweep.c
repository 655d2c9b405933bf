/* SPDX-License-Identifier: Apache-2.0 */

/* Level-triggered truth: list the containers, work out what should be done (reconcile.c), do it, look closely at what changed. An engine event
 * only brings the next sweep nearer; a lost one costs a minute. The first sweep after start is the local recovery: jobs begin after it. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/ballast.h"
#include "base/log.h"
#include "base/record.h"
#include "provision/queue-internal.h"
#include "provision/secrets.h"

#define SWEEP_USEC      (60 * USEC_PER_SEC)
#define SWEEP_SOON_USEC (150 * USEC_PER_MSEC)
#define SWEEP_AGAIN_USEC (2 * USEC_PER_SEC)     /* after a list that failed */
#define SWEEP_SLACK     (5 * USEC_PER_SEC)
#define GOOD_PROBES     2

static void sweep_begin(Queue *q);
static void act(Queue *q);
static void inspect(Queue *q);

static void arm(Queue *q, uint64_t usec, uint64_t slack) {
        (void) sd_event_source_set_time_relative(q->sweep.timer, usec);
        (void) sd_event_source_set_time_accuracy(q->sweep.timer, slack);
        (void) sd_event_source_set_enabled(q->sweep.timer, SD_EVENT_ONESHOT);
}

void sweep_soon(Queue *q) {
        uint64_t due;

        if (q->sweep.phase != SWEEP_IDLE)
                q->sweep.wanted = true;
        else if (sd_event_source_get_time(q->sweep.timer, &due) < 0 || due > now_boottime() + SWEEP_SOON_USEC)
                arm(q, SWEEP_SOON_USEC, USEC_PER_MSEC);         /* a stream of events must not put it off for ever */
}

static void clear_found(Sweep *s) {
        engine_containers_done(&s->found);
        s->found = (EngineContainers) {};
        s->ids = (free(s->ids), NULL);
        s->actions = (free(s->actions), NULL);
        s->n_actions = s->at = 0;
}

/* Degraded ends when the disk takes two probe records in a row, and has room for the ballast. */
static void probe_disk(Queue *q) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        Fault why = {};

        if (!q->degraded.set || !json)
                return;
        if (ballast_make(q->o.state_fd) == -ENOSPC || record_write(q->o.state_fd, "probe", "probe", json, &why) < 0) {
                q->good_probes = 0;
                return;
        }
        if (++q->good_probes < GOOD_PROBES) {
                q->sweep.wanted = true;
                return;
        }
        q->degraded = (Fault) {};
        q->write_failures = 0;
        log_write(LOG_NOTICE, &(LogFields) { .event = EVENT_STATE_BACK }, "State can be written again; jobs are accepted.");
        q->o.events.changed(q->o.userdata);
}

static void retry_undo(Queue *q) {
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];

                if (e->w->work && e->w->work->reported && !e->flow && !e->final && flow_new(&q->context, e->w, NULL, &e->flow) >= 0)
                        flow_begin(e->flow);
        }
}

/* The next sweep of itself: in its turn, or when the first stop is old enough to be told. Sweeps in between must not put that off. */
static void arm_next(Queue *q) {
        uint64_t now = now_boottime(), wait = SWEEP_USEC;

        for (size_t i = 0; i < q->n_entries; i++) {
                const Entry *e = q->entries[i];
                uint64_t sure_at = e->stopped_since + STOPPED_SURE_USEC, left = sure_at > now ? sure_at - now : STOPPED_SURE_USEC;

                if (e->stopped_since && !e->stop_sure && left < wait)
                        wait = left;
        }
        arm(q, wait, wait < SWEEP_USEC ? USEC_PER_SEC : SWEEP_SLACK);
}

static void sweep_end(Queue *q) {
        Sweep *s = &q->sweep;

        s->done_looking = s->listed;
        if (s->listed)
                queue_tidy_sealed(q, &s->found);
        clear_found(s);
        s->phase = SWEEP_IDLE;
        if (!q->recovered && s->listed) {
                q->recovered = true;
                q->o.events.recovered(q->o.userdata);
                queue_wake(q);
        }
        probe_disk(q);
        sweep_store_finals(q);
        if (s->done_looking && !q->stopping)
                upkeep(q);
        if (!q->stopping)
                retry_undo(q);
        if (!q->stopping && TAKE(q->untold, false))
                queue_replay_reports(q);
        if (s->wanted)
                arm(q, SWEEP_SOON_USEC, USEC_PER_MSEC);
        else if (!s->listed && engine_state(q->o.engine) == ENGINE_UP)
                arm(q, SWEEP_AGAIN_USEC, USEC_PER_MSEC);
        else
                arm_next(q);
        s->wanted = false;
        q->o.events.swept(q->o.userdata);
}

/* ── look closely ────────────────────────────────────────────────────────────────────────────────────────────── */

static bool view_changed(const EngineContainer *a, const EngineContainer *b) {
        return a->running != b->running || a->restarting != b->restarting || a->restart_count != b->restart_count ||
               a->health != b->health || a->exit_code != b->exit_code || !str_equal(a->started_at, b->started_at);
}

static void on_inspect(const EngineAnswer *a, void *userdata) {
        Queue *q = userdata;
        Entry *e = q->sweep.at < q->n_entries ? q->entries[q->sweep.at] : NULL;
        EngineContainer c = {};

        q->sweep.call = NULL;
        q->sweep.at++;
        q->o.events.sweeping(q->o.userdata);
        if (e && a->r == 0 && e->w->settled && engine_container_parse(a->json, q->o.settings->network, &c, NULL) == 0 &&
            str_equal(c.id, e->w->settled->container_id)) {
                e->inspect = false;
                if (view_changed(&c, &e->seen))
                        q->o.events.changed(q->o.userdata);
                engine_container_done(&e->seen);
                e->seen = c;
                upkeep_note_restarts(q, e, c.restart_count);
        } else
                engine_container_done(&c);
        inspect(q);
}

static void inspect(Queue *q) {
        Sweep *s = &q->sweep;

        for (; s->at < q->n_entries; s->at++) {
                Entry *e = q->entries[s->at];

                if (e->inspect && e->present && e->w->settled &&
                    engine_container_inspect(q->o.engine, e->w->settled->container_id, on_inspect, q, &s->call) >= 0)
                        return;
        }
        sweep_end(q);
}

static void begin_inspect(Queue *q) {
        q->sweep.phase = SWEEP_INSPECT;
        q->sweep.at = 0;
        inspect(q);
}

/* ── act ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_cleared(const EngineAnswer *a, void *userdata) {
        Queue *q = userdata;
        Entry *e = q->entries[q->sweep.actions[q->sweep.at].workspace];

        q->sweep.call = NULL;
        q->o.events.sweeping(q->o.userdata);
        if (a->r == 0 && a->status != 404) {    /* else it is started again after the pause, and cleared again: an engine may list what is not there */
                e->repair_after = e->repair_pause = 0;
                q->sweep.wanted = true;
        }
        q->sweep.at++;
        act(q);
}

/* It would never start again, for what is in its way or for a network that is gone; gone itself, it is made anew by the next sweep. Not under a hold,
 * and not where a job has come meanwhile. */
static bool clear(Queue *q, Entry *e, const ReconcileAction *action, const EngineAnswer *a) {
        if (queue_holds(q, e->w->id) || e->changed_at >= q->sweep.began ||
            engine_container_remove(q->o.engine, action->container_id, on_cleared, q, &q->sweep.call) < 0)
                return false;
        if (a->r == -EUCLEAN)
                flow_log_left_behind(e->w->id, &a->fault);
        return true;
}

static void on_acted(const EngineAnswer *a, void *userdata) {
        Queue *q = userdata;
        const ReconcileAction *action = &q->sweep.actions[q->sweep.at];
        Entry *e = action->workspace < q->n_entries ? q->entries[action->workspace] : NULL;
        LogFields l = { .workspace_id = e ? e->w->id : NULL, .fault = &a->fault };
        bool starts = action->verb == RECONCILE_START;

        q->sweep.call = NULL;
        q->o.events.sweeping(q->o.userdata);
        if (e && a->r < 0 && (starts || a->r != -ENOENT)) {
                log_write(LOG_WARNING, &l, "The sweep could not %s a container: %s", starts ? "start" : "remove", a->fault.text);
                if (starts)
                        (void) queue_repair_ended(e, false, &a->fault);
                if (starts && (a->r == -EUCLEAN || a->r == -ENOENT) && clear(q, e, action, a))
                        return;
        } else if (e && starts) {
                log_write(LOG_NOTICE, &(LogFields) { .workspace_id = e->w->id, .event = EVENT_WORKSPACE_STARTED }, "The settled container was started.");
                e->inspect = true;
                e->stopped_since = 0;
                e->stop_sure = false;
                (void) queue_repair_ended(e, true, NULL);
                e->last_error = (Fault) {};
        }
        q->sweep.at++;
        act(q);
}

/* Memory is empty after a reboot: the container's secrets first. Closed on failure, with the pause that any failed start has. */
static bool may_start(Queue *q, Entry *e) {
        Fault why = {};

        if (secrets_hand_over_again(&q->dir, q->o.settings, e->w->id, e->w->settled->generation, &why) >= 0)
                return true;
        log_write(LOG_ERR, &(LogFields) { .workspace_id = e->w->id, .fault = &why }, "The container is not started without its secrets: %s",
                  why.text);
        (void) queue_repair_ended(e, false, &why);
        q->o.events.changed(q->o.userdata);
        return false;
}

static void act(Queue *q) {
        Sweep *s = &q->sweep;

        for (; s->at < s->n_actions; s->at++) {
                const ReconcileAction *action = &s->actions[s->at];
                int r = -EINVAL;

                if (q->entries[action->workspace]->changed_at >= s->began)
                        continue;               /* a job came or ended meanwhile: the next sweep sees how it is */
                if (action->verb == RECONCILE_START && now_boottime() < q->entries[action->workspace]->repair_after)
                        continue;
                if (action->verb == RECONCILE_MAKE)
                        queue_repair(q, q->entries[action->workspace]);
                else if (action->verb == RECONCILE_START && may_start(q, q->entries[action->workspace]))
                        r = engine_container_start(q->o.engine, action->container_id, on_acted, q, &s->call);
                else if (action->verb == RECONCILE_REMOVE)
                        r = engine_container_remove(q->o.engine, action->container_id, on_acted, q, &s->call);
                if (r >= 0)
                        return;
        }
        begin_inspect(q);
}

/* ── list ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Kept over a reboot: under a hold, what someone stopped stays stopped. */
static void note_stopped(Queue *q, Entry *e, bool stopped) {
        if (e->w->stopped == stopped)
                return;
        e->w->stopped = stopped;
        (void) queue_save(q, e, NULL);          /* ignoring: it is started once more than it should */
}

/* Not told at once: an engine that is being stopped takes its containers along before it goes itself. */
static void note_down(Queue *q, Entry *e) {
        uint64_t now = now_boottime();

        if (!e->stopped_since)
                e->stopped_since = now;
        if (e->stop_sure || now - e->stopped_since < STOPPED_SURE_USEC)
                return;
        e->stop_sure = true;
        if (q->recovered && !e->at_once) {
                e->last_error = (Fault) {};
                (void) fault(&e->last_error, -EIO, FAULT_STOPPED_EXTERNALLY, "Someone else stopped the container; it is started again after 5 minutes%s.",
                             queue_holds(q, e->w->id) ? ", once it is not held any more" : "");
                note_stopped(q, e, true);
                log_write(LOG_WARNING, &(LogFields) { .workspace_id = e->w->id, .event = EVENT_WORKSPACE_STOPPED, .fault = &e->last_error }, "%s", e->last_error.text);
        }
        q->o.events.changed(q->o.userdata);
}

static void note_settled(Queue *q, Entry *e, const EngineContainer *c) {
        bool was = e->present, ran = e->seen.running;

        if (e->changed_at >= q->sweep.began)
                return;
        e->looked = true;
        e->present = c != NULL;
        if (c && (!e->seen.id || c->running != ran)) {
                e->inspect = true;
                e->seen.running = c->running;   /* whoever waits for a look need not wait for the close one */
                e->seen.restarting = c->restarting;
                q->o.events.changed(q->o.userdata);
        }
        if (c && c->running) {
                e->stopped_since = 0;
                e->stop_sure = e->at_once = false;
                note_stopped(q, e, false);
                if (e->last_error.set && e->last_error.code == FAULT_STOPPED_EXTERNALLY)
                        e->last_error = (Fault) {};
        }
        if (c && !c->running && !c->restarting && !(e->flow && flow_touches(e->flow)))
                note_down(q, e);
        if (was != e->present)
                q->o.events.changed(q->o.userdata);
}

static int note_all(Queue *q, const EngineContainers *found) {
        Name *ids = q->sweep.ids = calloc(found->n + 1, sizeof *ids);

        if (!ids)
                return -ENOMEM;
        for (size_t i = 0; i < found->n; i++)
                ids[i] = (Name) { found->items[i].id, i };
        names_sort(ids, found->n);
        for (size_t i = 0; i < q->n_entries; i++) {
                const Version *settled = q->entries[i]->w->settled;
                const Name *it = settled ? names_find(ids, found->n, settled->container_id) : NULL;

                note_settled(q, q->entries[i], it ? &found->items[it->at] : NULL);
        }
        return 0;
}

static bool note_foreign_one(cJSON *list, const EngineContainer *c) {
        cJSON *item = cJSON_CreateObject();

        return cJSON_AddItemToArray(list, item) && json_add_string(item, "container_id", c->id) &&
               json_add_string(item, "name", c->name ?: "") &&
               json_add_string(item, "host_id",
                               c->labels.host             ?:
                                       c->labels.instance ?:
                                                            "");
}

/* Managed, but by another host id: a cloned disk or a lost identity. Reported, left alone. */
static void note_foreign(Queue *q, const EngineContainers *found) {
        cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; list && i < found->n; i++)
                if (!str_equal(found->items[i].labels.host, q->o.settings->host_id))
                        (void) note_foreign_one(list, &found->items[i]);
        if (cJSON_GetArraySize(list) != cJSON_GetArraySize(q->foreign))
                q->o.events.changed(q->o.userdata);
        cJSON_Delete(q->foreign);
        q->foreign = list;
}

static int decide(Queue *q) {
        Sweep *s = &q->sweep;
        _cleanup_free_ ReconcileWorkspace *w = calloc(q->n_entries + 1, sizeof *w);
        ReconcileRules rules = {
                .host_id = q->o.settings->host_id, .org_id = q->o.settings->org_id, .now = now_boottime(), .starting = !q->recovered
        };
        size_t max = s->found.n + q->n_entries + 1;
        int r = 0;

        s->actions = calloc(max, sizeof *s->actions);
        if (!w || !s->actions)
                return -ENOMEM;
        for (size_t i = 0; i < q->n_entries; i++) {
                const Entry *e = q->entries[i];
                const Work *k = e->w->work;

                w[i] = (ReconcileWorkspace) { .id = e->w->id,
                                              .settled_container = e->w->settled ? e->w->settled->container_id : NULL,
                                              .busy = k || e->flow || e->final || e->changed_at >= s->began,
                                              .touched = k && (k->phase != WORK_BEGUN || k->type == JOB_DEPROVISION),
                                              .first_generation = e->w->first_generation,
                                              .removed = e->w->removed,
                                              .floor = e->w->spec_floor,
                                              .at_once = e->at_once,
                                              .held = queue_holds(q, e->w->id),
                                              .stopped = e->w->stopped,
                                              .stopped_since = e->stopped_since };
        }
        if (!q->stopping)
                r = reconcile(&rules, w, q->n_entries, &s->found, s->ids, s->actions, max);
        s->n_actions = r < 0 ? 0 : (size_t) r;
        s->at = 0;
        return r < 0 ? r : 0;
}

static void on_list(const EngineAnswer *a, void *userdata) {
        Queue *q = userdata;
        Sweep *s = &q->sweep;

        s->call = NULL;
        /* Unknown is not absent: without an answer nothing is concluded. */
        if (a->r < 0 || engine_containers_parse(a->json, &s->found, NULL) < 0 || note_all(q, &s->found) < 0) {
                sweep_end(q);
                return;
        }
        note_foreign(q, &s->found);
        if (decide(q) < 0) {
                sweep_end(q);
                return;
        }
        s->listed = true;
        s->phase = SWEEP_ACT;
        act(q);
}

static void sweep_begin(Queue *q) {
        q->sweep.phase = SWEEP_LIST;
        q->sweep.listed = false;
        q->sweep.began = now_boottime();
        if (engine_state(q->o.engine) != ENGINE_UP ||
            engine_container_list(q->o.engine, LABEL_MANAGED "=true", on_list, q, &q->sweep.call) < 0)
                sweep_end(q);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        sweep_begin(userdata);
        return 0;
}

int sweep_new(Queue *q) {
        return sd_event_add_time_relative(q->o.event, &q->sweep.timer, CLOCK_BOOTTIME, SWEEP_USEC, SWEEP_SLACK, on_timer, q);
}

void sweep_done(Queue *q) {
        (void) engine_call_cancel(q->sweep.call);
        clear_found(&q->sweep);
        sd_event_source_disable_unref(q->sweep.timer);
}
