/* SPDX-License-Identifier: Apache-2.0 */

/* The jobs of the host that take time: how each begins, is looked after, and ends. image.ensure and workspace.console are whole here; a roll and a
 * teardown are pages of their own. */

#include "provision/host-run.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "provision/rescue.h"

#define CONSOLE_LINES 200
#define CONSOLE_BYTES ((size_t) 256 * 1024)
#define PROGRESS_STEP 5

/* ── the list ────────────────────────────────────────────────────────────────────────────────────────────────── */

HostRun *host_run_find(const Queue *q, const char *job_id) {
        for (HostRun *r = q->runs; r; r = r->next)
                if (!r->over && str_equal(r->j->job->job_id, job_id))
                        return r;
        return NULL;
}

static HostRun *run_free(HostRun *r) {
        if (!r)
                return NULL;
        (void) image_wait_cancel(r->wait);
        (void) engine_call_cancel(r->call);
        sd_event_source_disable_unref(r->deadline);
        cJSON_Delete(r->list);
        if (r->own)
                host_job_free(r->j);
        free(r);
        return NULL;
}

void host_run_free_all(Queue *q) {
        while (q->runs) {
                HostRun *r = q->runs;

                q->runs = r->next;
                run_free(r);
        }
}

static void drop_over(Queue *q) {
        HostRun **at = &q->runs;

        while (*at) {
                HostRun *r = *at;

                if (r->over) {
                        *at = r->next;
                        run_free(r);
                } else
                        at = &r->next;
        }
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        HostRun *r = userdata;
        Fault why = {};

        (void) s;
        (void) usec;
        r->expired = true;
        if (r->j->job->type == JOB_IMAGE_ENSURE || r->j->job->type == JOB_CONSOLE) {
                (void) fault(&why, -ETIME, FAULT_DEADLINE_EXCEEDED, "The job did not end within its deadline.");
                host_run_end(r, REPORT_FAILED, &why, NULL);
        } else
                queue_wake(r->q);
        return 0;
}

HostRun *host_run_begin(Queue *q, HostJob *j, bool own) {
        uint64_t deadline = (j->job->deadline_seconds ?: q->o.settings->job_deadline_seconds) * USEC_PER_SEC;
        HostRun *r = calloc(1, sizeof *r);

        if (!r || sd_event_add_time_relative(q->o.event, &r->deadline, CLOCK_BOOTTIME, deadline, USEC_PER_SEC, on_deadline, r) < 0) {
                free(r);
                if (own)
                        host_job_free(j);
                return NULL;
        }
        r->q = q;
        r->j = j;
        r->own = own;
        r->progress = -1;
        r->next = q->runs;
        q->runs = r;
        return r;
}

/* ── words ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static Report head(const HostRun *r) {
        const Job *j = r->j->job;

        return (Report) { .delivery_id = r->j->delivery_id, .job_id = j->job_id, .type = job_type_name(j->type),
                          .workspace_id = j->workspace_id, .generation = j->generation, .progress = -1 };
}

void host_run_tell(HostRun *r, Stage stage, int progress) {
        Report p = head(r);

        if (r->progress >= 0 && progress < r->progress + PROGRESS_STEP)
                return;
        r->progress = progress;
        p.state = REPORT_RUNNING;
        p.stage = stage;
        p.progress = progress;
        queue_tell(r->q, report_make(&p, NULL), false);
}

static void log_end(const HostRun *r, ReportState state, const Fault *why) {
        LogFields l = { .workspace_id = r->j->job->workspace_id, .job_id = r->j->job->job_id, .event = why && why->set ? EVENT_JOB_FAILED : EVENT_JOB_ENDED, .fault = why };
        const char *type = job_type_name(r->j->job->type);

        if (why && why->set)
                log_write(LOG_WARNING, &l, "Job %s %s: %s: %s", type, report_state_name(state), fault_code_name(why->code), why->text);
        else
                log_write(LOG_NOTICE, &l, "Job %s %s.", type, report_state_name(state));
}

void host_run_end(HostRun *r, ReportState state, const Fault *why, cJSON *result) {
        Queue *q = r->q;
        Report p = head(r);
        cJSON *report, *kept;

        p.state = state;
        p.fault = why;
        p.stage = state == REPORT_FAILED ? STAGE_FAILED : state == REPORT_SUCCEEDED ? STAGE_READY : STAGE_NONE;
        report = report_make(&p, result);
        kept = report ? cJSON_Duplicate(report, true) : NULL;
        r->wait = image_wait_cancel(r->wait);
        r->call = engine_call_cancel(r->call);
        if (!kept) {
                cJSON_Delete(report);
                log_error("Out of memory for a final report: the job is taken up again at the next start.");
                return;
        }
        log_end(r, state, why);
        (void) outcomes_add(q->outcomes, report, NULL);         /* ignoring: the record has it */
        if (r->own)
                cJSON_Delete(kept);
        else {
                HostJob *j = r->j;

                r->own = true;                  /* what is left of it here is for the words only, and goes with the run */
                r->j = host_state_take(q->host, j, kept);
                (void) host_save(q, NULL);      /* ignoring: the outbox has the report, and a restart only does again what is done */
        }
        r->over = true;
        queue_tell(q, report, true);
        q->o.events.changed(q->o.userdata);
        queue_wake(q);
}

