/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/record.h"
#include "base/text.h"
#include "tests/test.h"

static cJSON *sample(void) {
        cJSON *json = cJSON_CreateObject();

        if (!json_add_string(json, "workspace_id", "w1") || !json_add_u64_text(json, "floor", 17) ||
            !json_add_string(json, "state", "caf\xc3\xa9"))
                abort();
        return json;
}

static char *sample_text(size_t *ret_size) {
        _cleanup_json_ cJSON *json = sample();
        char *text = NULL;

        if (record_format("workspace", json, &text, ret_size) < 0)
                abort();
        return text;
}

/* Copies to the heap: a read beyond the end would be seen by the sanitizer. */
static int parse_copy(const char *text, size_t size, const char *kind, cJSON **ret, Fault *f) {
        _cleanup_free_ char *copy = malloc(size > 0 ? size : 1);

        if (!copy)
                abort();
        memcpy(copy, text, size);
        return record_parse(copy, size, kind, ret, f);
}

TEST(shape) {
        static const char body[] = "{\"workspace_id\":\"w1\",\"floor\":\"17\",\"state\":\"caf\xc3\xa9\"}\n";
        _cleanup_free_ char *text = NULL, *wanted = NULL;
        char digest[HASH128_TEXT_SIZE];
        size_t size = 0;

        text = sample_text(&size);
        hash128_text(body, sizeof body - 1, digest);
        wanted = str_printf("molecule-agent workspace v1 %zu %s\n%s", sizeof body - 1, digest, body);
        if (!CHECK(text && wanted))
                return;
        CHECK_STR(text, wanted);
        CHECK_INT(size, strlen(wanted));
}

TEST(there_and_back) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ cJSON *back = NULL;
        size_t size;

        text = sample_text(&size);
        CHECK_INT(parse_copy(text, size, "workspace", &back, NULL), 0);
        CHECK_INT(json_get_u64_text(back, "floor", 0), 17);
        CHECK_STR(json_get_string(back, "state"), "caf\xc3\xa9");
}

TEST(every_flipped_bit_is_seen) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        text = sample_text(&size);
        for (size_t i = 0; i < size * 8; i++) {
                cJSON *back = NULL;
                Fault f = {};
                int r;

                text[i / 8] = (char) (text[i / 8] ^ 1 << i % 8);
                r = parse_copy(text, size, "workspace", &back, &f);
                if (!CHECK(r == -EBADMSG || r == -EPROTONOSUPPORT) || !CHECK(!back) || !CHECK(f.set && f.code == FAULT_STATE_DEGRADED))
                        printf("#   bit %zu of byte %zu\n", i % 8, i / 8);
                text[i / 8] = (char) (text[i / 8] ^ 1 << i % 8);
        }
        CHECK_INT(size > 100, 1);
}

TEST(every_truncation_and_addition_is_seen) {
        _cleanup_free_ char *text = NULL;
        cJSON *back = NULL;
        char longer[512];
        size_t size;

        text = sample_text(&size);
        for (size_t n = 0; n < size; n++)
                if (!CHECK_INT(parse_copy(text, n, "workspace", &back, NULL), -EBADMSG))
                        printf("#   cut at %zu\n", n);

        memcpy(longer, text, size);
        for (int c = 0; c < 256; c++) {
                longer[size] = (char) c;
                CHECK_INT(parse_copy(longer, size + 1, "workspace", &back, NULL), -EBADMSG);
        }
        CHECK(!back);
}

/* A header that is right for the text behind it, with each part to be chosen. */
static char *forge(const char *magic, const char *kind, const char *version, const char *body) {
        char digest[HASH128_TEXT_SIZE];

        hash128_text(body, strlen(body), digest);
        return str_printf("%s %s %s %zu %s\n%s", magic, kind, version, strlen(body), digest, body);
}

