/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ballast.h"
#include "base/file.h"
#include "tests/test.h"

#define DISK "size=20m" /* the ballast and 4 MiB */

static int disk = -1; /* a file system of our own; one for all tests, as the ballast is */

static bool mounted(void) {
        static char path[] = P_tmpdir "/test-ballast.XXXXXX";

        if (disk >= 0)
                return true;
        if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0 || !mkdtemp(path))
                return false;
        if (mount(NULL, "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 || mount("tmpfs", path, "tmpfs", 0, DISK) < 0)
                return false;
        disk = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return disk >= 0;
}

static off_t size_of(const char *name) {
        struct stat st;
        return fstatat(disk, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : -1;
}

static void fill(const char *name) {
        static const char block[4096];
        _cleanup_close_ int fd = openat(disk, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        CHECK(fd >= 0);
        while (write(fd, block, sizeof block) == (ssize_t) sizeof block)
                ;
        CHECK_INT(errno, ENOSPC);
}

TEST(nothing_before_it_is_made) {
        CHECK(!ballast_release());
        CHECK(!ballast_is_out());
}

TEST(made_once_and_whole) {
        struct stat before, after;

        if (!mounted())
                SKIP("no file system of its own to be had");
        CHECK_INT(ballast_make(disk), 0);
        CHECK_INT(size_of("ballast"), BALLAST_BYTES);
        CHECK_INT(fstatat(disk, "ballast", &before, 0), 0);
        CHECK_INT(before.st_mode & 07777, 0600);
        CHECK((size_t) before.st_blocks * 512 >= BALLAST_BYTES);
        CHECK_INT(ballast_make(disk), 0);
        CHECK_INT(fstatat(disk, "ballast", &after, 0), 0);
        CHECK_INT(before.st_ino, after.st_ino);
        CHECK(!ballast_is_out());
}

TEST(given_up_for_a_write) {
        char big[64 * 1024] = "x";

        if (!mounted())
                SKIP("no file system of its own to be had");
        fill("other");
        CHECK_INT(file_write_atomic(disk, "outcome", big, sizeof big), 0);
        CHECK_INT(size_of("outcome"), sizeof big);
        CHECK_INT(size_of("ballast"), -1);
        CHECK(ballast_is_out());
}

TEST(no_room_for_it) {
        if (!mounted())
                SKIP("no file system of its own to be had");
        fill("more");
        CHECK_INT(ballast_make(disk), -ENOSPC);
        CHECK_INT(size_of("ballast"), -1);
        CHECK(ballast_is_out());
        CHECK_INT(file_write_atomic(disk, "late", "x", 1), -ENOSPC);
        CHECK_INT(size_of("late"), -1);
}

TEST(room_again) {
        if (!mounted())
                SKIP("no file system of its own to be had");
        CHECK_INT(unlinkat(disk, "other", 0), 0);
        CHECK_INT(unlinkat(disk, "more", 0), 0);
        CHECK_INT(ballast_make(disk), 0);
        CHECK(!ballast_is_out());
        CHECK_INT(size_of("ballast"), BALLAST_BYTES);
        CHECK(ballast_release());
        CHECK(!ballast_release());
}

TEST(a_strangers_file_gives_way) {
        if (!mounted())
                SKIP("no file system of its own to be had");
        CHECK_INT(symlinkat("outcome", disk, "ballast"), 0);
        CHECK(ballast_make(disk) < 0);
        CHECK_INT(size_of("ballast"), -1); /* the link is gone, what it named is not */
        CHECK(size_of("outcome") > 0);
        CHECK_INT(ballast_make(disk), 0);
}

TEST_MAIN
