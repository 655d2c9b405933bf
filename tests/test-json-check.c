/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <malloc.h>
#include <time.h>

#include "base/json.h"
#include "tests/test.h"

/* A literal with its size, so that it may hold NUL. */
#define T(s) (s), sizeof(s) - 1

static const struct Case { const char *text; size_t size; } good[] = {
        { T("{}") }, { T("[]") }, { T("null") }, { T("true") }, { T("false") }, { T("0") }, { T("\"\"") },
        { T(" \t\r\n{ \t\r\n} \t\r\n") }, { T(" [ ] ") }, { T(" [ 1 , 2 ] ") }, { T("{ \"a\" : 1 , \"b\" : 2 }") },
        { T("[[],{},[{}],\"\"]") }, { T("{\"a\":{\"b\":[{\"c\":null}]}}") },
        { T("-0") }, { T("-1") }, { T("10") }, { T("0.5") }, { T("-0.0") }, { T("1e5") }, { T("1E+5") }, { T("1e-5") }, { T("0e0") },
        { T("1.7976931348623157e308") }, { T("-1.7976931348623157e308") }, { T("1e-999") },
        { T("9007199254740991") }, { T("9007199254740992") }, { T("-9007199254740992") },
        { T("0.1234567890123456789012345678901234567890123456789012345678901") },            /* 63 characters */
        { T("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\u00e9\\uABCD\\uabcd\"") },
        { T("\"\\ud83d\\ude00\"") }, { T("\"\\uDBFF\\uDFFF\"") }, { T("\"\x7f\"") }, { T("\"\\uffff\"") },
        { T("\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"") }, { T("\"\xf4\x8f\xbf\xbf\"") }, { T("\"\xed\x9f\xbf\"") },
        { T("{\"\":1}") }, { T("{\"a\":1,\"A\":2}") }, { T("{\"a\":1,\"aa\":2,\"\":3}") },
        { T("{\"a\":{\"a\":{\"a\":1}}}") },                     /* the same name in different objects */
        { T("[{\"a\":1},{\"a\":1},{\"a\":1}]") }, { T("{\"x\":{\"a\":1},\"y\":{\"a\":1},\"a\":1}") },
        { T("{\"a\":{\"b\":1},\"b\":1}") }, { T("{\"\\\\u0061\":1,\"a\":2}") }, { T("{\"\\u00e9\":1,\"e\":2}") },
        { T("[\"a\",\"a\"]") }, { T("[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]") },
};

