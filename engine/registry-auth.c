/* SPDX-License-Identifier: Apache-2.0 */

/* The file belongs to others, who write it for more programs than this one: what is not understood in it is passed over, but a file that is no such
 * file at all, or an entry for this registry that says nothing, ends the pull here, where the words can name it. */

#include "engine/registry-auth.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/image.h"

/* "https://index.example.com/v1/" and "index.example.com" are the same place. malloc'd. */
static char *place_of(const char *key) {
        static const char *const heads[] = { "https://", "http://" }, *const tails[] = { "/", "/v1", "/v2", "/" };
        size_t n;

        for (size_t i = 0; i < ELEMENTS(heads); i++)
                if (strncmp(key, heads[i], strlen(heads[i])) == 0)
                        key += strlen(heads[i]);
        n = strlen(key);
        for (size_t i = 0; i < ELEMENTS(tails); i++) {
                size_t m = strlen(tails[i]);

                if (n > m && memcmp(key + n - m, tails[i], m) == 0)
                        n -= m;
        }
        return strndup(key, n);
}

/* The entry that names most of ref; NULL: none. */
static int entry_find(const cJSON *auths, const char *ref, const cJSON **ret) {
        size_t longest = 0;
        const cJSON *entry;

        *ret = NULL;
        cJSON_ArrayForEach(entry, auths) {
                _cleanup_free_ char *place = place_of(entry->string);
                const char *const list[] = { place, NULL };

                if (!place)
                        return -ENOMEM;
                if (strlen(place) > longest && image_ref_registry_allowed(ref, list)) {
                        longest = strlen(place);
                        *ret = entry;
                }
        }
        return 0;
}

/* USER:PASSWORD in base64. */
static bool add_pair(cJSON *json, const char *auth) {
        _cleanup_free_ uint8_t *text = NULL;
        char *colon;
        size_t n;

        if (base64_decode(auth, REGISTRY_AUTH_MAX, &text, &n) < 0 || strlen((char *) text) != n)
                return false;
        colon = strchr((char *) text, ':');
        if (!colon)
                return false;
        *colon = 0;
        return json_add_string(json, "username", (char *) text) && json_add_string(json, "password", colon + 1);
}

static bool add_credentials(cJSON *json, const cJSON *entry) {
        static const char *const names[] = { "username", "password", "identitytoken", "registrytoken" };
        const char *auth = json_get_string(entry, "auth");
        bool any = auth && auth[0];

        if (any && !add_pair(json, auth))
                return false;
        for (size_t i = any ? 2 : 0; i < ELEMENTS(names); i++) {
                const char *value = json_get_string(entry, names[i]);

                if (!value || !value[0])
                        continue;
                any = true;
                if (!json_add_string(json, names[i], value))
                        return false;
        }
        return any;
}

/* base64 of RFC 4648 §5, with padding: as the engine takes it. */
static char *header_of(const cJSON *json) {
        char *text = json_print(json), *header = text ? base64_encode(text, strlen(text)) : NULL;

        free(text); /* wiped: base/heap */
        for (char *c = header; c && *c; c++)
                *c = *c == '+' ? '-' : *c == '/' ? '_'
                                                 : *c;
        return header;
}

static int read_auths(const char *path, cJSON **ret, Fault *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = file_read_path(path, REGISTRY_AUTH_MAX, &text, &size);

        if (r < 0)
                return r == -ENOENT ? r : fault(reterr, r, FAULT_IMAGE_AUTH, "The registry credentials in %s cannot be read: %s.", path, strerror(-r));
        r = json_parse(text, size, ret, NULL);
        if (r >= 0 && cJSON_IsObject(json_get(*ret, "auths")))
                return 0;
        return r == -ENOMEM ? r : fault(reterr, -EBADMSG, FAULT_IMAGE_AUTH, "%s is no docker config file: it needs to be JSON with an object \"auths\".", path);
}

int registry_auth_header(const char *path, const char *ref, char **ret, Fault *reterr) {
        _cleanup_json_ cJSON *file = NULL, *json = cJSON_CreateObject();
        _cleanup_free_ char *host = strndup(ref, strcspn(ref, "/"));
        const cJSON *entry = NULL;
        int r;

        *ret = NULL;
        if (!path)
                return 0;
        r = read_auths(path, &file, reterr);
        if (r == -ENOENT) {
                log_warning("There is no %s (yet): the image is asked for without credentials.", path);
                return 0;
        }
        if (r >= 0)
                r = entry_find(json_get(file, "auths"), ref, &entry);
        if (r < 0 || !entry)
                return r;
        if (!json || !host || !json_add_string(json, "serveraddress", host))
                return -ENOMEM;
        if (!add_credentials(json, entry))
                return fault(reterr, -EBADMSG, FAULT_IMAGE_AUTH, "The entry for %s in %s holds no credentials: \"auth\" is no base64 of USER:PASSWORD, and there is no token.",
                             host, path);
        *ret = header_of(json);
        return *ret ? 0 : -ENOMEM;
}
