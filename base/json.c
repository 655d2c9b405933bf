/* SPDX-License-Identifier: Apache-2.0 */

/* From bytes to a tree, and from a tree to a struct by a table. The walk goes over what was sent and not over what is known: only so
 * are unknown fields seen. */

#include "base/json.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"

int json_parse(const char *text, size_t size, cJSON **ret, Fault *reterr) {
        return json_parse_values(text, size, JSON_VALUES_MAX, ret, reterr);
}

int json_parse_values(const char *text, size_t size, size_t values_max, cJSON **ret, Fault *reterr) {
        cJSON *json;
        int r;

        r = json_check_values(text, size, values_max, reterr);
        if (r < 0)
                return r;

        /* The check takes nothing that cJSON refuses, so what remains is memory. */
        json = cJSON_ParseWithLengthOpts(text, size, NULL, false);
        if (!json)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "no memory for a JSON text of %zu bytes", size);
        *ret = json;
        return 0;
}

static const JsonField *field_find(const JsonField table[], const char *name) {
        for (const JsonField *f = table; f->name; f++)
                if (str_equal(f->name, name))
                        return f;
        return NULL;
}

static int field_dispatch(const JsonField *f, const cJSON *v, void *dest, Fault *reterr) {
        if (!(v->type & 0xff & f->type))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' has the wrong type", f->name);
        return f->set ? f->set(f, v, (char *) dest + f->offset, reterr) : 0;
}

int json_dispatch(const cJSON *object, const JsonField table[], JsonStrictness strictness, void *dest, Fault *reterr) {
        uint64_t given = 0, counted = 0;
        const cJSON *v;
        int r;

        if (!cJSON_IsObject(object))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "not an object");

        cJSON_ArrayForEach(v, object) {
                const JsonField *f = field_find(table, v->string);
                uint64_t bit;

                if (!f) {
                        if (strictness == JSON_LENIENT)
                                continue;
                        return fault(reterr, -EBADMSG, FAULT_UNSUPPORTED_FIELD, "unknown field '%.64s'", v->string);
                }

                bit = UINT64_C(1) << (f - table);
                if (given & bit)
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' given twice", f->name);
                given |= bit;
                if (cJSON_IsNull(v) && (f->flags & JSON_NULLABLE))
                        continue;

                r = field_dispatch(f, v, dest, reterr);
                if (r < 0)
                        return r;
                counted |= bit;
        }

        for (const JsonField *f = table; f->name; f++)
                if ((f->flags & JSON_REQUIRED) && !(counted & UINT64_C(1) << (f - table)))
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "field '%s' is missing", f->name);
        return 0;
}
