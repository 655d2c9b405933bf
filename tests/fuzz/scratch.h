/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A directory for the targets whose parser reads files: one for the process, in memory where there is room, gone at its end (of a process that a finding ends, the
 * runner's TMPDIR goes). */

#include "tests/kit.h"

static TestDir scratch_dir = { .fd = -1 };

static void scratch_done(void) { test_dir_done(&scratch_dir); }

static int scratch(void) {
        const char *in = getenv("TMPDIR");

        if (scratch_dir.fd >= 0)
                return scratch_dir.fd;
        if (!in || snprintf(scratch_dir.path, sizeof scratch_dir.path, "%s/XXXXXX", in) >= (int) sizeof scratch_dir.path || !mkdtemp(scratch_dir.path))
                scratch_dir = test_dir();
        else
                scratch_dir.fd = open(scratch_dir.path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        if (scratch_dir.fd < 0)
                abort();
        (void) atexit(scratch_done);
        return scratch_dir.fd;
}
