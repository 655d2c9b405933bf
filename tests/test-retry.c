/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "base/retry.h"
#include "base/text.h"
#include "tests/test.h"

#define SEC USEC_PER_SEC

TEST(uniform) {
        bool seen[5] = {};

        for (uint64_t i = 0; i < 1000; i++) {
                uint64_t v = jitter_uniform(10, 14, random_u64());

                if (!CHECK(v >= 10 && v <= 14))
                        return;
                seen[v - 10] = true;
        }
        CHECK(seen[0] && seen[1] && seen[2] && seen[3] && seen[4]);
        CHECK_INT(jitter_uniform(7, 7, 12345), 7);
        CHECK_INT(jitter_uniform(9, 3, 12345), 9);
        CHECK(jitter_uniform(0, UINT64_MAX, UINT64_MAX) == UINT64_MAX);
        CHECK(jitter_uniform(0, UINT64_MAX, 17) == 17);
}

TEST(around) {
        uint64_t low = UINT64_MAX, high = 0;

        for (int i = 0; i < 20000; i++) {
                uint64_t v = jitter_around(30 * SEC, 20, random_u64());

                low = v < low ? v : low;
                high = v > high ? v : high;
        }
        CHECK(low >= 24 * SEC && low < 24 * SEC + SEC / 10);
        CHECK(high <= 36 * SEC && high > 36 * SEC - SEC / 10);
        CHECK_INT(jitter_around(100, 0, 99), 100);
        CHECK(jitter_around(100, 500, 0) == 0);                 /* never below nothing */
        CHECK(jitter_around(UINT64_MAX, 50, UINT64_MAX) >= UINT64_MAX / 2);
}

TEST(backoff_bounds) {
        Backoff b = BACKOFF_DEFAULT;
        uint64_t previous = b.base, w;

        for (int i = 0; i < 10000; i++) {
                uint64_t high = 3 * previous < b.cap ? 3 * previous : b.cap;

                w = backoff_failure(&b, random_u64());
                if (!CHECK(w >= b.base && w <= high))
                        return;
                previous = w;
        }
}

TEST(backoff_first_wait_and_growth) {
        double sum = 0;
        Backoff b;

        for (int i = 0; i < 4000; i++) {
                b = (Backoff) BACKOFF_DEFAULT;
                sum += (double) backoff_failure(&b, random_u64()) / SEC;
        }
        CHECK(sum / 4000 > 1.9 && sum / 4000 < 2.1);            /* uniform over 1..3 s */

        b = (Backoff) BACKOFF_DEFAULT;
        CHECK_INT(backoff_failure(&b, 2 * SEC), 3 * SEC);       /* the longest each time */
        CHECK_INT(backoff_failure(&b, 8 * SEC), 9 * SEC);
        CHECK_INT(backoff_failure(&b, 26 * SEC), 27 * SEC);
        CHECK_INT(backoff_failure(&b, 80 * SEC), 60 * SEC);
        CHECK_INT(backoff_failure(&b, 0), SEC);                 /* and the shortest */
}

TEST(backoff_resets_after_two_successes_in_a_row) {
        Backoff b = { .base = SEC, .cap = 60 * SEC, .previous = 20 * SEC };

        backoff_success(&b);
        CHECK_INT(b.previous, 20 * SEC);
        CHECK_INT(backoff_failure(&b, 59 * SEC), 60 * SEC);
        backoff_success(&b);
        CHECK_INT(backoff_failure(&b, 49 * SEC), 50 * SEC);     /* the success before does not count any more */
        backoff_success(&b);
        backoff_success(&b);
        CHECK_INT(backoff_failure(&b, 2 * SEC), 3 * SEC);
}

TEST(backoff_does_not_overflow) {
        Backoff b = { .base = 1, .cap = UINT64_MAX, .previous = UINT64_MAX / 2 };

        CHECK(backoff_failure(&b, UINT64_MAX - 1) == UINT64_MAX - 1 || b.previous >= 1);
        CHECK(backoff_failure(&b, UINT64_MAX) >= 1);
}

TEST(bucket) {
        RetryBucket b = RETRY_BUCKET_FULL;

        for (int i = 0; i < 10; i++)
                CHECK(retry_bucket_take(&b));
        CHECK(!retry_bucket_take(&b));
        for (int i = 0; i < 4; i++)
                retry_bucket_success(&b);
        CHECK(!retry_bucket_take(&b));
        retry_bucket_success(&b);
        CHECK(retry_bucket_take(&b));
        CHECK(!retry_bucket_take(&b));
        for (int i = 0; i < 1000; i++)
                retry_bucket_success(&b);
        CHECK_INT(b.tokens, 50);
}

