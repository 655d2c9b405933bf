/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tests that speak TAP. TEST(name) { … } registers itself; TEST_MAIN runs all in the order of the file. A failed CHECK prints where and
 * what, marks the test and goes on; SKIP(reason) leaves the test. A test that checked nothing has failed. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* Under an address sanitizer, which has its own allocator and lets no memory be locked. */
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define UNDER_SANITIZER true
#endif
#endif
#if !defined(UNDER_SANITIZER) && defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER true
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER false
#endif

static struct { const char *name; void (*run)(void); } test_list[200];
static int test_count, test_checks, test_failures;      /* the last two: of the test that runs */
static const char *test_skipped;

static inline void test_register(const char *name, void (*run)(void)) {
        if (test_count == (int) ELEMENTS(test_list))
                abort();
        test_list[test_count].name = name;
        test_list[test_count++].run = run;
}

#define TEST(name) \
        static void test_##name(void); \
        __attribute__((constructor)) static void test_register_##name(void) { test_register(#name, test_##name); } \
        static void test_##name(void)

#define SKIP(reason) do { test_skipped = (reason); return; } while (0)

static inline bool test_check(bool good, const char *file, int line, const char *what) {
        test_checks++;
        test_failures += !good;
        if (!good)
                printf("# %s:%d: %s\n", file, line, what);
        return good;
}

#define CHECK(expr) test_check((expr) ? true : false, __FILE__, __LINE__, #expr)
#define CHECK_STR(a, b) ({ \
        const char *_a = (a), *_b = (b); \
        bool _good = test_check(_a && _b ? strcmp(_a, _b) == 0 : _a == _b, __FILE__, __LINE__, #a " is " #b); \
        if (!_good) printf("#   '%s' is not '%s'\n", _a ?: "(null)", _b ?: "(null)"); \
        _good; })

#define CHECK_INT(a, b) ({ \
        intmax_t _x = (intmax_t) (a), _y = (intmax_t) (b); \
        bool _good = test_check(_x == _y, __FILE__, __LINE__, #a " is " #b); \
        if (!_good) printf("#   %jd is not %jd\n", _x, _y); \
        _good; })
static inline int test_run_all(void) {
        int bad = 0;
        for (int i = 0; i < test_count; i++) {
                bool good;
                test_checks = test_failures = 0;
                test_skipped = NULL;
                test_list[i].run();
                good = test_failures == 0 && (test_checks > 0 || test_skipped);
                bad += !good;
                printf("%s %d - %s", good ? "ok" : "not ok", i + 1, test_list[i].name);
                printf("%s%s\n", test_skipped ? " # SKIP " : "", test_skipped ?: "");
                fflush(stdout);
        }
        printf("1..%d\n", test_count);
        return bad > 0;
}

#define TEST_MAIN int main(void) { return test_run_all(); }
