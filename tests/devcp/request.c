/* SPDX-License-Identifier: Apache-2.0 */

/* What a handler does with a request. */

#include <errno.h>
#include <microhttpd.h>
#include <string.h>

#include "tests/devcp/server.h"

int request_answer(Request *q, int status, cJSON *json) {
        _cleanup_json_ cJSON *owned = json;
        char *text = owned ? json_print(owned) : NULL;

        if (!text)
                return -ENOMEM;
        free(q->answer);
        q->answer = text;
        q->status = status;
        return 0;
}

int request_error(Request *q, int status, const char *code, const char *words) {
        cJSON *json = cJSON_CreateObject();

        (void) json_add_string(json, "error", code);
        if (words)
                (void) json_add_string(json, "message", words);
        return request_answer(q, status, json);
}

int request_fault(Request *q, int status, const Fault *f) {
        return request_error(q, status, fault_code_name(f->code), f->text);
}

int request_park(Request *q, const char *key, uint64_t wake_at, Handler resume) {
        if (key != q->key)                              /* parked again as before */
                (void) strncpy(q->key, key, sizeof q->key - 1);
        q->wake_at = wake_at;
        q->resume = resume;
        return 0;
}

const char *request_header(const Request *q, const char *name) {
        return MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, name);
}

const char *request_query(const Request *q, const char *name) {
        return MHD_lookup_connection_value(q->connection, MHD_GET_ARGUMENT_KIND, name);
}

int request_query_u32(const Request *q, const char *name, uint32_t otherwise, uint32_t *ret) {
        const char *text = request_query(q, name);
        uint64_t v = otherwise;

        if (text && (u64_parse(text, &v) < 0 || v > UINT32_MAX))
                return -EINVAL;
        *ret = (uint32_t) v;
        return 0;
}

int request_body(Request *q, const JsonField table[], JsonStrictness strictness, void *dest, cJSON **ret_tree) {
        _cleanup_json_ cJSON *tree = NULL;
        Fault f = {};
        int r;

        r = json_parse(q->body ? q->body : "", q->size, &tree, &f);
        if (r == 0 && !cJSON_IsObject(tree))
                r = fault(&f, -EBADMSG, FAULT_BAD_JSON, "the body is not an object");
        if (r == 0)
                r = json_dispatch(tree, table, strictness, dest, &f);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return answered(request_fault(q, 400, &f));
        if (ret_tree)
                *ret_tree = TAKE_PTR(tree);
        return 0;
}
