/* SPDX-License-Identifier: Apache-2.0 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/file.h"
#include "tests/test.h"

/* A directory of its own for each test. */
typedef struct Dir { char path[64]; int fd; } Dir;

static Dir dir_make(void) {
        Dir d = { .path = P_tmpdir "/test-file.XXXXXX" };

        if (!mkdtemp(d.path))
                abort();
        d.fd = open(d.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (d.fd < 0)
                abort();
        return d;
}

static int entries(int dirfd, char names[][NAME_MAX + 1], int max) {
        int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
        DIR *dir = fdopendir(fd);

        for (struct dirent *e; dir && (e = readdir(dir));)
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && n < max)
                        (void) strcpy(names[n++], e->d_name);
        if (dir)
                (void) closedir(dir);
        return n;
}

static void dir_done(Dir *d) {
        char names[64][NAME_MAX + 1];
        int n = entries(d->fd, names, 64);

        for (int i = 0; i < n; i++)
                if (unlinkat(d->fd, names[i], 0) < 0)
                        (void) unlinkat(d->fd, names[i], AT_REMOVEDIR);
        close(d->fd);
        (void) rmdir(d->path);
}
#define _cleanup_dir_ _cleanup_(dir_done)

static void put(int dirfd, const char *name, const char *text) {
        _cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text))
                abort();
}

TEST(write_and_read) {
        _cleanup_dir_ Dir d = dir_make();
        _cleanup_free_ char *text = NULL, *again = NULL;
        char names[8][NAME_MAX + 1];
        size_t size = 0;
        struct stat st;

        CHECK_INT(file_write_atomic(d.fd, "a", "one\0two", 7), 0);
        CHECK_INT(file_read(d.fd, "a", 100, &text, &size), 0);
        CHECK_INT(size, 7);
        CHECK(memcmp(text, "one\0two", 8) == 0);                /* with the NUL behind */
        CHECK_INT(fstatat(d.fd, "a", &st, 0), 0);
        CHECK_INT(st.st_mode & 07777, 0600);

        CHECK_INT(file_write_atomic(d.fd, "a", "", 0), 0);
        CHECK_INT(file_read(d.fd, "a", 100, &again, &size), 0);
        CHECK_INT(size, 0);
        CHECK_STR(again, "");
        CHECK_INT(entries(d.fd, names, 8), 1);                  /* no temp file is left */
}

TEST(replace_for_others_to_read) {
        _cleanup_dir_ Dir d = dir_make();
        _cleanup_free_ char *text = NULL;
        char names[8][NAME_MAX + 1];
        mode_t before = umask(0077);
        size_t size = 0;
        struct stat st;

        put(d.fd, "a", "old");
        CHECK_INT(file_replace(d.fd, "a", "new", 3, 0644), 0);
        (void) umask(before);
        CHECK_INT(file_read(d.fd, "a", 100, &text, &size), 0);
        CHECK_STR(text, "new");
        CHECK_INT(fstatat(d.fd, "a", &st, 0), 0);
        CHECK_INT(st.st_mode & 07777, 0644);
        CHECK_INT(entries(d.fd, names, 8), 1);
        CHECK_INT(file_replace(d.fd, "../a", "x", 1, 0644), -EINVAL);
}

/* In place of libc's: where swap_in is a directory, what was written there gives its hidden name to a link to "other" the moment it is closed. */
static int swap_in = -1;

int close(int fd) {
        int dir = swap_in, r;
        char names[8][NAME_MAX + 1];

        swap_in = -1;
        r = (int) syscall(SYS_close, fd);
        for (int i = dir < 0 ? 0 : entries(dir, names, 8); i > 0; i--)
                if (names[i - 1][0] == '.' && (unlinkat(dir, names[i - 1], 0) < 0 || symlinkat("other", dir, names[i - 1]) < 0))
                        abort();
        return r;
}

TEST(replace_gives_no_other_file_its_mode) {
        _cleanup_dir_ Dir d = dir_make();
        struct stat st;

        put(d.fd, "other", "secret");
        swap_in = d.fd;
        CHECK_INT(file_replace(d.fd, "a", "new", 3, 0644), 0);
        CHECK_INT(swap_in, -1);
        CHECK_INT(fstatat(d.fd, "a", &st, AT_SYMLINK_NOFOLLOW), 0);
        CHECK(S_ISLNK(st.st_mode));                             /* it was swapped in */
        CHECK_INT(fstatat(d.fd, "other", &st, 0), 0);
        CHECK_INT(st.st_mode & 07777, 0600);
}

