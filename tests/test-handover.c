/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/handover: the bytes and modes of what a workspace gets, what a rewriting leaves alone, and the places that are refused. */

#include <errno.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "base/file.h"
#include "secrets/handover.h"
#include "tests/vault-kit.h"

#define SHM      "/dev/shm/handover.XXXXXX"
#define WS       "ws/" W1
#define PLACE    WS "/7"
#define NO_TMPFS "there is no tmpfs at /dev/shm"

/* A runtime directory on tmpfs; fd -1: there is none. */
static TestDir runtime(void) {
        TestDir d = { .path = SHM, .fd = -1 };
        struct statfs st;

        if (statfs("/dev/shm", &st) < 0 || st.f_type != TMPFS_MAGIC || !mkdtemp(d.path))
                return (TestDir) { .fd = -1 };
        d.fd = open(d.path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        return d;
}

static void runtime_done(TestDir *d) {
        if (d->fd >= 0)
                test_dir_done(d);
}
#define _cleanup_runtime_ _cleanup_(runtime_done)

static int write_set(const TestDir *d, const char *workspace, uint64_t generation, const char *text, Fault *f) {
        SecretSet s = kit_set_of(kit_shared_arena(), text);
        int r = handover_write(d->path, workspace, generation, &s, f);

        secret_set_done(&s);
        return r;
}

static void refused(const TestDir *d, const char *words, const char *what) {
        Fault f = {};

        if (!CHECK(write_set(d, W1, 7, "A=open-sesame", &f) < 0) || !CHECK_STR(kit_code(&f), "state_degraded") ||
            !CHECK(strstr(f.text, words)) ||
            !CHECK(!strstr(f.text, "sesame")))
                printf("#   in: %s: %s\n", what, f.text);
        CHECK(!handover_is_whole(d->path, W1, 7));
}

static void check_mode(const TestDir *d, const char *name, unsigned mode) {
        struct stat st;

        if (!CHECK_INT(fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW), 0) || !CHECK_INT(st.st_mode & 07777, mode))
                printf("#   in: %s\n", name);
}

static void check_env(const TestDir *d, const void *wanted, size_t size) {
        size_t n = 0;
        _cleanup_free_ char *env = kit_read(d, PLACE "/env", &n);

        CHECK(env && n == size && memcmp(env, wanted, size) == 0);
}
#define CHECK_ENV(d, text) check_env(d, text, sizeof(text))     /* the text's own NUL is the last byte */

/* ── what is written ─────────────────────────────────────────────────────────────────────────────────────────── */

TEST(incident_31_bytes_and_modes) {
        _cleanup_runtime_ TestDir d = runtime();
        char path[HANDOVER_PATH_MAX], wanted[HANDOVER_PATH_MAX];
        _cleanup_free_ char *value = NULL;
        size_t n = 0;
        mode_t mask = umask(077);

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        CHECK(!handover_any(d.path, W1) && !handover_is_whole(d.path, W1, 7));
        CHECK_INT(write_set(&d, W1, 7, "API_TOKEN=a=b B=", NULL), 0);
        (void) umask(mask);
        CHECK_ENV(&d, "MOLECULE-ENV/1 2\0API_TOKEN=a=b\0B=");
        value = kit_read(&d, PLACE "/secrets/API_TOKEN", &n);
        CHECK(value && n == 3 && memcmp(value, "a=b", 3) == 0);
        check_mode(&d, "ws", 0700);
        check_mode(&d, WS, 0755);
        check_mode(&d, PLACE, 0755);
        check_mode(&d, PLACE "/secrets", 0755);
        check_mode(&d, PLACE "/env", 0444);
        check_mode(&d, PLACE "/secrets/API_TOKEN", 0444);
        check_mode(&d, PLACE "/secrets/B", 0444);
        CHECK_INT(test_dir_count(&d, PLACE), 2);
        CHECK_INT(test_dir_count(&d, PLACE "/secrets"), 2);
        (void) snprintf(wanted, sizeof wanted, "%s/" PLACE, d.path);
        CHECK_STR(handover_path(d.path, W1, 7, path), wanted);
        CHECK(handover_is_whole(d.path, W1, 7) && handover_any(d.path, W1) && !handover_is_whole(d.path, W1, 8));
}

