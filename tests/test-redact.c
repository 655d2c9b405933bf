/* SPDX-License-Identifier: Apache-2.0 */

/* provision/redact: what a container said, without the values that it was given. */

#include <string.h>

#include "base/hash.h"
#include "provision/redact.h"
#include "tests/kit.h"

static Arena *arena;

static void add(SecretSet *set, const char *name, const char *value) {
        CHECK_INT(secret_set_add(set, name, secret_new(arena, value, strlen(value))), 0);
}

/* What is left of text; the set has one secret. */
static const char *redacted(const char *value, const char *text) {
        _cleanup_(secret_set_done) SecretSet set = {};
        static char out[4096];

        if (value)
                add(&set, "API_TOKEN", value);
        (void) snprintf(out, sizeof out, "%s", text);
        CHECK_INT(redact(&set, out, strlen(out)), (int64_t) strlen(out));
        return out;
}

TEST(before_all) {
        CHECK_INT(hash_init(), 0);
        CHECK_INT(arena_new(1024 * 1024, true, &arena, NULL), 0);
}

TEST(a_value_goes_wherever_it_stands) {
        CHECK_STR(redacted("canary-1", "canary-1"), "***");
        CHECK_STR(redacted("canary-1", "xcanary-1canary-1y canary-"), "x******y canary-");
        CHECK_STR(redacted("canary-1", ""), "");
        CHECK_STR(redacted(NULL, "nothing was given"), "nothing was given");
}

TEST(also_in_base64_and_without_its_last_line_end) {
        CHECK_STR(redacted("canary-value-22", "auth: Y2FuYXJ5LXZhbHVlLTIy."), "auth: ***.");
        CHECK_STR(redacted("canary-1\n", "it is canary-1."), "it is ***.");
}

TEST(a_value_of_several_lines_goes_line_by_line) {
        CHECK_STR(redacted("-----BEGIN-----\nMIIEvQIBADANBg\n", "log: MIIEvQIBADANBg\n"), "log: ***\n");
}

TEST(short_values_are_words_of_the_language) {
        CHECK_STR(redacted("yes", "yes, yes"), "yes, yes");
        CHECK_STR(redacted("1234", "at 1234"), "at ***");
}

TEST(what_is_assigned_to_a_secret_s_name_goes_whoever_gave_it) {
        CHECK_STR(redacted(NULL, "DB_PASSWORD=hunter22 USER=me"), "DB_PASSWORD=*** USER=me");
        CHECK_STR(redacted(NULL, "\"api_key\": \"abcdef\", \"page\": \"abcdef\""), "\"api_key\": \"***\", \"page\": \"abcdef\"");
        CHECK_STR(redacted(NULL, "TOKEN: s3cr3t\n"), "TOKEN: ***\n");
}

TEST(nothing_of_the_terminal_gets_through) {
        CHECK_STR(redacted(NULL, "a\033[31mred\a\tb\n"), "a?[31mred?\tb\n");
        CHECK_STR(redacted(NULL, "\xff\xc3\xa9\xc3"), "?\xc3\xa9?");
}

TEST(the_tail_begins_with_a_line_where_one_is_near) {
        const char *text = "first line\nsecond line\nthird";

        CHECK_STR(text_tail(text, strlen(text), 100), text);
        CHECK_STR(text_tail(text, strlen(text), 18), "second line\nthird");
        CHECK_STR(text_tail(text, strlen(text), 16), "econd line\nthird");
        CHECK_STR(text_tail("0123456789", 10, 4), "6789");
        CHECK_STR(text_tail("ab\xc3\xa9xy", 6, 3), "xy");
}

TEST(after_all) {
        arena_free(arena);
        CHECK(true);
}

TEST_MAIN
