/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What tests of sealed files share: a state directory with a root key of its own, an arena, and whatever opens and seals there. */

#include "base/hash.h"
#include "secrets/vault.h"
#include "tests/kit.h"

typedef struct SealedKit {
        TestDir    d;
        Arena     *arena;
        RootChecks checks;
        Keys      *keys;
        HostKeys  *host;
        Vault     *vault;
} SealedKit;

static inline Arena *kit_arena(void) {
        Arena *a = NULL;

        if (hash_init() < 0 || arena_new(ARENA_SIZE, true, &a, NULL) < 0)
                abort();
        return a;
}

/* The process has one; for tests of those who only need a place for secrets. */
static inline Arena *kit_shared_arena(void) {
        static Arena *a;

        return a = a ?: kit_arena();
}

/* Opens what lies in k->d, as a start of the agent does. */
static inline void sealed_open(SealedKit *k) {
        Fault damaged = {}, f = {};
        bool changed;

        if (keys_open(k->d.fd, k->arena, &k->checks, &changed, &k->keys, &f) < 0 || vault_new(k->d.fd, k->keys, KIT_ORG, &k->vault, &f) < 0)
                abort();
        if (!keys_fault(k->keys))
                (void) host_keys_open(k->d.fd, k->keys, KIT_ORG, &k->host, &damaged, &f);
}

static inline void sealed_close(SealedKit *k) {
        k->vault = vault_free(k->vault);
        k->host = host_keys_free(k->host);
        k->keys = keys_free(k->keys);
}

static inline SealedKit sealed_kit(void) {
        SealedKit k = { .d = test_dir(), .arena = kit_arena() };

        (void) unsetenv("CREDENTIALS_DIRECTORY");
        sealed_open(&k);
        return k;
}

static inline void sealed_kit_done(SealedKit *k) {
        sealed_close(k);
        arena_free(k->arena);
        test_dir_done(&k->d);
}
#define _cleanup_sealed_ _cleanup_(sealed_kit_done)

static inline Secret *kit_secret(Arena *a, const char *text) {
        Secret *s = secret_new(a, text, strlen(text));

        if (!s)
                abort();
        return s;
}
