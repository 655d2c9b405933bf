/* SPDX-License-Identifier: Apache-2.0 */

/* The queue's life: records in, entries in memory, out at the end. Whatever changes an entry's record goes through queue_save(), which knows
 * when the disk stops taking our word. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/ballast.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/retry.h"
#include "provision/host-run.h"
#include "provision/secrets.h"

#define WS_DIR         "ws"
#define RESCUE_DIR     "rescue"
#define DEGRADED_AFTER 2

bool queue_is_ours(int r) { return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EINTR; }

int queue_load_payload(const Queue *q, const Workspace *w, uint64_t generation, Job **ret, Fault *reterr) {
        JobRules rules = secrets_payload_rules(q->o.settings);
        return payload_load(&q->dir, w->id, generation, &rules, ret, reterr);
}

static int by_id(const void *a, const void *b) { return strcmp(*(const char *const *) a, *(const char *const *) b); }

Entry *queue_find(const Queue *q, const char *workspace_id) {
        Entry *const *found = tfind(&workspace_id, &q->by_id, by_id);

        return found ? *found : NULL;
}

static Entry *entry_free(Entry *e) {
        if (!e)
                return NULL;
        flow_free(e->flow);
        workspace_free(e->w);
        cJSON_Delete(e->final);
        engine_container_done(&e->seen);
        free(e);
        return NULL;
}

Entry *queue_add(Queue *q, Workspace *w) {
        Entry **bigger = reallocarray(q->entries, q->n_entries + 1, sizeof *bigger);
        Entry *e = calloc(1, sizeof *e);

        if (bigger)
                q->entries = bigger;
        if (e)
                e->id = w->id;
        if (!bigger || !e || !tsearch(e, &q->by_id, by_id)) {
                free(e);
                workspace_free(w);
                return NULL;
        }
        e->w = w;
        e->seq = q->seq++;
        e->progress = -1;
        e->inspect = true;
        q->entries[q->n_entries++] = e;
        return e;
}

void queue_remove(Queue *q, Entry *e) {
        for (size_t i = q->n_entries; i-- > 0;)
                if (q->entries[i] == e) {
                        q->entries[i] = q->entries[--q->n_entries];
                        break;
                }
        (void) tdelete(e, &q->by_id, by_id);
        entry_free(e);
}

static void degrade(Queue *q, int r, const char *words) {
        q->good_probes = 0;
        if (q->degraded.set)
                return;
        (void) fault(&q->degraded, r, FAULT_STATE_DEGRADED, "%s", words);
        log_write(LOG_ERR, &(LogFields){ .event = EVENT_STATE_LOST, .fault = &q->degraded }, "State cannot be written, no new job is accepted: %s", words);
        q->o.events.changed(q->o.userdata);
}

/* One failed write may be chance; two in a row mean that our promises no longer hold. So does one that took the last room there was. */
void queue_wrote(Queue *q, int r, const Fault *why) {
        q->write_failures = r < 0 ? q->write_failures + 1 : 0;
        if (ballast_is_out())
                degrade(q, -ENOSPC, "The disk is full; the room that was kept for the ends of jobs is in use.");
        else if (q->write_failures >= DEGRADED_AFTER)
                degrade(q, r, why->text);
        else if (r < 0)
                q->good_probes = 0;
}

int queue_save(Queue *q, Entry *e, Fault *reterr) {
        Fault why = {};
        int r = workspace_save(&q->dir, e->w, &why);

        queue_wrote(q, r, &why);
        if (r < 0 && reterr)
                *reterr = why;
        return r;
}

bool queue_is_degraded(const Queue *q, Fault *ret) {
        if (ret)
                *ret = q->degraded;
        return q->degraded.set;
}

static int on_run(sd_event_source *s, void *userdata) {
        (void) s;
        queue_run(userdata);
        return 0;
}

void queue_wake(Queue *q) { (void) sd_event_source_set_enabled(q->run, SD_EVENT_ONESHOT); }

