/* SPDX-License-Identifier: Apache-2.0 */

/* From a reference to a container that exists but does not run: image, network, what is already there, volumes, create. Nothing that serves is
 * touched here. What is found is judged by id and label, never by name alone. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "provision/flow-internal.h"
#include "provision/secrets.h"

/* ── image ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static int copy_image(EngineImage *to, const EngineImage *from) {
        engine_image_done(to);
        return engine_image_copy(to, from);
}

static void on_image(int r, const Fault *why, const EngineImage *image, bool pulled, void *userdata) {
        Flow *f = userdata;

        (void) pulled;
        f->image_wait = NULL;
        if (r == -ENOTCONN || (r == -EREMOTEIO && why->code == FAULT_ENGINE_ERROR)) {
                EngineAnswer a = { .r = r, .status = 500, .fault = *why };
                (void) flow_answered(f, &a);
        } else if (r < 0)
                flow_fail(f, r, why);
        else if ((r = copy_image(&f->image, image)) < 0)
                flow_fail(f, r, NULL);
        else
                flow_next(f);
}

static void on_image_progress(uint64_t bytes, uint64_t total, void *userdata) {
        Flow *f = userdata;

        f->trouble_since = 0;                   /* it answers again, long before the pull does */
        f->context->events.pulling(f->w, bytes, total, f->context->userdata);
}

void step_image(Flow *f) {
        const Work *k = f->w->work;
        Fault why = {};

        /* disk_gb is for the workspace's life: one that lives here already has it. */
        if (!f->w->settled && images_room(f->context->images, (uint64_t) f->job->spec->disk_gb << 30, &why) < 0) {
                flow_fail(f, -ENOSPC, &why);
                return;
        }
        flow_sent(f, images_ensure(f->context->images, k->image_ref, k->image_size_bytes, on_image_progress, on_image, f, &f->image_wait));
}

/* ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* From here on this job's memory holds no secret: what the container needs is sealed and handed over. */
void step_secrets(Flow *f) {
        Fault why = {};
        int r = secrets_hand_over(f->context->dir, f->context->settings, f->w->id, f->w->work->spec_generation, f->job->spec, &why);

        spec_forget_secrets(f->job->spec);
        if (r < 0)
                flow_fail(f, r, &why);
        else
                flow_next(f);
}

/* ── network ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_network(const EngineAnswer *a, void *userdata) {
        if (flow_answered(userdata, a))
                flow_next(userdata);
}

void step_network(Flow *f) {
        static const EnginePair labels[] = { { LABEL_MANAGED, "true" } };

        flow_sent(f, engine_network_ensure(f->context->engine, f->context->settings->network, labels, ELEMENTS(labels), on_network, f,
                                           &f->call));
}

/* ── what is there ───────────────────────────────────────────────────────────────────────────────────────────── */

static int keep_id(char **id, char *name, size_t name_size, const EngineContainer *c) {
        free(*id);
        *id = strdup(c->id);
        (void) snprintf(name, name_size, "%s", c->name);
        return *id ? 0 : -ENOMEM;
}

static int doom(Flow *f, const EngineContainer *c) {
        void *bigger = reallocarray(f->doomed, f->n_doomed + 1, sizeof *f->doomed);
        char *id = strdup(c->id);

        if (bigger)
                f->doomed = bigger;
        if (!bigger || !id) {
                free(id);
                return -ENOMEM;
        }
        f->doomed[f->n_doomed].id = id;
        f->doomed[f->n_doomed++].running = c->running;
        return 0;
}

/* The one that a replacement must bring back if it fails: what the record says or, where the record was lost, what ran under the name before
 * there was this record. A first try that was superseded has a later generation: it is stale, not old. */
static bool is_old(const Flow *f, const EngineContainer *c) {
        const Workspace *w = f->w;
        char name[CONTAINER_NAME_SIZE];

        if (w->work->old_container_id)
                return str_equal(c->id, w->work->old_container_id);
        if (w->settled)
                return str_equal(c->id, w->settled->container_id);
        return c->running && c->labels.generation < w->first_generation &&
               str_equal(c->name, container_name(w->id, CONTAINER_CURRENT, name));
}

static bool is_new(const Flow *f, const EngineContainer *c) {
        const Work *k = f->w->work;
        return str_equal(c->labels.job, k->job_id) && c->labels.generation == k->spec_generation;
}

/* What a repair made and did not see to its end: the next one, which has another id, knows it by its running. Only what was taken up on the way
 * forward is undone. */
static bool is_taken_up(const Flow *f, const EngineContainer *c) {
        const Work *k = f->w->work;

        if (k->phase == WORK_UNDOING)
                return str_equal(c->id, f->taken_up);
        return k->local && k->type == JOB_PROVISION && c->running && c->labels.generation == k->spec_generation &&
               str_equal(c->image_id, f->image.id);
}

