/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/record.h"
#include "base/text.h"

#define OUTBOX_DIR     "outbox"
#define REPORT_MAX     (1024 * 1024)
#define BATCH_BYTES    (512 * 1024)

typedef struct Item {
        cJSON *report;
        size_t size;                    /* printed */
        bool   durable;
} Item;

struct Outbox {
        int    state_fd, fd;
        Item  *items;
        size_t n, allocated, durable, bytes;
};

static const char *id_of(const Item *i) { return json_get_string(i->report, "report_id"); }

static int push(Outbox *o, cJSON *report, bool durable) {
        _cleanup_free_ char *text = json_print(report);

        if (o->n == o->allocated) {
                size_t more = o->allocated ? o->allocated * 2 : 64;
                Item *bigger = reallocarray(o->items, more, sizeof *bigger);

                if (!bigger)
                        return -ENOMEM;
                o->items = bigger;
                o->allocated = more;
        }
        if (!text)
                return -ENOMEM;
        o->items[o->n] = (Item) { .report = report, .size = strlen(text), .durable = durable };
        o->bytes += o->items[o->n++].size;
        o->durable += durable;
        return 0;
}

static void drop(Outbox *o, size_t i) {
        cJSON_Delete(o->items[i].report);
        o->bytes -= o->items[i].size;
        o->durable -= o->items[i].durable;
        memmove(&o->items[i], &o->items[i + 1], (--o->n - i) * sizeof *o->items);
}

static ssize_t find(const Outbox *o, const char *report_id) {
        for (size_t i = 0; i < o->n; i++)
                if (str_equal(id_of(&o->items[i]), report_id))
                        return (ssize_t) i;
        return -1;
}

/* ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void set_aside(const Outbox *o, const char *name, const char *reason) {
        int r = file_set_aside(o->state_fd, o->fd, name, name, reason);

        if (r < 0)
                log_error("Cannot move the report %s to quarantine: %s", name, strerror(-r));
}

static int load_one(int dirfd, const char *name, void *userdata) {
        Outbox *o = userdata;
        cJSON *report = NULL;
        Fault why = {};
        int r = record_read(dirfd, name, "report", REPORT_MAX, &report, &why);

        if (r < 0 && r != -EBADMSG && r != -EPROTONOSUPPORT)
                return r;                       /* unreadable now is not damaged */
        if (r < 0 || !str_equal(json_get_string(report, "report_id"), name)) {
                log_error("The report %s is damaged and set aside: %s", name, why.set ? why.text : "it is another report's, by its id.");
                set_aside(o, name, why.set ? why.text : "the report is of another id");
                cJSON_Delete(report);
                return 0;
        }
        r = push(o, report, true);
        if (r < 0)
                cJSON_Delete(report);
        return r;
}

/* By the time they were made; within one millisecond `accepted` before its final. */
static int by_time(const void *a, const void *b) {
        const cJSON *x = ((const Item *) a)->report, *y = ((const Item *) b)->report;
        int r = strcmp(json_get_string(x, "at") ?: "", json_get_string(y, "at") ?: "");

        if (r != 0)
                return r;
        return str_equal(json_get_string(y, "state"), "accepted") - str_equal(json_get_string(x, "state"), "accepted");
}

int outbox_open(int state_fd, Outbox **ret, Fault *reterr) {
        _cleanup_(outbox_freep) Outbox *o = calloc(1, sizeof *o);
        int r;

        if (!o)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        o->state_fd = state_fd;
        o->fd = file_open_dir(state_fd, OUTBOX_DIR);
        if (o->fd < 0)
                return fault(reterr, o->fd, FAULT_STATE_DEGRADED, "Cannot open the outbox: %m");
        (void) file_sweep_temp(o->fd);
        r = file_each(o->fd, load_one, o);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the outbox: %m");
        if (o->n)
                qsort(o->items, o->n, sizeof *o->items, by_time);
        *ret = TAKE_PTR(o);
        return 0;
}

Outbox *outbox_free(Outbox *o) {
        if (!o)
                return NULL;
        while (o->n > 0)
                drop(o, o->n - 1);
        free(o->items);
        if (o->fd > 0)
                (void) close(o->fd);
        free(o);
        return NULL;
}

/* ── adding ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The newest `running` word of a job replaces the older one; any durable word makes it moot. */
static void coalesce(Outbox *o, const cJSON *report) {
        const char *job = json_get_string(report, "job_id"), *workspace = json_get_string(report, "workspace_id");

        for (size_t i = 0; i < o->n; i++)
                if (!o->items[i].durable && str_equal(json_get_string(o->items[i].report, "job_id"), job) &&
                    str_equal(json_get_string(o->items[i].report, "workspace_id"), workspace)) {
                        drop(o, i);
                        return;
                }
}

int outbox_add(Outbox *o, cJSON *report, bool durable, Fault *reterr) {
        const char *id = json_get_string(report, "report_id");
        int r, stored = 0;

        if (!id || !uuid_is_valid(id) || find(o, id) >= 0) {
                cJSON_Delete(report);
                return 0;
        }
        if (durable)
                stored = record_write(o->fd, id, "report", report, reterr);
        if (!durable || !str_equal(json_get_string(report, "state"), "accepted"))
                coalesce(o, report);
        r = push(o, report, durable);
        if (r < 0) {
                cJSON_Delete(report);
                return fault(reterr, r, FAULT_INTERNAL, "Out of memory for a report.");
        }
        return stored;
}

bool   outbox_knows(const Outbox *o, const char *report_id) { return report_id && find(o, report_id) >= 0; }
bool   outbox_is_full(const Outbox *o) { return o->durable >= OUTBOX_REPORTS_MAX || o->bytes >= OUTBOX_BYTES_MAX; }
size_t outbox_depth(const Outbox *o) { return o->durable; }
bool   outbox_is_empty(const Outbox *o) { return o->n == 0; }

uint64_t outbox_oldest(const Outbox *o) {
        uint64_t at = 0;

        for (size_t i = 0; i < o->n; i++)
                if (o->items[i].durable)
                        return time_parse(json_get_string(o->items[i].report, "at"), &at) == 0 ? at : 0;
        return 0;
}

/* ── taking ──────────────────────────────────────────────────────────────────────────────────────────────────── */

cJSON *outbox_batch(const Outbox *o, size_t max) {
        _cleanup_json_ cJSON *list = o->n ? cJSON_CreateArray() : NULL;
        size_t bytes = 0;

        for (size_t i = 0; list && i < o->n && i < max && (i == 0 || bytes + o->items[i].size <= BATCH_BYTES); i++) {
                if (!cJSON_AddItemReferenceToArray(list, o->items[i].report))
                        return NULL;
                bytes += o->items[i].size;
        }
        return TAKE_PTR(list);
}

int outbox_acked(Outbox *o, const char *report_id, Fault *reterr) {
        ssize_t i = find(o, report_id);
        int r = 0;

        if (i < 0)
                return 0;
        if (o->items[i].durable && unlinkat(o->fd, report_id, 0) < 0 && errno != ENOENT)
                r = fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot remove a delivered report: %m");
        drop(o, (size_t) i);
        return r;
}

int outbox_quarantine(Outbox *o, const char *report_id, Fault *reterr) {
        ssize_t i = find(o, report_id);

        if (i >= 0 && o->items[i].durable)
                set_aside(o, report_id, "the control plane refuses it");
        return outbox_acked(o, report_id, reterr);
}