static void count_end(const cJSON *report) {
        static const uint8_t outcomes[_REPORT_STATE_MAX] = {
                [REPORT_SUCCEEDED] = METRIC_OUTCOME_SUCCEEDED, [REPORT_FAILED] = METRIC_OUTCOME_FAILED, [REPORT_REFUSED] = METRIC_OUTCOME_REFUSED,
                [REPORT_CONFLICT] = METRIC_OUTCOME_REFUSED, [REPORT_EXPIRED] = METRIC_OUTCOME_REFUSED,
                [REPORT_SUPERSEDED] = METRIC_OUTCOME_SUPERSEDED, [REPORT_CANCELLED] = METRIC_OUTCOME_CANCELLED,
        };
        const char *type = json_get_string(report, "type"), *state_name = json_get_string(report, "state");
        ReportState state;

        if (state_name && report_state_find(state_name, &state) == 0 && report_state_is_final(state))
                metric_add(METRIC_JOBS, metric_find(METRIC_JOBS, type), outcomes[state], 1);
}

void queue_tell(Queue *q, cJSON *report, bool durable) {
        count_end(report);
        queue_tell_again(q, report, durable);
}

void queue_tell_again(Queue *q, cJSON *report, bool durable) {
        if (report && durable && q->capture && !*q->capture)
                *q->capture = cJSON_Duplicate(report, true);
        if (report)
                q->o.events.report(report, durable, q->o.userdata);
        else {
                q->untold = q->untold || durable;
                log_error("Out of memory for a report: what a record holds is told again by the next sweep, the rest when it is asked for again.");
        }
}

void queue_job_rules(const Queue *q, uint64_t time_usec, JobRules *ret) {
        const Settings *s = q->o.settings;

        *ret = (JobRules) { .org_id = s->org_id, .host_id = s->host_id, .time_usec = time_usec,
                            .trusted = s->trusted, .spec = { .max_tier = s->max_tier, .registries = s->registries } };
}

/* ── ports ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool port_is_taken(const Queue *q, uint16_t port) {
        for (size_t i = 0; i < q->n_entries; i++)
                if (q->entries[i]->w->port == port)
                        return true;
        return false;
}

/* Whether someone else on this host listens there now. No promise: the engine's word at start is the last one. */
static bool port_is_free(uint16_t port) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0);

        return fd < 0 || bind(fd, (struct sockaddr *) &a, sizeof a) == 0;
}

int queue_pick_port(Queue *q, Workspace *w) {
        const Settings *s = q->o.settings;
        unsigned n = (unsigned) (s->port_high - s->port_low) + 1, start = (unsigned) (random_u64() % n);

        for (unsigned i = 0; i < n; i++) {
                uint16_t port = (uint16_t) (s->port_low + (start + i) % n);

                if (!port_is_taken(q, port) && port_is_free(port)) {
                        w->port = port;
                        return 0;
                }
        }
        return -ENOSPC;
}

/* ── start and end ───────────────────────────────────────────────────────────────────────────────────────────── */

static void quarantine(Queue *q, const char *name, const Fault *why) {
        int r = file_set_aside(q->o.state_fd, q->dir.fd, name, name, why->text);

        log_write(LOG_ERR, &(LogFields) { .workspace_id = name, .fault = why }, "The record of a workspace is damaged and set aside: %s",
                  why->text);
        if (r < 0)
                log_error("Cannot move the record %s to quarantine: %s", name, strerror(-r));
}

/* What a crash left beside the records. Of a workspace without a record nothing is named. */
static int tidy_one(int dirfd, const char *name, void *userdata) {
        const Queue *q = userdata;
        Workspace nobody = {};
        const Entry *e;

        if (strlen(name) < UUID_SIZE)
                return 0;
        memcpy(nobody.id, name, UUID_SIZE - 1);
        if (!uuid_is_valid(nobody.id))
                return 0;
        e = queue_find(q, nobody.id);
        if (!workspace_names(e ? e->w : &nobody, name))
                (void) unlinkat(dirfd, name, 0);        /* ignoring: the next start finds it again */
        return 0;
}

static int load_one(int dirfd, const char *name, void *userdata) {
        Queue *q = userdata;
        Workspace *w = NULL;
        Entry *e;
        Fault why = {};
        int r;

        (void) dirfd;
        if (!uuid_is_valid(name))               /* a payload or an undo set */
                return 0;
        r = workspace_load(&q->dir, name, &w, &why);
        if (r < 0 && r != -EBADMSG && r != -EPROTONOSUPPORT)
                return r;                       /* unreadable now is not damaged: the next start may read it */
        if (r < 0) {
                quarantine(q, name, &why);
                return 0;
        }
        if (w->outcome && json_get_string(w->outcome, "job_id"))
                q->recalled |= outcomes_recall(q->outcomes, w->outcome) > 0;    /* no memory for it: the record has it */
        if (!w->work)
                w->work = TAKE_PTR(w->next);
        e = queue_add(q, w);
        if (!e)
                return -ENOMEM;
        e->at_once = true;
        queue_check_sealed(q, e);
        return 0;
}

