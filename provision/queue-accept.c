/* SPDX-License-Identifier: Apache-2.0 */

/* A workspace's job that stands above its floors is taken: the last checks, then one write, payload first, then the record with floor, wanted and job.
 * A refused one changes nothing. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/queue-internal.h"
#include "provision/secrets.h"

/* ── checks ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool roll_counts(const Workspace *w, const Pin *pin) {
        return w && w->roll_image_ref && str_equal(w->roll_over, pin ? pin->image_digest : "none");
}

/* What is told apart: the job's or the operator's own word, the image of a roll until the pin moves, the pin. */
int queue_resolve_image(const Queue *q, const Workspace *w, const char *runtime, const char *own_ref, uint64_t own_size, char **ret_ref,
                        uint64_t *ret_size, Fault *reterr) {
        const Pin *pin = pins_find(q->o.pins, runtime, q->o.settings->region);
        const char *ref = own_ref ? own_ref : roll_counts(w, pin) ? w->roll_image_ref : pin ? pin->image_ref : NULL;

        if (!ref)
                return fault(reterr, -ENOENT, FAULT_RUNTIME_PIN_MISSING, "No pin names an image for the runtime '%s'.", runtime);
        if (!image_ref_registry_allowed(ref, q->o.settings->registries))
                return fault(reterr, -EPERM, FAULT_REGISTRY_NOT_ALLOWED,
                             "The registry of the image of '%s' is not in this host's `registries`.", runtime);
        free(*ret_ref);
        *ret_ref = strdup(ref);
        *ret_size = own_size ?: pin && str_equal(ref, pin->image_ref) ? pin->image_size_bytes : 0;
        return *ret_ref ? 0 : fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
}

/* By which image, decided once for the whole job. */
static int resolve(const Queue *q, const Entry *e, const Job *j, Work *k, Fault *reterr) {
        const Workspace *w = e ? e->w : NULL;

        if (j->type == JOB_DEPROVISION)
                return 0;
        if (j->type == JOB_RESTART)
                return queue_resolve_image(q, w, w->wanted->runtime, w->wanted->image_ref, 0, &k->image_ref, &k->image_size_bytes, reterr);
        return queue_resolve_image(q, w, j->spec->runtime, j->spec->image_ref, j->spec->image_size_bytes, &k->image_ref,
                                   &k->image_size_bytes, reterr);
}

static unsigned count_workspaces(const Queue *q) {
        unsigned n = 0;

        for (size_t i = 0; i < q->n_entries; i++)
                n += q->entries[i]->w->settled || q->entries[i]->w->work;
        return n;
}

/* With the host's network there is one port 8000. */
static int check_tier4(const Queue *q, const Job *j, Fault *reterr) {
        if (j->type != JOB_PROVISION || j->spec->tier != 4)
                return 0;
        for (size_t i = 0; i < q->n_entries; i++) {
                const Workspace *w = q->entries[i]->w;
                const Version *v = w->work ? w->wanted : w->settled;

                if (v && v->tier == 4 && strcmp(w->id, j->workspace_id) != 0)
                        return fault(reterr, -EADDRINUSE, FAULT_PORT_UNAVAILABLE,
                                     "Workspace %s has the host's network already; there can be one of tier 4.", w->id);
        }
        return 0;
}

static int check_room(const Queue *q, const Job *j, const Entry *e, Fault *reterr) {
        if (j->type != JOB_PROVISION || (e && (e->w->settled || e->w->work)))
                return 0;
        if (q->host->draining)
                return fault(reterr, -EBUSY, FAULT_DRAINING, "This host is being drained and takes no new workspace (%s).",
                             q->host->drain_reason ?: "no reason given");
        if (count_workspaces(q) < q->o.settings->max_workspaces)
                return 0;
        return fault(reterr, -ENOSPC, FAULT_TOO_LARGE, "The host has %u workspaces already, as many as max_workspaces allows.",
                     q->o.settings->max_workspaces);
}

static bool is_being_removed(const Workspace *w) {
        const Work *last = w->next ?: w->work;
        return w->removed || (last && last->type == JOB_DEPROVISION);
}

