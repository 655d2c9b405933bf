/* SPDX-License-Identifier: Apache-2.0 */

/* References to images, by the grammar of the registries: HOST[:PORT]/PATH[/PATH…][:TAG]@sha256:DIGEST. Only what names its registry and
 * is pinned by digest is ever pulled; a tag beside the digest is allowed, since engines ignore it. */

#include <stddef.h>
#include <string.h>

#include "engine/image.h"

#define NAME_MAX_LENGTH 255
#define TAG_MAX_LENGTH  128

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_low(char c)   { return (c >= 'a' && c <= 'z') || is_digit(c); }
static bool is_alnum(char c) { return is_low(c) || (c >= 'A' && c <= 'Z'); }

/* "host", "host:5000". A first part without dot, port or the name localhost would be a path on some default registry. */
static bool registry_is_valid(const char *s, size_t n) {
        const char *colon = memchr(s, ':', n);
        size_t host = colon ? (size_t) (colon - s) : n;
        bool dotted = false;

        if (host == 0 || !is_alnum(s[0]) || !is_alnum(s[host - 1]))
                return false;
        for (size_t i = 0; i < host; i++) {
                if (!is_alnum(s[i]) && s[i] != '-' && s[i] != '.')
                        return false;
                if (s[i] == '.' && s[i + 1] == '.')
                        return false;
                dotted = dotted || s[i] == '.';
        }
        if (!colon)
                return dotted || (n == 9 && memcmp(s, "localhost", 9) == 0);
        if (n - host < 2 || n - host > 6)
                return false;
        for (size_t i = host + 1; i < n; i++)
                if (!is_digit(s[i]))
                        return false;
        return true;
}

/* [a-z0-9]+ joined by one '.', one or two '_', or any number of '-'. */
static bool component_is_valid(const char *s, size_t n) {
        size_t i = 0;

        if (n == 0 || !is_low(s[0]) || !is_low(s[n - 1]))
                return false;
        while (i < n) {
                size_t run = 1;

                if (is_low(s[i])) {
                        i++;
                        continue;
                }
                while (i + run < n && s[i + run] == s[i])
                        run++;
                if (!is_low(s[i + run]) || (s[i] == '.' && run > 1) || (s[i] == '_' && run > 2) || !strchr("._-", s[i]))
                        return false;
                i += run;
        }
        return true;
}

static bool path_is_valid(const char *s, size_t n) {
        while (n > 0) {
                const char *slash = memchr(s, '/', n);
                size_t part = slash ? (size_t) (slash - s) : n;

                if (!component_is_valid(s, part) || (slash && part + 1 == n))
                        return false;
                s += part + (slash != NULL);
                n -= part + (slash != NULL);
        }
        return true;
}

static bool tag_is_valid(const char *s, size_t n) {
        if (n == 0 || n > TAG_MAX_LENGTH || (!is_alnum(s[0]) && s[0] != '_'))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!is_alnum(s[i]) && !strchr("_.-", s[i]))
                        return false;
        return true;
}

const char *image_ref_digest(const char *ref) {
        const char *at = strrchr(ref, '@');

        if (!at || strncmp(at, "@sha256:", 8) != 0 || strlen(at + 8) != 64)
                return NULL;
        for (const char *p = at + 8; *p; p++)
                if (!is_digit(*p) && !(*p >= 'a' && *p <= 'f'))
                        return NULL;
        return at + 1;
}

bool image_ref_is_pinned(const char *ref) {
        const char *digest = image_ref_digest(ref), *slash = strchr(ref, '/'), *path, *end, *colon;

        if (!digest || !slash || slash > digest)
                return false;
        path = slash + 1;
        end = digest - 1;
        colon = memchr(path, ':', (size_t) (end - path));
        if (colon && !tag_is_valid(colon + 1, (size_t) (end - colon - 1)))
                return false;
        if (colon)
                end = colon;
        return end - ref <= NAME_MAX_LENGTH && path < end && registry_is_valid(ref, (size_t) (slash - ref)) &&
               path_is_valid(path, (size_t) (end - path));
}

bool image_ref_registry_allowed(const char *ref, const char *const *allowed) {
        const char *slash = strchr(ref, '/');

        for (; slash && allowed && *allowed; allowed++) {
                size_t n = strlen(*allowed);

                while (n > 0 && (*allowed)[n - 1] == '/')
                        n--;
                if (n < (size_t) (slash - ref) || strncmp(ref, *allowed, n) != 0)
                        continue;
                if (ref[n] == '/' || (ref + n > slash && (ref[n] == '@' || ref[n] == ':')))
                        return true;
        }
        return false;
}