static int classify(Flow *f, const EngineContainer *c) {
        if (!flow_is_ours(f, &c->labels))
                return 0;
        if (f->w->work->type == JOB_DEPROVISION)
                return doom(f, c);
        if (is_new(f, c) && !f->new_id) {
                f->new_created = str_equal(c->status, "created");
                return keep_id(&f->new_id, f->new_name, sizeof f->new_name, c);
        }
        if (is_old(f, c) && !f->old_id) {
                f->old_running = c->running;
                f->old_generation = c->labels.generation;
                return keep_id(&f->old_id, f->old_name, sizeof f->old_name, c);
        }
        if (is_taken_up(f, c) && !f->new_id) {
                free(f->taken_up);
                f->taken_up = strdup(c->id);
                return f->taken_up ? keep_id(&f->new_id, f->new_name, sizeof f->new_name, c) : -ENOMEM;
        }
        return doom(f, c);
}

static void forget_found(Flow *f) {
        for (size_t i = 0; i < f->n_doomed; i++)
                free(f->doomed[i].id);
        f->n_doomed = 0;
        f->old_id = (free(f->old_id), NULL);
        f->new_id = (free(f->new_id), NULL);
        f->old_running = f->new_created = false;
}

static void on_found(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        EngineContainers found = {};
        Fault why = {};
        int r;

        if (!flow_answered(f, a))
                return;
        r = engine_containers_parse(a->json, &found, &why);
        forget_found(f);
        for (size_t i = 0; r >= 0 && i < found.n; i++)
                r = classify(f, &found.items[i]);
        engine_containers_done(&found);
        if (r < 0)
                flow_fail(f, r, &why);
        else
                flow_find_done(f);
}

/* A provision with restart:false leaves a running container alone: its spec waits for the next restart. */
void flow_find_done(Flow *f) {
        if (flow_step(f) == STEP_FIND && f->job && f->w->settled && f->old_running && f->w->work->type == JOB_PROVISION && !f->w->work->local && !spec_restarts(f->job->spec)) {
                f->kept_running = true;
                while (flow_step(f) != STEP_NAME)       /* the last before the end */
                        f->at++;
        }
        flow_next(f);
}

void step_find(Flow *f) {
        char label[128];

        (void) snprintf(label, sizeof label, "%s=%s", LABEL_WORKSPACE, f->w->id);
        flow_sent(f, engine_container_list(f->context->engine, label, on_found, f, &f->call));
}

/* ── clear ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_doomed_gone(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;

        if (!flow_answered(f, a))
                return;
        f->index++;
        f->doomed_stopped = false;
        step_clear(f);
}

static void on_doomed_stopped(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        EngineAnswer fine = *a;

        if (a->r == -ENOENT)
                fine.r = 0;
        if (!flow_answered(f, &fine))
                return;
        f->doomed_stopped = true;
        step_clear(f);
}

/* Stop, then remove: a bare removal would kill a workspace that could have ended in good order. */
void step_clear(Flow *f) {
        Engine *e = f->context->engine;

        if (f->index >= f->n_doomed) {
                f->w->work->cleared = f->w->work->type == JOB_DEPROVISION && flow_erases(f);
                flow_next(f);
                return;
        }
        if (f->doomed[f->index].running && !f->doomed_stopped)
                flow_sent(f, engine_container_stop(e, f->doomed[f->index].id, f->context->settings->stop_timeout_seconds, on_doomed_stopped,
                                                   f, &f->call));
        else
                flow_sent(f, engine_container_remove(e, f->doomed[f->index].id, on_doomed_gone, f, &f->call));
}

/* ── volumes ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void fail_name(Flow *f, const char *what, const char *name) {
        Fault why = {};

        (void) fault(&why, -EEXIST, FAULT_NAME_CONFLICT, "The %s '%s' exists and is not this workspace's.", what, name);
        flow_fail(f, -EEXIST, &why);
}

static void on_empty_gone(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;

        if (flow_answered(f, a))
                step_volumes(f);
}

/* What an engine makes when its power goes may be there afterwards without labels. One that has none at all, in which nothing is and which nobody uses is
 * taken for that; one of which that cannot be learnt is a stranger's. */
static void on_usage(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        Volume volumes[VOLUMES_MAX];

        f->call = NULL;
        (void) container_volumes(f->w->id, f->job->spec, volumes);
        if (a->r < 0 || !engine_volume_is_empty(a->json, volumes[f->index].name)) {
                fail_name(f, "volume", volumes[f->index].name);
                return;
        }
        log_write(LOG_NOTICE, &(LogFields) { .workspace_id = f->w->id, .job_id = f->w->work->job_id },
                  "The volume '%s' is there without labels, empty and unused; it is made again.", volumes[f->index].name);
        flow_sent(f, engine_volume_remove(f->context->engine, volumes[f->index].name, on_empty_gone, f, &f->call));
}

