/* SPDX-License-Identifier: Apache-2.0 */

/* From one container to the next, and back. Between the stop and the gate the workspace is down, so nothing here waits for anything but the
 * engine; the record is saved before the stop, so that a restart knows whom to bring back. */

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/flow-internal.h"
#include "provision/secrets.h"
#include "secrets/handover.h"

static void on_done(const EngineAnswer *a, void *userdata) {
        if (flow_answered(userdata, a))
                flow_next(userdata);
}

/* For the undo: what is gone already is as good as done. */
static void on_done_or_gone(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        EngineAnswer fine = *a;

        if (a->r == -ENOENT)
                fine.r = 0;
        on_done(&fine, f);
}

/* ── stop ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static int enter_swap(Flow *f, Fault *reterr) {
        Work *k = f->w->work;

        if (k->phase != WORK_BEGUN)
                return 0;
        k->container_id = strdup(f->new_id);
        k->old_container_id = strdup(f->old_id);
        if (!k->container_id || !k->old_container_id)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        k->old_ran = k->old_ran || f->old_running;      /* one that a failed undo left down counts as running */
        k->old_port = f->w->port;
        k->phase = WORK_SWAPPING;
        return flow_save(f, reterr);
}

/* The record could not be written: nothing was stopped, so nothing must look as if it had been. */
static void leave_swap(Flow *f) {
        Work *k = f->w->work;

        k->container_id = (free(k->container_id), NULL);
        k->old_container_id = (free(k->old_container_id), NULL);
        k->old_port = 0;
        k->phase = WORK_BEGUN;
}

void step_stop(Flow *f) {
        Fault why = {};
        int r;

        if (!f->old_id) {
                flow_next(f);
                return;
        }
        r = enter_swap(f, &why);
        if (r < 0) {
                leave_swap(f);
                flow_fail(f, r, &why);
                return;
        }
        flow_sent(f, engine_container_stop(f->context->engine, f->old_id, f->context->settings->stop_timeout_seconds, on_done_or_gone, f,
                                           &f->call));
}

/* ── names ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A way that goes back comes by here again. */
static void note_name(Flow *f) {
        if (flow_step(f) == STEP_NAME)
                (void) container_name(f->w->id, CONTAINER_CURRENT, f->new_name);
        else
                (void) container_name(f->w->id, flow_step(f) == STEP_PREV ? CONTAINER_PREV : CONTAINER_CURRENT, f->old_name);
}

static void on_renamed(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        Fault why = {};

        f->names_unknown = a->r != 0;
        if (a->r == 0)
                note_name(f);
        if (a->r == -ENOENT && flow_step(f) == STEP_PREV) {     /* it was to go anyway */
                f->call = NULL;
                f->names_unknown = false;
                flow_next(f);
        } else if (a->r == -EREMOTEIO && a->status < 500 && !TAKE(f->rename_refused, true)) {
                f->call = NULL;                 /* an earlier one that was taken for lost may have come late: the names say it */
                flow_again(f, 0);
        } else if (a->r == -EEXIST) {
                f->call = NULL;
                (void) fault(&why, a->r, FAULT_NAME_CONFLICT, "A container that is not this workspace's holds a name it needs.");
                flow_fail(f, a->r, &why);
        } else if (flow_answered(f, a))
                flow_next(f);
}

/* The engine refuses to rename a thing to its own name, so after a lost answer the names are read anew. */
static void rename_to(Flow *f, const char *id, const char *name_now, ContainerRole role) {
        char name[CONTAINER_NAME_SIZE];

        if (f->names_unknown) {
                f->names_unknown = false;
                flow_back(f, flow_step(f) == STEP_UNDO_NAME ? STEP_UNDO_FIND : STEP_FIND);
                return;
        }
        if (!id || str_equal(name_now, container_name(f->w->id, role, name))) {
                flow_next(f);
                return;
        }
        flow_sent(f, engine_container_rename(f->context->engine, id, name, on_renamed, f, &f->call));
}

