/* SPDX-License-Identifier: Apache-2.0 */

/* Blocks follow each other from the arena's first byte to its last, each with its length in front; the first free one that is large enough
 * is taken, and free neighbours become one as they are walked over. There are a few dozen blocks, rarely a thousand: a list is enough. */

#include "secrets/arena.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define ALIGN 16

typedef struct Block {
        size_t size;                            /* of what follows; a multiple of ALIGN */
        size_t used;                            /* 0 or 1 */
} Block;

struct Arena {
        uint8_t *bytes;
        size_t   size;
        bool     locked;
};

_Static_assert(sizeof(Block) % ALIGN == 0, "what follows a block's head is aligned");

static Block *block_at(const Arena *a, size_t offset) { return (Block *) (void *) (a->bytes + offset); }

int arena_new(size_t size, bool allow_unlocked, Arena **ret, Fault *reterr) {
        Arena *a = calloc(1, sizeof *a);

        if (!a || !(a->bytes = sodium_malloc(size))) {
                free(a);
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory for the arena of secrets.");
        }
        assert(((uintptr_t) a->bytes & (ALIGN - 1)) == 0);
        a->size = size;
        a->locked = sodium_mlock(a->bytes, size) == 0;          /* sodium_malloc() tries, and says nothing when it fails */
        if (!a->locked && !allow_unlocked) {
                (void) arena_free(a);
                return fault(reterr, -EPERM, FAULT_INTERNAL,
                             "Memory for secrets cannot be locked: raise LimitMEMLOCK to %zu KiB or more, or set allow_unlocked_memory=yes.",
                             size / 1024 + 64);
        }
        memset(a->bytes, 0, size);
        *block_at(a, 0) = (Block) { .size = size - sizeof(Block) };
        *ret = a;
        return 0;
}

Arena *arena_free(Arena *a) {
        if (!a)
                return NULL;
        sodium_free(a->bytes);
        free(a);
        return NULL;
}

bool arena_is_locked(const Arena *a) { return a->locked; }

/* The block after b; NULL at the end. */
static Block *next(const Arena *a, Block *b) {
        uint8_t *after = (uint8_t *) (b + 1) + b->size;
        return after < a->bytes + a->size ? (Block *) (void *) after : NULL;
}

static void join(const Arena *a, Block *b) {
        for (Block *n; (n = next(a, b)) && !n->used;) {
                b->size += sizeof *n + n->size;
                *n = (Block) {};
        }
}

static void *take(Arena *a, size_t size) {
        size = (size + ALIGN - 1) & ~(size_t) (ALIGN - 1);
        for (Block *b = block_at(a, 0); b; b = next(a, b)) {
                if (b->used)
                        continue;
                join(a, b);
                if (b->size < size)
                        continue;
                if (b->size >= size + sizeof *b + ALIGN) {
                        *(Block *) (void *) ((uint8_t *) (b + 1) + size) = (Block) { .size = b->size - size - sizeof *b };
                        b->size = size;
                }
                b->used = 1;
                return b + 1;
        }
        return NULL;
}

Secret *secret_alloc(Arena *a, size_t size) {
        Secret *s = size < a->size ? take(a, sizeof *s + size + 1) : NULL;

        if (!s)
                return NULL;
        s->arena = a;
        s->size = size;
        return s;
}

Secret *secret_new(Arena *a, const void *data, size_t size) {
        Secret *s = secret_alloc(a, size);

        if (s && size > 0)
                memcpy(s->data, data, size);
        return s;
}

Secret *secret_concat(Arena *a, const char *text, const Secret *s) {
        size_t n = strlen(text);
        Secret *both = secret_alloc(a, n + s->size);

        if (!both)
                return NULL;
        memcpy(both->data, text, n);
        memcpy(both->data + n, s->data, s->size);
        return both;
}

Secret *secret_free(Secret *s) {
        Block *b;

        if (!s)
                return NULL;
        b = (Block *) (void *) s - 1;
        sodium_memzero(s, b->size);
        b->used = 0;
        return NULL;
}

bool secret_equal(const Secret *a, const Secret *b) {
        return a && b && a->size == b->size && sodium_memcmp(a->data, b->data, a->size) == 0;
}

void process_seal_off(void) {
        (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        (void) setrlimit(RLIMIT_CORE, &(struct rlimit) {});
}