TEST(read_limit) {
        _cleanup_dir_ Dir d = dir_make();
        _cleanup_free_ char *text = NULL;
        size_t size = 99;

        put(d.fd, "a", "12345");
        CHECK_INT(file_read(d.fd, "a", 4, &text, &size), -EFBIG);
        CHECK_INT(file_read(d.fd, "a", 0, &text, &size), -EFBIG);
        CHECK(!text && size == 99);
        CHECK_INT(file_read(d.fd, "a", 5, &text, &size), 0);
        CHECK_STR(text, "12345");
}

TEST(read_only_regular_files) {
        _cleanup_dir_ Dir d = dir_make();
        char *text = NULL;
        size_t size = 99;

        put(d.fd, "a", "x");
        CHECK_INT(symlinkat("a", d.fd, "link"), 0);
        CHECK_INT(mkdirat(d.fd, "dir", 0700), 0);
        CHECK_INT(mkfifoat(d.fd, "fifo", 0600), 0);
        CHECK_INT(file_read(d.fd, "link", 100, &text, &size), -ELOOP);
        CHECK_INT(file_read(d.fd, "dir", 100, &text, &size), -EISDIR);
        CHECK(file_read(d.fd, "fifo", 100, &text, &size) < 0);  /* and does not wait for a writer */
        CHECK_INT(file_read(d.fd, "none", 100, &text, &size), -ENOENT);
        CHECK(!text && size == 99);
}

/* Files that say they are empty and are not. */
TEST(read_beyond_the_size_that_was_told) {
        _cleanup_close_ int proc = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL, *none = NULL;
        size_t size = 0;

        CHECK_INT(file_read(proc, "status", 65536, &text, &size), 0);
        CHECK(size > 100 && strlen(text) == size);
        CHECK_INT(file_read(proc, "status", 100, &none, &size), -EFBIG);
        CHECK(!none);
}

TEST(names_have_one_part) {
        static const char *const bad[] = { "", ".", "..", "a/b", "/a", "../a" };
        _cleanup_dir_ Dir d = dir_make();
        char long_name[NAME_MAX + 2], *text = NULL;
        size_t size;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                CHECK_INT(file_write_atomic(d.fd, bad[i], "x", 1), -EINVAL);
                CHECK_INT(file_read(d.fd, bad[i], 10, &text, &size), -EINVAL);
                CHECK_INT(file_remove(d.fd, bad[i]), -EINVAL);
                CHECK_INT(file_open_dir(d.fd, bad[i]), -EINVAL);
        }
        memset(long_name, 'n', sizeof long_name);
        long_name[NAME_MAX + 1] = 0;
        CHECK_INT(file_write_atomic(d.fd, long_name, "x", 1), -ENAMETOOLONG);
        long_name[NAME_MAX] = 0;                                /* fits, but not with a nonce */
        CHECK_INT(file_write_atomic(d.fd, long_name, "x", 1), -ENAMETOOLONG);
}

TEST(a_failed_write_leaves_the_old_file) {
        static char large[200000];
        _cleanup_dir_ Dir d = dir_make();
        _cleanup_free_ char *text = NULL;
        char names[8][NAME_MAX + 1];
        struct rlimit old, small = { 65536, 65536 };
        size_t size;

        CHECK_INT(file_write_atomic(d.fd, "a", "old", 3), 0);
        CHECK_INT(mkdirat(d.fd, "dir", 0700), 0);

        (void) signal(SIGXFSZ, SIG_IGN);                        /* a write that breaks off in the middle */
        CHECK_INT(getrlimit(RLIMIT_FSIZE, &old), 0);
        small.rlim_max = old.rlim_max;
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
        CHECK_INT(file_write_atomic(d.fd, "a", large, sizeof large), -EFBIG);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &old), 0);
        CHECK_INT(file_write_atomic(d.fd, "dir", "x", 1), -EISDIR);     /* the rename fails */

        CHECK_INT(file_read(d.fd, "a", 100, &text, &size), 0);
        CHECK_STR(text, "old");
        CHECK_INT(entries(d.fd, names, 8), 2);
        CHECK_INT(file_write_atomic(-1, "a", "x", 1), -EBADF);
}

