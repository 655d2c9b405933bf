/* SPDX-License-Identifier: Apache-2.0 */

#include "provision/host-state.h"

#include <errno.h>
#include <string.h>

#include "base/file.h"
#include "base/record.h"

#define HOST_FILE     "host"
#define HOST_FILE_MAX (8 * 1024 * 1024)

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct FloorView { HostFloor floor; char *hash; } FloorView;

static const JsonField floor_fields[] = {
        { "generation", cJSON_String, json_set_u64_text, offsetof(FloorView, floor.generation), JSON_REQUIRED, 0, NULL },
        { "hash",       cJSON_String, json_set_text, offsetof(FloorView, hash), JSON_REQUIRED, HASH_TEXT_SIZE - 1, NULL },
        { "job_id",     cJSON_String, json_set_uuid, offsetof(FloorView, floor.job_id), JSON_NULLABLE, 0, NULL },
        {}
};

static int set_floor(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        FloorView view = {};
        int r = json_dispatch(v, floor_fields, JSON_STRICT, &view, reterr);

        (void) f;
        if (view.hash)
                strcpy(view.floor.hash, view.hash);
        free(view.hash);
        if (r >= 0)
                *(HostFloor *) place = view.floor;
        return r;
}

static const JsonField hold_fields[] = {
        { "workspace_id", cJSON_String, json_set_uuid, offsetof(HostHold, workspace_id), JSON_NULLABLE, 0, NULL },
        { "floor",        cJSON_Object, set_floor, offsetof(HostHold, floor), JSON_REQUIRED, 0, NULL },
        { "held",         cJSON_True|cJSON_False, json_set_bool, offsetof(HostHold, held), JSON_REQUIRED, 0, NULL },
        { "reason",       cJSON_String, json_set_text, offsetof(HostHold, reason), JSON_NULLABLE, 0, NULL },
        { "until",        cJSON_String, json_set_u64_text, offsetof(HostHold, until), JSON_REQUIRED, 0, NULL },
        {}
};

