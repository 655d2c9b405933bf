/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* JSON from outside: first a strict check of the bytes (RFC 8259 and our limits), then cJSON builds the tree, then a
 * table says which fields there are. The only door to cJSON. */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/fault.h"

#define JSON_DEPTH_MAX  16
#define JSON_VALUES_MAX 20000
#define JSON_NAMES_MAX  1024                            /* names in one object */

DEFINE_CLEANUP(cJSON *, cJSON_Delete)
#define _cleanup_json_ _cleanup_(cJSON_Deletep)

/* Exactly one value, UTF-8, no U+0000, no name twice in an object, integers within 2^53, numbers finite, no BOM, depth, values and
 * names within the limits above. Does not allocate. Returns 0 or -EBADMSG with words that give the offset and the reason. */
int json_check(const char *text, size_t size, Fault *reterr);

/* json_check() and the tree. text need not end in NUL. 0, -EBADMSG (bad_json), -ENOMEM. */
int json_parse(const char *text, size_t size, cJSON **ret, Fault *reterr);

/* The same with another limit on the number of values: for the engine's lists, which grow with the host and come from this machine. */
int json_check_values(const char *text, size_t size, size_t values_max, Fault *reterr);
int json_parse_values(const char *text, size_t size, size_t values_max, cJSON **ret, Fault *reterr);

typedef struct JsonField JsonField;

/* Puts value v into the field's place in the destination. Words name the field, never the value. */
typedef int (*JsonSet)(const JsonField *f, const cJSON *v, void *place, Fault *reterr);

typedef enum JsonFlags {
        JSON_OPTIONAL = 0,
        JSON_REQUIRED = 1 << 0,
        JSON_NULLABLE = 1 << 1,                         /* null counts as absent */
} JsonFlags;

struct JsonField {
        const char *name;
        int         type;                               /* cJSON_* type bits, checked before set() runs; cJSON_True|cJSON_False for a boolean */
        JsonSet     set;                                /* NULL: known and ignored */
        size_t      offset;
        JsonFlags   flags;
        uint64_t    max;                                /* the setter's limit: bytes of a string, or the largest number; 0 = the setter's default */
        const void *arg;                                /* a nested table, a predicate */
};

typedef enum JsonStrictness {
        JSON_STRICT,                                    /* an unknown field is unsupported_field */
        JSON_LENIENT,                                   /* unknown fields are ignored: answers of other programs */
} JsonStrictness;

/* Walks the object (not the table), so unknown fields are seen. At most 64 fields in a table that ends with {}. What was set before a
 * failure stays set: the caller's destructor frees it. Errors: unsupported_field for an unknown one, else bad_json or what the setter says. */
int json_dispatch(const cJSON *object, const JsonField table[], JsonStrictness strictness, void *dest, Fault *reterr);

/* Setters. Strings are malloc'd into a char *; the old value is freed. */
int json_set_string(const JsonField *f, const cJSON *v, void *place, Fault *reterr);    /* char *; not empty; max bytes, default 4096 */
int json_set_text(const JsonField *f, const cJSON *v, void *place, Fault *reterr);      /* char *; may be empty; max bytes, default 4096 */
int json_set_uuid(const JsonField *f, const cJSON *v, void *place, Fault *reterr);      /* char[UUID_SIZE] */
int json_set_u64_text(const JsonField *f, const cJSON *v, void *place, Fault *reterr);  /* uint64_t from a decimal string */
int json_set_u32(const JsonField *f, const cJSON *v, void *place, Fault *reterr);       /* uint32_t from a whole number; max, default UINT32_MAX */
int json_set_bool(const JsonField *f, const cJSON *v, void *place, Fault *reterr);      /* bool */
int json_set_tristate(const JsonField *f, const cJSON *v, void *place, Fault *reterr);  /* int: 0 or 1; the caller starts it at -1 */
int json_set_time(const JsonField *f, const cJSON *v, void *place, Fault *reterr);      /* uint64_t, microseconds since the epoch, from RFC 3339 */
int json_set_object(const JsonField *f, const cJSON *v, void *place, Fault *reterr);    /* nested: arg is its table, strict */
int json_set_object_lenient(const JsonField *f, const cJSON *v, void *place, Fault *reterr);
int json_set_value(const JsonField *f, const cJSON *v, void *place, Fault *reterr);     /* cJSON *: a duplicate of the value */

/* Look-ups in trees that were parsed leniently (case-sensitive); NULL, or the default, where absent or of another type. */
const cJSON *json_get(const cJSON *object, const char *name);
const cJSON *json_get_path(const cJSON *object, const char *path);      /* "State/Health/Status" */
const cJSON *json_find(const cJSON *list, const char *member, const char *value);       /* the first item whose member is value; NULL: which has none */
const char  *json_get_string(const cJSON *object, const char *path);    /* borrowed from the tree */
int64_t      json_get_i64(const cJSON *object, const char *path, int64_t otherwise);
bool         json_whole(const cJSON *v, int64_t *ret);  /* false, ret untouched: no number, a fraction, or from 2^53 on, where doubles are not exact */
bool         json_get_bool(const cJSON *object, const char *path, bool otherwise);
uint64_t     json_get_u64_text(const cJSON *object, const char *path, uint64_t otherwise);

/* Building. Each adds to the object and returns false when out of memory; a NULL string adds null. */
bool json_add_string(cJSON *object, const char *name, const char *value);
bool json_add_u64_text(cJSON *object, const char *name, uint64_t value);
bool json_add_i64(cJSON *object, const char *name, int64_t value);
bool json_add_bool(cJSON *object, const char *name, bool value);
bool json_add_seconds(cJSON *object, const char *name, uint64_t usec);  /* whole seconds, rounded up */
bool json_add_time(cJSON *object, const char *name, uint64_t realtime_usec);
bool json_add_item(cJSON *object, const char *name, cJSON *item);       /* owns item from here, also when it fails; NULL item fails */

char *json_print(const cJSON *value);                   /* compact; malloc'd; NULL when out of memory */