/* ── image.ensure ────────────────────────────────────────────────────────────────────────────────────────────── */

static cJSON *ensure_result(const char *ref, bool pulled) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "image_ref", ref) || !json_add_bool(json, "pulled", pulled) ||
            !json_add_bool(json, "verified_on_target", true))
                return NULL;
        return TAKE_PTR(json);
}

static void on_ensured(int r, const Fault *why, const EngineImage *image, bool pulled, void *userdata) {
        HostRun *run = userdata;

        (void) image;
        run->wait = NULL;
        if (r == -ENOTCONN)
                return;                         /* the engine went away: begun again by the next look */
        if (r < 0)
                host_run_end(run, REPORT_FAILED, why, NULL);
        else
                host_run_end(run, REPORT_SUCCEEDED, NULL, ensure_result(json_get_string(run->j->plan, "image_ref"), pulled));
}

static void on_ensure_progress(uint64_t bytes, uint64_t total, void *userdata) {
        HostRun *r = userdata;

        if (!total)
                return;
        host_run_tell(r, STAGE_INSTALLING, pull_percent(bytes, total));
        r->pull_bytes = bytes;
        r->pull_total = total;
        r->q->o.events.pulling(&(JobPull) { r->j->job->job_id, NULL, json_get_string(r->j->plan, "image_ref"), bytes, total }, r->q->o.userdata);
}

void host_ensure_begin(HostRun *r) {
        const cJSON *plan = r->j->plan;
        Fault why = {};
        int e;

        if (r->wait || engine_state(r->q->o.engine) != ENGINE_UP || queue_holds(r->q, NULL))
                return;
        host_run_tell(r, STAGE_INSTALLING, 0);
        e = images_ensure(r->q->o.images, json_get_string(plan, "image_ref"), json_get_u64_text(plan, "image_size_bytes", 0),
                          on_ensure_progress, on_ensured, r, &r->wait);
        if (e < 0) {
                (void) fault(&why, e, FAULT_INTERNAL, "The image cannot be asked for: %m");
                host_run_end(r, REPORT_FAILED, &why, NULL);
        }
}

/* ── workspace.console ───────────────────────────────────────────────────────────────────────────────────────── */

static cJSON *console_result(const char *text) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        return json && json_add_string(json, "output", text) ? TAKE_PTR(json) : NULL;
}

static const Version *shown(const Entry *e) { return e && e->w->settled ? e->w->settled : NULL; }

static void on_logs(const EngineAnswer *a, void *userdata) {
        HostRun *r = userdata;
        const Version *v = shown(queue_find(r->q, r->j->job->workspace_id));
        _cleanup_free_ char *text = NULL;
        Fault why = a->fault;

        r->call = NULL;
        if (a->r == 0 && v)
                text = rescue_text(&r->q->dir, r->j->job->workspace_id, v->generation, a, CONSOLE_BYTES, &why);
        if (text)
                host_run_end(r, REPORT_SUCCEEDED, NULL, console_result(text));
        else {
                if (!why.set)
                        (void) fault(&why, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "The workspace's container is not there any more.");
                host_run_end(r, REPORT_FAILED, &why, NULL);
        }
}

void host_console_begin(HostRun *r) {
        const Version *v = shown(queue_find(r->q, r->j->job->workspace_id));
        Fault why = {};

        if (!v)
                (void) fault(&why, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "There is no container of workspace %s on this host.",
                             r->j->job->workspace_id);
        else if (engine_container_logs(r->q->o.engine, v->container_id, r->j->job->args.lines ?: CONSOLE_LINES, CONSOLE_BYTES, on_logs, r,
                                       &r->call) < 0)
                (void) fault(&why, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        if (why.set)
                host_run_end(r, REPORT_FAILED, &why, NULL);
}

/* ── looking after them ──────────────────────────────────────────────────────────────────────────────────────── */

static void (*const steps[_JOB_TYPE_MAX])(HostRun *r) = {
        [JOB_IMAGE_ENSURE] = host_ensure_begin,
        [JOB_REDEPLOY] = host_redeploy_step,
        [JOB_TEARDOWN] = host_teardown_step,
};

void host_run_all(Queue *q) {
        drop_over(q);
        for (size_t i = 0; i < q->host->n_jobs; i++)
                if (!host_run_find(q, q->host->jobs[i]->job->job_id))
                        (void) host_run_begin(q, q->host->jobs[i], false);      /* out of memory: with the next look */
        for (HostRun *r = q->runs, *next; r; r = next) {
                next = r->next;
                if (!r->over && steps[r->j->job->type])
                        steps[r->j->job->type](r);
        }
}

void host_part_ended(Queue *q, Entry *e) {
        (void) e;
        queue_wake(q);
}