TEST(values_of_any_bytes_and_no_values_at_all) {
        static const char newlines[] = "MOLECULE-ENV/1 1\0A=two\nlines\nB=no\n";
        _cleanup_runtime_ TestDir d = runtime();
        SecretSet s = {};

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        CHECK_INT(write_set(&d, W1, 7, "", NULL), 0);
        CHECK_ENV(&d, "MOLECULE-ENV/1 0");
        CHECK(handover_is_whole(d.path, W1, 7));
        CHECK_INT(secret_set_add(&s, "A", kit_secret(kit_shared_arena(), "two\nlines\nB=no\n")), 0);
        CHECK_INT(handover_write(d.path, W1, 7, &s, NULL), 0);
        check_env(&d, newlines, sizeof newlines);
        secret_set_done(&s);
        for (int i = 0; i < 12; i++) {                  /* two digits in the count */
                char name[4];

                (void) snprintf(name, sizeof name, "N%c", 'a' + i);
                CHECK_INT(secret_set_add(&s, name, kit_secret(kit_shared_arena(), "v")), 0);
        }
        CHECK_INT(handover_write(d.path, W1, 7, &s, NULL), 0);
        secret_set_done(&s);
        {
                _cleanup_free_ char *env = kit_read(&d, PLACE "/env", NULL);

                CHECK_STR(env, "MOLECULE-ENV/1 12");
        }
        CHECK(!test_dir_has(&d, PLACE "/secrets/A"));   /* what the set does not have is gone */
        CHECK_INT(test_dir_count(&d, PLACE "/secrets"), 12);
}

TEST(the_same_once_more_changes_no_file) {
        static const char *const names[] = { PLACE, PLACE "/env", PLACE "/secrets", PLACE "/secrets/A", PLACE "/secrets/B" };
        _cleanup_runtime_ TestDir d = runtime();
        SealedKit k = { .d = d };
        ino_t inodes[ELEMENTS(names)];

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        CHECK_INT(write_set(&d, W1, 7, "A=1 B=2", NULL), 0);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                inodes[i] = kit_inode(&k, names[i]);
        CHECK_INT(write_set(&d, W1, 7, "A=1 B=2", NULL), 0);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                CHECK(inodes[i] && kit_inode(&k, names[i]) == inodes[i]);
        CHECK_INT(write_set(&d, W1, 7, "A=1 B=3", NULL), 0);
        CHECK(kit_inode(&k, names[3]) == inodes[3] && kit_inode(&k, names[4]) != inodes[4] && kit_inode(&k, names[1]) != inodes[1]);
        CHECK(kit_inode(&k, names[0]) == inodes[0] && kit_inode(&k, names[2]) == inodes[2]);    /* a container has them mounted */
        CHECK_ENV(&d, "MOLECULE-ENV/1 2\0A=1\0B=3");
}

TEST(what_was_changed_by_others_is_put_right) {
        _cleanup_runtime_ TestDir d = runtime();
        _cleanup_free_ char *value = NULL;

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        CHECK_INT(write_set(&d, W1, 7, "A=1", NULL), 0);
        CHECK_INT(fchmodat(d.fd, PLACE "/secrets/A", 0666, 0) | fchmodat(d.fd, PLACE, 0700, 0) | fchmodat(d.fd, "ws", 0755, 0), 0);
        test_dir_text(&d, PLACE "/.new", "half of something");
        test_dir_text(&d, PLACE "/secrets/.new", "half of something");
        CHECK_INT(unlinkat(d.fd, PLACE "/env", 0) | symlinkat("secrets/A", d.fd, PLACE "/env"), 0);
        CHECK_INT(write_set(&d, W1, 7, "A=1 B=2", NULL), 0);
        check_mode(&d, PLACE "/secrets/A", 0444);
        check_mode(&d, PLACE, 0755);
        check_mode(&d, "ws", 0700);
        check_mode(&d, PLACE "/env", 0444);
        CHECK_ENV(&d, "MOLECULE-ENV/1 2\0A=1\0B=2");
        CHECK_INT(unlinkat(d.fd, PLACE "/secrets/A", 0) | symlinkat("B", d.fd, PLACE "/secrets/A"), 0);
        CHECK_INT(write_set(&d, W1, 7, "A=1 B=2", NULL), 0);
        value = kit_read(&d, PLACE "/secrets/B", NULL);
        CHECK_STR(value, "2");                          /* not written through the link */
        check_mode(&d, PLACE "/secrets/A", 0444);
}