static const struct { const char *text; size_t size; const char *why; } bad[] = {
        /* nothing, or more than one value */
        { T(""), "byte 0: the text ends where a value" }, { T("  "), "byte 2: the text ends where a value" },
        { T("{}{}"), "byte 2: text behind" }, { T("1 2"), "byte 2: text behind" }, { T("null,"), "text behind" },
        { T("{}]"), "text behind" },
        { T("{}\0"), "byte 2: text behind" }, { T("\"a\"\"b\""), "text behind" }, { T("truefalse"), "text behind" },
        { T("nullx"), "text behind" },
        { T("\xef\xbb\xbf{}"), "byte 0: a byte order mark" }, { T("{}\xef\xbb\xbf"), "text behind" },
        { T("\xff\xfe{\0}\0"), "no JSON value" },
        /* words */
        { T("True"), "no JSON value" }, { T("nul"), "no JSON value" }, { T("NaN"), "no JSON value" }, { T("Infinity"), "no JSON value" },
        { T("-Infinity"), "without digits" }, { T("undefined"), "no JSON value" }, { T("'a'"), "no JSON value" },
        { T("a"), "no JSON value" },
        { T("// c\n1"), "no JSON value" }, { T("/**/1"), "no JSON value" }, { T("1 /**/"), "text behind" }, { T("\v1"), "no JSON value" },
        { T("\0"), "no JSON value" }, { T("\xc2\xa0" "1"), "no JSON value" }, { T("<html>"), "no JSON value" },
        /* containers */
        { T("{"), "no name" }, { T("["), "the text ends" }, { T("{\"a\""), "no colon" }, { T("{\"a\":"), "the text ends" },
        { T("{\"a\":1"), "neither" },
        { T("{\"a\":1,"), "no name" }, { T("[1"), "neither" }, { T("[1,"), "the text ends" }, { T("}"), "no JSON value" },
        { T("]"), "no JSON value" },
        { T("[}"), "no JSON value" }, { T("{]"), "no name" }, { T("[1}"), "byte 2: neither ',' nor ']'" },
        { T("{\"a\":1]"), "neither ',' nor '}'" },
        { T("[1,]"), "no JSON value" }, { T("[,1]"), "no JSON value" }, { T("[1,,2]"), "no JSON value" }, { T("[1 2]"), "neither" },
        { T("{\"a\":1,}"), "no name" }, { T("{,}"), "no name" }, { T("{\"a\" 1}"), "no colon" }, { T("{\"a\":}"), "no JSON value" },
        { T("{\"a\":1 \"b\":2}"), "neither" }, { T("{a:1}"), "no name" }, { T("{1:1}"), "no name" },
        { T("{\"a\":1:2}"), "neither" }, { T("{null}"), "no name" },
        { T("{\"a\"=1}"), "no colon" }, { T("[1;2]"), "neither" }, { T("[[]"), "neither" }, { T("[{}"), "neither" },
        /* numbers */
        { T("01"), "leading zero" }, { T("-01"), "leading zero" }, { T("00"), "leading zero" }, { T("00.5"), "leading zero" },
        { T("-"), "without digits" },
        { T("+1"), "no JSON value" }, { T(".5"), "no JSON value" }, { T("1."), "behind the point" }, { T("1.e5"), "behind the point" },
        { T("-.5"), "without digits" }, { T("1e"), "in the exponent" }, { T("1e+"), "in the exponent" }, { T("1e5.5"), "text behind" },
        { T("0x10"), "text behind" }, { T("1_000"), "text behind" }, { T("--1"), "without digits" }, { T("1-"), "text behind" },
        { T("1e999"), "byte 0: a number that is not finite" }, { T("-1e999"), "not finite" },
        { T("[1,1.8e308]"), "byte 3: a number that is not finite" },
        { T("9007199254740993"), "beyond 2^53" }, { T("-9007199254740993"), "beyond 2^53" }, { T("18446744073709551616"), "beyond 2^53" },
        { T("99999999999999999999999999999999999999999999999999999999999"), "beyond 2^53" },
        { T("0.12345678901234567890123456789012345678901234567890123456789012"), "more than 63 characters" },
        { T("\xd9\xa1"), "no JSON value" },                     /* an Arabic digit */
        /* strings */
        { T("\""), "ends inside a string" }, { T("\"abc"), "byte 4: the text ends inside" }, { T("\"\\"), "ends inside a string" },
        { T("\"\\\""), "ends inside a string" },
        { T("\"\n\""), "raw control" }, { T("\"\t\""), "raw control" }, { T("\"\x1f\""), "raw control" },
        { T("\"a\0b\""), "byte 2: a raw control" },
        { T("\"\\a\""), "unknown escape" }, { T("\"\\'\""), "unknown escape" }, { T("\"\\U0041\""), "unknown escape" },
        { T("\"\\0\""), "unknown escape" },
        { T("\"\\x41\""), "unknown escape" }, { T("\"\\\n\""), "unknown escape" }, { T("\"\\\0\""), "unknown escape" },
        { T("\"\\\xc3\xa9\""), "unknown escape" },
        { T("\"\\u\""), "four hexadecimal" }, { T("\"\\u12\""), "four hexadecimal" }, { T("\"\\u12g4\""), "four hexadecimal" },
        { T("\"\\u 123\""), "four hexadecimal" },
        { T("\"\\u+123\""), "four hexadecimal" }, { T("\"\\u12"), "four hexadecimal" },
        { T("\"\\u0000\""), "U+0000" }, { T("\"a\\u0000b\""), "U+0000" }, { T("{\"a\\u0000\":1}"), "U+0000" },
        { T("\"\\ud83d\""), "surrogate" }, { T("\"\\ud83d\\n\""), "surrogate" }, { T("\"\\ude00\""), "surrogate" },
        { T("\"\\ud83d\\u0041\""), "surrogate" },
        { T("\"\\ude00\\ud83d\""), "surrogate" }, { T("\"\\ud83d\\ud83d\""), "surrogate" }, { T("\"\\ud83d\\u\""), "surrogate" },
        { T("\"\\ud83d\\"), "surrogate" },
        { T("\"\x80\""), "broken UTF-8" }, { T("\"\xc3\""), "broken UTF-8" }, { T("\"\xc0\xaf\""), "broken UTF-8" },
        { T("\"\xe0\x80\xaf\""), "broken UTF-8" },
        { T("\"\xf0\x80\x80\xaf\""), "broken UTF-8" }, { T("\"\xed\xa0\x80\""), "broken UTF-8" },
        { T("\"\xed\xa0\xbd\xed\xb8\x80\""), "broken UTF-8" },
        { T("\"\xf4\x90\x80\x80\""), "broken UTF-8" }, { T("\"\xf8\x88\x80\x80\x80\""), "broken UTF-8" },
        { T("\"\xff\""), "broken UTF-8" },
        { T("\"\xe2\x82\""), "broken UTF-8" }, { T("\"\xe2\x82"), "broken UTF-8" }, { T("{\"\xff\":1}"), "broken UTF-8" },
        { T("\"caf\xe9\""), "byte 4: broken UTF-8" },
        /* names given twice */
        { T("{\"a\":1,\"a\":1}"), "byte 8: a name given twice" }, { T("{\"a\":1,\"b\":2,\"a\":3}"), "given twice" },
        { T("{\"\":1,\"\":2}"), "given twice" },
        { T("{\"a\":1,\"\\u0061\":2}"), "given twice" }, { T("{\"\\u0061\":1,\"a\":2}"), "given twice" },
        { T("{\"/\":1,\"\\/\":2}"), "given twice" },
        { T("{\"\\n\":1,\"\\u000a\":2}"), "given twice" }, { T("{\"\\u00e9\":1,\"\xc3\xa9\":2}"), "given twice" },
        { T("{\"\\u00E9\":1,\"\\u00e9\":2}"), "given twice" },
        { T("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}"), "given twice" }, { T("{\"a\":{\"b\":{\"a\":1}},\"a\":2}"), "given twice" },
        { T("[{\"a\":{\"x\":1,\"y\":[{\"x\":1}],\"x\":2}}]"), "given twice" },
        /* depth */
        { T("[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]"), "byte 16: nested too deep" },
        { T("[[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]"), "nested too deep" },
};

