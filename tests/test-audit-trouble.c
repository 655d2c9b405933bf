/* SPDX-License-Identifier: Apache-2.0 */

/* agent/audit: a record that is taken away, and a disk that refuses, are told by what is written next. */

#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "base/ballast.h"
#include "tests/audit-kit.h"

/* What is written after the name has gone goes nowhere. */
TEST(a_record_that_goes_under_a_running_agent_begins_anew) {
        static const char *const ways[] = { "removed", "another file", "a copy", "a link", "the older one stays" };

        for (size_t i = 0; i < ELEMENTS(ways); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_(audit_freep) Audit *a = open_audit(d.fd, i == 4 ? 4096 : MAX);
                _cleanup_free_ char *text = NULL;
                char before[AUDIT_HEAD_SIZE];
                AuditVerdict v = {};
                size_t size;

                for (unsigned n = 0; n < 20; n++)
                        CHECK_INT(add(a, n, NULL), 0);
                (void) snprintf(before, sizeof before, "%s", audit_head(a));
                text = text_of(&d, "audit", &size);
                CHECK_INT(unlinkat(d.fd, "audit", 0), 0);
                if (i == 1 || i == 2)
                        test_dir_write(&d, "audit", text, i == 1 ? size / 2 : size);
                else if (i == 3)
                        CHECK_INT(symlinkat("/dev/null", d.fd, "audit"), 0);
                for (unsigned n = 0; n < 3; n++)
                        CHECK_INT(add(a, 100 + n, NULL), 0);
                CHECK_STR(verdict(d.fd, audit_head(a), &v), "");
                CHECK_INT(v.entries, 4);
                CHECK_INT(v.missing, i == 0 || i == 4);
                CHECK_INT(v.aside[0] != 0, i != 0);
                CHECK(is_in(&d, "audit", 1, "\"kind\":\"begun\""));
                CHECK(says(&d, before, "-:0:0 ", "ends with entry 4"));
        }
}

TEST(a_record_that_is_not_there_at_a_start_is_missing) {
        _cleanup_dir_ TestDir d = test_dir();
        Audit *a;
        AuditVerdict v;
        char head[AUDIT_HEAD_SIZE];

        make(&d, 3, head);
        CHECK_INT(audit_open(d.fd, MAX, true, &a), 0);
        (void) audit_free(a);
        CHECK_STR(verdict(d.fd, head, &v), "");
        CHECK_INT(v.missing, false);
        for (unsigned emptied = 0; emptied < 2; emptied++) {
                if (emptied)
                        test_dir_text(&d, "audit", "");
                else
                        CHECK_INT(unlinkat(d.fd, "audit", 0), 0);
                CHECK_INT(audit_open(d.fd, MAX, true, &a), 0);
                (void) audit_free(a);
                CHECK(is_in(&d, "audit", 1, "\"missing\":true"));
                CHECK_STR(verdict(d.fd, NULL, &v), "");
                CHECK_INT(v.missing, true);
                CHECK_INT(v.entries, 1);
        }
        a = open_audit(d.fd, 4096);             /* with an older one, which the chain goes on from */
        for (unsigned i = 0; i < 20; i++)
                CHECK_INT(add(a, i, NULL), 0);
        (void) audit_free(a);
        CHECK_INT(unlinkat(d.fd, "audit", 0), 0);
        CHECK_INT(audit_open(d.fd, 4096, true, &a), 0);
        (void) audit_free(a);
        CHECK(is_in(&d, "audit", 1, "\"kind\":\"rotated\"") && is_in(&d, "audit", 1, "\"missing\":true"));
        CHECK_STR(verdict(d.fd, NULL, NULL), "");
}

/* The kernel's own refusal in the middle of a write. */
TEST(a_write_that_fails_half_way_is_a_gap_and_not_a_break) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = open_audit(d.fd, MAX);
        struct rlimit was, small;
        char head[AUDIT_HEAD_SIZE];
        AuditVerdict v;
        struct stat st;
        Fault why = {};

        CHECK_INT(add(a, 0, NULL), 0);
        (void) snprintf(head, sizeof head, "%s", audit_head(a));
        (void) signal(SIGXFSZ, SIG_IGN);
        CHECK(fstatat(d.fd, "audit", &st, 0) == 0 && getrlimit(RLIMIT_FSIZE, &was) == 0);
        small = (struct rlimit) { .rlim_cur = (rlim_t) st.st_size + 50, .rlim_max = was.rlim_max };
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
        for (unsigned i = 0; i < 3; i++) {
                why = (Fault) {};
                CHECK(add(a, i, &why) < 0);
                CHECK_STR(kit_code(&why), "state_degraded");
                CHECK(audit_fault(a) != NULL);
                CHECK_STR(audit_head(a), head);
        }
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &was), 0);
        audit_retry(a);                         /* nothing has to be recorded for it to be well again */
        CHECK(audit_fault(a) == NULL);
        CHECK_INT(add(a, 4, NULL), 0);
        CHECK(audit_fault(a) == NULL);
        CHECK_STR(verdict(d.fd, head, NULL), "");
        CHECK_STR(verdict(d.fd, audit_head(a), &v), "");
        CHECK_INT(v.lost, 3);
        CHECK_INT(v.cut, 0);
        CHECK_INT(v.entries, 4);        /* begun, one, gap, one */
}

