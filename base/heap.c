/* SPDX-License-Identifier: Apache-2.0 */

/* No freed block keeps what was in it. These take the place of the C library's own functions in the whole process, so that the trees of
 * cJSON, the buffers of libcurl and OpenSSL, what printf takes for a moment and our own strings all go the same way; the allocator behind
 * them stays glibc's. A sanitizer brings its own allocator and is left alone. */

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define OTHER_ALLOCATOR
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
#define OTHER_ALLOCATOR
#endif

#ifndef OTHER_ALLOCATOR

void *__libc_malloc(size_t size);
void  __libc_free(void *p);

void free(void *p) {
        int saved = errno;

        if (!p)
                return;
        explicit_bzero(p, malloc_usable_size(p));
        __libc_free(p);
        errno = saved;
}

/* Never in place beyond what the block has, and never by the allocator, which would leave the old bytes behind. */
void *realloc(void *p, size_t size) {
        size_t old = p ? malloc_usable_size(p) : 0;
        void *larger;

        if (p && size == 0) {
                free(p);
                return NULL;
        }
        if (p && size <= old && size >= old / 2)
                return p;
        larger = __libc_malloc(size);
        if (!larger || !p)
                return larger;
        memcpy(larger, p, old < size ? old : size);
        free(p);
        return larger;
}

#endif
