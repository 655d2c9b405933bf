/* SPDX-License-Identifier: Apache-2.0 */

/* base/names: whatever the order they come in, each is found, and nothing else. */

#include <stdio.h>
#include <string.h>

#include "base/names.h"
#include "tests/test.h"

#define MANY 1000

TEST(each_is_found_and_nothing_else) {
        static char texts[MANY][16];
        static Name names[MANY];

        for (size_t n = 0; n <= MANY; n = n * 3 + 1) {
                for (size_t i = 0; i < n; i++) {
                        (void) snprintf(texts[i], sizeof texts[i], "%zu", i * 7919 % MANY * 2);        /* 7919 is prime: each even number once */
                        names[i] = (Name) { texts[i], i };
                }
                names_sort(names, n);
                for (size_t i = 0; i < n; i++) {
                        const Name *found = names_find(names, n, texts[i]);

                        CHECK(found && found->at == i);
                }
                CHECK(!names_find(names, n, "1") && !names_find(names, n, "") && !names_find(names, n, "99999") && !names_find(names, n, NULL));
        }
}

TEST(of_none_none_is_found) {
        names_sort(NULL, 0);
        CHECK(!names_find(NULL, 0, "a"));
}

TEST(of_equal_ones_one_is_found) {
        Name names[] = { { "b", 1 }, { "a", 2 }, { "b", 3 } };

        names_sort(names, 3);
        CHECK_INT(names_find(names, 3, "a")->at, 2);
        CHECK(names_find(names, 3, "b")->at != 2);
}

TEST_MAIN
