/* SPDX-License-Identifier: Apache-2.0 */

/* Replacing a file so that a crash at any instant leaves the old one or the new one. The order write, fsync, rename, fsync of the directory
 * is what makes it so; O_TMPFILE would not do, for linkat() cannot replace a name. After a failed fsync the descriptor is
 * never asked again: the kernel has dropped the pages and would say that all is well. */

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define NONCE_DIGITS 16

static int name_check(const char *name) {
        size_t n = strlen(name);

        if (n == 0 || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return -EINVAL;
        return n > NAME_MAX ? -ENAMETOOLONG : 0;
}

static int temp_name(const char *name, char ret[static NAME_MAX + 1]) {
        uint64_t nonce;

        if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce)
                return -EIO;
        if (snprintf(ret, NAME_MAX + 1, ".%s.%016jx", name, (uintmax_t) nonce) > NAME_MAX)
                return -ENAMETOOLONG;
        return 0;
}

/* The shape that temp_name() makes. */
static bool is_temp_name(const char *name) {
        size_t n = strlen(name);
        const char *nonce = name + n - NONCE_DIGITS;

        return n >= NONCE_DIGITS + 3 && name[0] == '.' && nonce[-1] == '.' && strspn(nonce, "0123456789abcdef") == NONCE_DIGITS;
}

static int write_full(int fd, const char *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                data += n;
                size -= (size_t) n;
        }
        return 0;
}

/* Takes fd and closes it whatever happens. */
static int fill_and_close(int fd, const void *data, size_t size) {
        int r = write_full(fd, data, size);

        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        if (close(fd) < 0 && r == 0)
                r = -errno;
        return r;
}

static int sync_dir(int dirfd) {
        return fsync(dirfd) < 0 ? -errno : 0;
}

int file_write_atomic(int dirfd, const char *name, const void *data, size_t size) {
        char temp[NAME_MAX + 1];
        int fd, r;

        r = name_check(name);
        if (r < 0)
                return r;
        r = temp_name(name, temp);
        if (r < 0)
                return r;
        fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;

        r = fill_and_close(fd, data, size);
        if (r == 0 && renameat(dirfd, temp, dirfd, name) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlinkat(dirfd, temp, 0);
                return r;
        }
        return sync_dir(dirfd);
}

/* O_NONBLOCK: opening a fifo would wait for its writer. */
static int open_regular(int dirfd, const char *name, int nofollow, size_t *ret_size) {
        _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | nofollow | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -EBADFD;
        *ret_size = (size_t) st.st_size;
        return TAKE_FD(fd);
}

/* Reads on until the end, or one byte more than max. *ret_size may come out as max + 1. */
static int read_up_to(int fd, size_t expected, size_t max, char **ret, size_t *ret_size) {
        _cleanup_free_ char *data = NULL;
        size_t used = 0, room = expected;

        for (;;) {
                char *larger;
                ssize_t n;

                if (!data || used > room) {
                        room = data ? room * 2 + 4096 : room;
                        room = room < max ? room : max;
                        larger = realloc(data, room + 2);       /* one to notice that there is more, one for NUL */
                        if (!larger)
                                return -ENOMEM;
                        data = larger;
                }
                n = read(fd, data + used, room + 1 - used);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                used += (size_t) n;
                if (n == 0 || used > max)
                        break;
        }
        data[used] = 0;
        *ret = TAKE_PTR(data);
        *ret_size = used;
        return 0;
}

/* Owns fd. */
static int read_regular(int fd, size_t size, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int own = fd;
        _cleanup_free_ char *data = NULL;
        int r;

        max = max < SSIZE_MAX / 4 ? max : SSIZE_MAX / 4;
        if (size > max)
                return -EFBIG;
        r = read_up_to(own, size, max, &data, &size);
        if (r < 0)
                return r;
        if (size > max)
                return -EFBIG;
        *ret = TAKE_PTR(data);
        *ret_size = size;
        return 0;
}

int file_read(int dirfd, const char *name, size_t max, char **ret, size_t *ret_size) {
        size_t size = 0;
        int fd, r;

        r = name_check(name);
        if (r < 0)
                return r;
        fd = open_regular(dirfd, name, O_NOFOLLOW, &size);
        return fd < 0 ? fd : read_regular(fd, size, max, ret, ret_size);
}

int file_read_path(const char *path, size_t max, char **ret, size_t *ret_size) {
        size_t size = 0;
        int fd = open_regular(AT_FDCWD, path, 0, &size);

        return fd < 0 ? fd : read_regular(fd, size, max, ret, ret_size);
}

/* The directory is synced also when the name was gone already: the crash that made us come again may have come before its fsync. */
int file_remove(int dirfd, const char *name) {
        int r = name_check(name);

        if (r < 0)
                return r;
        if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
                return -errno;
        return sync_dir(dirfd);
}

int file_open_dir(int dirfd, const char *name) {
        int fd, r;

        r = name_check(name);
        if (r < 0)
                return r;
        if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        r = sync_dir(dirfd);
        if (r < 0)
                return r;
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

typedef struct Names { struct dirent **items; int n; } Names;

static void names_done(Names *l) {
        for (int i = 0; i < l->n; i++)
                free(l->items[i]);
        free(l->items);
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_ours_to_sweep(const struct dirent *d) {
        return is_temp_name(d->d_name);
}

static int is_visible(const struct dirent *d) {
        return d->d_name[0] != '.';
}

static int names_read(int dirfd, int (*filter)(const struct dirent *), Names *ret) {
        ret->n = scandirat(dirfd, ".", &ret->items, filter, by_bytes);
        return ret->n < 0 ? -errno : 0;
}

int file_sweep_temp(int dirfd) {
        _cleanup_(names_done) Names l = {};
        int r, swept = 0;

        r = names_read(dirfd, is_ours_to_sweep, &l);
        if (r < 0)
                return r;
        for (int i = 0; i < l.n; i++)
                if (unlinkat(dirfd, l.items[i]->d_name, 0) == 0)
                        swept++;
        return swept;
}

int file_each(int dirfd, int (*fn)(int dirfd, const char *name, void *userdata), void *userdata) {
        _cleanup_(names_done) Names l = {};
        int r;

        r = names_read(dirfd, is_visible, &l);
        if (r < 0)
                return r;
        for (int i = 0; i < l.n; i++) {
                struct stat st;

                if (fstatat(dirfd, l.items[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                        if (errno == ENOENT)
                                continue;
                        return -errno;                  /* what cannot be looked at is not absent */
                }
                if (!S_ISREG(st.st_mode))
                        continue;
                r = fn(dirfd, l.items[i]->d_name, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}
