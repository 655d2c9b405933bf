/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Memory that ends: the n-th allocation fails, and only that one. The C library's doors are taken over for the whole program, as base/heap does, so
 * what cJSON, printf and strdup ask for counts too; and blocks are counted, so that one that a failure forgot is seen. A sanitizer brings its own
 * allocator: there the loop is empty, and oom_is_here() says so.
 * oom_ours_only leaves out what libcurl and libsystemd ask for themselves, which is most of what a daemon that talks asks for; oom_not_json also what
 * cJSON asks for, which is most of the rest; oom_when what is asked for while it says no.
 *
 *      for (Oom o = {}; oom_next(&o);) { make ready; oom_begin(&o); r = call(); oom_end(); what holds whether r failed or not; }
 *
 * The loop ends after the first round in which nothing failed. */

#include <dlfcn.h>

#include "tests/test.h"

typedef struct Oom { long n; } Oom;             /* n: which allocation fails in this round, from 1 */

static long oom_left;                           /* allocations until the one that fails; 0: none fails */
static bool oom_failed;                         /* it did, in this round */
__attribute__((unused)) static bool oom_ours_only, oom_not_json;
__attribute__((unused)) static bool (*oom_when)(void);
__attribute__((unused)) static long oom_blocks; /* in use now, in the whole program */

static inline bool oom_is_here(void) { return !UNDER_SANITIZER; }

static inline bool oom_next(Oom *o) {
        if (!oom_is_here() || (o->n > 0 && !oom_failed))
                return false;
        oom_failed = false;
        o->n++;
        return true;
}

static inline void oom_begin(const Oom *o) { oom_left = o->n; }
static inline void oom_end(void) { oom_left = 0; }

#if !UNDER_SANITIZER
void *__libc_malloc(size_t size);               /* what base/heap asks */
void  __libc_free(void *p);
void *__libc_calloc(size_t n, size_t size);

static bool oom_counts(const void *caller) {
        Dl_info at;

        return !oom_ours_only || !dladdr(caller, &at) || (!strstr(at.dli_fname, "libcurl") && !strstr(at.dli_fname, "libsystemd") &&
                                                          (!oom_not_json || !strstr(at.dli_fname, "libcjson")));
}

static void *oom_allocate(size_t n, size_t size, const void *caller) {
        void *p;

        if (oom_left > 0 && oom_counts(caller) && (!oom_when || oom_when()) && --oom_left == 0) {
                oom_failed = true;
                return NULL;
        }
        p = __libc_calloc(n, size);
        oom_blocks += p != NULL;
        return p;
}

void *calloc(size_t n, size_t size) { return oom_allocate(n, size, __builtin_return_address(0)); }
void *malloc(size_t size) { return oom_allocate(1, size, __builtin_return_address(0)); }
void *__libc_malloc(size_t size) { return oom_allocate(1, size, __builtin_return_address(0)); }

void __libc_free(void *p) {
        static void (*real)(void *p);

        if (!real)
                *(void **) &real = dlsym(RTLD_NEXT, "free");
        oom_blocks--;
        real(p);
}
#endif
