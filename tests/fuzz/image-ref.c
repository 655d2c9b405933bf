/* SPDX-License-Identifier: Apache-2.0 */

/* engine/image-ref: a reference is taken as pinned exactly when regular expressions of the registries' grammar match it; and its registry is allowed by its very
 * name and by whole parts of its path, never by a piece of one. */

#include <regex.h>

#include "engine/image.h"
#include "tests/fuzz/fuzz.h"

#define COMPONENT "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*"
#define GRAMMAR   "^(([A-Za-z0-9][-A-Za-z0-9.]*)(:[0-9]+)?)/(" COMPONENT "(/" COMPONENT ")*)(:([A-Za-z0-9_][-A-Za-z0-9_.]*))?@(sha256:([0-9a-f]+))$"

enum { ALL, REGISTRY, HOST, PORT, PATH, TAG = 11, DIGEST, HEX, GROUPS };          /* of the grammar */

static size_t length(const regmatch_t *m) { return (size_t) (m->rm_eo - m->rm_so); }

static bool judge(const char *ref, regmatch_t m[static GROUPS]) {
        static regex_t grammar;
        static bool ready;
        const char *host;

        if (!ready && regcomp(&grammar, GRAMMAR, REG_EXTENDED) != 0)
                abort();
        ready = true;
        if (regexec(&grammar, ref, GROUPS, m, 0) != 0)
                return false;
        host = ref + m[HOST].rm_so;
        if (memmem(host, length(&m[HOST]), "..", 2) || strchr(".-", host[length(&m[HOST]) - 1]))
                return false;
        if (m[PORT].rm_so < 0 && !memchr(host, '.', length(&m[HOST])) && strncmp(ref, "localhost/", 10) != 0)
                return false;
        return (m[PORT].rm_so < 0 || length(&m[PORT]) <= 6) && (m[TAG].rm_so < 0 || length(&m[TAG]) <= 128) && length(&m[HEX]) == 64 && m[PATH].rm_eo <= 255;
}

static bool allowed(const char *ref, const char *entry, size_t n, const char *more) {
        char copy[400];

        (void) snprintf(copy, sizeof copy, "%.*s%s", (int) n, entry, more);
        return image_ref_registry_allowed(ref, (const char *const[]) { "-", copy, NULL });
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *ref = fuzz_text(data, size);
        regmatch_t m[GROUPS];
        bool good = judge(ref, m);
        size_t registry, first;

        MUST(image_ref_is_pinned(ref) == good);
        if (!good) {
                (void) image_ref_registry_allowed(ref, (const char *const[]) { "", "/", ref, NULL });
                return 0;
        }
        MUST(image_ref_digest(ref) == ref + m[DIGEST].rm_so);
        registry = length(&m[REGISTRY]);
        first = registry + 1 + strcspn(ref + registry + 1, "/:@");
        MUST(allowed(ref, ref, registry, "") && allowed(ref, ref, registry, "/") && allowed(ref, ref, first, "") && allowed(ref, ref, first, "/"));
        MUST(!allowed(ref, ref, registry - 1, "") && !allowed(ref, ref, registry, "0") && !allowed(ref, ref, first, "0") && !allowed(ref, "", 0, ""));
        MUST(first - registry == 2 || !allowed(ref, ref, first - 1, ""));
        MUST(!image_ref_registry_allowed(ref, NULL) && !image_ref_registry_allowed(ref, (const char *const[]) { NULL }));
        return 0;
}
