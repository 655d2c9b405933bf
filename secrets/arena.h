/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The one place where secret bytes may lie: memory that is locked, kept out of dumps, between guard pages, and wiped as it is given back.
 * One arena for the process, since many small ones would each cost four mappings. Not for objects: for bytes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

#define ARENA_SIZE ((size_t) 1024 * 1024)       /* two of the largest sets (256 KiB) side by side, working copies, the keys */

typedef struct Arena Arena;

/* Bytes in the arena. data ends with a NUL that size does not count, so text can be read as a string. */
typedef struct Secret {
        Arena  *arena;
        size_t  size;
        uint8_t data[];
} Secret;

/* internal with words that name the remedy when the memory cannot be locked, unless allow_unlocked. */
int    arena_new(size_t size, bool allow_unlocked, Arena **ret, Fault *reterr);
Arena *arena_free(Arena *a);                    /* every secret is gone by then */
DEFINE_CLEANUP(Arena *, arena_free)
bool   arena_is_locked(const Arena *a);

Secret *secret_alloc(Arena *a, size_t size);    /* zeroes; NULL when the arena is full */
Secret *secret_new(Arena *a, const void *data, size_t size);
Secret *secret_concat(Arena *a, const char *text, const Secret *s);     /* text, then s */
Secret *secret_free(Secret *s);                 /* wipes */
DEFINE_CLEANUP(Secret *, secret_free)

static inline const char *secret_text(const Secret *s) { return (const char *) s->data; }
bool secret_equal(const Secret *a, const Secret *b);                    /* in constant time for one length; NULL equals nothing */

/* No other process of this user may look into this one, and no core is written. Once, at start. */
void process_seal_off(void);