/* Copies to the heap first: a read beyond the end would be seen by the sanitizer. */
static int check_copy(const char *text, size_t size, Fault *f) {
        _cleanup_free_ char *copy = malloc(size > 0 ? size : 1);

        if (!copy)
                abort();
        memcpy(copy, text, size);
        return json_check(copy, size, f);
}

TEST(good_texts) {
        for (size_t i = 0; i < ELEMENTS(good); i++) {
                Fault f = {};

                if (!CHECK_INT(check_copy(good[i].text, good[i].size, &f), 0))
                        printf("#   %s: %s\n", good[i].text, f.text);
        }
}

TEST(what_is_good_here_is_good_for_cjson) {
        for (size_t i = 0; i < ELEMENTS(good); i++) {
                _cleanup_json_ cJSON *json = NULL;

                if (!CHECK_INT(json_parse(good[i].text, good[i].size, &json, NULL), 0) || !CHECK(json != NULL))
                        printf("#   %s\n", good[i].text);
        }
}

TEST(bad_texts) {
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                Fault f = {};

                if (!CHECK_INT(check_copy(bad[i].text, bad[i].size, &f), -EBADMSG) || !CHECK(strstr(f.text, bad[i].why) != NULL) ||
                    !CHECK_INT(f.code, FAULT_BAD_JSON) || !CHECK(strncmp(f.text, "not valid JSON at byte ", 23) == 0))
                        printf("#   %s: '%s', should say '%s'\n", bad[i].text, f.text, bad[i].why);
        }
}

