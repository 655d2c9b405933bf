/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/answer.h"

#include <stdarg.h>
#include <stdio.h>

#include "agent/ctl/client.h"
#include "agent/ctl/ctl.h"

static struct {
        bool   is_json, failed;
        cJSON *json;                    /* NULL: nothing yet */
} answer;

void answer_as_json(bool json) { answer.is_json = json; }
bool answer_is_json(void) { return answer.is_json; }

void answer_words(const char *format, ...) {
        va_list ap;

        if (answer.is_json)
                return;
        va_start(ap, format);
        (void) vprintf(format, ap);
        va_end(ap);
}

static cJSON *object(void) {
        if (!answer.json)
                answer.json = cJSON_CreateObject();
        return answer.json;
}

void answer_string(const char *name, const char *value) {
        if (answer.is_json)
                answer.failed |= !json_add_string(object(), name, value);
}

void answer_number(const char *name, int64_t value) {
        if (answer.is_json)
                answer.failed |= !json_add_i64(object(), name, value);
}

void answer_bool(const char *name, bool value) {
        if (answer.is_json)
                answer.failed |= !json_add_bool(object(), name, value);
}

void answer_list(const char *list) {
        if (answer.is_json && !json_get(object(), list))
                answer.failed |= !json_add_item(object(), list, cJSON_CreateArray());
}

void answer_add(const char *list, cJSON *item) {
        _cleanup_json_ cJSON *owned = item;

        if (!answer.is_json)
                return;
        answer_list(list);
        if (!item || !cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(answer.json, list), item))
                answer.failed = true;
        else
                owned = NULL;
}

cJSON *answer_item_of(const char *name, ...) {
        _cleanup_json_ cJSON *item = cJSON_CreateObject();
        const char *n = name;
        bool ok = item;
        va_list ap;

        va_start(ap, name);
        for (; ok && n; n = va_arg(ap, const char *))
                ok = json_add_string(item, n, va_arg(ap, const char *));
        va_end(ap);
        return ok ? TAKE_PTR(item) : NULL;
}

int answer_end(int code) {
        _cleanup_json_ cJSON *json = TAKE_PTR(answer.json);

        if (!answer.is_json || (!json && !answer.failed && code != CTL_OK))
                return code;
        if (!json && !answer.failed)
                json = cJSON_CreateObject();
        return client_print(answer.failed ? NULL : json) == CTL_OK ? code : CTL_FAILED;
}

int answer_done(int code) {
        if (code == CTL_OK || answer.json)
                answer_bool("done", code == CTL_OK);
        return answer_end(code);
}
