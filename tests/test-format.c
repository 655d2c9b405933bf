/* SPDX-License-Identifier: Apache-2.0 */

/* State of the former version is kept as that reads it until the upgrade has been well for a while; then all of it is ours. */

#include "agent/format.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/record.h"
#include "tests/kit.h"
#include "tests/test.h"

static const struct { const char *dir, *name; } records[] = { { ".", "identity" }, { ".", "pins" }, { "ws", "a" }, { "outbox", "b" } };

static void fill(const TestDir *d, unsigned version) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        CHECK(mkdirat(d->fd, "ws", 0700) == 0 && mkdirat(d->fd, "outbox", 0700) == 0);
        record_set_version(version);
        for (size_t i = 0; i < ELEMENTS(records); i++) {
                _cleanup_close_ int fd = openat(d->fd, records[i].dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

                CHECK_INT(record_write(fd, records[i].name, "thing", json, NULL), 0);
                CHECK_INT(file_write_atomic(fd, "a.g1.payload", "sealed", 6), 0);
        }
        record_set_version(RECORD_VERSION);
}

static void all_are(const TestDir *d, unsigned version) {
        for (size_t i = 0; i < ELEMENTS(records); i++) {
                _cleanup_close_ int fd = openat(d->fd, records[i].dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

                CHECK_INT(record_version_of(fd, records[i].name, 4096), (int) version);
        }
}

TEST(an_upgrade_is_finished_once_it_was_well_for_long_enough) {
        _cleanup_(test_dir_done) TestDir d = test_dir();

        fill(&d, RECORD_VERSION - 1);
        CHECK_INT(format_open(d.fd, NULL), 1);
        CHECK_INT(record_version(), RECORD_VERSION - 1);
        format_tick(d.fd, 0, false);
        all_are(&d, RECORD_VERSION - 1);
        format_tick(d.fd, 3600, true);
        all_are(&d, RECORD_VERSION - 1);
        CHECK_INT(record_version_of(d.fd, "format", 4096), RECORD_VERSION - 1);
        format_tick(d.fd, 0, true);
        all_are(&d, RECORD_VERSION);
        CHECK_INT(record_version(), RECORD_VERSION);
        CHECK_INT(faccessat(d.fd, "format", F_OK, 0), -1);
        CHECK_INT(format_open(d.fd, NULL), 0);
        CHECK_INT(record_version(), RECORD_VERSION);
}

TEST(a_fresh_state_and_ours_need_nothing) {
        _cleanup_(test_dir_done) TestDir d = test_dir();

        CHECK_INT(format_open(d.fd, NULL), 0);
        CHECK_INT(record_version(), RECORD_VERSION);
        format_tick(d.fd, 0, true);
        CHECK_INT(faccessat(d.fd, "format", F_OK, 0), -1);
}

TEST(what_a_newer_agent_has_finished_is_left_alone) {
        _cleanup_(test_dir_done) TestDir d = test_dir();
        Fault why = {};

        fill(&d, RECORD_VERSION + 1);
        CHECK_INT(format_open(d.fd, &why), -EPROTONOSUPPORT);
        CHECK(strstr(why.text, "Install the newer one") != NULL);
        all_are(&d, RECORD_VERSION + 1);
}

TEST_MAIN
