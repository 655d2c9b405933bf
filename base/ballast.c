/* SPDX-License-Identifier: Apache-2.0 */

/* posix_fallocate() reserves the blocks without writing them; the fsync of the directory after unlinking makes the file system give them back at
 * once, not with its next commit. */

#include "base/ballast.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NAME "ballast"

/* Static, since each write of a file has to find it. */
static struct {
        int dirfd;
        bool there, out;
} b = { .dirfd = -1 };

static bool is_whole(int fd) {
        struct stat st;
        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == (off_t) BALLAST_BYTES && (size_t) st.st_blocks * 512 >= BALLAST_BYTES;
}

int ballast_make(int dirfd) {
        _cleanup_close_ int fd = -1;
        int r;

        b.dirfd = dirfd;
        if (b.there)
                return 0;
        fd = openat(dirfd, NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                r = -errno;
        else if (is_whole(fd))
                r = 0;
        else
                r = ftruncate(fd, 0) < 0 ? -errno : -posix_fallocate(fd, 0, (off_t) BALLAST_BYTES);
        b.there = r == 0;
        b.out = r == -ENOSPC;
        if (r < 0)
                (void) unlinkat(dirfd, NAME, 0);
        return r;
}

bool ballast_release(void) {
        if (!b.there || unlinkat(b.dirfd, NAME, 0) < 0)
                return false;
        b.there = false;
        b.out = true;
        return fsync(b.dirfd) == 0;
}

bool ballast_is_out(void) { return b.out; }