/* ── places that are refused ─────────────────────────────────────────────────────────────────────────────────── */

TEST(a_link_at_each_level) {
        static const char *const levels[] = { "ws", WS, PLACE, PLACE "/secrets" };

        for (size_t i = 0; i < ELEMENTS(levels); i++) {
                _cleanup_runtime_ TestDir d = runtime();

                if (d.fd < 0)
                        SKIP(NO_TMPFS);
                CHECK_INT(write_set(&d, W1, 7, "A=1", NULL), 0);
                CHECK_INT(renameat(d.fd, levels[i], d.fd, "elsewhere"), 0);
                CHECK_INT(symlinkat(i == 0 ? "elsewhere" : i == 1 ? "../elsewhere" : i == 2 ? "../../elsewhere" : "../../../elsewhere",
                                    d.fd, levels[i]), 0);
                if (i < 3)
                        refused(&d, "no directory", levels[i]);
                else {
                        Fault f = {};

                        CHECK(write_set(&d, W1, 7, "A=2", &f) < 0);
                        CHECK_STR(kit_code(&f), "state_degraded");
                }
                CHECK(i > 0 || handover_any(d.path, W1));       /* unknown is not absent */
        }
}

TEST(a_link_to_the_runtime_directory) {
        _cleanup_runtime_ TestDir d = runtime();
        TestDir through = d;

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        (void) snprintf(through.path, sizeof through.path, "%.27s.l", d.path);
        CHECK_INT(symlink(d.path, through.path), 0);
        refused(&through, "a link leads there", "the runtime directory");
        strcat(through.path, "/x");                     /* a link further up */
        CHECK_INT(mkdirat(d.fd, "x", 0700), 0);
        refused(&through, "a link leads there", "above the runtime directory");
        through.path[strlen(through.path) - 2] = 0;
        CHECK_INT(unlink(through.path), 0);
        CHECK(!test_dir_has(&d, "ws"));
}

TEST(a_file_in_the_way) {
        _cleanup_runtime_ TestDir d = runtime();

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        test_dir_text(&d, "ws", "x");
        refused(&d, "no directory", "ws");
}