static void on_volume(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        Volume volumes[VOLUMES_MAX];
        EngineVolume v = {};
        Fault why = {};
        bool ours, plain;
        int r;

        (void) container_volumes(f->w->id, f->job->spec, volumes);
        if (!flow_answered(f, a))
                return;
        r = engine_volume_parse(a->json, &v, &why);
        ours = r == 0 && flow_is_ours(f, &v.labels);
        if (ours) {
                f->fresh[f->index] = str_equal(v.labels.job, f->w->work->job_id);
                f->give[f->index] = f->fresh[f->index] || !f->w->settled;
        }
        plain = v.plain;
        engine_volume_done(&v);
        if (r < 0)
                flow_fail(f, r, &why);
        else if (!ours && plain && !TAKE(f->measured, true))
                flow_sent(f, engine_volume_usage(f->context->engine, volumes[f->index].name, on_usage, f, &f->call));
        else if (!ours)
                fail_name(f, "volume", volumes[f->index].name);
        else {
                f->measured = false;
                f->index++;
                step_volumes(f);
        }
}

/* The engine answers a create of what is there with what is there, labels and all: one call tells fresh, ours and a stranger's apart. */
void step_volumes(Flow *f) {
        ContainerIdentity id = { .workspace_id = f->w->id, .job_id = f->w->work->job_id, .generation = f->w->work->spec_generation };
        Volume volumes[VOLUMES_MAX];
        IdentityLabels labels;

        if (f->index >= container_volumes(f->w->id, f->job->spec, volumes)) {
                flow_next(f);
                return;
        }
        container_labels(f->context->settings, &id, NULL, &labels);
        flow_sent(f, engine_volume_create(f->context->engine, volumes[f->index].name, labels.pairs, labels.n, on_volume, f, &f->call));
}

/* ── create ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void created(Flow *f, const char *id) {
        f->new_id = strdup(id);
        f->new_created = true;
        if (f->new_id)
                flow_next(f);
        else
                flow_fail(f, -ENOMEM, NULL);
}

/* Ours were found by label and adopted or cleared. A create whose answer was lost comes by here too, and one of a job before this that the engine did
 * when nobody waited for it any more: that one is found now, and cleared. */
static void on_name_holder(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        EngineContainer c = {};
        Fault why = {};
        bool ours, mine;
        int r;

        if (a->r == -ENOENT) {
                f->call = NULL;
                flow_again(f, USEC_PER_SEC);
                return;
        }
        if (!flow_answered(f, a))
                return;
        r = engine_container_parse(a->json, NULL, &c, &why);
        ours = r == 0 && flow_is_ours(f, &c.labels);
        mine = ours && is_new(f, &c);
        if (r < 0)
                flow_fail(f, r, &why);
        else if (mine)
                created(f, c.id);
        else if (ours && !TAKE(f->name_taken, true))
                flow_back(f, STEP_FIND);
        else
                fail_name(f, "container", f->new_name);
        engine_container_done(&c);
}

static void on_created(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        const char *id;

        if (a->r == -EEXIST) {
                f->call = NULL;
                flow_sent(f, engine_container_inspect(f->context->engine, f->new_name, on_name_holder, f, &f->call));
                return;
        }
        if (!flow_answered(f, a))
                return;
        id = json_get_string(a->json, "Id");
        if (id)
                created(f, id);
        else
                flow_back(f, STEP_FIND);
}

/* What the engine would say too late, or not as plainly. */
static int check_runnable(const Flow *f, Fault *reterr) {
        const char *launcher = f->context->settings->launcher;

        if (!f->image.entrypoint[0] && !f->image.cmd[0])
                return fault(reterr, -EINVAL, FAULT_START_FAILED, "The image has neither an entrypoint nor a command.");
        if (access(launcher, X_OK) < 0)
                return fault(reterr, -errno, FAULT_START_FAILED, "The launcher %s cannot be used: %m", launcher);
        return 0;
}

void step_create(Flow *f) {
        const Work *k = f->w->work;
        ContainerIdentity id = { .workspace_id = f->w->id, .job_id = k->job_id, .generation = k->spec_generation, .image_id = f->image.id,
                                 .image_digest = image_ref_digest(k->image_ref), .port = f->w->port,
                                 .entrypoint = (const char *const *) f->image.entrypoint, .cmd = (const char *const *) f->image.cmd };
        _cleanup_(container_plan_freep) ContainerPlan *plan = NULL;
        Fault why = {};
        int r;

        if (f->new_id) {
                flow_next(f);
                return;
        }
        r = check_runnable(f, &why);
        if (r >= 0)
                r = container_plan(f->job->spec, f->context->settings, &id, &plan, &why);
        if (r < 0) {
                flow_fail(f, r, &why);
                return;
        }
        (void) container_name(f->w->id, f->old_id ? CONTAINER_NEXT : CONTAINER_CURRENT, f->new_name);
        flow_sent(f, engine_container_create(f->context->engine, f->new_name, container_plan_spec(plan), on_created, f, &f->call));
}
