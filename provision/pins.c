/* SPDX-License-Identifier: Apache-2.0 */

#include "provision/pins.h"

#include <errno.h>
#include <string.h>

#include "base/record.h"
#include "base/text.h"
#include "engine/image.h"

#define PINS_FILE     "pins"
#define PINS_FILE_MAX (2 * 1024 * 1024)
#define PINS_MAX      2000
#define PINS_TEXT_MAX (1024 * 1024)

struct Pins {
        int         state_fd;
        Pin        *rows;
        size_t      n;
        char *etag, *source; /* source: whose table it is; NULL: not known */
        char *next_source;
        uint64_t    fetched_at;
        TrustedKeys trusted;
};

/* What is no time is as good as none: only two times can be compared. */
static int set_moment(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        (void) f;
        (void) reterr;
        if (time_parse(cJSON_GetStringValue(v), place) < 0)
                *(uint64_t *) place = 0;
        return 0;
}

static const JsonField row_fields[] = {
        { "template_name", cJSON_String, json_set_string, offsetof(Pin, template_name), JSON_REQUIRED, 64, NULL },
        { "region", cJSON_String, json_set_string, offsetof(Pin, region), JSON_REQUIRED, 64, NULL },
        { "image_digest", cJSON_String, json_set_string, offsetof(Pin, image_digest), JSON_REQUIRED, 71, NULL },
        { "image_ref", cJSON_String, json_set_string, offsetof(Pin, image_ref), JSON_REQUIRED, 512, NULL },
        { "image_size_bytes", cJSON_String, json_set_u64_text, offsetof(Pin, image_size_bytes), JSON_NULLABLE, 0, NULL },
        { "promoted_at", cJSON_String, set_moment, offsetof(Pin, promoted_at), JSON_NULLABLE, 0, NULL },
        {}
};

static void rows_free(Pin *rows, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(rows[i].template_name);
                free(rows[i].region);
                free(rows[i].image_digest);
                free(rows[i].image_ref);
        }
        free(rows);
}

static int row_check(const Pin *row, const Pin *before, size_t n, Fault *reterr) {
        const char *digest;

        if (!image_ref_is_pinned(row->image_ref))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The pin of '%s' is not NAME@sha256:DIGEST.", row->template_name);
        digest = image_ref_digest(row->image_ref);
        if (!str_equal(digest, row->image_digest))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The pin of '%s' names two digests.", row->template_name);
        for (size_t i = 0; i < n; i++)
                if (str_equal(before[i].template_name, row->template_name) && str_equal(before[i].region, row->region))
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The pin table has two rows for '%s' in '%s'.", row->template_name,
                                     row->region);
        return 0;
}

static int rows_parse(const cJSON *table, Pin **ret, size_t *ret_n, Fault *reterr) {
        const cJSON *list = json_get(table, "pins"), *item;
        size_t n = 0, max = cJSON_IsArray(list) ? (size_t) cJSON_GetArraySize(list) : 0;
        Pin *rows;
        int r = 0;

        if (cJSON_IsArray(list) && max == 0)
                return fault(reterr, -ENODATA, FAULT_BAD_JSON, "The pin table is empty.");
        if (max == 0 || max > PINS_MAX)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The pin table has %zu rows; 1 to %d make sense.", max, PINS_MAX);
        rows = calloc(max, sizeof *rows);
        if (!rows)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        cJSON_ArrayForEach(item, list) {
                r = json_dispatch(item, row_fields, JSON_LENIENT, &rows[n++], reterr);
                if (r == 0)
                        r = row_check(&rows[n - 1], rows, n - 1, reterr);
                if (r < 0) {
                        rows_free(rows, n);
                        return r;
                }
        }
        *ret = rows;
        *ret_n = n;
        return 0;
}

static void take_rows(Pins *p, Pin *rows, size_t n) {
        rows_free(p->rows, p->n);
        p->rows = rows;
        p->n = n;
}

/* The table out of what was answered; an envelope is judged before its payload is read. */
static int table_open(const Pins *p, const cJSON *body, cJSON **ret, Fault *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        int r;

        if (!envelope_is(body)) {
                if (p->trusted.n > 0)
                        return fault(reterr, -EPERM, FAULT_BAD_SIGNATURE, "The pin table is not signed, and this host takes only what is (signing_keys).");
                *ret = cJSON_Duplicate(body, true);
                return *ret ? 0 : fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        }
        r = envelope_open(body, PINS_PAYLOAD_TYPE, &p->trusted, PINS_TEXT_MAX, &text, &size, reterr);
        if (r >= 0)
                r = json_parse(text, size, ret, reterr);
        return r < 0 ? fault_prefix(reterr, r, "the pin table: ") : 0;
}

static int body_parse(const Pins *p, const cJSON *body, Pin **ret, size_t *ret_n, Fault *reterr) {
        _cleanup_json_ cJSON *table = NULL;
        int r = table_open(p, body, &table, reterr);

        return r < 0 ? r : rows_parse(table, ret, ret_n, reterr);
}

/* The cache holds what was answered, envelope and all: what is trusted may change between two starts. */
static int cache_read(Pins *p, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        const char *etag, *at;
        Pin *rows;
        size_t n;
        int r = record_read(p->state_fd, PINS_FILE, "pins", PINS_FILE_MAX, &json, reterr);

        if (r < 0 || (r = body_parse(p, json_get(json, "table"), &rows, &n, reterr)) < 0)
                return r;
        etag = json_get_string(json, "etag");
        at = json_get_string(json, "fetched_at");
        take_rows(p, rows, n);
        free(p->etag);
        p->etag = etag ? strdup(etag) : NULL;
        free(p->source);
        p->source = json_get_string(json, "source") ? strdup(json_get_string(json, "source")) : NULL;
        if (at)
                (void) time_parse(at, &p->fetched_at);
        return 0;
}

