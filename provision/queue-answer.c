/* SPDX-License-Identifier: Apache-2.0 */

/* What is said of a delivery: its final word, the same words again, or how far it is. A dry run is told to the one who asked, and to nobody else. */

#include <string.h>

#include "base/log.h"
#include "provision/queue-internal.h"

Report queue_answer_head(const Delivery *d) {
        return (Report) { .delivery_id = d->label.delivery_id,
                          .job_id = d->label.job_id,
                          .type = d->label.type,
                          .workspace_id = d->label.workspace_id,
                          .generation = d->label.has_generation ? d->label.generation : 0,
                          .progress = -1 };
}

static void capture(Queue *q, cJSON *report) {
        if (q->capture && !*q->capture)
                *q->capture = report;
        else
                cJSON_Delete(report);
}

static void log_answer(const Delivery *d, ReportState state, const Fault *why) {
        LogFields l = { .workspace_id = d->label.workspace_id, .job_id = d->label.job_id, .event = state == REPORT_SUCCEEDED ? EVENT_JOB_ENDED : EVENT_JOB_FAILED, .fault = why };
        bool failed = why && why->set;

        if (failed)
                log_write(LOG_WARNING, &l, "Job %s: %s: %s", report_state_name(state), fault_code_name(why->code), why->text);
        else
                log_write(state == REPORT_SUCCEEDED ? LOG_NOTICE : LOG_WARNING, &l, "Job %s %s.", d->label.type, report_state_name(state));
}

/* A report is about a delivery, a job or a workspace; about none of them it would be refused, and hold up those behind it. */
static bool names_anything(const JobLabel *l) { return l->delivery_id[0] || l->job_id[0] || l->workspace_id[0]; }

void queue_answer_final(Queue *q, const Delivery *d, ReportState state, const Fault *why, cJSON *result) {
        Report r = queue_answer_head(d);
        cJSON *report;

        r.state = state;
        r.fault = why;
        r.stage = state == REPORT_REFUSED || state == REPORT_FAILED ? STAGE_FAILED : STAGE_NONE;
        report = report_make(&r, result);
        if (d->dry_run) {
                capture(q, report);
                return;
        }
        log_answer(d, state, why);
        if (!names_anything(&d->label)) {
                capture(q, report);             /* whoever stands here with a file is told all the same */
                return;
        }
        if (report)
                (void) outcomes_add(q->outcomes, report, NULL);         /* ignoring: it is kept in memory, and the outbox has the report */
        queue_tell(q, report, true);
}

/* The same words again, under the delivery that asked now. */
void queue_answer_again(Queue *q, const Delivery *d, const cJSON *outcome) {
        _cleanup_json_ cJSON *copy = cJSON_Duplicate(outcome, true);

        if (copy && d->label.delivery_id[0]) {
                cJSON_DeleteItemFromObjectCaseSensitive(copy, "delivery_id");
                (void) json_add_string(copy, "delivery_id", d->label.delivery_id);
        }
        capture(q, d->dry_run ? TAKE_PTR(copy) : cJSON_Duplicate(copy, true));
        if (copy)
                q->o.events.again(TAKE_PTR(copy), q->o.userdata);
}

/* The same bytes are the same job, and whoever knows how that is going has said so already: nobody does, and nothing is said. */
void queue_answer_equal(Queue *q, const Delivery *d, const char *hash, uint64_t floor) {
        if (strcmp(hash, d->job->payload_hash) != 0)
                queue_answer_final(q, d, REPORT_CONFLICT, NULL, queue_floor_result(floor));
}

void queue_answer_running(Queue *q, const Delivery *d, Stage stage, int progress) {
        Report r = queue_answer_head(d);
        cJSON *report;

        r.state = REPORT_RUNNING;
        r.stage = stage ?: STAGE_LAUNCHING;
        r.progress = progress;
        report = report_make(&r, NULL);
        capture(q, cJSON_Duplicate(report, true));
        if (d->dry_run)
                cJSON_Delete(report);
        else
                queue_tell(q, report, false);
}

void queue_answer_dry(Queue *q, const Delivery *d) {
        Report r = queue_answer_head(d);

        r.state = REPORT_ACCEPTED;
        r.message = "It would be accepted; nothing was done.";
        capture(q, report_make(&r, NULL));
}

const cJSON *queue_recorded(const Queue *q, const Entry *e, const char *job_id) {
        if (!job_id[0])
                return NULL;
        if (e && e->w->outcome && str_equal(json_get_string(e->w->outcome, "job_id"), job_id))
                return e->w->outcome;
        for (int i = 0; i < cJSON_GetArraySize(q->host->finals); i++)
                if (str_equal(json_get_string(cJSON_GetArrayItem(q->host->finals, i), "job_id"), job_id))
                        return cJSON_GetArrayItem(q->host->finals, i);
        return outcomes_find(q->outcomes, job_id);
}

cJSON *queue_floor_result(uint64_t floor) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        return json && json_add_u64_text(json, "floor", floor) ? TAKE_PTR(json) : NULL;
}

bool queue_is_at_work(const Entry *e, const char *job_id) {
        return (e->w->work && str_equal(e->w->work->job_id, job_id)) || (e->w->next && str_equal(e->w->next->job_id, job_id));
}
