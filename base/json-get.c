/* SPDX-License-Identifier: Apache-2.0 */

/* Looking into trees and building them. Look-ups are case-sensitive (cJSON's short names are not) and never fail: what is absent or of
 * another type is the caller's default. */

#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define WHOLE_MAX 9007199254740991                      /* 2^53 - 1 */

static const cJSON *child_find(const cJSON *object, const char *name, size_t size) {
        const cJSON *v;

        if (!cJSON_IsObject(object))
                return NULL;
        cJSON_ArrayForEach(v, object)
                if (strncmp(v->string, name, size) == 0 && v->string[size] == 0)
                        return v;
        return NULL;
}

const cJSON *json_get(const cJSON *object, const char *name) {
        return child_find(object, name, strlen(name));
}

const cJSON *json_get_path(const cJSON *object, const char *path) {
        for (;;) {
                size_t n = strcspn(path, "/");

                object = child_find(object, path, n);
                if (!object || !path[n])
                        return object;
                path += n + 1;
        }
}

const char *json_get_string(const cJSON *object, const char *path) {
        return cJSON_GetStringValue(json_get_path(object, path));
}

bool json_whole(const cJSON *v, int64_t *ret) {
        if (!cJSON_IsNumber(v) || !(v->valuedouble >= -WHOLE_MAX && v->valuedouble <= WHOLE_MAX))
                return false;
        if (v->valuedouble != (double) (int64_t) v->valuedouble)
                return false;
        *ret = (int64_t) v->valuedouble;
        return true;
}

const cJSON *json_find(const cJSON *list, const char *member, const char *value) {
        const cJSON *item;

        cJSON_ArrayForEach(item, list)
                if (str_equal(json_get_string(item, member), value))
                        return item;
        return NULL;
}

int64_t json_get_i64(const cJSON *object, const char *path, int64_t otherwise) {
        (void) json_whole(json_get_path(object, path), &otherwise);
        return otherwise;
}

bool json_get_bool(const cJSON *object, const char *path, bool otherwise) {
        const cJSON *v = json_get_path(object, path);

        return cJSON_IsBool(v) ? cJSON_IsTrue(v) : otherwise;
}

uint64_t json_get_u64_text(const cJSON *object, const char *path, uint64_t otherwise) {
        uint64_t v;

        return u64_parse(json_get_string(object, path), &v) < 0 ? otherwise : v;
}

bool json_add_item(cJSON *object, const char *name, cJSON *item) {
        if (!item)
                return false;
        if (cJSON_AddItemToObject(object, name, item))
                return true;
        cJSON_Delete(item);
        return false;
}

bool json_add_string(cJSON *object, const char *name, const char *value) {
        return json_add_item(object, name, value ? cJSON_CreateString(value) : cJSON_CreateNull());
}

bool json_add_u64_text(cJSON *object, const char *name, uint64_t value) {
        char text[21];

        return json_add_string(object, name, u64_text(value, text));
}

/* From 10^15 on cJSON may print a number with an exponent, which some readers then take for no integer. */
bool json_add_i64(cJSON *object, const char *name, int64_t value) {
        char text[24];

        if (value > WHOLE_MAX || value < -WHOLE_MAX)
                return false;
        if (value < INT64_C(1000000000000000) && value > -INT64_C(1000000000000000))
                return json_add_item(object, name, cJSON_CreateNumber((double) value));
        (void) snprintf(text, sizeof text, "%" PRIi64, value);
        return json_add_item(object, name, cJSON_CreateRaw(text));
}

bool json_add_bool(cJSON *object, const char *name, bool value) {
        return json_add_item(object, name, cJSON_CreateBool(value));
}

bool json_add_seconds(cJSON *object, const char *name, uint64_t usec) {
        return json_add_i64(object, name, (int64_t) ((usec + USEC_PER_SEC - 1) / USEC_PER_SEC));
}

bool json_add_time(cJSON *object, const char *name, uint64_t realtime_usec) {
        char text[TIME_TEXT_SIZE];

        return json_add_string(object, name, time_text(realtime_usec, text));
}

char *json_print(const cJSON *value) {
        return cJSON_PrintUnformatted(value);
}