TEST(a_full_disk_and_a_read_only_one) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = NULL;
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *filler = kit_fill('x', 64 << 10);
        AuditVerdict v;
        int full, r = 0;

        if (mount("tmpfs", d.path, "tmpfs", MS_NOSUID|MS_NODEV, "size=64k,mode=0700") < 0)
                SKIP("needs to mount");
        fd = open(d.path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        a = open_audit(fd, 1 << 20);
        full = openat(fd, "filler", O_WRONLY|O_CREAT|O_CLOEXEC, 0600);
        CHECK(file_write_full(full, filler, 64 << 10) == -ENOSPC);
        for (unsigned i = 0; i < 100 && r == 0; i++)
                r = add(a, i, NULL);
        CHECK_INT(r, -ENOSPC);
        CHECK(add(a, 0, NULL) == -ENOSPC);
        CHECK_INT(ftruncate(full, 0), 0);
        (void) close(full);
        CHECK_INT(add(a, 0, NULL), 0);
        CHECK_STR(verdict(fd, audit_head(a), &v), "");
        CHECK_INT(v.lost, 2);

        (void) audit_free(a);
        CHECK_INT(mount(NULL, d.path, "none", MS_REMOUNT|MS_RDONLY, "size=64k"), 0);
        a = open_audit(fd, 1 << 20);
        CHECK(audit_fault(a) != NULL && audit_head(a) == NULL);
        CHECK(add(a, 0, NULL) == -EROFS);
        CHECK_INT(mount(NULL, d.path, "none", MS_REMOUNT, "size=64k"), 0);
        CHECK_INT(add(a, 0, NULL), 0);
        CHECK_STR(verdict(fd, audit_head(a), &v), "");
        CHECK_INT(v.lost, 3);
        (void) audit_free(a);
        a = NULL;
        CHECK_INT(umount2(d.path, MNT_DETACH), 0);
}

/* A disk of our own, with an empty file that is to fill it up; -1: not here. */
static int small_disk(const TestDir *d, const char *options, int *ret_filler) {
        int fd;

        if (mount("tmpfs", d->path, "tmpfs", MS_NOSUID|MS_NODEV, options) < 0)
                return -1;
        fd = open(d->path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        *ret_filler = openat(fd, "filler", O_WRONLY|O_CREAT|O_CLOEXEC, 0600);
        return fd;
}

static void fill(int fd) {
        _cleanup_free_ char *filler = kit_fill('x', 4096);

        while (file_write_full(fd, filler, 4096) == 0)
                ;
        CHECK_INT(errno, ENOSPC);
}

TEST(what_is_lost_is_known_after_a_restart) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = NULL;
        _cleanup_close_ int fd = -1;
        AuditVerdict v;
        int filler, r = 0;

        fd = small_disk(&d, "size=128k,mode=0700", &filler);
        if (fd < 0)
                SKIP("needs to mount");
        a = open_audit(fd, 1 << 20);
        fill(filler);
        for (unsigned i = 0; i < 100 && r == 0; i++)
                r = add(a, i, NULL);
        CHECK_INT(r, -ENOSPC);
        CHECK(add(a, 0, NULL) == -ENOSPC);
        CHECK(add(a, 0, NULL) == -ENOSPC);
        (void) audit_free(a);
        a = open_audit(fd, 1 << 20);            /* still full: it cannot say so yet */
        CHECK(audit_fault(a) != NULL);
        (void) audit_free(a);
        CHECK_INT(ftruncate(filler, 0), 0);
        (void) close(filler);
        a = open_audit(fd, 1 << 20);
        CHECK(audit_fault(a) == NULL);
        CHECK_STR(verdict(fd, audit_head(a), &v), "");
        CHECK_INT(v.lost, 3);
        (void) audit_free(a);
        a = open_audit(fd, 1 << 20);            /* and it is said once */
        CHECK_STR(verdict(fd, audit_head(a), &v), "");
        CHECK_INT(v.lost, 3);
        (void) audit_free(a);
        a = NULL;
        CHECK_INT(umount2(d.path, MNT_DETACH), 0);
}

TEST(a_full_disk_gives_up_the_ballast_for_it) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = NULL;
        _cleanup_close_ int fd = -1, filler = -1;
        AuditVerdict v;

        fd = small_disk(&d, "size=20m,mode=0700", &filler);
        if (fd < 0)
                SKIP("needs to mount");
        CHECK_INT(ballast_make(fd), 0);
        a = open_audit(fd, 1 << 20);
        fill(filler);
        for (unsigned i = 0; i < 100; i++)
                CHECK_INT(add(a, i, NULL), 0);
        CHECK(ballast_is_out());
        CHECK_STR(verdict(fd, audit_head(a), &v), "");
        CHECK_INT(v.lost, 0);
        CHECK_INT(v.entries, 101);
        (void) audit_free(a);
        a = NULL;
        CHECK_INT(umount2(d.path, MNT_DETACH), 0);
}

TEST(a_file_that_was_cut_under_a_running_agent_is_set_aside) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = open_audit(d.fd, MAX);
        struct rlimit was, small = {};
        AuditVerdict v;

        for (unsigned i = 0; i < 4; i++)
                CHECK_INT(add(a, i, NULL), 0);
        (void) signal(SIGXFSZ, SIG_IGN);        /* a failed write has it look at the file again */
        CHECK_INT(getrlimit(RLIMIT_FSIZE, &was), 0);
        small.rlim_max = was.rlim_max;
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
        CHECK(add(a, 9, NULL) < 0);
        CHECK_INT(setrlimit(RLIMIT_FSIZE, &was), 0);
        test_dir_text(&d, "audit", "");
        CHECK_INT(add(a, 5, NULL), 0);
        CHECK_STR(verdict(d.fd, audit_head(a), &v), "");
        CHECK(v.aside[0] && v.lost == 1);
}

int main(void) {
        if (hash_init() < 0)
                return 1;
        (void) log_set_level("error");
        return test_run_all();
}
