/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Sets of two workspaces, written and looked at. */

#include <errno.h>

#include "base/file.h"
#include "tests/sealed-kit.h"

#define W1   KIT_WORKSPACE
#define W2   KIT_OTHER
#define S1   "sealed/" W1
#define SET1 S1 "/g7"

/* "NAME=value NAME=value"; "" is no secret at all. */
static inline SecretSet kit_set_of(Arena *a, const char *text) {
        _cleanup_free_ char *copy = strdup(text);
        SecretSet s = {};
        char *save = NULL;

        for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
                char *value = strchr(word, '=');

                *value++ = 0;
                if (secret_set_add(&s, word, kit_secret(a, value)) < 0)
                        abort();
        }
        return s;
}

static inline int kit_write(SealedKit *k, const char *workspace, uint64_t generation, const char *text, Fault *f) {
        SecretSet s = kit_set_of(k->arena, text);
        Fault own = {};
        int r = vault_set_write(k->vault, workspace, generation, &s, f ?: &own);

        secret_set_done(&s);
        return r;
}

/* What is there, as kit_set_of() takes it, sorted; NULL when it does not open. Valid until the next call. */
static inline const char *kit_set_text(SealedKit *k, const char *workspace, uint64_t generation, Fault *f) {
        static char text[2000];
        SecretSet s = {};
        Fault own = {};

        if (vault_set_open(k->vault, workspace, generation, &s, f ?: &own) < 0)
                return NULL;
        text[0] = 0;
        for (bool more = true; more;) {                 /* by name */
                SecretItem *least = NULL;

                more = false;
                for (size_t i = 0; i < s.n; i++)
                        if (s.items[i].name[0] && (!least || strcmp(s.items[i].name, least->name) < 0))
                                least = &s.items[i];
                if (least) {
                        size_t n = strlen(text);

                        (void) snprintf(text + n, sizeof text - n, "%s%s=%s", n ? " " : "", least->name, secret_text(least->value));
                        least->name[0] = 0;
                        more = true;
                }
        }
        secret_set_done(&s);
        return text;
}

static inline ino_t kit_inode(const SealedKit *k, const char *name) {
        struct stat st;

        return fstatat(k->d.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_ino;
}