TEST(every_beginning_of_a_text_is_refused) {
        static const char whole[] = "{\"a\\u00e9\":[1.5e+3,true,null,\"\\ud83d\\ude00\xe2\x82\xac\"],\"b\":{\"c\":false}}";

        CHECK_INT(check_copy(whole, sizeof whole - 1, NULL), 0);
        for (size_t n = 0; n < sizeof whole - 1; n++)
                if (!CHECK_INT(check_copy(whole, n, NULL), -EBADMSG))
                        printf("#   cut at %zu\n", n);
}

/* ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Text { char *data; size_t size; } Text;

static void text_done(Text *t) { free(t->data); }
#define _cleanup_text_ _cleanup_(text_done)

/* front, n times what print() makes, back; with commas between. */
static Text text_repeat(const char *front, size_t n, int (*print)(char *to, size_t room, size_t i), size_t room, const char *back) {
        Text t = { malloc(n * (room + 1) + strlen(front) + strlen(back) + 1), 0 };

        if (!t.data)
                abort();
        t.size = (size_t) (stpcpy(t.data, front) - t.data);
        for (size_t i = 0; i < n; i++) {
                if (i > 0)
                        t.data[t.size++] = ',';
                t.size += (size_t) print(t.data + t.size, room, i);
        }
        t.size = (size_t) (stpcpy(t.data + t.size, back) - t.data);
        return t;
}

static int print_one(char *to, size_t room, size_t i) { (void) i; return snprintf(to, room, "1"); }
static int print_member(char *to, size_t room, size_t i) { return snprintf(to, room, "\"name%zu\":0", i); }

/* The size alone refuses it: no byte is looked at. */
TEST(larger_than_an_offset_can_say) {
        Fault f = {};

        CHECK_INT(json_check("", UINT32_MAX, &f), -EBADMSG);
        CHECK_STR(f.text, "not valid JSON: larger than 4 GiB");
}

TEST(values_limit) {
        _cleanup_text_ Text most = text_repeat("[", JSON_VALUES_MAX - 1, print_one, 4, "]");
        _cleanup_text_ Text over = text_repeat("[", JSON_VALUES_MAX, print_one, 4, "]");
        Fault f = {};

        CHECK_INT(json_check(most.data, most.size, &f), 0);
        CHECK_INT(json_check(over.data, over.size, &f), -EBADMSG);
        CHECK(strstr(f.text, "too many values") != NULL);
}

TEST(names_limit) {
        _cleanup_text_ Text most = text_repeat("{", JSON_NAMES_MAX, print_member, 32, "}");
        _cleanup_text_ Text over = text_repeat("{", JSON_NAMES_MAX + 1, print_member, 32, "}");
        _cleanup_text_ Text twice = text_repeat("{", JSON_NAMES_MAX - 1, print_member, 32, ",\"name0\":1}");
        Fault f = {}, g = {};

        CHECK_INT(json_check(most.data, most.size, NULL), 0);
        CHECK_INT(json_check(over.data, over.size, &f), -EBADMSG);
        CHECK(strstr(f.text, "too many names") != NULL);
        CHECK_INT(json_check(twice.data, twice.size, &g), -EBADMSG);
        CHECK(strstr(g.text, "given twice") != NULL);
}

