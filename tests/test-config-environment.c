/* SPDX-License-Identifier: Apache-2.0 */

/* agent/config: a value of the environment is taken as one of a file is, so that config.good gives it back. */

#include "agent/config.h"
#include "base/conf.h"
#include "tests/kit.h"

/* Found by tests/fuzz/config: each was taken, and then config.good could not be read, or said something else. */
TEST(what_the_environment_says_comes_back) {
        static const char key[] = "MOLECULE_AGENT_REGISTRIES";
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL, *back = NULL;
        char value[CONF_LINE_MAX + 1];
        Fault f = {}, g = {};

        CHECK_INT(clearenv() | setenv("CONFIGURATION_DIRECTORY", d.path, 1), 0);
        CHECK_INT(setenv(key, "caf\xe9.example", 1), 0);
        CHECK(config_load(NULL, false, &c, &f) < 0 && strstr(f.text, "registries holds a control character or broken UTF-8"));
        memset(value, 'r', sizeof value - 1);
        value[CONF_LINE_MAX - strlen("registries = ")] = 0;
        CHECK_INT(setenv(key, value, 1), 0);
        CHECK_INT(config_load(NULL, false, &c, NULL), 0);
        CHECK_INT(config_save_good(d.fd, c), 0);
        if (CHECK_INT(config_load_good(d.fd, &back, NULL), 0))
                CHECK_STR(back->registries, value);
        c = config_free(c);
        back = config_free(back);
        strcat(value, "r");
        CHECK_INT(setenv(key, value, 1), 0);
        CHECK(config_load(NULL, false, &c, &g) < 0 && strstr(g.text, "registries is longer than a line may be"));
        CHECK_INT(setenv(key, " \ta.example, b.example ", 1), 0);
        CHECK_INT(config_load(NULL, false, &c, NULL), 0);
        CHECK_STR(c->registries, "a.example, b.example");
}

TEST_MAIN
