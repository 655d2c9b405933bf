/* SPDX-License-Identifier: Apache-2.0 */

/* A sealed box says nothing of what it is for, so the plaintext does: organization, workspace and name stand in front of the value, and
 * the host compares them. A box copied into another job does not open there.
 *
 * The values are remembered in a table of their own, which no answer and no log line is made from. A control plane that serves more than
 * tests has them encrypted at rest, or in a vault. */

#include "tests/devcp/seal.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/hash.h"

#define CONTEXT "molecule.secret.v1"

_Static_assert(SEALING_KEY_SIZE == crypto_box_PUBLICKEYBYTES, "a sealing key is one of the library's");

int seal_box(const char *public_key, const void *bytes, size_t size, char **ret) {
        _cleanup_free_ uint8_t *key = NULL;
        _cleanup_free_ unsigned char *box = NULL;
        size_t key_size;
        int r;

        r = base64_decode(public_key, SEALING_KEY_SIZE, &key, &key_size);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || key_size != SEALING_KEY_SIZE)
                return -EBADMSG;
        box = malloc(size + crypto_box_SEALBYTES);
        if (!box)
                return -ENOMEM;
        if (crypto_box_seal(box, bytes, size, key) != 0)
                return -EBADMSG;
        *ret = base64_encode(box, size + crypto_box_SEALBYTES);
        return *ret ? 0 : -ENOMEM;
}

bool seal_is_secret(const char *name) {
        static const char *const words[] = { "TOKEN", "SECRET", "KEY", "PASSWORD" };

        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (strcasestr(name, words[i]))
                        return true;
        return false;
}

int seal_split(cJSON *spec, cJSON **ret_secrets) {
        _cleanup_json_ cJSON *secrets = cJSON_CreateObject();
        cJSON *env = cJSON_GetObjectItemCaseSensitive(spec, "env"), *item, *next;

        if (!secrets)
                return -ENOMEM;
        for (item = env ? env->child : NULL; item; item = next) {
                next = item->next;
                if (!seal_is_secret(item->string) || *cJSON_GetStringValue(item) == 0)
                        continue;
                if (!json_add_string(secrets, item->string, cJSON_GetStringValue(item)))
                        return -ENOMEM;
                cJSON_Delete(cJSON_DetachItemViaPointer(env, item));
        }
        *ret_secrets = cJSON_GetArraySize(secrets) > 0 ? TAKE_PTR(secrets) : NULL;
        return 0;
}

/* The context's words, each with its NUL, then the value without one. */
static int seal_value(const JobOrder *o, const char *public_key, const char *name, const char *value, char **ret) {
        const char *parts[] = { CONTEXT, o->org_id, o->workspace_id, name, value };
        size_t sizes[ELEMENTS(parts)], size = 0, at = 0;
        unsigned char *text;
        int r;

        for (size_t i = 0; i < ELEMENTS(parts); i++) {
                sizes[i] = strlen(parts[i]) + (i + 1 < ELEMENTS(parts));
                size += sizes[i];
        }
        text = malloc(size);
        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTS(parts); at += sizes[i++])
                memcpy(text + at, parts[i], sizes[i]);
        r = seal_box(public_key, text, size, ret);
        sodium_memzero(text, size);
        free(text);
        return r;
}

int seal_spec(const JobOrder *order, const cJSON *key, cJSON *spec) {
        const char *public_key = json_get_string(key, "public_key");
        cJSON *boxes = cJSON_GetObjectItemCaseSensitive(spec, "secrets");
        const cJSON *item;
        int r;

        if (!cJSON_IsObject(boxes)) {
                cJSON_DeleteItemFromObjectCaseSensitive(spec, "secrets");
                boxes = cJSON_AddObjectToObject(spec, "secrets");
        }
        cJSON_ArrayForEach(item, order->secrets) {
                _cleanup_free_ char *box = NULL;

                r = seal_value(order, public_key, item->string, cJSON_GetStringValue(item), &box);
                if (r < 0)
                        return r;
                if (!json_add_string(boxes, item->string, box))
                        return -ENOMEM;
        }
        if (!json_get(spec, "sealed_to") && !json_add_string(spec, "sealed_to", json_get_string(key, "key_id")))
                return -ENOMEM;
        return 0;
}

int seal_remember(Server *s, const char *job_id, const cJSON *secrets, const cJSON *key) {
        const cJSON *item;
        int r;

        r = store_do(s->store, SQL_SEALED_ADD, "sss", job_id, json_get_string(key, "key_id"), json_get_string(key, "public_key"));
        cJSON_ArrayForEach(item, secrets)
                if (r == 0)
                        r = store_do(s->store, SQL_SECRET_ADD, "sss", job_id, item->string, cJSON_GetStringValue(item));
        return r;
}

int seal_recall(Server *s, const char *job_id, cJSON *spec, cJSON **ret_secrets) {
        _cleanup_json_ cJSON *rows = NULL, *secrets = cJSON_CreateObject();
        cJSON *boxes = cJSON_GetObjectItemCaseSensitive(spec, "secrets");
        const cJSON *row;
        int r;

        r = store_list(s->store, SQL_SECRET_LIST, &rows, "s", job_id);
        if (r < 0)
                return r;
        if (cJSON_GetArraySize(rows) == 0) {
                *ret_secrets = NULL;
                return 0;
        }
        cJSON_ArrayForEach(row, rows) {
                cJSON_DeleteItemFromObjectCaseSensitive(boxes, json_get_string(row, "name"));
                if (!json_add_string(secrets, json_get_string(row, "name"), json_get_string(row, "value")))
                        return -ENOMEM;
        }
        if (boxes && !boxes->child)
                cJSON_DeleteItemFromObjectCaseSensitive(spec, "secrets");
        cJSON_DeleteItemFromObjectCaseSensitive(spec, "sealed_to");
        *ret_secrets = TAKE_PTR(secrets);
        return 0;
}
