/* SPDX-License-Identifier: Apache-2.0 */

/* base/heap: what is freed or moved is wiped. Read is what belongs to nobody any more, so none of this runs under a sanitizer. */

#include <errno.h>
#include <malloc.h>

#include "base/text.h"
#include "tests/test.h"

#define NOT_UNDER_SANITIZER if (UNDER_SANITIZER) SKIP("the sanitizer brings its own allocator")

/* The allocator's own marks stand in the first bytes of what is free. */
#define MARKS 32

/* Below the size from which a block is a mapping of its own, which is gone with it. */
static const size_t sizes[] = { 64, 100, 1000, 4096, 60000 };

/* Through these the compiler does not know what is given back. */
static void (*volatile give_back)(void *) = free;
static void *(*volatile resize)(void *, size_t) = realloc;

static unsigned char *filled(size_t size) {
        unsigned char *p = malloc(size);

        if (!p)
                abort();
        memset(p, 0xa5, size);
        return p;
}

/* Not by the compiler's idea of who owns it. */
static unsigned left_at(uintptr_t at, size_t size) {
        volatile const unsigned char *p = (volatile const unsigned char *) at;
        unsigned n = 0;

        for (size_t i = MARKS; i < size; i++)
                n += p[i] == 0xa5;
        return n;
}

TEST(what_is_freed_is_wiped) {
        NOT_UNDER_SANITIZER;
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                unsigned char *p = filled(sizes[i]);
                void *guard = malloc(16);               /* so that the block does not go back to the system */
                uintptr_t at = (uintptr_t) p;

                CHECK(left_at(at, sizes[i]) > 0);
                give_back(p);
                CHECK_INT(left_at(at, sizes[i]), 0);
                give_back(guard);
        }
        give_back(NULL);
        CHECK(1);
}

TEST(all_that_the_block_has_is_wiped_not_only_what_was_asked_for) {
        NOT_UNDER_SANITIZER;
        unsigned char *p = malloc(100);
        size_t usable = malloc_usable_size(p);
        void *guard = malloc(16);
        uintptr_t at = (uintptr_t) p;

        if (!p)
                abort();
        for (size_t i = 0; i < usable; i++)
                ((volatile unsigned char *) at)[i] = 0xa5;
        give_back(p);
        CHECK_INT(left_at(at, usable), 0);
        give_back(guard);
}

TEST(what_is_moved_is_wiped_where_it_was) {
        NOT_UNDER_SANITIZER;
        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                unsigned char *p = filled(sizes[i]), *q;
                void *guard = malloc(16);
                uintptr_t at = (uintptr_t) p;

                q = resize(p, sizes[i] * 3);
                if (!q)
                        abort();
                CHECK((uintptr_t) q != at);
                CHECK_INT(left_at(at, sizes[i]), 0);
                CHECK_INT(left_at((uintptr_t) q, sizes[i]), sizes[i] - MARKS);
                give_back(q);
                give_back(guard);
        }
}

TEST(growing_and_shrinking_keep_the_content) {
        NOT_UNDER_SANITIZER;
        char *text = malloc(1);

        if (!text)
                abort();
        for (size_t n = 1; n < 5000; n += n / 3 + 1) {
                text = resize(text, n + 1);
                if (!text)
                        abort();
                text[n - 1] = (char) ('a' + n % 26);
                text[n] = 0;
                CHECK(n < 2 || text[0] == 'b');
        }
        text = resize(text, 4);
        CHECK(text && text[0] == 'b' && text[1] == 'c' && malloc_usable_size(text) < 1000);
        give_back(text);
        text = resize(NULL, 10);
        CHECK(text != NULL);
        CHECK(resize(text, 0) == NULL);
}

TEST(shrinking_leaves_no_tail) {
        NOT_UNDER_SANITIZER;
        unsigned char *p = filled(4096), *q;
        void *guard = malloc(16);
        uintptr_t at = (uintptr_t) p;

        q = resize(p, 64);
        if (!q)
                abort();
        CHECK((uintptr_t) q != at);
        CHECK_INT(left_at(at, 4096), 0);
        give_back(q);
        give_back(guard);
}

TEST(errno_is_left_alone) {
        NOT_UNDER_SANITIZER;
        void *p = malloc(10);

        errno = 77;
        give_back(p);
        CHECK_INT(errno, 77);
        give_back(NULL);
        CHECK_INT(errno, 77);
}

TEST(too_much_leaves_the_old_block) {
        NOT_UNDER_SANITIZER;
        char *p = strdup("kept");
        volatile size_t much = PTRDIFF_MAX;
        char *q = resize(p, much);

        CHECK(q == NULL);
        CHECK_STR(p, "kept");
        give_back(p);
}

TEST_MAIN
