/* SPDX-License-Identifier: Apache-2.0 */

/* What an operator on the host wants: the same effects as the jobs of the control plane, without a generation, so no floor moves. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/host-run.h"

#define OUTCOMES_TOLD 50

static int save(Queue *q, Fault *reterr) {
        int r = host_save(q, reterr);

        return r < 0 && !reterr->set ? fault(reterr, r, FAULT_STATE_DEGRADED, "The state cannot be written: %m") : r;
}

static int set_hold(Queue *q, const char *workspace_id, bool held, uint64_t seconds, const char *reason, Fault *reterr) {
        HostHold *o = host_state_hold_make(q->host, workspace_id), old;

        if (!o)
                return fault(reterr, -ENOSPC, FAULT_TOO_LARGE, "There are too many holds already.");
        if (host_set_hold(q, o, held, reason, seconds, &old) < 0)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        if (save(q, reterr) < 0) {
                free(o->reason);
                *o = old;
                return -EIO;
        }
        free(old.reason);
        log_write(LOG_NOTICE, &(LogFields) { .workspace_id = workspace_id }, "%s by an operator on this host: %s", held ? "Held" : "Released",
                  reason && reason[0] ? reason : "no reason given");
        queue_hold_changed(q);
        return 0;
}

int queue_hold_local(Queue *q, const char *workspace_id, uint64_t seconds, const char *reason, Fault *reterr) {
        return set_hold(q, workspace_id, true, seconds, reason, reterr);
}

int queue_release_local(Queue *q, const char *workspace_id, const char *reason, Fault *reterr) {
        return set_hold(q, workspace_id, false, 0, reason, reterr);
}

int queue_drain_local(Queue *q, bool drain, const char *reason, Fault *reterr) {
        HostState *h = q->host;
        bool was = h->draining;
        char *old = h->drain_reason;

        h->draining = drain;
        h->drain_reason = strdup(reason ?: "");
        if (save(q, reterr) < 0) {
                free(h->drain_reason);
                h->drain_reason = old;
                h->draining = was;
                return -EIO;
        }
        free(old);
        log_notice("%s by an operator on this host: %s", drain ? "Drained" : "Undrained", reason && reason[0] ? reason : "no reason given");
        q->o.events.changed(q->o.userdata);
        return 0;
}

static int check_restart(const Queue *q, const Entry *e, const char *workspace_id, Fault *reterr) {
        const Fault *sealed = vault_fault(q->o.vault);

        if (!e || e->w->removed || !e->w->wanted)
                return fault(reterr, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "There is no workspace %s on this host that could be made anew.",
                             workspace_id);
        if (sealed)
                return fault(reterr, -ENOKEY, sealed->code, "%s", sealed->text);
        if (queue_holds(q, workspace_id))
                return fault(reterr, -EBUSY, FAULT_HELD, "A hold forbids changes of workspace %s.", workspace_id);
        if (e->w->work && e->w->work->reported)
                return fault(reterr, -EALREADY, FAULT_TOO_LATE, "What a failed job left of workspace %s is still being undone, by each sweep.", workspace_id);
        if (e->flow || e->w->work || e->w->next || e->final)
                return fault(reterr, -EALREADY, FAULT_TOO_LATE, "A job is at work on workspace %s already.", workspace_id);
        return 0;
}

int queue_restart_local(Queue *q, const char *workspace_id, Fault *reterr) {
        _cleanup_(work_freep) Work *k = calloc(1, sizeof *k);
        Entry *e = queue_find(q, workspace_id);
        int r = check_restart(q, e, workspace_id, reterr);

        if (r < 0)
                return r;
        if (!k || uuid_make(k->job_id) < 0)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        k->type = JOB_RESTART;
        k->local = true;
        k->generation = k->spec_generation = e->w->wanted->generation;
        r = queue_resolve_image(q, e->w, e->w->wanted->runtime, e->w->wanted->image_ref, 0, &k->image_ref, &k->image_size_bytes, reterr);
        if (r < 0)
                return r;
        e->w->work = TAKE_PTR(k);
        r = queue_save(q, e, reterr);
        if (r < 0) {
                e->w->work = work_free(e->w->work);
                return r;
        }
        e->repair_pause = e->repair_after = 0;
        queue_accepted(q, e, e->w->work, NULL);
        return 0;
}

int queue_cancel_local(Queue *q, const char *job_id, Fault *reterr) {
        int r = queue_cancel(q, job_id, reterr);

        return r == -ENOENT ? fault(reterr, r, FAULT_TOO_LATE, "No job %s is at work or waits on this host.", job_id) : r;
}

/* ── views ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool add_holds(cJSON *json, const Queue *q) {
        cJSON *list = cJSON_CreateArray();
        uint64_t now = queue_now(q);

        if (!json_add_item(json, "holds", list))
                return false;
        for (size_t i = 0; i < q->host->n_holds; i++) {
                const HostHold *o = &q->host->holds[i];
                cJSON *item;

                if (!o->held || (o->until && now >= o->until))
                        continue;
                item = cJSON_CreateObject();
                if (!cJSON_AddItemToArray(list, item) || (o->workspace_id[0] && !json_add_string(item, "workspace_id", o->workspace_id)) ||
                    !json_add_string(item, "reason", o->reason ?: "") || (o->until && !json_add_time(item, "until", o->until)))
                        return false;
        }
        return true;
}

cJSON *queue_hold_view(const Queue *q) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        bool by_job = host_state_holds(q->host, NULL, queue_now(q));

        if (!json || !json_add_bool(json, "held", queue_is_held(q)) || !json_add_bool(json, "draining", q->host->draining) ||
            (q->host->draining && !json_add_string(json, "drain_reason", q->host->drain_reason ?: "")) ||
            !json_add_bool(json, "torn_down", queue_is_torn_down(q)) || !json_add_bool(json, "hold_file", queue_is_held(q) && !by_job) ||
            !add_holds(json, q))
                return NULL;
        return TAKE_PTR(json);
}

cJSON *queue_outcomes(const Queue *q, size_t max) { return outcomes_since(q->outcomes, 0, max); }

cJSON *queue_outcomes_since(const Queue *q, uint64_t since) { return outcomes_since(q->outcomes, since, OUTCOMES_TOLD); }