static int on_hold_file(sd_event_source *s, const struct inotify_event *event, void *userdata) {
        (void) s;
        (void) event;
        queue_hold_changed(userdata);
        return 0;
}

/* The directory of the hold file is watched; one that is not there is looked at by the sweeps. */
static void watch_hold(Queue *q) {
        _cleanup_free_ char *dir = q->o.hold_file ? strdup(q->o.hold_file) : NULL;
        char *slash = dir ? strrchr(dir, '/') : NULL;

        if (slash && slash > dir) {
                *slash = 0;
                (void) sd_event_add_inotify(q->o.event, &q->hold_watch, dir, IN_CREATE|IN_DELETE|IN_MOVE|IN_ATTRIB, on_hold_file, q);
        }
        q->was_held = queue_is_held(q);
        if (q->was_held)
                log_write(LOG_NOTICE, &(LogFields) { .event = EVENT_HELD }, "Held: nothing is changed on this host until the hold is released.");
}

/* What lies beside the records of the workspaces. */
static int open_rest(Queue *q, Fault *reterr) {
        JobRules rules = secrets_payload_rules(q->o.settings);
        Fault damaged = {};
        int r;

        r = outcomes_open(q->o.state_fd, &q->outcomes, &damaged);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the outcomes: %s", damaged.text);
        if (damaged.set)
                log_warning("The record of outcomes is damaged and set aside: %s", damaged.text);
        damaged = (Fault) {};
        r = tombstones_open(q->o.state_fd, &q->tombstones, &damaged);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the tombstones: %s", damaged.text);
        if (damaged.set)
                log_error("The tombstones are damaged and set aside; the order of removed workspaces is the control plane's word now: %s", damaged.text);
        damaged = (Fault) {};
        r = host_state_open(q->o.state_fd, &rules, &q->host, &damaged);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the record of the host: %s", damaged.text);
        if (damaged.set)
                log_error("The record of the host is damaged and set aside; holds and drain are forgotten, say them anew: %s", damaged.text);
        for (int i = 0; i < cJSON_GetArraySize(q->host->finals); i++)
                q->recalled |= outcomes_recall(q->outcomes, cJSON_GetArrayItem(q->host->finals, i)) > 0;
        return 0;
}

int queue_new(const QueueOptions *options, Queue **ret, Fault *reterr) {
        _cleanup_(queue_freep) Queue *q = calloc(1, sizeof *q);
        int r;

        if (!q)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        q->o = *options;
        q->dir = (WorkspaceDir) { .vault = options->vault };
        q->dir.rescue_fd = file_open_dir(options->state_fd, RESCUE_DIR);
        if (q->dir.rescue_fd < 0)
                return fault(reterr, q->dir.rescue_fd, FAULT_STATE_DEGRADED, "Cannot open the directory of rescue tails: %m");
        q->dir.fd = file_open_dir(options->state_fd, WS_DIR);
        if (q->dir.fd < 0)
                return fault(reterr, q->dir.fd, FAULT_STATE_DEGRADED, "Cannot open the directory of workspaces: %m");
        (void) file_sweep_temp(q->dir.fd);
        q->context = (FlowContext) { .event = options->event, .http = options->http, .engine = options->engine, .images = options->images,
                                     .settings = options->settings, .dir = &q->dir, .userdata = q };
        queue_flow_events(&q->context.events);
        r = sd_event_add_defer(options->event, &q->run, on_run, q);
        if (r >= 0)
                r = sd_event_source_set_enabled(q->run, SD_EVENT_OFF);
        if (r >= 0)
                r = sweep_new(q);
        if (r >= 0)
                r = prefetch_new(q, &q->prefetch);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot set up the queue: %m");
        r = open_rest(q, reterr);
        if (r < 0)
                return r;
        r = file_each(q->dir.fd, load_one, q);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot read the records of the workspaces: %m");
        if (q->recalled)
                (void) outcomes_save(q->outcomes, NULL);        /* ignoring: the records have them */
        (void) file_each(q->dir.fd, tidy_one, q);
        watch_hold(q);
        *ret = TAKE_PTR(q);
        return 0;
}