void step_prev(Flow *f) { rename_to(f, f->old_id, f->old_name, CONTAINER_PREV); }
void step_name(Flow *f) { rename_to(f, f->new_id, f->new_name, CONTAINER_CURRENT); }
void step_undo_name(Flow *f) { rename_to(f, f->w->work->old_container_id ? f->old_id : NULL, f->old_name, CONTAINER_CURRENT); }

/* ── start ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_port_conflict(const Fault *f) { return strstr(f->text, "already allocated") || strstr(f->text, "address already in use"); }

/* Another is made in its place; where the first may have run, its volumes stay whatever comes. */
static void make_anew(Flow *f) {
        f->started = f->started || !f->new_created;
        f->new_id = (free(f->new_id), NULL);
        flow_back(f, STEP_CREATE);
}

/* The container that publishes the old port is gone before the new port is written: a crash between them makes it anew, with one or the other. */
static void on_removed_for_port(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        Fault why = {};
        int r;

        if (!flow_answered(f, a))
                return;
        f->port_retried = false;
        r = f->context->events.new_port(f->w, f->context->userdata);
        if (r >= 0)
                r = flow_save(f, &why);
        else
                (void) fault(&why, r, FAULT_PORT_UNAVAILABLE, "No port of port_range could be published.");
        if (r < 0)
                flow_fail(f, r, &why);
        else
                make_anew(f);
}

/* Once again after a second, for the last owner may just be going; then another port, which needs another container. */
static void port_conflict(Flow *f) {
        if (!f->port_retried) {
                f->port_retried = true;
                flow_again(f, USEC_PER_SEC);
                return;
        }
        flow_sent(f, engine_container_remove(f->context->engine, f->new_id, on_removed_for_port, f, &f->call));
}

void flow_log_left_behind(const char *workspace_id, const Fault *why) {
        log_write(LOG_WARNING, &(LogFields) { .workspace_id = workspace_id, .fault = why },
                  "What a start that was cut short left is in the way, and may run on unseen; the container is made anew: %s", why->text);
}

static void on_removed_for_another(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;

        if (!flow_answered(f, a))
                return;
        f->remade = true;
        make_anew(f);
}

static void on_started(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        Fault why = {};

        if (a->r == 0 || a->r == -ENOTCONN) {
                f->started = true;
                on_done(a, f);
                return;
        }
        f->call = NULL;
        if (is_port_conflict(&a->fault)) {
                port_conflict(f);
                return;
        }
        if (a->r == -ENOENT && !TAKE(f->remade, true)) {        /* a removal's answer was lost */
                make_anew(f);
                return;
        }
        if (a->r == -EUCLEAN && !f->remade) {
                flow_log_left_behind(f->w->id, &a->fault);
                f->started = true;              /* there was one before it */
                flow_sent(f, engine_container_remove(f->context->engine, f->new_id, on_removed_for_another, f, &f->call));
                return;
        }
        if (a->r == -ENOMEM)                    /* ours, and no word on the container */
                why = a->fault;
        else
                (void) fault(&why, a->r, FAULT_START_FAILED, "The container could not be started: %s", a->fault.text);
        flow_fail(f, a->r, &why);
}

void step_start(Flow *f) { flow_sent(f, engine_container_start(f->context->engine, f->new_id, on_started, f, &f->call)); }

/* ── gate ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static int take_container(Flow *f, const EngineContainer *c) {
        engine_container_done(&f->container);   /* a settling that the disk did not take is judged once more */
        f->container = (EngineContainer) { .running = c->running, .restart_count = c->restart_count, .health = c->health };
        f->container.id = strdup(c->id);
        f->container.started_at = c->started_at ? strdup(c->started_at) : NULL;
        f->container.ip_address = c->ip_address ? strdup(c->ip_address) : NULL;
        return f->container.id ? 0 : -ENOMEM;
}

