/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"

#define BATCH_MAX      100
#define COALESCE_USEC  (500 * USEC_PER_MSEC)    /* `running` words wait this long for company */

struct Reporter {
        Cp             *cp;
        Outbox         *outbox;
        const Identity *identity;
        Loops          *loops;
        ReporterEvents  events;
        sd_event_source *timer;
        CpCall         *call;
        CpPace          pace;
        cJSON          *batch;                  /* in flight: the ids that were sent */
        size_t          limit;                  /* halved when a batch is refused */
        unsigned        refused;
        bool            open, waiting;          /* waiting: after a failure, the timer is law */
};

static void arm(Reporter *r, uint64_t usec) {
        (void) sd_event_source_set_time_relative(r->timer, usec);
        (void) sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT);
        loops_tick(r->loops, LOOP_REPORTS, usec + 1);
}

static void forget_batch(Reporter *r) {
        cJSON_Delete(r->batch);
        r->batch = NULL;
}

static void take_acks(Reporter *r, const cJSON *json) {
        const cJSON *item;

        cJSON_ArrayForEach(item, json_get(json, "acked")) {
                Fault why = {};

                if (!cJSON_IsString(item))
                        continue;
                if (outbox_acked(r->outbox, item->valuestring, &why) < 0)
                        log_write(LOG_WARNING, &(LogFields) { .fault = &why }, "%s", why.text);
                r->events.acked(item->valuestring, r->events.userdata);
        }
}

/* A batch that is refused is halved until the one report that offends stands alone; that one is set aside, never the others. */
static void take_refusal(Reporter *r, const CpAnswer *a) {
        Fault why = {};

        if (cJSON_GetArraySize(r->batch) > 1) {
                r->limit = (size_t) cJSON_GetArraySize(r->batch) / 2;
                return;
        }
        r->refused++;
        r->limit = BATCH_MAX;
        log_write(LOG_ERR, &(LogFields) { .fault = &a->fault }, "The control plane refuses report %s, which is set aside: %s",
                  cJSON_GetArrayItem(r->batch, 0)->valuestring, a->fault.text);
        (void) outbox_quarantine(r->outbox, cJSON_GetArrayItem(r->batch, 0)->valuestring, &why);
}

/* How many of the reports that were sent are acknowledged: an answer without any must not be asked for again at once. */
static unsigned acks_of(const Reporter *r, const cJSON *json) {
        const cJSON *item, *sent;
        unsigned n = 0;

        cJSON_ArrayForEach(item, json_get(json, "acked"))
                cJSON_ArrayForEach(sent, r->batch)
                        n += cJSON_IsString(item) && strcmp(item->valuestring, sent->valuestring) == 0;
        return n;
}

static void on_answer(const CpAnswer *a, void *userdata) {
        Reporter *r = userdata;
        bool useless;
        uint64_t wait;

        r->call = NULL;
        useless = a->kind == CP_OK && !acks_of(r, a->json);
        wait = cp_pace(r->cp, &r->pace, useless || a->kind == CP_REFUSED ? CP_UNREACHABLE : a->kind);
        if (a->kind == CP_OK) {
                r->limit = BATCH_MAX;
                take_acks(r, a->json);
        } else if (a->kind == CP_REFUSED)
                take_refusal(r, a);
        forget_batch(r);
        r->waiting = wait > 0 && !outbox_is_empty(r->outbox);   /* without a timer nobody would end the waiting */
        r->events.answered(a, r->events.userdata);
        if (!r->open)
                return;                         /* that answer closed us */
        if (!outbox_is_empty(r->outbox))
                arm(r, wait);
        else {
                loops_tick(r->loops, LOOP_REPORTS, 0);
                r->events.idle(r->events.userdata);
        }
}

static char *body_of(const Reporter *r, const cJSON *reports) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_u64_text(json, "boot_epoch", r->identity->boot_epoch) ||
            !cJSON_AddItemReferenceToObject(json, "reports", (cJSON *) reports))
                return NULL;
        return json_print(json);
}

static cJSON *ids_of(const cJSON *reports) {
        _cleanup_json_ cJSON *ids = cJSON_CreateArray();
        const cJSON *item;

        cJSON_ArrayForEach(item, reports)
                if (!ids || !cJSON_AddItemToArray(ids, cJSON_CreateString(json_get_string(item, "report_id"))))
                        return NULL;
        return TAKE_PTR(ids);
}

static void send_batch(Reporter *r) {
        _cleanup_json_ cJSON *reports = NULL;
        _cleanup_free_ char *body = NULL;
        char path[80];

        if (!r->open || r->call || outbox_is_empty(r->outbox))
                return;
        r->waiting = false;
        reports = outbox_batch(r->outbox, r->limit);
        body = reports ? body_of(r, reports) : NULL;
        r->batch = body ? ids_of(reports) : NULL;
        (void) snprintf(path, sizeof path, "/hosts/%s/reports", r->identity->host_id);
        if (!r->batch || cp_send(r->cp, &(CpRequest) { .method = "POST", .path = path, .body = body, .call = METRIC_CALL_REPORTS }, on_answer, r, &r->call) < 0) {
                forget_batch(r);
                arm(r, USEC_PER_SEC);
                return;
        }
        loops_tick(r->loops, LOOP_REPORTS, 60 * USEC_PER_SEC + cp_held_back(r->cp));
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        send_batch(userdata);
        return 0;
}

void reporter_wake(Reporter *r, bool urgent) {
        uint64_t due, now = now_boottime(), wait = urgent ? 0 : COALESCE_USEC;

        if (!r->open || r->call || r->waiting)
                return;
        if (sd_event_source_get_enabled(r->timer, NULL) > 0 && sd_event_source_get_time(r->timer, &due) >= 0 && due <= now + wait)
                return;
        arm(r, wait);
}

void reporter_hurry(Reporter *r) {
        if (TAKE(r->waiting, false))
                reporter_wake(r, true);
}

void reporter_open(Reporter *r, bool open) {
        r->open = open;
        if (!open) {
                r->call = cp_call_cancel(r->call);
                forget_batch(r);
                r->waiting = false;
                (void) sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
                loops_tick(r->loops, LOOP_REPORTS, 0);
        } else if (!r->call && !outbox_is_empty(r->outbox))
                reporter_wake(r, true);
}

unsigned reporter_refused(const Reporter *r) { return r->refused; }

int reporter_new(sd_event *event, Cp *cp, Outbox *outbox, const Identity *identity, Loops *loops, const ReporterEvents *events,
                 Reporter **ret) {
        _cleanup_(reporter_freep) Reporter *r = calloc(1, sizeof *r);
        int k;

        if (!r)
                return -ENOMEM;
        *r = (Reporter) { .cp = cp, .outbox = outbox, .identity = identity, .loops = loops, .events = *events, .pace = CP_PACE_INIT, .limit = BATCH_MAX };
        k = sd_event_add_time_relative(event, &r->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, r);
        if (k < 0)
                return k;
        k = sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
        if (k < 0)
                return k;
        *ret = TAKE_PTR(r);
        return 0;
}

Reporter *reporter_free(Reporter *r) {
        if (!r)
                return NULL;
        (void) cp_call_cancel(r->call);
        forget_batch(r);
        sd_event_source_disable_unref(r->timer);
        free(r);
        return NULL;
}
