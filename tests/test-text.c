/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "base/text.h"
#include "tests/test.h"

TEST(uuid_is_valid) {
        CHECK(uuid_is_valid("0123abcd-4567-89ab-cdef-0123456789ab"));
        CHECK(uuid_is_valid("00000000-0000-0000-0000-000000000000"));
        CHECK(!uuid_is_valid(NULL));
        CHECK(!uuid_is_valid(""));
        CHECK(!uuid_is_valid("0123ABCD-4567-89ab-cdef-0123456789ab"));
        CHECK(!uuid_is_valid("0123abcd-4567-89ab-cdef-0123456789a"));
        CHECK(!uuid_is_valid("0123abcd-4567-89ab-cdef-0123456789abc"));
        CHECK(!uuid_is_valid("0123abcd4567-89ab-cdef--0123456789ab"));
        CHECK(!uuid_is_valid("g123abcd-4567-89ab-cdef-0123456789ab"));
        CHECK(!uuid_is_valid("0123abcd-4567-89ab-cdef-0123456789a\n"));
}

TEST(uuid_make) {
        char a[UUID_SIZE], b[UUID_SIZE];

        CHECK_INT(uuid_make(a), 0);
        CHECK_INT(uuid_make(b), 0);
        CHECK(uuid_is_valid(a));
        CHECK_INT(a[14], '4');
        CHECK(strchr("89ab", a[19]) != NULL);
        CHECK(strcmp(a, b) != 0);
}