Queue *queue_free(Queue *q) {
        if (!q)
                return NULL;
        sweep_done(q);
        host_run_free_all(q);
        prefetch_free(q->prefetch);
        while (q->n_entries > 0)
                queue_remove(q, q->entries[q->n_entries - 1]);
        free(q->entries);
        outcomes_free(q->outcomes);
        tombstones_free(q->tombstones);
        host_state_free(q->host);
        sd_event_source_disable_unref(q->hold_watch);
        sd_event_source_disable_unref(q->run);
        cJSON_Delete(q->foreign);
        if (q->dir.fd > 0)
                (void) close(q->dir.fd);
        if (q->dir.rescue_fd > 0)
                (void) close(q->dir.rescue_fd);
        free(q);
        return NULL;
}

void queue_engine_event(Queue *q, const EngineEvent *event) {
        Entry *e = event->workspace ? queue_find(q, event->workspace) : NULL;

        if (e)
                e->inspect = true;
        if (!e || !e->flow)
                sweep_soon(q);                  /* the end of a job brings its own */
}

void queue_engine_state(Queue *q, EngineState state) {
        for (size_t i = 0; state != ENGINE_UP && i < q->n_entries; i++)
                if (!q->entries[i]->stop_sure)
                        q->entries[i]->stopped_since = 0;       /* it went with the engine */
        if (state == ENGINE_UP)
                for (size_t i = 0; i < q->n_entries; i++) {
                        q->entries[i]->inspect = true;
                        q->entries[i]->at_once |= !q->entries[i]->stopped_since;        /* an engine that died may have taken it along */
                }
        sweep_soon(q);
        q->o.events.changed(q->o.userdata);
}

bool queue_is_idle(const Queue *q) {
        for (size_t i = 0; i < q->n_entries; i++)
                if (q->entries[i]->flow || q->entries[i]->final ||
                    (q->entries[i]->w->work && !q->entries[i]->w->work->reported && !queue_waits_for_root(q, q->entries[i])))
                        return false;
        return q->recovered && !q->runs && q->host->n_jobs == 0;
}

bool queue_waits_for_release(const Queue *q) {
        bool any = false;

        if (q->runs)
                return false;
        for (size_t i = 0; i < q->n_entries; i++) {
                const Entry *e = q->entries[i];

                if (!e->flow && (!e->w->work || e->w->work->reported))
                        continue;
                if (!queue_holds(q, e->w->id) || (e->flow && !flow_is_held(e->flow)))
                        return false;
                any = true;
        }
        return any || (q->host->n_jobs > 0 && queue_is_held(q));
}

unsigned queue_jobs_running(const Queue *q) {
        unsigned n = 0;

        for (size_t i = 0; i < q->n_entries; i++)
                n += q->entries[i]->flow != NULL;
        for (const HostRun *r = q->runs; r; r = r->next)
                n++;
        return n;
}

void queue_check_stopped(Queue *q) {
        bool waits = false;

        for (size_t i = 0; i < q->n_entries; i++)
                if (q->entries[i]->flow)
                        waits |= flow_pause(q->entries[i]->flow);
        if (waits || q->stopped)
                return;
        q->stopped = true;
        q->o.events.stopped(q->o.userdata);
}

bool queue_keeps_image(const Queue *q, const char *digest) {
        for (size_t i = 0; i < q->n_entries; i++) {
                const Workspace *w = q->entries[i]->w;
                const char *refs[] = { w->settled ? w->settled->image_ref : NULL, w->wanted ? w->wanted->image_ref : NULL,
                                       w->work ? w->work->image_ref : NULL, w->next ? w->next->image_ref : NULL, w->roll_image_ref };

                for (size_t k = 0; k < ELEMENTS(refs); k++)
                        if (refs[k] && str_equal(image_ref_digest(refs[k]), digest))
                                return true;
        }
        return pins_has_digest(q->o.pins, digest);
}

void queue_pins_changed(Queue *q) { prefetch_look(q->prefetch); }

void queue_stop(Queue *q) {
        q->stopping = true;
        queue_check_stopped(q);
        if (!q->stopped)
                log_info("Stopping: waiting for engine changes in flight.");
}