/* As many open names as there can be: 16 objects, each full, each inside the last member of the one around it. Every name again on
 * every level, and then once more, which is one too many. */
static Text text_full_depth(bool twice) {
        Text t = { malloc(JSON_DEPTH_MAX * (JSON_NAMES_MAX + 1) * 16), 0 };

        if (!t.data)
                abort();
        for (int d = 0; d < JSON_DEPTH_MAX; d++) {
                t.data[t.size++] = '{';
                for (int i = 0; i < JSON_NAMES_MAX; i++)
                        t.size += (size_t) sprintf(t.data + t.size, i == JSON_NAMES_MAX - 1 ? "\"%x\":" : "\"%x\":0,", (unsigned) i);
        }
        t.data[t.size++] = '0';
        for (int d = 0; d < JSON_DEPTH_MAX; d++)
                t.data[t.size++] = '}';
        if (twice)                                              /* "3ff" of the innermost becomes "3fe", which is there */
                t.data[t.size - JSON_DEPTH_MAX - 4] = 'e';
        return t;
}

TEST(table_holds_all_open_names) {
        _cleanup_text_ Text most = text_full_depth(false), over = text_full_depth(true);
        Fault f = {}, g = {};

        if (!CHECK_INT(json_check(most.data, most.size, &f), 0))
                printf("#   %s\n", f.text);
        CHECK_INT(json_check(over.data, over.size, &g), -EBADMSG);
        CHECK(strstr(g.text, "given twice") != NULL);
}

/* ── cost ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static double seconds_for(const Text *t, int wanted) {
        struct timespec a, b;

        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        CHECK_INT(json_check(t->data, t->size, NULL), wanted);
        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        return (double) (b.tv_sec - a.tv_sec) + (double) (b.tv_nsec - a.tv_nsec) / 1e9;
}

/* 19 objects of 1000 names each, every name 1.7 KB that differs only at its end: 32 MiB in names alone. */
static int print_long_names(char *to, size_t room, size_t i) {
        char *p = to;

        for (int k = 0; k < 1000; k++) {
                *p++ = k == 0 ? '{' : ',';
                *p++ = '"';
                memset(p, 'n', 1700);
                p += 1700;
                p += sprintf(p, "%zu-%i\":1", i, k);
        }
        *p++ = '}';
        return p - to < (ptrdiff_t) room ? (int) (p - to) : 0;
}

/* The bound is some thirty times what it takes, sanitizers included; comparing every two names would take minutes. */
TEST(time_is_linear) {
        _cleanup_text_ Text names = text_repeat("[", 19, print_long_names, 1720000, "]");
        _cleanup_text_ Text string = { malloc(32 << 20), 32 << 20 };
        double a, b;

        if (!string.data)
                abort();
        memset(string.data, 'x', string.size);
        string.data[0] = string.data[string.size - 1] = '"';
        CHECK(names.size > 30 << 20);
        a = seconds_for(&names, 0);
        b = seconds_for(&string, 0);
        printf("# 32 MiB of names: %.3f s; of one string: %.3f s\n", a, b);
        CHECK(a < 10 && b < 10);
}

TEST(nothing_is_allocated) {
        _cleanup_text_ Text most = text_repeat("{", JSON_NAMES_MAX, print_member, 32, "}");
        struct mallinfo2 before, after;
        _cleanup_free_ void *probe = malloc(1000);

        CHECK(probe != NULL);                           /* so that the allocator is at work */
        before = mallinfo2();
        CHECK_INT(json_check(most.data, most.size, NULL), 0);
        after = mallinfo2();
        if (before.uordblks == 0)
                SKIP("the allocator is not glibc's (a sanitizer)");
        CHECK_INT(after.uordblks, before.uordblks);
        CHECK_INT(after.hblkhd, before.hblkhd);
}

TEST_MAIN
