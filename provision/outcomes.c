/* SPDX-License-Identifier: Apache-2.0 */

/* A ring in memory, written whole. Results are left out: with the longest words there are, a thousand entries stay below OUTCOMES_FILE_MAX. */

#include "provision/outcomes.h"

#include <errno.h>
#include <string.h>

#include "base/record.h"

#define OUTCOMES_FILE     "outcomes"
#define OUTCOMES_FILE_MAX (2 * 1024 * 1024)

struct Outcomes {
        int    state_fd;
        cJSON *reports[OUTCOMES_MAX];
        uint64_t added[OUTCOMES_MAX];   /* boottime; 0: before this start */
        size_t n, oldest;               /* a ring once it is full */
        bool   unsaved;                 /* the disk has less than is here */
};

static void put(Outcomes *o, cJSON *report, uint64_t added) {
        if (o->n < OUTCOMES_MAX) {
                o->added[o->n] = added;
                o->reports[o->n++] = report;
                return;
        }
        cJSON_Delete(o->reports[o->oldest]);
        o->reports[o->oldest] = report;
        o->added[o->oldest] = added;
        o->oldest = (o->oldest + 1) % OUTCOMES_MAX;
}

int outcomes_open(int state_fd, Outcomes **ret, Fault *reterr) {
        _cleanup_(outcomes_freep) Outcomes *o = calloc(1, sizeof *o);
        _cleanup_json_ cJSON *json = NULL;
        cJSON *list, *item;
        int r;

        if (!o)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        o->state_fd = state_fd;
        r = record_read(state_fd, OUTCOMES_FILE, "outcomes", OUTCOMES_FILE_MAX, &json, reterr);
        r = record_start(state_fd, OUTCOMES_FILE, r, reterr);
        if (r < 0)
                return r;
        list = (cJSON *) json_get(json, "outcomes");
        while (list && (item = cJSON_DetachItemFromArray(list, 0)))
                put(o, item, 0);
        *ret = TAKE_PTR(o);
        return 0;
}

Outcomes *outcomes_free(Outcomes *o) {
        if (!o)
                return NULL;
        for (size_t i = 0; i < o->n; i++)
                cJSON_Delete(o->reports[i]);
        free(o);
        return NULL;
}

const cJSON *outcomes_find(const Outcomes *o, const char *job_id) {
        for (size_t i = 0; i < o->n; i++)
                if (str_equal(json_get_string(o->reports[i], "job_id"), job_id))
                        return o->reports[i];
        return NULL;
}

cJSON *outcomes_since(const Outcomes *o, uint64_t since, size_t max) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();
        size_t first = o->n;

        while (first > 0 && o->n - first < max && o->added[(o->oldest + first - 1) % OUTCOMES_MAX] >= since)
                first--;
        for (; list && first < o->n; first++)
                if (!cJSON_AddItemToArray(list, cJSON_Duplicate(o->reports[(o->oldest + first) % OUTCOMES_MAX], true)))
                        return NULL;
        return TAKE_PTR(list);
}

/* last: one more, that is not here yet; or NULL. */
static int save(const Outcomes *o, const cJSON *last, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *list = cJSON_CreateArray();

        if (!json_add_item(json, "outcomes", list))
                return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the outcomes.");
        for (size_t i = 0; i < o->n; i++)
                if (!cJSON_AddItemReferenceToArray(list, o->reports[(o->oldest + i) % OUTCOMES_MAX]))
                        return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the outcomes.");
        if (last && !cJSON_AddItemReferenceToArray(list, (cJSON *) last))
                return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the outcomes.");
        return record_write(o->state_fd, OUTCOMES_FILE, "outcomes", json, reterr);
}

int outcomes_save(Outcomes *o, Fault *reterr) {
        int r = save(o, NULL, reterr);

        o->unsaved = r < 0;
        return r;
}

int outcomes_save_again(Outcomes *o) { return o->unsaved ? outcomes_save(o, NULL) : 0; }

static int remember(Outcomes *o, const cJSON *report, uint64_t added) {
        const char *job_id = json_get_string(report, "job_id");
        cJSON *copy;

        if (job_id ? outcomes_find(o, job_id) != NULL : !str_equal(json_get_string(report, "source"), "local"))
                return 0;
        copy = cJSON_Duplicate(report, true);
        if (!copy)
                return -ENOMEM;
        cJSON_DeleteItemFromObjectCaseSensitive(copy, "result");
        put(o, copy, added);
        return 1;
}

/* Older than all that is here: it was here and gave way. With more workspaces than the ring has room for, each start would push out what it alone knows. */
static bool gave_way(const Outcomes *o, const cJSON *report) {
        const cJSON *oldest = o->n == OUTCOMES_MAX ? o->reports[o->oldest] : NULL;

        return oldest && strcmp(json_get_string(report, "at") ?: "", json_get_string(oldest, "at") ?: "") < 0;
}

int outcomes_recall(Outcomes *o, const cJSON *report) { return gave_way(o, report) ? 0 : remember(o, report, 0); }

int outcomes_add(Outcomes *o, const cJSON *report, Fault *reterr) {
        int r = remember(o, report, now_boottime());

        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Out of memory for an outcome.");
        return r > 0 ? outcomes_save(o, reterr) : 0;
}

int outcomes_promise(Outcomes *o, const cJSON *report, Fault *reterr) {
        int r = save(o, report, reterr);

        if (r >= 0 && remember(o, report, now_boottime()) < 0)
                return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for an outcome.");
        return r;
}