/* A symbolic link in the place of the target is replaced, not followed. */
TEST(write_does_not_follow) {
        _cleanup_dir_ Dir d = dir_make();
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t size;

        put(d.fd, "victim", "untouched");
        CHECK_INT(symlinkat("victim", d.fd, "a"), 0);
        CHECK_INT(file_write_atomic(d.fd, "a", "new", 3), 0);
        CHECK_INT(file_read(d.fd, "victim", 100, &text, &size), 0);
        CHECK_STR(text, "untouched");
        CHECK_INT(fstatat(d.fd, "a", &st, AT_SYMLINK_NOFOLLOW), 0);
        CHECK(S_ISREG(st.st_mode));
}

TEST(remove) {
        _cleanup_dir_ Dir d = dir_make();
        char names[8][NAME_MAX + 1];

        put(d.fd, "a", "x");
        CHECK_INT(file_remove(d.fd, "a"), 0);
        CHECK_INT(file_remove(d.fd, "a"), 0);
        CHECK_INT(entries(d.fd, names, 8), 0);
        CHECK_INT(mkdirat(d.fd, "dir", 0700), 0);
        CHECK(file_remove(d.fd, "dir") < 0);
}

TEST(open_dir) {
        _cleanup_dir_ Dir d = dir_make();
        struct stat st;

        for (int i = 0; i < 2; i++) {
                _cleanup_close_ int fd = file_open_dir(d.fd, "sub");

                if (!CHECK(fd >= 0))
                        return;
                CHECK_INT(fstat(fd, &st), 0);
                CHECK(S_ISDIR(st.st_mode));
                CHECK_INT(st.st_mode & 07777, 0700);
                CHECK_INT(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        }
        put(d.fd, "file", "x");
        CHECK_INT(symlinkat("sub", d.fd, "link"), 0);
        CHECK_INT(file_open_dir(d.fd, "file"), -ENOTDIR);
        CHECK(file_open_dir(d.fd, "link") < 0);
}

TEST(sweep) {
        static const char *const kept[] = {
                "a", "a.0123456789abcdef", ".a", ".0123456789abcdef", ".a.0123456789abcde", ".a.0123456789abcdeg", ".a.0123456789ABCDEF",
                "..0123456789abcdef",
        };
        _cleanup_dir_ Dir d = dir_make();
        char names[16][NAME_MAX + 1];

        for (size_t i = 0; i < ELEMENTS(kept); i++)
                put(d.fd, kept[i], "x");
        put(d.fd, ".a.0123456789abcdef", "x");
        put(d.fd, ".b.g2.0000000000000000", "x");
        CHECK_INT(file_sweep_temp(d.fd), 2);
        CHECK_INT(file_sweep_temp(d.fd), 0);
        CHECK_INT(entries(d.fd, names, 16), ELEMENTS(kept));
        CHECK_INT(file_sweep_temp(-1), -EBADF);
}

/* What a crash between writing and renaming leaves is what the sweep takes: the name is not guessed but observed. */
TEST(sweep_knows_our_own_temp_files) {
        _cleanup_dir_ Dir d = dir_make();
        char names[8][NAME_MAX + 1];
        pid_t pid = fork();
        int status = 0;

        if (pid == 0) {
                struct rlimit none = { 10, 10 };

                (void) signal(SIGXFSZ, SIG_DFL);                /* dies in write() */
                (void) setrlimit(RLIMIT_CORE, &(struct rlimit) {});
                (void) setrlimit(RLIMIT_FSIZE, &none);
                (void) file_write_atomic(d.fd, "record", "more than ten bytes", 19);
                _exit(0);
        }
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status));
        CHECK_INT(entries(d.fd, names, 8), 1);
        CHECK(strncmp(names[0], ".record.", 8) == 0);
        CHECK_INT(file_sweep_temp(d.fd), 1);
        CHECK_INT(entries(d.fd, names, 8), 0);
}

typedef struct Seen { char text[128]; const char *stop_at; } Seen;

