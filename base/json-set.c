/* SPDX-License-Identifier: Apache-2.0 */

/* The setters of field tables: one JSON value into one member of a struct. */

#include "base/json.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"

#define STRING_DEFAULT_MAX 4096

static int bad_field(const JsonField *f, int r, const char *what, Fault *reterr) {
        return fault(reterr, r, FAULT_BAD_JSON, "field '%s' is %s", f->name, what);
}

static int out_of_memory(const JsonField *f, Fault *reterr) {
        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "no memory for field '%s'", f->name);
}

int json_set_text(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        size_t max = f->max > 0 ? f->max : STRING_DEFAULT_MAX;
        const char *s = cJSON_GetStringValue(v);
        char **to = place, *copy;

        if (!s)
                return bad_field(f, -EBADMSG, "not a string", reterr);
        if (strlen(s) > max)
                return fault(reterr, -EFBIG, FAULT_TOO_LARGE, "field '%s' is longer than %zu bytes", f->name, max);
        copy = strdup(s);
        if (!copy)
                return out_of_memory(f, reterr);
        free(*to);
        *to = copy;
        return 0;
}

int json_set_string(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *s = cJSON_GetStringValue(v);

        if (s && !*s)
                return bad_field(f, -EBADMSG, "empty", reterr);
        return json_set_text(f, v, place, reterr);
}

int json_set_uuid(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        const char *s = cJSON_GetStringValue(v);

        if (!uuid_is_valid(s))
                return bad_field(f, -EBADMSG, "not a lower-case UUID", reterr);
        memcpy(place, s, UUID_SIZE);
        return 0;
}

int json_set_u64_text(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        uint64_t n;
        int r;

        r = u64_parse(cJSON_GetStringValue(v), &n);
        if (r == -EINVAL)
                return bad_field(f, -EBADMSG, "not a decimal string", reterr);
        if (r < 0 || (f->max > 0 && n > f->max))
                return bad_field(f, -ERANGE, "too large a number", reterr);
        *(uint64_t *) place = n;
        return 0;
}

int json_set_u32(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        uint32_t max = f->max > 0 && f->max < UINT32_MAX ? (uint32_t) f->max : UINT32_MAX;
        int64_t n;

        if (!json_whole(v, &n) || n < 0 || n > max)
                return fault(reterr, -ERANGE, FAULT_BAD_JSON, "field '%s' is not a whole number from 0 to %u", f->name, max);
        *(uint32_t *) place = (uint32_t) n;
        return 0;
}

int json_set_bool(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        if (!cJSON_IsBool(v))
                return bad_field(f, -EBADMSG, "not a boolean", reterr);
        *(bool *) place = cJSON_IsTrue(v);
        return 0;
}

int json_set_tristate(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        if (!cJSON_IsBool(v))
                return bad_field(f, -EBADMSG, "not a boolean", reterr);
        *(int *) place = cJSON_IsTrue(v) ? 1 : 0;
        return 0;
}

int json_set_time(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        uint64_t usec;

        if (time_parse(cJSON_GetStringValue(v), &usec) < 0)
                return bad_field(f, -EBADMSG, "not an RFC 3339 time", reterr);
        *(uint64_t *) place = usec;
        return 0;
}

static int set_nested(const JsonField *f, const cJSON *v, JsonStrictness strictness, void *place, Fault *reterr) {
        int r = json_dispatch(v, f->arg, strictness, place, reterr);

        return r < 0 ? fault_prefix(reterr, r, "field '%s'", f->name) : 0;
}

int json_set_object(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        return set_nested(f, v, JSON_STRICT, place, reterr);
}

int json_set_object_lenient(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        return set_nested(f, v, JSON_LENIENT, place, reterr);
}

int json_set_value(const JsonField *f, const cJSON *v, void *place, Fault *reterr) {
        cJSON **to = place, *copy = cJSON_Duplicate(v, true);

        if (!copy)
                return out_of_memory(f, reterr);
        cJSON_Delete(*to);
        *to = copy;
        return 0;
}