TEST(http_date) {
        static const struct { const char *s; int r; uint64_t v; } cases[] = {
                { "Sun, 06 Nov 1994 08:49:37 GMT",   0, UINT64_C(784111777000000) },
                { "Thu, 01 Jan 1970 00:00:00 GMT",   0, 0 },
                { "Thu, 29 Feb 2024 23:59:59 GMT",   0, UINT64_C(1709251199000000) },
                { "Sunday, 06-Nov-94 08:49:37 GMT",  -EINVAL, 0 },      /* the two obsolete forms */
                { "Sun Nov  6 08:49:37 1994",        -EINVAL, 0 },
                { "Sun, 6 Nov 1994 08:49:37 GMT",    -EINVAL, 0 },
                { "Sun, 06 nov 1994 08:49:37 GMT",   -EINVAL, 0 },
                { "Sun, 06 ovD 1994 08:49:37 GMT",   -EINVAL, 0 },
                { "unM, 06 Nov 1994 08:49:37 GMT",   -EINVAL, 0 },
                { "Sun, 06 Nov 1994 08:49:37 CET",   -EINVAL, 0 },
                { "Sun, 06 Nov 1994 08:49:37",       -EINVAL, 0 },
                { "Sun, 06 Nov 1994 08:49:37 GMT ",  -EINVAL, 0 },
                { " Sun, 06 Nov 1994 08:49:37 GMT",  -EINVAL, 0 },
                { "Sun,  6 Nov 1994 08:49:37 GMT",   -EINVAL, 0 },
                { "Sun, 06 No  1994 08:49:37 GMT",   -EINVAL, 0 },
                { "Sun, 31 Feb 1994 08:49:37 GMT",   -EINVAL, 0 },
                { "Sun, 06 Nov 1994 25:49:37 GMT",   -EINVAL, 0 },
                { "Sun, 06 Nov 1994 -8:49:37 GMT",   -EINVAL, 0 },
                { "",                                -EINVAL, 0 },
                { NULL,                              -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                uint64_t v = 4711;

                if (!CHECK_INT(http_date_parse(cases[i].s, &v), cases[i].r) || !CHECK(v == (cases[i].r == 0 ? cases[i].v : 4711)))
                        printf("#   %s\n", cases[i].s);
        }
}

/* random 0 gives the value itself. */
TEST(retry_after) {
        static const uint64_t server = UINT64_C(784111777000000);       /* Sun, 06 Nov 1994 08:49:37 GMT */
        static const struct { const char *s; uint64_t server, v; } cases[] = {
                { "120", 0, 120 * SEC }, { " 120\t", 0, 120 * SEC }, { "0", 0, SEC }, { "007", 0, 7 * SEC },
                { "900", 0, 900 * SEC }, { "901", 0, 900 * SEC }, { "99999999999999999999999999999999", 0, 900 * SEC },
                { "Sun, 06 Nov 1994 08:50:07 GMT", server, 30 * SEC },
                { "  Sun, 06 Nov 1994 08:50:07 GMT ", server, 30 * SEC },
                { "Sun, 06 Nov 1994 08:49:37 GMT", server, SEC },
                { "Sat, 05 Nov 1994 08:49:37 GMT", server, SEC },
                { "Mon, 07 Nov 1994 08:49:37 GMT", server, 900 * SEC },
                { "Sun, 06 Nov 1994 08:50:07 GMT", 0, 0 },              /* cannot be judged */
                { "-1", server, 0 }, { "1.5", server, 0 }, { "1 2", server, 0 },
                { "soon", server, 0 }, { "", server, 0 }, { "  ", server, 0 },
                { "a value that is longer than any date can be, by far", server, 0 }, { NULL, server, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                if (!CHECK_INT(retry_after_parse(cases[i].s, cases[i].server, 0), cases[i].v))
                        printf("#   %s\n", cases[i].s);
}

TEST(retry_after_is_spread_upwards) {
        uint64_t low = UINT64_MAX, high = 0;

        for (int i = 0; i < 20000; i++) {
                uint64_t v = retry_after_parse("100", 0, random_u64());

                low = v < low ? v : low;
                high = v > high ? v : high;
        }
        CHECK(low >= 100 * SEC && low < 101 * SEC);
        CHECK(high <= 120 * SEC && high > 119 * SEC);
}

TEST(random_differs) {
        uint64_t a = random_u64(), b = random_u64(), c = random_u64();

        CHECK(a != b && b != c && a != c);
}

TEST_MAIN