int pins_open(int state_fd, const TrustedKeys *trusted, Pins **ret, Fault *reterr) {
        _cleanup_(pins_freep) Pins *p = calloc(1, sizeof *p);

        if (!p)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        p->state_fd = state_fd;
        p->trusted = *trusted;
        (void) cache_read(p, reterr);           /* the words go out, the table is fetched anew */
        *ret = TAKE_PTR(p);
        return 0;
}

void pins_trust(Pins *p, const TrustedKeys *trusted) {
        if (memcmp(&p->trusted, trusted, sizeof *trusted) == 0)
                return;
        p->trusted = *trusted;
        take_rows(p, NULL, 0);
        p->etag = (free(p->etag), NULL);
        p->fetched_at = 0;
        (void) cache_read(p, NULL);
}

Pins *pins_free(Pins *p) {
        if (!p)
                return NULL;
        rows_free(p->rows, p->n);
        free(p->etag);
        free(p->source);
        free(p->next_source);
        free(p);
        return NULL;
}

void pins_from(Pins *p, const char *source) {
        free(p->next_source);
        p->next_source = strdup(source); /* NULL when out of memory: nothing is compared */
}

static uint64_t newest(const Pin *rows, size_t n) {
        uint64_t at = 0;

        for (size_t i = 0; i < n; i++)
                at = rows[i].promoted_at > at ? rows[i].promoted_at : at;
        return at;
}

/* A control plane that was restored from a backup, or a table that was recorded and is sent again: what runs now is newer. */
static int check_age(const Pins *p, const Pin *rows, size_t n, Fault *reterr) {
        uint64_t ours = newest(p->rows, p->n), theirs = newest(rows, n);
        char a[TIME_TEXT_SIZE], b[TIME_TEXT_SIZE];

        if (!theirs || theirs >= ours || !p->source || !str_equal(p->source, p->next_source))
                return 0;
        return fault(reterr, -ESTALE, FAULT_BAD_JSON, "The pin table is older than the one that is here: its newest pin is of %s, ours of %s.",
                     time_text(theirs, a), time_text(ours, b));
}

/* Owns the table's answer from here. */
static int write_cache(const Pins *p, cJSON *answer, const char *etag, uint64_t now, Fault *reterr) {
        _cleanup_json_ cJSON *table = answer, *json = cJSON_CreateObject();

        if (!json || !etag || !json_add_string(json, "etag", etag) || !json_add_time(json, "fetched_at", now) ||
            (p->next_source && !json_add_string(json, "source", p->next_source)) || !json_add_item(json, "table", TAKE_PTR(table)))
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return record_write(p->state_fd, PINS_FILE, "pins", json, reterr);
}

int pins_replace(Pins *p, const char *body, size_t size, const char *etag, uint64_t now, Fault *reterr) {
        _cleanup_json_ cJSON *answer = NULL;
        _cleanup_free_ char *copy = strdup(etag ?: "");
        Pin *rows;
        size_t n;
        int r;

        r = json_parse(body, size, &answer, reterr);
        if (r < 0)
                return r;
        r = body_parse(p, answer, &rows, &n, reterr);
        if (r < 0)
                return r;
        r = check_age(p, rows, n, reterr);
        if (r == 0)
                r = write_cache(p, TAKE_PTR(answer), copy, now, reterr);
        if (r < 0) {
                rows_free(rows, n);
                return r;
        }
        take_rows(p, rows, n);
        free(p->etag);
        p->etag = TAKE_PTR(copy);
        free(p->source);
        p->source = p->next_source ? strdup(p->next_source) : NULL;
        p->fetched_at = now;
        return 0;
}

const Pin *pins_find(const Pins *p, const char *runtime, const char *region) {
        const Pin *global = NULL;

        for (size_t i = 0; i < p->n; i++) {
                if (!str_equal(p->rows[i].template_name, runtime))
                        continue;
                if (region && str_equal(p->rows[i].region, region))
                        return &p->rows[i];
                if (str_equal(p->rows[i].region, "global"))
                        global = &p->rows[i];
        }
        return global;
}

cJSON *pins_view(const Pins *p) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; list && i < p->n; i++) {
                const Pin *row = &p->rows[i];
                cJSON *json = cJSON_CreateObject();

                if (!cJSON_AddItemToArray(list, json) || !json_add_string(json, "runtime", row->template_name) ||
                    !json_add_string(json, "region", row->region) || !json_add_string(json, "image_ref", row->image_ref) ||
                    !json_add_string(json, "image_digest", row->image_digest) ||
                    (row->image_size_bytes && !json_add_u64_text(json, "image_size_bytes", row->image_size_bytes)) ||
                    (row->promoted_at && !json_add_time(json, "promoted_at", row->promoted_at)))
                        return NULL;
        }
        return TAKE_PTR(list);
}

bool pins_has_digest(const Pins *p, const char *digest) {
        for (size_t i = 0; i < p->n; i++)
                if (str_equal(p->rows[i].image_digest, digest))
                        return true;
        return false;
}

const char *pins_etag(const Pins *p) { return p->etag ?: ""; }
uint64_t    pins_fetched_at(const Pins *p) { return p->fetched_at; }
