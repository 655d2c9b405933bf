/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "base/hash.h"
#include "tests/test.h"

/* The values are those of coreutils' b2sum -l 256 and -l 128. */
TEST(known_values) {
        char a[HASH_TEXT_SIZE], b[HASH128_TEXT_SIZE];

        CHECK_INT(hash_init(), 0);
        hash_text("", 0, a);
        CHECK_STR(a, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
        hash_text("abc", 3, a);
        CHECK_STR(a, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
        hash128_text("abc", 3, b);
        CHECK_STR(b, "cf4ab791c62b8d2b2109c90275287816");
}

TEST(in_pieces) {
        char whole[HASH_TEXT_SIZE], pieces[HASH_TEXT_SIZE], data[1000];
        Hash h;

        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (char) (i * 7);
        hash_text(data, sizeof data, whole);
        hash_begin(&h);
        hash_add(&h, data, 1);
        hash_add(&h, data + 1, 0);
        hash_add(&h, data + 1, 511);
        hash_add(&h, data + 512, sizeof data - 512);
        hash_end(&h, pieces);
        CHECK_STR(pieces, whole);
}

static void hash_of_strings(const char *a, const char *b, char ret[static HASH_TEXT_SIZE]) {
        Hash h;

        hash_begin(&h);
        hash_add_string(&h, a);
        hash_add_string(&h, b);
        hash_end(&h, ret);
}

TEST(strings_do_not_run_together) {
        static const char *const pairs[][2] = {
                { "ab", "c" }, { "a", "bc" }, { "abc", "" }, { "", "abc" }, { "abc", NULL }, { NULL, "abc" },
        };
        char texts[ELEMENTS(pairs)][HASH_TEXT_SIZE], again[HASH_TEXT_SIZE];

        for (size_t i = 0; i < ELEMENTS(pairs); i++) {
                hash_of_strings(pairs[i][0], pairs[i][1], texts[i]);
                hash_of_strings(pairs[i][0], pairs[i][1], again);
                CHECK_STR(again, texts[i]);
                for (size_t k = 0; k < i; k++)
                        CHECK(strcmp(texts[i], texts[k]) != 0);
        }
}

TEST(constant_time_comparison) {
        CHECK(equal_constant_time("", ""));
        CHECK(equal_constant_time("secret", "secret"));
        CHECK(!equal_constant_time("secret", "secreT"));
        CHECK(!equal_constant_time("Secret", "secret"));
        CHECK(!equal_constant_time("secret", "secre"));
        CHECK(!equal_constant_time("secret", ""));
        CHECK(!equal_constant_time(NULL, "a"));
        CHECK(!equal_constant_time("a", NULL));
        CHECK(!equal_constant_time(NULL, NULL));
}

TEST(base64) {
        static const struct { const char *plain, *coded; } cases[] = {
                { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "\xff\xfe\xfb", "//77" },
                { "\xfb\xef\xbe", "++++" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *coded = base64_encode(cases[i].plain, strlen(cases[i].plain));
                _cleanup_free_ uint8_t *back = NULL;
                size_t size = 99;

                CHECK_STR(coded, cases[i].coded);
                if (!CHECK_INT(base64_decode(cases[i].coded, 100, &back, &size), 0))
                        continue;
                CHECK_INT(size, strlen(cases[i].plain));
                CHECK_STR((char *) back, cases[i].plain);
        }
}

TEST(base64_is_strict) {
        static const char *const bad[] = {
                "Z", "Zg", "Zg=", "Zg===", "Zg==Zg==", "====", "=", "Z===", "Zm9v\n", "Zm9 v", " Zm9v", "Zm9v=", "Zm8=Zm9v",
                "Zh==" /* bits left over */, "Zm9=", "-_-_", "Zm9\xff", "Z=9v",
        };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                uint8_t *back = NULL;
                size_t size = 99;

                if (!CHECK_INT(base64_decode(bad[i], 100, &back, &size), -EBADMSG) || !CHECK(!back && size == 99))
                        printf("#   %s\n", bad[i]);
        }
}

TEST(base64_alphabet) {
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

        for (int c = 1; c < 256; c++) {
                const char s[] = { 'Z', 'm', (char) c, 'v', 0 };
                _cleanup_free_ uint8_t *back = NULL;
                size_t size;

                if (!CHECK_INT(base64_decode(s, 100, &back, &size), strchr(letters, c) ? 0 : -EBADMSG))
                        printf("#   byte 0x%02x\n", (unsigned) c);
        }
}

TEST(base64_limit) {
        _cleanup_free_ uint8_t *back = NULL;
        size_t size = 99;

        CHECK_INT(base64_decode("Zm9v", 2, &back, &size), -EFBIG);
        CHECK_INT(base64_decode("Zg==", 0, &back, &size), -EFBIG);
        CHECK(!back && size == 99);
        CHECK_INT(base64_decode("Zm9v", 3, &back, &size), 0);
        CHECK_INT(size, 3);
}

TEST_MAIN