TEST(what_is_no_memory) {
        static const char *const places[] = { "/tmp", "/var/tmp", "." };
        int tried = 0;

        for (size_t i = 0; i < ELEMENTS(places); i++) {
                TestDir d = {};
                struct statfs st;

                (void) snprintf(d.path, sizeof d.path, "%s/handover.XXXXXX", places[i]);
                if (statfs(places[i], &st) < 0 || st.f_type == TMPFS_MAGIC || st.f_type == RAMFS_MAGIC || !mkdtemp(d.path))
                        continue;
                d.fd = open(d.path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
                refused(&d, "neither tmpfs nor ramfs", places[i]);
                CHECK_INT(test_dir_count(&d, "."), 0);  /* nothing was written, not even a directory */
                test_dir_done(&d);
                tried++;
        }
        if (!tried)
                SKIP("everything here is memory");
}

TEST(where_others_may_write) {
        static const char *const levels[] = { ".", "ws", WS, PLACE, PLACE "/secrets" };
        static const mode_t modes[] = { 0770, 0702, 0777, 01777 };

        for (size_t i = 0; i < ELEMENTS(levels); i++)
                for (size_t m = 0; m < ELEMENTS(modes); m++) {
                        _cleanup_runtime_ TestDir d = runtime();
                        Fault f = {};

                        if (d.fd < 0)
                                SKIP(NO_TMPFS);
                        CHECK_INT(write_set(&d, W1, 7, "A=1", NULL), 0);
                        CHECK_INT(fchmodat(d.fd, levels[i], modes[m], 0), 0);
                        if (!CHECK(write_set(&d, W1, 7, "A=2", &f) < 0) || !CHECK(strstr(f.text, "others may write")) ||
                            !CHECK_STR(kit_code(&f), "state_degraded"))
                                printf("#   in: %s %o: %s\n", levels[i], (unsigned) modes[m], f.text);
                        CHECK_ENV(&d, "MOLECULE-ENV/1 1\0A=1");
                        CHECK(i != 3 || !handover_is_whole(d.path, W1, 7));
                }
}

TEST(what_is_another_user_s) {
        static const char *const levels[] = { ".", "ws", WS, PLACE, PLACE "/secrets" };

        if (geteuid() != 0)
                SKIP("only root can give a directory away");
        for (size_t i = 0; i < ELEMENTS(levels); i++) {
                _cleanup_runtime_ TestDir d = runtime();
                Fault f = {};

                if (d.fd < 0)
                        SKIP(NO_TMPFS);
                CHECK_INT(write_set(&d, W1, 7, "A=1", NULL), 0);
                CHECK_INT(fchownat(d.fd, levels[i], 65534, 65534, 0), 0);
                if (!CHECK(write_set(&d, W1, 7, "A=2", &f) < 0) || !CHECK(strstr(f.text, "another user's")))
                        printf("#   in: %s: %s\n", levels[i], f.text);
                CHECK(i != 3 || !handover_is_whole(d.path, W1, 7));
                CHECK_ENV(&d, "MOLECULE-ENV/1 1\0A=1");
        }
}

TEST(something_mounted_on_the_way) {
        _cleanup_runtime_ TestDir d = runtime();
        char path[64];

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        CHECK_INT(mkdirat(d.fd, "ws", 0700), 0);
        (void) snprintf(path, sizeof path, "%s/ws", d.path);
        if (mount("tmpfs", path, "tmpfs", 0, "size=64k,mode=0700") < 0)
                SKIP("this user may not mount");
        refused(&d, "something else is mounted", "ws");
        CHECK_INT(umount2(path, MNT_DETACH), 0);
        CHECK_INT(write_set(&d, W1, 7, "A=1", NULL), 0);
}

/* A container has the directory below it, not what stands there now. */
TEST(something_mounted_on_a_whole_one) {
        _cleanup_runtime_ TestDir d = runtime();
        char path[100];

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        CHECK_INT(write_set(&d, W1, 7, "A=1", NULL), 0);
        (void) snprintf(path, sizeof path, "%s/" PLACE, d.path);
        if (mount("tmpfs", path, "tmpfs", 0, "size=64k,mode=0755") < 0)
                SKIP("this user may not mount");
        test_dir_text(&d, PLACE "/env", "MOLECULE-ENV/1 0");
        CHECK(!handover_is_whole(d.path, W1, 7));
        refused(&d, "something else is mounted", PLACE);
        CHECK_INT(umount2(path, MNT_DETACH), 0);
        CHECK(handover_is_whole(d.path, W1, 7));
}

TEST(a_place_that_is_not_there) {
        TestDir d = { .path = "/dev/shm/no-such-place", .fd = -1 };

        refused(&d, "runtime directory", "absent");
        CHECK(!handover_any(d.path, W1));
        CHECK_INT(handover_remove(d.path, W1, 7) | handover_remove_all(d.path, W1), 0);
}

static void reopen(TestDir *d) {
        (void) close(d->fd);
        d->fd = open(d->path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
}

/* Over the directory comes one that is soon full. */
static bool small_mounted(TestDir *d) {
        if (mount("tmpfs", d->path, "tmpfs", 0, "size=128k,mode=0700") < 0)
                return false;
        reopen(d);
        return true;
}

static void small_unmounted(TestDir *d) {
        CHECK_INT(umount2(d->path, MNT_DETACH), 0);
        reopen(d);
}

TEST(a_full_one) {
        _cleanup_runtime_ TestDir d = runtime();
        _cleanup_free_ char *large = kit_fill('v', SEAL_SECRET_MAX);
        SecretSet s = {};
        Fault f = {};

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        if (!small_mounted(&d))
                SKIP("this user may not mount");
        CHECK_INT(write_set(&d, W1, 7, "A=1", NULL), 0);
        for (char name[] = "A"; name[0] <= 'B'; name[0]++)
                CHECK_INT(secret_set_add(&s, name, secret_new(kit_shared_arena(), large, SEAL_SECRET_MAX)), 0);
        CHECK(handover_write(d.path, W1, 8, &s, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK(!handover_is_whole(d.path, W1, 8) && handover_is_whole(d.path, W1, 7));
        CHECK_ENV(&d, "MOLECULE-ENV/1 1\0A=1");
        CHECK(handover_write(d.path, W1, 7, &s, NULL) < 0);
        CHECK(!test_dir_has(&d, PLACE "/secrets/.new") && !test_dir_has(&d, PLACE "/.new"));
        secret_set_done(&s);
        small_unmounted(&d);
}

/* There is room for the env or for the values, not for both: whoever finds the env must find the values. */
TEST(the_env_comes_last) {
        _cleanup_runtime_ TestDir d = runtime();
        _cleanup_free_ char *half = kit_fill('v', 36 * 1024);
        SecretSet s = {};

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        if (!small_mounted(&d))
                SKIP("this user may not mount");
        for (char name[] = "A"; name[0] <= 'B'; name[0]++)
                CHECK_INT(secret_set_add(&s, name, secret_new(kit_shared_arena(), half, 36 * 1024)), 0);
        CHECK(handover_write(d.path, W1, 7, &s, NULL) < 0);
        CHECK(!handover_is_whole(d.path, W1, 7) && !test_dir_has(&d, PLACE "/env"));
        CHECK_INT(test_dir_count(&d, PLACE "/secrets"), 2);
        secret_set_done(&s);
        small_unmounted(&d);
}

/* ── what there is, and what goes ────────────────────────────────────────────────────────────────────────────── */

static int see(uint64_t generation, void *userdata) {
        char *text = userdata;
        size_t n = strlen(text);

        (void) snprintf(text + n, 100 - n, "%llu ", (unsigned long long) generation);
        return generation == 99 ? -ECANCELED : 1;
}

TEST(each_and_gone) {
        _cleanup_runtime_ TestDir d = runtime();
        char text[100] = "", none[100] = "";

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        CHECK_INT(handover_each(d.path, W1, see, none), 0);
        CHECK_INT(write_set(&d, W1, 7, "A=1", NULL) | write_set(&d, W1, 10, "A=1", NULL) | write_set(&d, W2, 1, "A=1", NULL), 0);
        CHECK_INT(mkdirat(d.fd, WS "/x", 0755) | mkdirat(d.fd, WS "/07", 0755), 0);
        CHECK_INT(handover_each(d.path, W1, see, text), 0);
        CHECK_STR(text, "10 7 ");
        CHECK_INT(handover_each(d.path, KIT_HOST, see, none), 0);
        CHECK_STR(none, "");
        CHECK_INT(write_set(&d, W1, 99, "", NULL), 0);
        CHECK_INT(handover_each(d.path, W1, see, none), -ECANCELED);
        CHECK_INT(handover_remove(d.path, W1, 7), 0);
        CHECK_INT(handover_remove(d.path, W1, 7), 0);
        CHECK(!test_dir_has(&d, PLACE) && handover_is_whole(d.path, W1, 10) && handover_any(d.path, W1));
        CHECK_INT(handover_remove_all(d.path, W1), 0);
        CHECK_INT(handover_remove_all(d.path, W1), 0);
        CHECK(!handover_any(d.path, W1) && handover_is_whole(d.path, W2, 1));
}

TEST(without_its_env_it_is_not_whole) {
        _cleanup_runtime_ TestDir d = runtime();

        if (d.fd < 0)
                SKIP(NO_TMPFS);
        CHECK_INT(write_set(&d, W1, 7, "A=1", NULL), 0);
        CHECK_INT(unlinkat(d.fd, PLACE "/env", 0), 0);
        CHECK(!handover_is_whole(d.path, W1, 7));
}

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