static int set_holds(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        HostState *h = place;
        const cJSON *item;

        (void) f;
        h->holds = calloc((size_t) cJSON_GetArraySize(v) + 1, sizeof *h->holds);
        if (!h->holds)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        cJSON_ArrayForEach(item, v) {
                int r = json_dispatch(item, hold_fields, JSON_STRICT, &h->holds[h->n_holds++], reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What must be known to read a job's bytes again. */
typedef struct Reading { HostState h; const JobRules *rules; } Reading;

static const JsonField job_fields[] = {
        { "delivery_id",        cJSON_String, json_set_uuid, offsetof(HostJob, delivery_id), JSON_NULLABLE, 0, NULL },
        { "accepted_report_id", cJSON_String, json_set_uuid, offsetof(HostJob, accepted_report_id), JSON_REQUIRED, 0, NULL },
        { "payload",            cJSON_String, json_set_string, offsetof(HostJob, payload), JSON_REQUIRED, HOST_FILE_MAX, NULL },
        { "plan",               cJSON_Object, json_set_value, offsetof(HostJob, plan), JSON_NULLABLE, 0, NULL },
        { "cancelled",          cJSON_True|cJSON_False, json_set_bool, offsetof(HostJob, cancelled), JSON_REQUIRED, 0, NULL },
        {}
};

static int read_job(Reading *reading, const cJSON *item, Fault *reterr) {
        HostJob *j = calloc(1, sizeof *j);
        JobLabel label = {};
        int r;

        if (!j)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = json_dispatch(item, job_fields, JSON_STRICT, j, reterr);
        if (r >= 0)
                r = job_parse(j->payload, strlen(j->payload), reading->rules, &label, &j->job, reterr);
        if (r < 0) {
                host_job_free(j);
                return r;
        }
        return host_state_add(&reading->h, j);
}

static int set_jobs(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const cJSON *item;

        (void) f;
        cJSON_ArrayForEach(item, v) {
                int r = read_job(place, item, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static const JsonField record_fields[] = {
        { "redeploy",     cJSON_Object, set_floor, offsetof(Reading, h.redeploy), JSON_REQUIRED, 0, NULL },
        { "drain",        cJSON_Object, set_floor, offsetof(Reading, h.drain), JSON_REQUIRED, 0, NULL },
        { "teardown",     cJSON_Object, set_floor, offsetof(Reading, h.teardown), JSON_REQUIRED, 0, NULL },
        { "holds",        cJSON_Array, set_holds, offsetof(Reading, h), JSON_REQUIRED, 0, NULL },
        { "draining",     cJSON_True|cJSON_False, json_set_bool, offsetof(Reading, h.draining), JSON_REQUIRED, 0, NULL },
        { "drain_reason", cJSON_String, json_set_text, offsetof(Reading, h.drain_reason), JSON_NULLABLE, 0, NULL },
        { "torn_down",    cJSON_String, json_set_uuid, offsetof(Reading, h.torn_down), JSON_NULLABLE, 0, NULL },
        { "jobs",         cJSON_Array, set_jobs, 0, JSON_REQUIRED, 0, NULL },
        { "finals",       cJSON_Array, json_set_value, offsetof(Reading, h.finals), JSON_REQUIRED, 0, NULL },
        {}
};

static void state_done(HostState *h) {
        for (size_t i = 0; i < h->n_holds; i++)
                free(h->holds[i].reason);
        for (size_t i = 0; i < h->n_jobs; i++)
                host_job_free(h->jobs[i]);
        free(h->holds);
        free(h->jobs);
        free(h->drain_reason);
        cJSON_Delete(h->finals);
}

static int state_read(int state_fd, const JobRules *rules, HostState *ret, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        Reading reading = { .rules = rules };
        int r = record_read(state_fd, HOST_FILE, "host", HOST_FILE_MAX, &json, reterr);

        if (r < 0)
                return r;
        r = json_dispatch(json, record_fields, JSON_STRICT, &reading, reterr);
        if (r < 0) {
                state_done(&reading.h);
                return r == -ENOMEM ? r : -EBADMSG;
        }
        *ret = reading.h;
        return 0;
}

int host_state_open(int state_fd, const JobRules *rules, HostState **ret, Fault *reterr) {
        _cleanup_(host_state_freep) HostState *h = calloc(1, sizeof *h);
        int r;

        if (!h)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = record_start(state_fd, HOST_FILE, state_read(state_fd, rules, h, reterr), reterr);
        if (r < 0)
                return r;
        h->state_fd = state_fd;
        if (!h->finals && !(h->finals = cJSON_CreateArray()))
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        *ret = TAKE_PTR(h);
        return 0;
}

HostState *host_state_free(HostState *h) {
        if (h)
                state_done(h);
        free(h);
        return NULL;
}

/* ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool add_text(cJSON *json, const char *name, const char *value) { return !value || !value[0] || json_add_string(json, name, value); }

static bool add_floor(cJSON *json, const char *name, const HostFloor *f) {
        cJSON *item = cJSON_CreateObject();

        return json_add_item(json, name, item) && json_add_u64_text(item, "generation", f->generation) &&
               json_add_string(item, "hash", f->hash) && add_text(item, "job_id", f->job_id);
}

static bool add_holds(cJSON *json, const HostState *h) {
        cJSON *list = cJSON_CreateArray();

        if (!json_add_item(json, "holds", list))
                return false;
        for (size_t i = 0; i < h->n_holds; i++) {
                const HostHold *o = &h->holds[i];
                cJSON *item = cJSON_CreateObject();

                if (!cJSON_AddItemToArray(list, item) || !add_text(item, "workspace_id", o->workspace_id) ||
                    !add_floor(item, "floor", &o->floor) || !json_add_bool(item, "held", o->held) ||
                    !add_text(item, "reason", o->reason) || !json_add_u64_text(item, "until", o->until))
                        return false;
        }
        return true;
}

static bool add_jobs(cJSON *json, const HostState *h) {
        cJSON *list = cJSON_CreateArray();

        if (!json_add_item(json, "jobs", list))
                return false;
        for (size_t i = 0; i < h->n_jobs; i++) {
                const HostJob *j = h->jobs[i];
                cJSON *item = cJSON_CreateObject();

                if (!cJSON_AddItemToArray(list, item) || !add_text(item, "delivery_id", j->delivery_id) ||
                    !json_add_string(item, "accepted_report_id", j->accepted_report_id) || !json_add_string(item, "payload", j->payload) ||
                    (j->plan && !json_add_item(item, "plan", cJSON_Duplicate(j->plan, true))) ||
                    !json_add_bool(item, "cancelled", j->cancelled))
                        return false;
        }
        return true;
}

int host_state_save(const HostState *h, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !add_floor(json, "redeploy", &h->redeploy) || !add_floor(json, "drain", &h->drain) ||
            !add_floor(json, "teardown", &h->teardown) || !add_holds(json, h) || !json_add_bool(json, "draining", h->draining) ||
            !add_text(json, "drain_reason", h->drain_reason) || !add_text(json, "torn_down", h->torn_down) || !add_jobs(json, h) ||
            !json_add_item(json, "finals", cJSON_Duplicate(h->finals, true)))
                return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the record of the host.");
        return record_write(h->state_fd, HOST_FILE, "host", json, reterr);
}

/* ── holds and floors ────────────────────────────────────────────────────────────────────────────────────────── */

HostHold *host_state_hold(HostState *h, const char *workspace_id) {
        for (size_t i = 0; i < h->n_holds; i++)
                if (strcmp(h->holds[i].workspace_id, workspace_id ?: "") == 0)
                        return &h->holds[i];
        return NULL;
}

/* The room is for holds that count: what was released longest ago gives way, and its floor with it. */
static bool make_room(HostState *h) {
        for (size_t i = 0; i < h->n_holds; i++)
                if (!h->holds[i].held && h->holds[i].workspace_id[0]) {
                        free(h->holds[i].reason);
                        memmove(&h->holds[i], &h->holds[i + 1], (--h->n_holds - i) * sizeof *h->holds);
                        return true;
                }
        return false;
}

HostHold *host_state_hold_make(HostState *h, const char *workspace_id) {
        HostHold *there = host_state_hold(h, workspace_id), *bigger;

        if (there)
                return there;
        if (h->n_holds >= HOST_HOLDS_MAX && !make_room(h))
                return NULL;
        bigger = reallocarray(h->holds, h->n_holds + 1, sizeof *bigger);
        if (!bigger)
                return NULL;
        h->holds = bigger;
        there = &h->holds[h->n_holds++];
        *there = (HostHold) {};
        (void) strncpy(there->workspace_id, workspace_id ?: "", UUID_SIZE - 1);
        return there;
}

HostFloor *host_state_floor(HostState *h, const Job *j) {
        HostHold *hold;

        switch (job_type_line(j->type)) {
        case LINE_REDEPLOY:
                return &h->redeploy;
        case LINE_DRAIN:
                return &h->drain;
        case LINE_TEARDOWN:
                return &h->teardown;
        case LINE_HOLD:
                hold = host_state_hold_make(h, j->args.workspace_id);
                return hold ? &hold->floor : NULL;
        default:
                return NULL;
        }
}

static bool counts(const HostHold *o, uint64_t now) { return o->held && (!o->until || now < o->until); }

bool host_state_holds(const HostState *h, const char *workspace_id, uint64_t now) {
        for (size_t i = 0; i < h->n_holds; i++)
                if (counts(&h->holds[i], now) &&
                    (!h->holds[i].workspace_id[0] || str_equal(h->holds[i].workspace_id, workspace_id)))
                        return true;
        return false;
}

bool host_state_expire(HostState *h, uint64_t now) {
        bool any = false;

        for (size_t i = 0; i < h->n_holds; i++)
                if (h->holds[i].held && !counts(&h->holds[i], now)) {
                        h->holds[i].held = false;
                        any = true;
                }
        return any;
}

uint64_t host_state_generation(const HostState *h) {
        uint64_t highest = h->redeploy.generation;

        highest = h->drain.generation > highest ? h->drain.generation : highest;
        highest = h->teardown.generation > highest ? h->teardown.generation : highest;
        for (size_t i = 0; i < h->n_holds; i++)
                highest = h->holds[i].floor.generation > highest ? h->holds[i].floor.generation : highest;
        return highest;
}

/* ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────── */

HostJob *host_state_find(const HostState *h, const char *job_id) {
        for (size_t i = 0; i < h->n_jobs; i++)
                if (str_equal(h->jobs[i]->job->job_id, job_id))
                        return h->jobs[i];
        return NULL;
}

int host_state_add(HostState *h, HostJob *j) {
        HostJob **bigger = j ? reallocarray(h->jobs, h->n_jobs + 1, sizeof *bigger) : NULL;

        if (!bigger) {
                host_job_free(j);
                return -ENOMEM;
        }
        h->jobs = bigger;
        h->jobs[h->n_jobs++] = j;
        return 0;
}

static size_t bytes_of(const cJSON *json) {
        _cleanup_free_ char *text = json_print(json);
        return text ? strlen(text) : 0;
}

void host_state_keep_final(HostState *h, cJSON *final) {
        if (bytes_of(final) > HOST_FINAL_MAX)
                cJSON_DeleteItemFromObjectCaseSensitive(final, "result");
        if (!final || !cJSON_AddItemToArray(h->finals, final))
                cJSON_Delete(final);
        while (bytes_of(h->finals) > HOST_FINALS_MAX)
                cJSON_DeleteItemFromArray(h->finals, 0);
}

HostJob *host_state_take(HostState *h, HostJob *j, cJSON *final) {
        for (size_t i = 0; i < h->n_jobs; i++)
                if (h->jobs[i] == j) {
                        memmove(&h->jobs[i], &h->jobs[i + 1], (--h->n_jobs - i) * sizeof *h->jobs);
                        break;
                }
        host_state_keep_final(h, final);
        return j;
}

void host_state_forget_final(HostState *h, const char *report_id, bool *ret_found) {
        *ret_found = false;
        for (int i = 0; i < cJSON_GetArraySize(h->finals); i++)
                if (str_equal(json_get_string(cJSON_GetArrayItem(h->finals, i), "report_id"), report_id)) {
                        cJSON_DeleteItemFromArray(h->finals, i);
                        *ret_found = true;
                        return;
                }
}

HostJob *host_job_new(Job *job, const char *delivery_id) {
        HostJob *j = calloc(1, sizeof *j);

        if (!j || uuid_make(j->accepted_report_id) < 0) {
                free(j);
                job_free(job);
                return NULL;
        }
        j->job = job;
        j->payload = TAKE_PTR(job->payload);
        if (delivery_id)
                memcpy(j->delivery_id, delivery_id, UUID_SIZE);
        return j;
}

HostJob *host_job_free(HostJob *j) {
        if (!j)
                return NULL;
        job_free(j->job);
        free(j->payload);
        cJSON_Delete(j->plan);
        free(j);
        return NULL;
}