TEST(u64) {
        static const struct { const char *s; int r; uint64_t v; } cases[] = {
                { "0", 0, 0 }, { "7", 0, 7 }, { "18446744073709551615", 0, UINT64_MAX },
                { "18446744073709551616", -ERANGE, 0 }, { "99999999999999999999999", -ERANGE, 0 },
                { "", -EINVAL, 0 }, { "00", -EINVAL, 0 }, { "01", -EINVAL, 0 }, { "+1", -EINVAL, 0 }, { "-1", -EINVAL, 0 },
                { " 1", -EINVAL, 0 }, { "1 ", -EINVAL, 0 }, { "1.0", -EINVAL, 0 }, { "0x1", -EINVAL, 0 }, { "1e3", -EINVAL, 0 },
                { "99999999999999999999999x", -EINVAL, 0 }, { NULL, -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                uint64_t v = 4711;
                char text[21];

                CHECK_INT(u64_parse(cases[i].s, &v), cases[i].r);
                CHECK(v == (cases[i].r == 0 ? cases[i].v : 4711));
                if (cases[i].r == 0)
                        CHECK_STR(u64_text(v, text), cases[i].s);
        }
}

TEST(time_text) {
        char t[TIME_TEXT_SIZE];

        CHECK_STR(time_text(0, t), "1970-01-01T00:00:00.000Z");
        CHECK_STR(time_text(UINT64_C(1767323045678901), t), "2026-01-02T03:04:05.678Z");
        CHECK_STR(time_text(UINT64_C(951782400000000), t), "2000-02-29T00:00:00.000Z");
        CHECK(strlen(time_text(UINT64_MAX, t)) < TIME_TEXT_SIZE);
}

TEST(time_parse) {
        static const struct { const char *s; int r; uint64_t v; } cases[] = {
                { "1970-01-01T00:00:00Z",             0, 0 },
                { "2026-01-02T03:04:05.678Z",         0, UINT64_C(1767323045678000) },
                { "2026-01-02T03:04:05.678901234Z",   0, UINT64_C(1767323045678901) },
                { "2026-01-02t03:04:05z",             0, UINT64_C(1767323045000000) },
                { "2026-01-02T05:34:05+02:30",        0, UINT64_C(1767323045000000) },
                { "2026-01-01T22:04:05-05:00",        0, UINT64_C(1767323045000000) },
                { "2016-12-31T23:59:60Z",             0, UINT64_C(1483228800000000) },
                { "2000-02-29T00:00:00Z",             0, UINT64_C(951782400000000) },
                { "9999-12-31T23:59:59Z",             0, UINT64_C(253402300799000000) },
                { "2001-02-29T00:00:00Z",             -EINVAL, 0 },
                { "2026-04-31T00:00:00Z",             -EINVAL, 0 },
                { "2026-00-10T00:00:00Z",             -EINVAL, 0 },
                { "2026-13-10T00:00:00Z",             -EINVAL, 0 },
                { "2026-01-00T00:00:00Z",             -EINVAL, 0 },
                { "2026-01-02T24:00:00Z",             -EINVAL, 0 },
                { "2026-01-02T00:60:00Z",             -EINVAL, 0 },
                { "2026-01-02T00:00:61Z",             -EINVAL, 0 },
                { "2026-01-02T03:04:05",              -EINVAL, 0 },
                { "2026-01-02T03:04:05.Z",            -EINVAL, 0 },
                { "2026-01-02T03:04:05Zx",            -EINVAL, 0 },
                { "2026-01-02T03:04:05+24:00",        -EINVAL, 0 },
                { "2026-01-02T03:04:05+0200",         -EINVAL, 0 },
                { "2026-01-02 03:04:05Z",             -EINVAL, 0 },
                { "2026-1-2T03:04:05Z",               -EINVAL, 0 },
                { "+026-01-02T03:04:05Z",             -EINVAL, 0 },
                { "1969-12-31T23:59:59Z",             -EINVAL, 0 },
                { "0001-01-01T00:00:00Z",             -EINVAL, 0 },
                { "",                                 -EINVAL, 0 },
                { NULL,                               -EINVAL, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                uint64_t v = 4711;

                if (!CHECK_INT(time_parse(cases[i].s, &v), cases[i].r) || !CHECK(v == (cases[i].r == 0 ? cases[i].v : 4711)))
                        printf("#   %s\n", cases[i].s);
        }
}

TEST(time_there_and_back) {
        for (uint64_t v = 0; v < UINT64_C(8000000000000000); v += UINT64_C(86399999000) * 13) {
                char t[TIME_TEXT_SIZE];
                uint64_t back = 0;

                CHECK_INT(time_parse(time_text(v, t), &back), 0);
                CHECK(back == v);
        }
}

TEST(clocks_move) {
        uint64_t a = now_boottime(), b = now_boottime();

        CHECK(a > 0 && b >= a);
        CHECK(now_realtime() > UINT64_C(1600000000000000));
}

TEST(slug_and_runtime) {
        CHECK(slug_is_valid("abc"));
        CHECK(slug_is_valid("a-1bcdefghijklmnopqrstuvwxyz0123"));
        CHECK(!slug_is_valid("a-1bcdefghijklmnopqrstuvwxyz01234"));
        CHECK(!slug_is_valid("ab"));
        CHECK(!slug_is_valid("1bc"));
        CHECK(!slug_is_valid("-bc"));
        CHECK(!slug_is_valid("aBc"));
        CHECK(!slug_is_valid("a_c"));
        CHECK(!slug_is_valid(""));
        CHECK(!slug_is_valid(NULL));

        CHECK(runtime_is_valid("a"));
        CHECK(runtime_is_valid("0-_z"));
        CHECK(runtime_is_valid("0123456789012345678901234567890123456789012345678901234567890123"));
        CHECK(!runtime_is_valid("01234567890123456789012345678901234567890123456789012345678901234"));
        CHECK(!runtime_is_valid(""));
        CHECK(!runtime_is_valid("A"));
        CHECK(!runtime_is_valid("a.b"));
        CHECK(!runtime_is_valid("a/b"));
        CHECK(!runtime_is_valid(NULL));
}

TEST(strings) {
        _cleanup_free_ char *s = str_printf("%s-%i", "a", 5);

        CHECK_STR(s, "a-5");
        CHECK(str_equal(NULL, NULL));
        CHECK(!str_equal(NULL, ""));
        CHECK(!str_equal("", NULL));
        CHECK(str_equal("a", "a"));
        CHECK(!str_equal("a", "b"));
}

TEST(utf8_length) {
        static const struct { const char *s; size_t size, n; } cases[] = {
                { "", 0, 0 }, { "\0", 1, 1 }, { "a", 1, 1 }, { "\x7f", 1, 1 },
                { "\xc2\x80", 2, 2 }, { "\xdf\xbf", 2, 2 }, { "\xe0\xa0\x80", 3, 3 }, { "\xed\x9f\xbf", 3, 3 },
                { "\xee\x80\x80", 3, 3 }, { "\xef\xbf\xbf", 3, 3 }, { "\xf0\x90\x80\x80", 4, 4 }, { "\xf4\x8f\xbf\xbf", 4, 4 },
                { "\x80", 1, 0 }, { "\xbf", 1, 0 }, { "\xc0\x80", 2, 0 }, { "\xc1\xbf", 2, 0 }, { "\xe0\x9f\xbf", 3, 0 },
                { "\xed\xa0\x80", 3, 0 }, { "\xed\xbf\xbf", 3, 0 }, { "\xf0\x8f\xbf\xbf", 4, 0 }, { "\xf4\x90\x80\x80", 4, 0 },
                { "\xf5\x80\x80\x80", 4, 0 }, { "\xff", 1, 0 }, { "\xc3" "a", 2, 0 }, { "\xe2\x82\xc0", 3, 0 },
                { "\xe2\x82\xac", 2, 0 }, { "\xf0\x9f\x98\x80", 3, 0 }, { "\xc3\xa9", 1, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                if (!CHECK_INT(utf8_length(cases[i].s, cases[i].size), cases[i].n))
                        printf("#   case %zu\n", i);
}

TEST(make_printable) {
        char s[] = "a\tb\r\n\x01\x7f\xc2\x85\xc2\xa0\xf0\x9f\x98\x80\xed\xa0\x80";

        text_make_printable(s);
        CHECK_STR(s, "a?b??????\xc2\xa0\xf0\x9f\x98\x80???");
}

TEST_MAIN
