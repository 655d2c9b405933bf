/* SPDX-License-Identifier: Apache-2.0 */

/* The n-th allocation fails, in a process that this library is preloaded into. $LAB_NOMEM names a page that the test has mapped, too: it sets fail_at and
 * count, and reads how often memory was asked for. Allocation goes on to the C library's own. The daemon brings a realloc() that begins with
 * __libc_malloc(), which is therefore ours as well; each is counted once. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEPTH 12

void *__libc_calloc(size_t n, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static struct Page {
        atomic_long fail_at;                    /* 0: nothing is counted; -1: counted only */
        atomic_long count, failed;
        void       *stack[DEPTH];               /* who asked when it failed */
} nowhere, *page = &nowhere;

static void *(*next_malloc)(size_t);

__attribute__((constructor)) static void begin(void) {
        const char *name = getenv("LAB_NOMEM");
        int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
        void *stack[1], *shared = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        next_malloc = (void *(*)(size_t)) dlsym(RTLD_NEXT, "malloc");
        (void) backtrace(stack, 1);             /* loads what it needs */
        if (fd >= 0)
                (void) close(fd);
        if (shared != MAP_FAILED)
                page = shared;
}

static _Bool fails(void) {
        long at = page->fail_at;

        if (at == 0 || atomic_fetch_add(&page->count, 1) + 1 != at)
                return 0;
        page->fail_at = -1;
        (void) backtrace(page->stack, DEPTH);
        page->failed = 1;
        errno = ENOMEM;
        return 1;
}

void *malloc(size_t size) {
        if (fails())
                return NULL;
        return next_malloc ? next_malloc(size) : __libc_calloc(1, size);
}

void *__libc_malloc(size_t size) { return malloc(size); }

void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }

void *memalign(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **ret, size_t alignment, size_t size) {
        void *p = memalign(alignment, size);

        if (!p)
                return ENOMEM;
        *ret = p;
        return 0;
}
