/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "base/fault.h"
#include "tests/test.h"

TEST(words_are_kept_once) {
        Fault f = {};

        CHECK_INT(fault(&f, -ENOENT, FAULT_BAD_PATH, "file '%s': %m", "a"), -ENOENT);
        CHECK(f.set);
        CHECK_INT(f.code, FAULT_BAD_PATH);
        CHECK_STR(f.text, "file 'a': No such file or directory");

        CHECK_INT(fault(&f, -EIO, FAULT_INTERNAL, "later"), -EIO);
        CHECK_INT(f.code, FAULT_BAD_PATH);
        CHECK_STR(f.text, "file 'a': No such file or directory");
}

TEST(null_is_fine) {
        CHECK_INT(fault(NULL, -EIO, FAULT_INTERNAL, "x"), -EIO);
        CHECK_INT(fault_prefix(NULL, -EIO, "x"), -EIO);
}

TEST(words_are_printable) {
        Fault f = {};

        (void) fault(&f, -EINVAL, FAULT_INTERNAL, "a\nb\x1b[0m\x7f caf\xc3\xa9 \xff \xc3");
        CHECK_STR(f.text, "a?b?[0m? caf\xc3\xa9 ? ?");
}

TEST(long_words_are_cut_and_stay_utf8) {
        char many[sizeof ((Fault *) NULL)->text + 10];
        Fault f = {};

        memset(many, 'x', sizeof many);
        memcpy(many + sizeof f.text - 2, "\xc3\xa9", 2);        /* its first byte is the last that fits */
        many[sizeof many - 1] = 0;
        (void) fault(&f, -EINVAL, FAULT_INTERNAL, "%s", many);
        CHECK_INT(strlen(f.text), sizeof f.text - 1);
        CHECK_INT(f.text[sizeof f.text - 2], '?');
}

TEST(prefix) {
        Fault f = {};

        CHECK_INT(fault_prefix(&f, -EIO, "early"), -EIO);
        CHECK(!f.set);

        (void) fault(&f, -EIO, FAULT_NO_SPACE, "no room");
        CHECK_INT(fault_prefix(&f, -EIO, "volume '%s'", "v"), -EIO);
        CHECK_STR(f.text, "volume 'v': no room");
        (void) fault_prefix(&f, -EIO, "while seeding: ");
        CHECK_STR(f.text, "while seeding: volume 'v': no room");
        CHECK_INT(f.code, FAULT_NO_SPACE);
}

TEST(prefix_cuts_the_end) {
        char many[sizeof ((Fault *) NULL)->text];
        Fault f = {};

        memset(many, 'y', sizeof many - 1);
        many[sizeof many - 1] = 0;
        (void) fault(&f, -EIO, FAULT_INTERNAL, "%s", many);
        (void) fault_prefix(&f, -EIO, "front");
        CHECK_INT(strlen(f.text), sizeof f.text - 1);
        CHECK(strncmp(f.text, "front: yyy", 10) == 0);
        (void) fault_prefix(&f, -EIO, "%s", many);
        CHECK_INT(strlen(f.text), sizeof f.text - 1);
        CHECK_INT(f.text[0], 'y');
}

TEST(every_code_has_its_row) {
        for (FaultCode c = 0; c < _FAULT_CODE_MAX; c++) {
                FaultCode found = _FAULT_CODE_MAX;

                CHECK(*fault_code_name(c) && *fault_code_meaning(c) && *fault_code_advice(c));
                CHECK_INT(fault_code_find(fault_code_name(c), &found), 0);
                CHECK_INT(found, c);                            /* hence no name twice */
        }
}

TEST(codes) {
        FaultCode c = FAULT_HELD;

        CHECK_STR(fault_code_name(FAULT_RUNTIME_PIN_MISSING), "RUNTIME_PIN_MISSING");
        CHECK_STR(fault_code_name(FAULT_BAD_JSON), "bad_json");
        CHECK_STR(fault_code_name((FaultCode) 9999), "internal");
        CHECK_STR(fault_code_name((FaultCode) -1), "internal");
        CHECK(fault_code_retryable(FAULT_ENGINE_UNREACHABLE));
        CHECK(!fault_code_retryable(FAULT_BAD_JSON));
        CHECK_INT(fault_code_find("no_such_code", &c), -ENOENT);
        CHECK_INT(fault_code_find(NULL, &c), -ENOENT);
        CHECK_INT(c, FAULT_HELD);
}

TEST_MAIN