TEST(the_words_say_what_is_wrong) {
        static const struct { const char *magic, *kind, *version, *body; int r; const char *words; } cases[] = {
                { "molecule-agent", "pins",      "v1",  "{}\n",            0,                 NULL },
                { "molecule-agent", "workspace", "v1",  "{}\n",            -EBADMSG,          "of kind 'workspace' instead of 'pins'" },
                { "molecule-agent", "pin",       "v1",  "{}\n",            -EBADMSG,          "of kind 'pin'" },
                { "molecule-agent", "pins",      "v2",  "{}\n",            -EPROTONOSUPPORT,  "version 2 in a state of version 1" },
                { "molecule-agent", "pins",      "v0",  "{}\n",            -EPROTONOSUPPORT,  "version 0 in a state of version 1" },
                { "molecule-agent", "pins",      "v9",  "{}\n",            -EPROTONOSUPPORT,  "version 9" },
                { "molecule-agent", "pins",      "v01", "{}\n",            -EBADMSG,          "damaged" },
                { "molecule-agent", "pins",      "1",   "{}\n",            -EBADMSG,          "not a record" },
                { "another-agent",  "pins",      "v1",  "{}\n",            -EBADMSG,          "not a record" },
                { "molecule-agent", "pins",      "v1",  "{}",              -EBADMSG,          "end with a newline" },
                { "molecule-agent", "pins",      "v1",  "",                -EBADMSG,          "end with a newline" },
                { "molecule-agent", "pins",      "v1",  "{\n",             -EBADMSG,          "inside the record: not valid JSON" },
                { "molecule-agent", "pins",      "v1",  "{\"a\":1,\"a\":2}\n", -EBADMSG,      "given twice" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *text = forge(cases[i].magic, cases[i].kind, cases[i].version, cases[i].body);
                _cleanup_json_ cJSON *back = NULL;
                Fault f = {};

                if (!CHECK_INT(parse_copy(text, strlen(text), "pins", &back, &f), cases[i].r) ||
                    !CHECK(f.set == (cases[i].r < 0)) || !CHECK((back != NULL) == (cases[i].r == 0)) ||
                    (cases[i].words && !CHECK(strstr(f.text, cases[i].words) != NULL)))
                        printf("#   %s#   %s\n", text, f.text);
        }
}

TEST(no_header_line) {
        char many[4096];
        cJSON *back = NULL;
        Fault f = {};

        memset(many, 'x', sizeof many);
        CHECK_INT(parse_copy(many, sizeof many, "pins", &back, &f), -EBADMSG);
        CHECK_STR(f.text, "the record has no header line");
        CHECK(!back);
}

TEST(what_cannot_be_read_back_is_not_made) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        char *text = NULL;
        size_t size = 99;

        CHECK(json_add_string(json, "log", "broken \xff"));
        CHECK_INT(record_format("pins", json, &text, &size), -EBADMSG);
        CHECK(!text && size == 99);
}

TEST(on_disk) {
        char path[] = P_tmpdir "/test-record.XXXXXX";
        _cleanup_json_ cJSON *json = sample(), *back = NULL;
        cJSON *none = NULL;
        _cleanup_close_ int dir = -1, file = -1;
        Fault f = {}, g = {}, h = {}, k = {};

        CHECK(mkdtemp(path) != NULL);
        dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK_INT(record_read(dir, "w1", "workspace", 4096, &none, &f), -ENOENT);
        CHECK(!f.set && !none);

        CHECK_INT(record_write(dir, "w1", "workspace", json, &f), 0);
        CHECK_INT(record_read(dir, "w1", "workspace", 4096, &back, &f), 0);
        CHECK_STR(json_get_string(back, "workspace_id"), "w1");

        CHECK_INT(record_read(dir, "w1", "pins", 4096, &none, &f), -EBADMSG);
        CHECK_STR(f.text, "record 'w1': a record of kind 'workspace' instead of 'pins'");
        CHECK_INT(record_read(dir, "w1", "workspace", 20, &none, &g), -EBADMSG);
        CHECK_INT(g.code, FAULT_STATE_DEGRADED);

        file = openat(dir, "w1", O_WRONLY | O_APPEND | O_CLOEXEC);
        CHECK_INT(write(file, "\n", 1), 1);
        CHECK_INT(record_read(dir, "w1", "workspace", 4096, &none, &h), -EBADMSG);
        CHECK(!none);

        CHECK_INT(record_write(dir, "no/where", "workspace", json, &k), -EINVAL);
        CHECK_INT(k.code, FAULT_STATE_DEGRADED);
        CHECK_INT(file_remove(dir, "w1"), 0);
        CHECK_INT(rmdir(path), 0);
}

