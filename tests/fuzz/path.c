/* SPDX-License-Identifier: Apache-2.0 */

/* provision/path: a name passes exactly when a second judgement lets it pass; what comes out is made of the same parts, cannot climb, and says the same when
 * it is cleaned again. Two names (the first two lines) collide whichever comes first. */

#include "provision/path.h"
#include "tests/fuzz/fuzz.h"

#define PARTS_MAX 8

/* Walks the name a character at a time, without a copy; expected: the parts that count, joined. */
static bool judge(const char *name, char *expected) {
        static const char *const own[] = { "MEMORY.md", "USER.md", "CLAUDE.md" };
        unsigned parts = 0;
        const char *last = "";

        *expected = 0;
        if (!name[0] || strlen(name) > 255 || strchr("/\\", name[0]))
                return false;
        for (const char *p = name; *p; p++)
                if (*p == 0x7f || (*p > 0 && *p < 0x20))
                        return false;
        for (const char *p = name; *p; p += *p != 0) {
                size_t n = strcspn(p, "/\\");

                if (n == 2 && memcmp(p, "..", 2) == 0)
                        return false;
                if (n > 0 && !(n == 1 && *p == '.')) {
                        char *to = expected + strlen(expected);

                        to += parts++ ? (*to = '/', 1) : 0;
                        *(char *) mempcpy(to, p, n) = 0;
                        last = to;
                }
                p += n;
        }
        for (size_t i = 0; i < ELEMENTS(own); i++)
                if (strcmp(last, own[i]) == 0)
                        return false;
        return parts > 0 && parts <= PARTS_MAX && !(strncmp(expected, ".claude/sessions", 16) == 0 && strchr("/", expected[16]));
}

/* "" where it is refused. */
static char *clean(const char *name) {
        char *result = NULL, *again = NULL, expected[300];
        bool good = strlen(name) < sizeof expected && judge(name, expected);
        Fault f = {};
        int r = path_clean(name, &result, &f);

        MUST((r == 0) == good && f.set == !good);
        if (!good)
                return strdup("");
        MUST(strcmp(result, expected) == 0);
        MUST(path_clean(result, &again, NULL) == 0 && strcmp(again, result) == 0);
        free(again);
        MUST(path_mode(result) == 0644 || path_mode(result) == 0600);
        return result;
}

static bool is_below(const char *a, const char *b) {
        size_t n = strlen(b);

        return strlen(a) > n && a[n] == '/' && memcmp(a, b, n) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
        size_t n = line ? (size_t) (line - data) : size;
        _cleanup_free_ char *one = fuzz_text(data, n), *two = fuzz_text(line ? line + 1 : data, line ? size - n - 1 : 0);
        _cleanup_free_ char *a = clean(one), *b = clean(two);

        if (!a || !b)
                abort();
        MUST(path_collides(a, b) == path_collides(b, a));
        if (*a && *b)
                MUST(path_collides(a, b) == (strcmp(a, b) == 0 || is_below(a, b) || is_below(b, a)));
        MUST(path_collides(a, a));
        MUST(!path_is_template_asset(a) || strcmp(a, "config.yaml") == 0 || strcmp(a, "system-prompt.md") == 0 || is_below(a, "prompts"));
        return 0;
}
