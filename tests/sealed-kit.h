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

/* All of it can be had again only when every secret was given back. */
static inline bool kit_arena_is_empty(Arena *a, size_t size) {
        Secret *all = secret_alloc(a, size - 16 - sizeof(Secret) - 1);
        bool empty = all != NULL;

        secret_free(all);
        return empty;
}

static inline void sealed_kit_done(SealedKit *k) {
        sealed_close(k);
        CHECK(kit_arena_is_empty(k->arena, ARENA_SIZE));
        arena_free(k->arena);
        test_dir_done(&k->d);
}
#define _cleanup_sealed_ _cleanup_(sealed_kit_done)

/* A file below d with a NUL behind it; NULL when there is none. malloc'd. */
static inline char *kit_read(const TestDir *d, const char *name, size_t *ret_size) {
        int fd = openat(d->fd, name, O_RDONLY|O_CLOEXEC);
        struct stat st;
        char *data = NULL;

        if (fd >= 0 && fstat(fd, &st) == 0 && (data = calloc(1, (size_t) st.st_size + 1)) &&
            read(fd, data, (size_t) st.st_size) != st.st_size)
                abort();
        if (fd >= 0)
                (void) close(fd);
        if (data && ret_size)
                *ret_size = (size_t) st.st_size;
        return data;
}

/* One bit of the byte at `at`, counted from the end when negative. */
static inline void kit_flip(const TestDir *d, const char *name, long at) {
        size_t size;
        char *data = kit_read(d, name, &size);

        if (!data)
                abort();
        data[at < 0 ? size - (size_t) -at : (size_t) at] ^= 1;
        test_dir_write(d, name, data, size);
        free(data);
}

static inline Secret *kit_secret(Arena *a, const char *text) {
        Secret *s = secret_new(a, text, strlen(text));

        if (!s)
                abort();
        return s;
}