static int note(int dirfd, const char *name, void *userdata) {
        Seen *s = userdata;

        (void) dirfd;
        (void) strcat(strcat(s->text, name), " ");
        return s->stop_at && strcmp(s->stop_at, name) == 0 ? -ECANCELED : 1;
}

TEST(each) {
        _cleanup_dir_ Dir d = dir_make();
        Seen all = {}, some = { .stop_at = "a" }, none = {};

        put(d.fd, "b", "x");
        put(d.fd, "a", "x");
        put(d.fd, "B", "x");
        put(d.fd, "\xc3\xa9", "x");
        put(d.fd, "a-1", "x");
        put(d.fd, ".hidden", "x");
        CHECK_INT(mkdirat(d.fd, "dir", 0700), 0);
        CHECK_INT(symlinkat("a", d.fd, "link"), 0);
        CHECK_INT(file_each(d.fd, note, &all), 0);
        CHECK_STR(all.text, "B a a-1 b \xc3\xa9 ");
        CHECK_INT(file_each(d.fd, note, &some), -ECANCELED);
        CHECK_STR(some.text, "B a ");
        CHECK_INT(file_each(-1, note, &none), -EBADF);
        CHECK_STR(none.text, "");
}

TEST(each_directory_and_each_hidden_one) {
        _cleanup_dir_ Dir d = dir_make();
        Seen seen = {}, hidden = {}, some = { .stop_at = "dir" };

        for (const char *const *n = (const char *const[]) { "dir", "b", ".x", ".new.g7", "..c", NULL }; *n; n++)
                CHECK_INT(mkdirat(d.fd, *n, 0700), 0);
        put(d.fd, "file", "x");
        put(d.fd, ".file", "x");
        CHECK_INT(symlinkat("dir", d.fd, "link"), 0);
        CHECK_INT(symlinkat("dir", d.fd, ".link"), 0);
        CHECK_INT(file_each_dir(d.fd, note, &seen), 0);
        CHECK_STR(seen.text, "b dir ");
        CHECK_INT(file_each_hidden_dir(d.fd, note, &hidden), 0);
        CHECK_STR(hidden.text, "..c .new.g7 .x ");
        CHECK_INT(file_each_dir(d.fd, note, &some), -ECANCELED);
        CHECK_INT(file_each_dir(-1, note, &seen), -EBADF);
}

/* ── trees ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* "top/d/d/…/file", n directories in all. */
static void deep(const Dir *d, int n) {
        int at = dup(d->fd);

        for (int i = 0; i < n; i++) {
                const char *name = i ? "d" : "top";
                int next;

                if (mkdirat(at, name, 0700) < 0 || (next = openat(at, name, O_RDONLY|O_DIRECTORY|O_CLOEXEC)) < 0)
                        abort();
                close(at);
                at = next;
        }
        put(at, "file", "x");
        close(at);
}

