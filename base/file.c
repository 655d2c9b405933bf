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

#include "base/ballast.h"

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

int file_write_full(int fd, const void *bytes, size_t size) {
        const char *data = bytes;

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

/* Takes fd and closes it whatever happens. The mode is set here and not by the name, which may be somebody else's by then where others may write
 * to the directory. */
static int fill_and_close(int fd, const void *data, size_t size, mode_t mode, bool durable) {
        int r = file_write_full(fd, data, size);

        if (r == 0 && mode != 0600 && fchmod(fd, mode) < 0)
                r = -errno;
        if (r == 0 && durable && fsync(fd) < 0)
                r = -errno;
        if (close(fd) < 0 && r == 0)
                r = -errno;
        return r;
}

static int sync_dir(int dirfd) {
        return TEMP_FAILURE_RETRY(fsync(dirfd)) < 0 ? -errno : 0;
}

static int write_once(int dirfd, const char *name, const void *data, size_t size, mode_t mode, bool durable) {
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

        r = fill_and_close(fd, data, size, mode, durable);
        if (r == 0 && renameat(dirfd, temp, dirfd, name) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlinkat(dirfd, temp, 0);
                return r;
        }
        return durable ? sync_dir(dirfd) : 0;
}

int file_write_atomic(int dirfd, const char *name, const void *data, size_t size) {
        int r = write_once(dirfd, name, data, size, 0600, true);
        bool again = r == -EINTR || (r == -ENOSPC && ballast_release());        /* a new file: the one whose sync failed is not asked again */

        return again ? write_once(dirfd, name, data, size, 0600, true) : r;
}

int file_replace(int dirfd, const char *name, const void *data, size_t size, mode_t mode) {
        return write_once(dirfd, name, data, size, mode, false);
}

/* O_NONBLOCK: opening a fifo would wait for its writer. */
static int open_regular(int dirfd, const char *name, int nofollow, size_t *ret_size) {
        _cleanup_close_ int fd = TEMP_FAILURE_RETRY(openat(dirfd, name, O_RDONLY | O_CLOEXEC | nofollow | O_NONBLOCK | O_NOCTTY));
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
        fd = TEMP_FAILURE_RETRY(openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
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
        ret->n = (int) TEMP_FAILURE_RETRY(scandirat(dirfd, ".", &ret->items, filter, by_bytes));
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

static int each_of(int dirfd, int (*filter)(const struct dirent *), mode_t kind, int (*fn)(int dirfd, const char *name, void *userdata), void *userdata) {
        _cleanup_(names_done) Names l = {};
        int r;

        r = names_read(dirfd, filter, &l);
        if (r < 0)
                return r;
        for (int i = 0; i < l.n; i++) {
                struct stat st;

                if (fstatat(dirfd, l.items[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                        if (errno == ENOENT)
                                continue;
                        return -errno;                  /* what cannot be looked at is not absent */
                }
                if ((st.st_mode & S_IFMT) != kind)
                        continue;
                r = fn(dirfd, l.items[i]->d_name, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}

int file_each(int dirfd, int (*fn)(int dirfd, const char *name, void *userdata), void *userdata) {
        return each_of(dirfd, is_visible, S_IFREG, fn, userdata);
}

int file_each_dir(int dirfd, int (*fn)(int dirfd, const char *name, void *userdata), void *userdata) {
        return each_of(dirfd, is_visible, S_IFDIR, fn, userdata);
}

static int is_hidden(const struct dirent *d) {
        return d->d_name[0] == '.' && strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

int file_each_hidden_dir(int dirfd, int (*fn)(int dirfd, const char *name, void *userdata), void *userdata) {
        return each_of(dirfd, is_hidden, S_IFDIR, fn, userdata);
}

/* ── what goes ───────────────────────────────────────────────────────────────────────────────────────────────── */

#define TREE_DEPTH 8

static int is_any(const struct dirent *d) {
        return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int remove_below(int dirfd, const char *name, unsigned depth) {
        _cleanup_close_ int fd = -1;
        _cleanup_(names_done) Names l = {};
        int r = 0;

        if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR)
                return -errno;
        fd = depth == 0 ? -1 : TEMP_FAILURE_RETRY(openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
        if (fd < 0)
                return depth == 0 ? -ELOOP : -errno;
        r = names_read(fd, is_any, &l);
        for (int i = 0; r >= 0 && i < l.n; i++)
                r = remove_below(fd, l.items[i]->d_name, depth - 1);
        if (r < 0)
                return r;
        return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int file_remove_tree(int dirfd, const char *name) {
        int r = name_check(name);

        if (r == 0)
                r = remove_below(dirfd, name, TREE_DEPTH);
        return r < 0 ? r : sync_dir(dirfd);
}

static bool is_older(const struct stat *a, const struct stat *b) {
        return a->st_ctim.tv_sec != b->st_ctim.tv_sec ? a->st_ctim.tv_sec < b->st_ctim.tv_sec : a->st_ctim.tv_nsec < b->st_ctim.tv_nsec;
}

/* The reasons are not counted; each goes with what it is about. */
static int is_set_aside(const struct dirent *d) {
        size_t n = strlen(d->d_name);

        return is_any(d) && (n < 7 || strcmp(d->d_name + n - 7, ".reason") != 0);
}

static void quarantine_bound(int fd) {
        _cleanup_(names_done) Names l = {};
        char reason[NAME_MAX + 8];
        struct stat oldest, other;

        while (names_read(fd, is_set_aside, &l) == 0 && l.n >= QUARANTINE_MAX) {
                int at = 0;

                if (fstatat(fd, l.items[0]->d_name, &oldest, AT_SYMLINK_NOFOLLOW) < 0)
                        return;
                for (int i = 1; i < l.n; i++)
                        if (fstatat(fd, l.items[i]->d_name, &other, AT_SYMLINK_NOFOLLOW) == 0 && is_older(&other, &oldest)) {
                                oldest = other;
                                at = i;
                        }
                (void) snprintf(reason, sizeof reason, "%s.reason", l.items[at]->d_name);
                (void) unlinkat(fd, reason, 0);
                if (remove_below(fd, l.items[at]->d_name, TREE_DEPTH) < 0)
                        return;
                names_done(&l);
                l = (Names) {};
        }
}

int file_set_aside(int state_fd, int dirfd, const char *name, const char *as, const char *reason) {
        _cleanup_close_ int fd = file_open_dir(state_fd, "quarantine");
        char beside[NAME_MAX + 8];
        int r;

        if (fd < 0)
                return fd;
        quarantine_bound(fd);
        (void) remove_below(fd, as, TREE_DEPTH);        /* of an earlier time, under the same name */
        (void) snprintf(beside, sizeof beside, "%s.reason", as);
        r = file_write_atomic(fd, beside, reason, strlen(reason));
        if (r < 0)
                return r;
        if (renameat(dirfd, name, fd, as) < 0)
                return -errno;
        r = sync_dir(fd);
        return r < 0 ? r : sync_dir(dirfd);
}