/* There must be something to make anew. */
static int check_known(const Job *j, const Entry *e, Fault *reterr) {
        if (j->type != JOB_RESTART || (e && e->w->wanted && !is_being_removed(e->w)))
                return 0;
        return fault(reterr, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "There is no workspace %s on this host that could be made anew.", j->workspace_id);
}

/* Opened and judged in memory: after acceptance nothing is refused any more. */
static int check_secrets(const Queue *q, const Job *j, Fault *reterr) {
        SecretSet set = {};
        int r = 0;

        if (j->type == JOB_PROVISION)
                r = secrets_open(j->spec, q->o.settings, j->workspace_id, vault_arena(q->o.vault), &set, reterr);
        secret_set_done(&set);
        return r;
}

static int check_hold(const Queue *q, const Job *j, Fault *reterr) {
        if (!queue_holds(q, j->workspace_id))
                return 0;
        return fault(reterr, -EBUSY, FAULT_HELD, "A hold forbids changes of workspace %s.", j->workspace_id);
}

static int check(const Queue *q, const Entry *e, const Job *j, Work *k, Fault *reterr) {
        int r;

        if ((r = check_hold(q, j, reterr)) < 0 || (r = check_known(j, e, reterr)) < 0 || (r = check_room(q, j, e, reterr)) < 0 ||
            (r = check_tier4(q, j, reterr)) < 0 || (r = resolve(q, e, j, k, reterr)) < 0)
                return r;
        return check_secrets(q, j, reterr);
}

/* ── the write ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void apply_restart(Workspace *w, const Job *j, Work *k) {
        w->restart_floor = j->generation;
        memcpy(w->restart_hash, j->payload_hash, sizeof w->restart_hash);
        memcpy(w->restart_job_id, j->job_id, UUID_SIZE);
        k->spec_generation = w->wanted->generation;
}

static int apply_spec(Queue *q, Workspace *w, const Job *j, Version *wanted) {
        w->spec_floor = j->generation;
        memcpy(w->spec_hash, j->payload_hash, sizeof w->spec_hash);
        memcpy(w->spec_job_id, j->job_id, UUID_SIZE);
        if (wanted)
                w->wanted = wanted;
        if (j->type != JOB_PROVISION)
                return 0;
        w->removed = false;
        w->erase_at = 0;                        /* its volumes have a workspace again */
        return w->port || queue_pick_port(q, w) >= 0 ? 0 : -ENOSPC;
}

/* The record as it will be; what it replaces stays in *old until the write is known to be good. */
static int apply(Queue *q, Entry *e, const Job *j, Work *k, Version *wanted, Workspace *old) {
        Workspace *w = e->w;
        int r = 0;

        *old = *w;
        if (j->type == JOB_RESTART)
                apply_restart(w, j, k);
        else
                r = apply_spec(q, w, j, wanted);
        queue_put(w, k);
        return r;
}

void queue_put(Workspace *w, Work *k) {
        if (!w->work) {
                w->work = k;
                return;
        }
        w->overtaken = w->next;
        w->next = k;
}

/* In the outbox before it is among the outcomes: those that it is not among are told by the next start, where no
 * later write of the record has come before it. */
void queue_tell_overtaken(Queue *q, Entry *e) {
        const Work *k = e->w->overtaken;
        _cleanup_json_ cJSON *report = NULL;
        Report r;

        if (!k)
                return;
        if (!k->local && !k->of_host && !outcomes_find(q->outcomes, k->job_id)) {
                r = queue_report_head(e, k);
                r.state = REPORT_SUPERSEDED;
                report = report_make(&r, queue_floor_result(e->w->spec_floor));
                queue_tell(q, cJSON_Duplicate(report, true), true);
                if (report)
                        (void) outcomes_add(q->outcomes, report, NULL); /* ignoring: as in queue_answer_final() */
        }
        e->w->overtaken = work_free(e->w->overtaken);
}