TEST(one_version_back) {
        char path[] = "/tmp/test-record-XXXXXX";
        _cleanup_json_ cJSON *json = cJSON_CreateObject(), *back = NULL;
        _cleanup_close_ int dir = mkdtemp(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

        CHECK(json_add_string(json, "a", "b"));
        record_set_version(RECORD_VERSION - 1);
        CHECK_INT(record_write(dir, "r", "pins", json, NULL), 0);
        CHECK_INT(record_version_of(dir, "r", 4096), RECORD_VERSION - 1);
        CHECK_INT(record_read(dir, "r", "pins", 4096, &back, NULL), 0);
        record_set_version(RECORD_VERSION);
        CHECK_STR(json_get_string(back, "a"), "b");
        CHECK_INT(record_rewrite(dir, "r", 4096), 0);
        CHECK_INT(record_version_of(dir, "r", 4096), RECORD_VERSION);
        CHECK_INT(record_rewrite(dir, "r", 4096), 0);
        CHECK_INT(record_version_of(dir, "absent", 4096), -ENOENT);
        CHECK_INT(file_write_atomic(dir, "r", "molecule-agent pins v9 3 0\n{}\n", 30), 0);
        CHECK_INT(record_version_of(dir, "r", 4096), -EBADMSG);         /* a flipped bit in the version is damage, not the future */
        CHECK_INT(record_rewrite(dir, "r", 4096), -EBADMSG);
        CHECK_INT(file_write_atomic(dir, "r", "no line", 7), 0);
        CHECK_INT(record_version_of(dir, "r", 4096), -EBADMSG);
        CHECK_INT(file_write_atomic(dir, "r", "no record\n{}\n", 13), 0);
        CHECK_INT(record_version_of(dir, "r", 4096), -EBADMSG);
        CHECK_INT(file_remove(dir, "r"), 0);
        CHECK_INT(rmdir(path), 0);
}

/* A file that grew: one bad record must not stop the others, as one that cannot be read would. */
TEST(larger_than_any_record_is_damage) {
        char path[] = "/tmp/test-record-XXXXXX", text[4097];
        _cleanup_close_ int dir = mkdtemp(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        cJSON *none = NULL;
        Fault f = {};

        memset(text, ' ', sizeof text);
        CHECK_INT(file_replace(dir, "r", text, sizeof text, 0600), 0);
        CHECK_INT(record_read(dir, "r", "pins", sizeof text - 1, &none, &f), -EBADMSG);
        CHECK(!none && strstr(f.text, "larger than 4096 bytes"));
        CHECK_INT(file_remove(dir, "r"), 0);
        CHECK_INT(rmdir(path), 0);
}

/* Found by tests/fuzz/record: the copy ended at the NUL, and what lay behind it in memory was written. */
TEST(rewriting_keeps_a_body_that_is_no_text) {
        static const char body[] = "{\0}\n";
        char path[] = "/tmp/test-record-XXXXXX", digest[HASH128_TEXT_SIZE];
        _cleanup_free_ char *text = NULL, *back = NULL;
        _cleanup_close_ int dir = mkdtemp(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        size_t n, size;

        hash128_text(body, 4, digest);
        text = str_printf("molecule-agent pins v1 4 %s\n    ", digest);
        if (!CHECK(text))
                return;
        n = strlen(text) - 4;
        memcpy(text + n, body, 4);
        CHECK_INT(file_replace(dir, "r", text, n + 4, 0600), 0);
        record_set_version(RECORD_VERSION - 1);
        CHECK_INT(record_rewrite(dir, "r", 4096), 0);
        record_set_version(RECORD_VERSION);
        CHECK_INT(record_rewrite(dir, "r", 4096), 0);
        CHECK_INT(file_read(dir, "r", 4096, &back, &size), 0);
        CHECK(size == n + 4 && memcmp(back, text, size) == 0);
        CHECK_INT(file_remove(dir, "r"), 0);
        CHECK_INT(rmdir(path), 0);
}

/* In a state of the version before, a damaged record of that version is damage and not the future. */
TEST(damage_in_a_state_of_the_version_before) {
        char text[] = "molecule-agent pins v0 3 00000000000000000000000000000000\n{}\n";
        cJSON *back = NULL;
        Fault f = {}, g = {};

        CHECK_INT(parse_copy(text, strlen(text), "pins", &back, &f), -EPROTONOSUPPORT);
        record_set_version(RECORD_VERSION - 1);
        CHECK_INT(record_version(), RECORD_VERSION - 1);
        CHECK_INT(parse_copy(text, strlen(text), "pins", &back, &g), -EBADMSG);
        record_set_version(RECORD_VERSION);
        CHECK(strstr(g.text, "damaged") != NULL);
}

TEST_MAIN