static void on_gate(int r, const Fault *why, const EngineContainer *c, void *userdata) {
        Flow *f = userdata;
        Fault mismatch = {};

        if (r == -ENOTCONN) {
                EngineAnswer a = { .r = r, .fault = *why };
                f->gate = gate_free(f->gate);
                while (flow_step(f) != STEP_START)      /* an engine that died may have taken it along; a start is a 304 where it runs */
                        f->at--;
                (void) flow_answered(f, &a);
                return;
        }
        if (r == 0 && !str_equal(c->image_id, f->image.id)) {
                (void) fault(&mismatch, -EIO, FAULT_IMAGE_DIGEST_MISMATCH,
                             "The container runs another image than the one that was verified.");
                r = -EIO;
                why = &mismatch;
        }
        if (r == 0)
                r = take_container(f, c);
        if (r < 0) {
                Fault copy = why ? *why : (Fault) {};   /* the gate owns the words and goes with the failure */
                flow_fail(f, r, &copy);
                return;
        }
        f->gate = gate_free(f->gate);
        flow_next(f);
}

void step_gate(Flow *f) {
        const Settings *s = f->context->settings;
        const WorkspaceSpec *spec = f->job->spec;
        GateOptions o = { .container_id = f->new_id,
                          .port = workspace_port(spec->tier, f->w->port),
                          .path = spec->probe_path ?: s->probe_path,
                          .timeout_usec = (spec->probe_timeout_seconds ?: s->probe_timeout_seconds) * USEC_PER_SEC,
                          .crash_loop_restarts = s->crash_loop_restarts };

        flow_sent(f, gate_new(f->context->event, f->context->http, f->context->engine, &o, on_gate, f, &f->gate));
}

/* ── undo ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Whether it ran is known for sure from here alone where the undo is the first step behind a restart. */
void step_undo_remove(Flow *f) {
        Fault ignored = {};

        if (flow_note_started(f))
                (void) flow_save(f, &ignored);  /* ignoring: a restart between here and the end takes volumes that this job had made */
        if (f->new_id)
                flow_sent(f, engine_container_remove(f->context->engine, f->new_id, on_done, f, &f->call));
        else
                flow_next(f);
}

/* Without it the old container does not start, and says so: what is wrong here alone must not keep it down. */
void step_undo_secrets(Flow *f) {
        Fault why = {};

        if (f->w->work->old_container_id && f->old_id && f->old_generation > 0 &&
            secrets_hand_over_again(f->context->dir, f->context->settings, f->w->id, f->old_generation, &why) < 0)
                log_write(LOG_ERR, &(LogFields) { .workspace_id = f->w->id, .fault = &why }, "The old version's secrets: %s", why.text);
        flow_next(f);
}

/* Nothing is said to be back; where it was the settled one, the next sweep makes it anew. */
static void old_is_gone(Flow *f) {
        f->call = NULL;
        f->old_id = (free(f->old_id), NULL);
        flow_next(f);
}

static void on_old_seen(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        EngineContainer c = {};
        Fault why = {};
        int r;

        if (a->r == -ENOENT) {
                old_is_gone(f);
                return;
        }
        if (!flow_answered(f, a))
                return;
        r = engine_container_parse(a->json, NULL, &c, &why);
        if (r == 0 && !c.running && !c.restarting)
                r = fault(&why, -EIO, FAULT_START_FAILED, "The old container was started but does not run (exit code %lld).",
                          (long long) c.exit_code);
        engine_container_done(&c);
        if (r < 0)
                flow_fail(f, r, &why);
        else
                flow_next(f);
}

static void on_old_removed(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;

        if (flow_answered(f, a))
                old_is_gone(f);
}

