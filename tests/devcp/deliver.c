/* SPDX-License-Identifier: Apache-2.0 */

/* The long poll. At least once and without a cursor: what a host has reported on is its own, everything else is due, and what was just
 * handed out is due again in a minute. due_at holds all of that, so the poll is one query. */

#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "tests/devcp/hosts.h"
#include "tests/devcp/jobs.h"
#include "tests/devcp/sign.h"

#define AGAIN_USEC     (60 * USEC_PER_SEC)
#define MAX_DEFAULT    16
#define MAX_MAX        100
#define PAYLOAD_TYPE   "application/vnd.molecule.job.v1+json"

/* row: of SQL_JOB_PAYLOAD. */
static int delivery_make(Server *s, const char *delivery_id, const cJSON *row, cJSON **ret) {
        _cleanup_json_ cJSON *delivery = cJSON_CreateObject(), *envelope = NULL;
        _cleanup_free_ uint8_t *bytes = NULL;
        SignatureKind kind = SIGNATURE_GOOD;
        size_t size;
        int r;

        (void) signature_kind_find(json_get_string(row, "signature"), &kind);  /* none: a good one */
        r = base64_decode(json_get_string(row, "payload"), BODY_MAX_LARGE, &bytes, &size);
        if (r == 0)
                r = envelope_make(s->signer, kind, PAYLOAD_TYPE, bytes, size, &envelope);
        if (r < 0)
                return r;
        if (!json_add_string(delivery, "delivery_id", delivery_id) || !json_add_item(delivery, "envelope", TAKE_PTR(envelope)))
                return -ENOMEM;
        *ret = TAKE_PTR(delivery);
        return 0;
}

static int hand_out(Server *s, const char *job_id, cJSON *jobs) {
        char delivery_id[UUID_SIZE], now[TIME_TEXT_SIZE], again[TIME_TEXT_SIZE];
        _cleanup_json_ cJSON *row = NULL, *delivery = NULL;
        uint64_t usec = now_realtime();
        int r;

        r = uuid_make(delivery_id);
        if (r == 0)
                r = store_get(s->store, SQL_JOB_PAYLOAD, &row, "s", job_id);
        if (r == 0)
                r = store_do(s->store, SQL_DELIVERY_ADD, "sss", delivery_id, job_id, time_text(usec, now));
        if (r == 0)
                r = store_do(s->store, SQL_JOB_HANDED, "ss", job_id, time_text(usec + AGAIN_USEC, again));
        if (r == 0)
                r = delivery_make(s, delivery_id, row, &delivery);
        if (r < 0)
                return r;
        return cJSON_AddItemToArray(jobs, TAKE_PTR(delivery)) ? 0 : -ENOMEM;
}

static int hand_out_due(Server *s, const char *host_id, uint32_t max, cJSON *jobs) {
        _cleanup_json_ cJSON *rows = NULL;
        char now[TIME_TEXT_SIZE];
        uint64_t room = BODY_MAX_LARGE, size;
        const cJSON *row;
        int r;

        r = store_list(s->store, SQL_JOBS_DUE, &rows, "ssi", host_id, time_text(now_realtime(), now), (int64_t) max);
        if (r < 0)
                return r;
        cJSON_ArrayForEach(row, rows) {
                size = ((uint64_t) json_get_i64(row, "size", 0) + 2) / 3 * 4 + ENVELOPE_ROOM;
                if (size > room)
                        break;
                room -= size;
                r = hand_out(s, json_get_string(row, "job_id"), jobs);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Sleeps until the poll's end, or until a job handed out earlier is due again. */
static int poll_park(Server *s, Request *q, uint32_t max, Handler resume) {
        _cleanup_json_ cJSON *row = NULL;
        uint64_t at = q->until, due, now = now_realtime();
        int r;

        r = max > 0 ? store_get(s->store, SQL_JOBS_NEXT_DUE, &row, "s", q->parameter) : -ENOENT;
        if (r < 0 && r != -ENOENT)
                return r;
        if (r == 0 && time_parse(json_get_string(row, "due_at"), &due) == 0) {
                due = now_boottime() + (due > now ? due - now : 0) + USEC_PER_MSEC;
                at = due < at ? due : at;
        }
        return request_park(q, q->parameter, at, resume);
}

static int poll_look(Server *s, Request *q) {
        _cleanup_json_ cJSON *jobs = cJSON_CreateArray(), *answer = cJSON_CreateObject();
        const char *given = request_query(q, "pins_etag");
        _cleanup_free_ char *table = NULL;
        char etag[ETAG_SIZE];
        uint32_t max;
        int r;

        if (!jobs || !answer)
                return -ENOMEM;
        r = host_check(s, q, NULL);                     /* again each time: another boot may have taken over */
        if (r != 0)
                return r < 0 ? r : 0;
        if (request_query_u32(q, "max", MAX_DEFAULT, &max) < 0 || max > MAX_MAX)
                return request_error(q, 400, "bad_request", "max must be a number up to 100");
        r = pins_table(s, &table, etag);
        if (r == 0 && max > 0)
                r = hand_out_due(s, q->parameter, max, jobs);
        if (r < 0)
                return r;
        if (cJSON_GetArraySize(jobs) == 0 && (!given || str_equal(given, etag)) && now_boottime() < q->until)
                return poll_park(s, q, max, poll_look);
        if (!json_add_string(answer, "pins_etag", etag) || !json_add_item(answer, "jobs", TAKE_PTR(jobs)))
                return -ENOMEM;
        return request_answer(q, 200, TAKE_PTR(answer));
}

int host_jobs(Server *s, Request *q) {
        uint32_t wait;

        if (request_query_u32(q, "wait", s->options->wait_seconds, &wait) < 0)
                return request_error(q, 400, "bad_request", "wait must be a number of seconds");
        if (wait > s->options->wait_seconds)
                wait = s->options->wait_seconds;
        q->until = now_boottime() + wait * USEC_PER_SEC;
        return poll_look(s, q);
}