/* What follows every acceptance. report (owned) says so. */
void queue_accepted(Queue *q, Entry *e, const Work *k, cJSON *report) {
        e->seq = q->seq++;
        e->changed_at = now_boottime();
        if (e->flow)
                flow_supersede(e->flow, k);
        else
                queue_run(q);           /* its first engine call goes out before the report is written: the record has both */
        if (report)
                queue_tell(q, report, true);
        q->o.events.changed(q->o.userdata);
}

static void accepted(Queue *q, Entry *e, const Work *k, Workspace *old) {
        Report r = queue_report_head(e, k);

        r.report_id = k->accepted_report_id;
        r.state = REPORT_ACCEPTED;
        r.stage = STAGE_LAUNCHING;
        log_write(LOG_NOTICE, &(LogFields) { .workspace_id = e->w->id, .job_id = k->job_id, .event = EVENT_JOB_ACCEPTED }, "Job %s accepted, generation %llu.",
                  job_type_name(k->type), (unsigned long long) k->generation);
        workspace_tidy_after(&q->dir, e->w, old);               /* what failed or is overtaken never ends again */
        queue_tell_overtaken(q, e);
        if (old->wanted != e->w->wanted)
                version_free(old->wanted);
        e->unreadable = e->unreadable && k->type == JOB_RESTART;
        queue_accepted(q, e, k, report_make(&r, NULL));
}

static int write_it(Queue *q, Entry *e, const Delivery *d, Work *k, Version *wanted, Workspace *old, Fault *reterr) {
        int r = d->job->type == JOB_PROVISION ? payload_save(&q->dir, e->w->id, d->job, reterr) : 0;

        queue_wrote(q, r, reterr);
        if (r < 0)
                return r;
        job_keep(d->job, NULL, 0);              /* it is stored, and may be as large as all the rest */
        r = apply(q, e, d->job, k, wanted, old);
        if (r >= 0)
                r = queue_save(q, e, reterr);
        if (r >= 0)
                return 0;
        *e->w = *old;
        if (r == -ENOSPC && !reterr->set) {
                workspace_tidy(&q->dir, e->w, d->job->generation);
                (void) fault(reterr, r, FAULT_PORT_UNAVAILABLE, "No port of port_range is free.");
        }
        return r;
}

static Entry *make_entry(Queue *q, const Job *j) {
        Workspace *w = workspace_new(j->workspace_id, j->generation);
        Entry *e = w ? queue_add(q, w) : NULL;

        if (e)
                (void) tombstones_look(q->tombstones, e->w->id, e->w);  /* no tombstone, no floors */
        return e;
}

/* A write that failed leaves the job with the control plane, which delivers it again; so does memory that ends. */
void queue_accept(Queue *q, Entry *e, const Delivery *d) {
        _cleanup_(work_freep) Work *k = work_new(d->job, d->label.delivery_id);
        _cleanup_(version_freep) Version *wanted = NULL;
        bool made = !e;
        Workspace old;
        Fault why = {};
        int r;

        if (!k || (d->job->type == JOB_PROVISION && !(wanted = version_new(d->job, d->job->spec->image_ref))))
                return;
        r = check(q, e, d->job, k, &why);
        if (r == -ENOMEM) {
                log_error("Job %s stays with the control plane for now: %s", d->job->job_id, why.text);
                return;
        }
        if (r < 0) {
                queue_answer_final(q, d, REPORT_REFUSED, &why, NULL);
                return;
        }
        if (d->dry_run) {
                queue_answer_dry(q, d);
                return;
        }
        if (made && !(e = make_entry(q, d->job)))
                return;
        r = write_it(q, e, d, k, wanted, &old, &why);
        if (r >= 0) {
                TAKE_PTR(wanted);
                accepted(q, e, TAKE_PTR(k), &old);
                return;
        }
        if (why.code == FAULT_PORT_UNAVAILABLE)
                queue_answer_final(q, d, REPORT_REFUSED, &why, NULL);
        else
                log_write(LOG_ERR, &(LogFields) { .workspace_id = d->job->workspace_id, .job_id = d->job->job_id, .fault = &why },
                          "The job is not accepted: %s", why.text);
        if (made)
                queue_remove(q, e);
}