static void on_old_started(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        const Version *s = f->w->settled;

        if ((a->r == -EUCLEAN || a->r == -ENOENT) && s && str_equal(s->container_id, f->old_id) &&
            !f->context->events.held(f->w, f->context->userdata)) {
                if (a->r == -EUCLEAN)
                        flow_log_left_behind(f->w->id, &a->fault);
                flow_sent(f, engine_container_remove(f->context->engine, f->old_id, on_old_removed, f, &f->call));
        } else if (a->r == -ENOENT || flow_answered(f, a))      /* the container, or a network of it */
                flow_sent(f, engine_container_inspect(f->context->engine, f->old_id, on_old_seen, f, &f->call));
}

/* "Back" is said of what was seen to run. */
void step_undo_start(Flow *f) {
        const Work *k = f->w->work;

        if (k->old_container_id && k->old_ran && f->old_id)
                flow_sent(f, engine_container_start(f->context->engine, f->old_id, on_old_started, f, &f->call));
        else
                flow_next(f);
}

/* ── volumes that go ─────────────────────────────────────────────────────────────────────────────────────────── */

typedef bool (*VolumeGoes)(const Flow *f, const EngineLabels *l);

static bool made_by_this_job(const Flow *f, const EngineLabels *l) { return str_equal(l->job, f->w->work->job_id); }
static bool any_of_ours(const Flow *f, const EngineLabels *l) { return flow_is_ours(f, l); }

static void volumes_go(Flow *f);

static void on_volume_gone(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;

        if (!flow_answered(f, a))
                return;
        f->index++;
        volumes_go(f);
}

static void on_volume_seen(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        VolumeGoes goes = flow_step(f) == STEP_ERASE ? any_of_ours : made_by_this_job;
        EngineVolume v = {};
        Fault why = {};
        int r = 0;

        if (a->r == -ENOENT)
                f->call = NULL;
        else if (!flow_answered(f, a))
                return;
        else
                r = engine_volume_parse(a->json, &v, &why);
        if (r < 0)
                flow_fail(f, r, &why);
        else if (flow_is_ours(f, &v.labels) && goes(f, &v.labels))
                flow_sent(f, engine_volume_remove(f->context->engine, v.name, on_volume_gone, f, &f->call));
        else {
                f->index++;
                volumes_go(f);
        }
        engine_volume_done(&v);
}

static void volumes_go(Flow *f) {
        Volume volumes[VOLUMES_MAX];

        if (f->index >= container_volumes_all(f->w->id, volumes)) {
                f->volumes_gone = true;
                flow_next(f);
        }
        else
                flow_sent(f, engine_volume_inspect(f->context->engine, volumes[f->index].name, on_volume_seen, f, &f->call));
}

void step_undo_volumes(Flow *f) {
        if (f->w->work->old_container_id || f->w->settled || f->w->work->started)
                flow_next(f);
        else
                volumes_go(f);
}

static bool is_ephemeral(const Workspace *w) {
        const Version *v = w->settled ?: w->wanted;
        return v && str_equal(v->data_persistence, "ephemeral");
}

bool flow_erases(const Flow *f) { return f->w->work->prune || is_ephemeral(f->w); }

void step_forget_key(Flow *f) {
        int r = flow_erases(f) ? vault_destroy_key(f->context->dir->vault, f->w->id) : 0;
        Fault why = {};

        if (r < 0) {
                (void) fault(&why, r, FAULT_STATE_DEGRADED, "The workspace's key cannot be destroyed: %m");
                flow_fail(f, r, &why);
        } else
                flow_next(f);
}

void step_forget(Flow *f) {
        int r = handover_remove_all(f->context->settings->runtime_path, f->w->id);
        Fault why = {};

        if (r >= 0)
                r = vault_destroy_sets(f->context->dir->vault, f->w->id);
        if (r < 0) {
                (void) fault(&why, r, FAULT_STATE_DEGRADED, "The workspace's secrets cannot be removed: %m");
                flow_fail(f, r, &why);
        } else
                flow_next(f);
}

void step_erase(Flow *f) {
        if (flow_erases(f))
                volumes_go(f);
        else
                flow_next(f);
}
