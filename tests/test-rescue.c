/* SPDX-License-Identifier: Apache-2.0 */

/* provision/rescue: where a log that was cut begins. */

#include <string.h>

#include "provision/rescue.h"
#include "tests/test.h"

static size_t cut(const char *text, size_t max) { return rescue_cut(text, strlen(text), max); }

TEST(a_whole_log_is_left_whole) {
        CHECK_INT(cut("", 10), 0);
        CHECK_INT(cut("one\ntwo\n", 9), 0);
        CHECK_INT(cut("no line end", 100), 0);
}

TEST(the_rest_of_a_line_that_was_cut_is_left_out) {
        CHECK_INT(cut("et-value\nnext\n", 14), 9);
        CHECK_INT(cut("\nnext\n", 6), 1);
}

TEST(one_line_without_an_end_is_left_out_whole) {
        CHECK_INT(cut("of-a-secret", 11), 11);
        CHECK_INT(cut("x", 1), 1);
}

TEST_MAIN