TEST(a_tree_goes_whole) {
        _cleanup_dir_ Dir d = dir_make();
        _cleanup_close_ int fd = -1;
        char names[8][NAME_MAX + 1];

        put(d.fd, "kept", "x");
        CHECK_INT(mkdirat(d.fd, "kept-dir", 0700), 0);
        fd = openat(d.fd, "kept-dir", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        put(fd, "inside", "x");
        deep(&d, 3);
        CHECK_INT(symlinkat("../kept-dir", d.fd, "top/link"), 0);
        CHECK_INT(symlinkat("../kept", d.fd, "top/.hidden-link"), 0);
        CHECK_INT(mkdirat(d.fd, "top/.hidden", 0700), 0);
        CHECK_INT(file_remove_tree(d.fd, "top"), 0);
        CHECK_INT(file_remove_tree(d.fd, "top"), 0);
        CHECK_INT(faccessat(fd, "inside", F_OK, 0) | faccessat(d.fd, "kept", F_OK, 0), 0);      /* no link was followed */
        CHECK_INT(symlinkat("kept-dir", d.fd, "link"), 0);
        CHECK_INT(file_remove_tree(d.fd, "link"), 0);
        CHECK_INT(faccessat(fd, "inside", F_OK, 0), 0);
        CHECK_INT(file_remove_tree(d.fd, "kept"), 0);           /* a file goes too */
        CHECK_INT(entries(d.fd, names, 8), 1);
        CHECK_INT(file_remove_tree(d.fd, "a/b"), -EINVAL);
        CHECK_INT(file_remove_tree(d.fd, ".."), -EINVAL);
        CHECK_INT(file_remove_tree(d.fd, "kept-dir"), 0);
}

TEST(a_tree_of_eight_levels_and_one_of_nine) {
        _cleanup_dir_ Dir d = dir_make();

        deep(&d, 8);
        CHECK_INT(file_remove_tree(d.fd, "top"), 0);
        CHECK(faccessat(d.fd, "top", F_OK, 0) < 0);
        deep(&d, 9);
        CHECK_INT(file_remove_tree(d.fd, "top"), -ELOOP);
        CHECK_INT(faccessat(d.fd, "top/d/d/d/d/d/d/d/d/file", F_OK, 0), 0);
        CHECK_INT(renameat(d.fd, "top/d", d.fd, "d"), 0);
        CHECK_INT(file_remove_tree(d.fd, "top") | file_remove_tree(d.fd, "d"), 0);
}

/* ── quarantine ──────────────────────────────────────────────────────────────────────────────────────────────── */

static char *quarantined(const Dir *d, const char *name) {
        _cleanup_close_ int fd = openat(d->fd, "quarantine", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        char *text = NULL;
        size_t size;

        (void) file_read(fd, name, 1000, &text, &size);
        return text;
}

#define CHECK_QUARANTINED(d, name, wanted) do { _cleanup_free_ char *_t = quarantined(d, name); CHECK_STR(_t, wanted); } while (0)

TEST(set_aside_with_its_reason) {
        _cleanup_dir_ Dir d = dir_make();

        put(d.fd, "bad", "content");
        CHECK_INT(file_set_aside(d.fd, d.fd, "bad", "as", "bad_tag: words."), 0);
        CHECK(faccessat(d.fd, "bad", F_OK, 0) < 0);
        CHECK_QUARANTINED(&d, "as", "content");
        CHECK_QUARANTINED(&d, "as.reason", "bad_tag: words.");
        put(d.fd, "bad", "later");
        CHECK_INT(file_set_aside(d.fd, d.fd, "bad", "as", ""), 0);
        CHECK_QUARANTINED(&d, "as", "later");
        CHECK_QUARANTINED(&d, "as.reason", "");
        CHECK_INT(file_set_aside(d.fd, d.fd, "absent", "nothing", "x"), -ENOENT);
        deep(&d, 2);                                    /* a directory, over a file and over a directory that is not empty */
        CHECK_INT(file_set_aside(d.fd, d.fd, "top", "as", "a set"), 0);
        deep(&d, 1);
        CHECK_INT(file_set_aside(d.fd, d.fd, "top", "as", "a set"), 0);
        CHECK(faccessat(d.fd, "quarantine/as/file", F_OK, 0) == 0 && faccessat(d.fd, "quarantine/as/d", F_OK, 0) < 0);
        CHECK_INT(file_remove_tree(d.fd, "quarantine"), 0);
}

TEST(the_oldest_give_way) {
        _cleanup_dir_ Dir d = dir_make();
        _cleanup_close_ int fd = -1;
        char name[32], names[300][NAME_MAX + 1];

        for (int i = 0; i < QUARANTINE_MAX + 6; i++) {
                (void) snprintf(name, sizeof name, "f%d", 100 - i);     /* their names say nothing of their age */
                put(d.fd, "bad", name);
                (void) usleep(5000);
                CHECK_INT(file_set_aside(d.fd, d.fd, "bad", name, "why"), 0);
        }
        fd = openat(d.fd, "quarantine", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        CHECK_INT(entries(fd, names, 300), 2 * QUARANTINE_MAX);
        for (int i = 0; i < QUARANTINE_MAX + 6; i++) {
                (void) snprintf(name, sizeof name, "f%d", 100 - i);
                CHECK((faccessat(fd, name, F_OK, 0) == 0) == (i >= 6));
                strcat(name, ".reason");
                CHECK((faccessat(fd, name, F_OK, 0) == 0) == (i >= 6));
        }
        CHECK_INT(file_remove_tree(d.fd, "quarantine"), 0);
}

TEST_MAIN
