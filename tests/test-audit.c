/* SPDX-License-Identifier: Apache-2.0 */

/* agent/audit, agent/audit-verify: one chain over restarts and rotation; each way of tampering is named at its place; what a crash tore is told by the record
 * itself. */

#include <errno.h>
#include <sodium.h>

#include "tests/audit-kit.h"

TEST(a_line_is_what_the_header_says_it_is) {
        _cleanup_dir_ TestDir d = test_dir();
        char head[AUDIT_HEAD_SIZE], hash[HASH_TEXT_SIZE], before[HASH_TEXT_SIZE] = ZEROS, expected[300];
        _cleanup_free_ char *text = NULL;
        size_t size;
        char *line, *end;

        make(&d, 3, head);
        line = text = text_of(&d, "audit", &size);
        for (unsigned seq = 1; seq <= 4; seq++, line = end + 1) {
                unsigned char digest[32];

                end = strchr(line, '\n');
                if (!CHECK(end && end - line > 75))
                        return;
                crypto_generichash(digest, sizeof digest, (const unsigned char *) line, (size_t) (end - line) - 75, NULL, 0);
                sodium_bin2hex(hash, sizeof hash, digest, sizeof digest);
                CHECK(strncmp(end - 66, hash, 64) == 0);
                (void) snprintf(expected, sizeof expected, "{\"seq\":%u,\"at\":\"", seq);
                CHECK(strncmp(line, expected, strlen(expected)) == 0);
                (void) snprintf(expected, sizeof expected, "\"kind\":\"%s\",\"prev\":\"%s\",", seq == 1 ? "begun" : "test", before);
                CHECK(memmem(line, (size_t) (end - line), expected, strlen(expected)) != NULL);
                memcpy(before, hash, sizeof hash);
        }
        CHECK_INT(line - text, size);
        (void) snprintf(expected, sizeof expected, "4:%s", hash);
        CHECK_STR(head, expected);
        CHECK_STR(verdict(d.fd, head, NULL), "");
}

TEST(it_goes_on_over_restarts) {
        _cleanup_dir_ TestDir d = test_dir();
        char first[AUDIT_HEAD_SIZE], head[AUDIT_HEAD_SIZE] = "";
        AuditVerdict v;

        make(&d, 2, first);
        for (unsigned i = 0; i < 5; i++)
                make(&d, 1, head);
        CHECK_STR(verdict(d.fd, first, NULL), "");
        CHECK_STR(verdict(d.fd, head, &v), "");
        CHECK_INT(v.entries, 8);
        CHECK_INT(v.last.seq, 8);
        CHECK_INT(v.lost + v.cut, 0);
        CHECK_STR(v.aside, "");
}

TEST(tampering_is_named_at_its_place) {
        _cleanup_dir_ TestDir d = test_dir();
        char head[AUDIT_HEAD_SIZE];
        _cleanup_free_ char *good = NULL, *bad = NULL;
        size_t size;
        char *p, *q, *after;

        make(&d, 6, head);
        good = text_of(&d, "audit", &size);
        for (size_t i = 0; i < size; i++) {     /* any one byte */
                bad = memcpy(malloc(size), good, size);
                bad[i] ^= 1;
                test_dir_write(&d, "audit", bad, size);
                if (strncmp(verdict(d.fd, NULL, NULL), "audit:", 6) != 0)
                        CHECK(!"a changed byte is not seen");
                bad = (free(bad), NULL);
        }
        bad = memcpy(malloc(size + 1), good, size + 1);
        p = strstr(line_at(bad, 4), "reason");
        p[0] = 'R';
        test_dir_write(&d, "audit", bad, size);
        CHECK(says(&d, NULL, "audit:4:0 ", "something in it was changed"));

        memcpy(bad, good, size + 1);            /* a line taken out */
        p = line_at(bad, 3);
        q = line_at(bad, 4);
        memmove(p, q, strlen(q) + 1);
        test_dir_text(&d, "audit", bad);
        CHECK(says(&d, NULL, "audit:3:4 ", "Entry 4 stands where 3 belongs"));

        p = line_at(good, 3), q = line_at(good, 4), after = line_at(good, 5);   /* two lines swapped */
        (void) snprintf(bad, size + 1, "%.*s%.*s%.*s%s", (int) (p - good), good, (int) (after - q), q, (int) (q - p), p, after);
        test_dir_text(&d, "audit", bad);
        CHECK(says(&d, NULL, "audit:3:4 ", "Entry 4 stands where 3 belongs"));

        (void) snprintf(bad, size + 1, "%s", line_at(good, 2));                 /* the first one */
        test_dir_text(&d, "audit", bad);
        CHECK(says(&d, NULL, "audit:1:2 ", "Entry 2 is the first"));

        memcpy(bad, good, size + 1);            /* the end: no chain sees that, the head does */
        *line_at(bad, 6) = 0;
        test_dir_text(&d, "audit", bad);
        CHECK_STR(verdict(d.fd, NULL, NULL), "");
        CHECK(says(&d, head, "-:0:0 ", "ends with entry 5, and entry 7 was told"));

        memcpy(bad, good, size + 1);            /* within a line */
        test_dir_write(&d, "audit", bad, size - 40);
        CHECK(says(&d, NULL, "audit:7:0 ", "has no end"));
        test_dir_text(&d, "audit", "");
        CHECK(says(&d, NULL, "-:0:0 ", "is empty"));
}

/* Root can write a whole new chain; the head that was told names it. */
TEST(a_record_that_was_written_anew_is_another_one) {
        _cleanup_dir_ TestDir d = test_dir(), other = test_dir();
        char head[AUDIT_HEAD_SIZE], forged[AUDIT_HEAD_SIZE];
        _cleanup_free_ char *text = NULL;
        size_t size;

        make(&d, 4, head);
        (void) usleep(2000);                    /* another time is another record */
        make(&other, 9, forged);
        text = text_of(&other, "audit", &size);
        test_dir_write(&d, "audit", text, size);
        CHECK_STR(verdict(d.fd, forged, NULL), "");
        CHECK(says(&d, head, "audit:5:5 ", "not the one that was told"));
}

TEST(rotation_keeps_the_chain_and_one_old_file) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = open_audit(d.fd, 4096);
        char early[AUDIT_HEAD_SIZE];
        struct stat st;
        AuditVerdict v;

        (void) snprintf(early, sizeof early, "%s", audit_head(a));
        for (unsigned i = 0; i < 200; i++) {
                if (i % 7 == 0) {
                        (void) audit_free(a);
                        a = open_audit(d.fd, 4096);
                }
                CHECK_INT(add(a, i, NULL), 0);
                if (verdict(d.fd, audit_head(a), &v)[0] || v.last.seq < i + 2)
                        CHECK(!"the chain is broken");
                CHECK(fstatat(d.fd, "audit", &st, 0) == 0 && st.st_size <= 4096);
        }
        CHECK(fstatat(d.fd, "audit.1", &st, 0) == 0 && st.st_size <= 4096 && st.st_size > 3000);
        CHECK(v.first.seq > 150);
        CHECK_INT(test_dir_count(&d, "."), 3);
        CHECK(says(&d, early, "-:0:0 ", "not kept any more"));
        CHECK(unlinkat(d.fd, "audit", 0) == 0);         /* a crash between the rename and the new file */
        (void) audit_free(a);
        a = open_audit(d.fd, 4096);
        CHECK_INT(add(a, 0, NULL), 0);
        CHECK_STR(verdict(d.fd, audit_head(a), NULL), "");
}

/* Each file says what was before it, so that nothing can be taken out at the front of either, or the front file as a whole. */
TEST(what_is_taken_out_at_the_front_is_named) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = open_audit(d.fd, 4096);
        _cleanup_free_ char *old = NULL, *now = NULL;
        unsigned half;
        size_t size;

        for (unsigned i = 0; i < 36; i++)
                CHECK_INT(add(a, i, NULL), 0);
        CHECK_STR(verdict(d.fd, audit_head(a), NULL), "");
        old = text_of(&d, "audit.1", &size);
        now = text_of(&d, "audit", &size);
        CHECK(strstr(line_at(old, 1), "\"kind\":\"rotated\"") && strstr(line_at(now, 1), "\"kind\":\"rotated\""));

        test_dir_text(&d, "audit.1", line_at(old, 3));
        CHECK(says(&d, NULL, "audit.1:1:", "No file begins with an entry such as"));
        CHECK(unlinkat(d.fd, "audit.1", 0) == 0);
        CHECK(says(&d, NULL, "audit:1:", "nothing is kept in audit.1"));
        test_dir_text(&d, "audit.1", "");
        CHECK(says(&d, NULL, "audit:1:", "nothing is kept in audit.1"));
        for (half = 2; half < 5; half++) {      /* the newer file as both */
                test_dir_write(&d, "audit.1", line_at(now, 2), (size_t) (line_at(now, half + 1) - line_at(now, 2)));
                test_dir_text(&d, "audit", line_at(now, half + 1));
                CHECK(says(&d, NULL, "audit.1:1:", "No file begins"));
                test_dir_write(&d, "audit.1", now, (size_t) (line_at(now, half) - now));
                test_dir_text(&d, "audit", line_at(now, half));
                CHECK(says(&d, NULL, "audit:1:", "No file begins"));
        }
        test_dir_text(&d, "audit.1", old);
        test_dir_text(&d, "audit", line_at(now, 2));
        CHECK(says(&d, NULL, "audit:1:", "No file begins"));
        CHECK(unlinkat(d.fd, "audit.1", 0) == 0);
        CHECK(says(&d, NULL, "audit:1:", "nothing is kept"));
        test_dir_text(&d, "audit.1", old);
        test_dir_text(&d, "audit", "");
        CHECK(says(&d, NULL, "-:0:0 ", "audit has no entry"));
        CHECK(unlinkat(d.fd, "audit", 0) == 0);
        CHECK(says(&d, NULL, "-:0:0 ", "audit has no entry"));
}

TEST(what_a_crash_tore_is_cut_off_and_told) {
        _cleanup_dir_ TestDir d = test_dir();
        char head[AUDIT_HEAD_SIZE];
        _cleanup_free_ char *good = NULL;
        AuditVerdict v;
        size_t size, last;

        make(&d, 3, head);
        good = text_of(&d, "audit", &size);
        last = (size_t) (line_at(good, 4) - good);
        for (size_t cut = last + 1; cut < size; cut++) {
                test_dir_write(&d, "audit", good, cut);
                (void) audit_free(open_audit(d.fd, MAX));
                if (verdict(d.fd, NULL, &v)[0] || v.last.seq != 4 || v.cut != 1 || v.entries != 4 || test_dir_has(&d, "quarantine"))
                        CHECK(!"a torn line is not cut off");
        }
        test_dir_write(&d, "audit", good, 20);          /* the very first line */
        (void) audit_free(open_audit(d.fd, MAX));
        CHECK_STR(verdict(d.fd, NULL, &v), "");
        CHECK_INT(v.entries, 2);
}

static int find_aside(int dirfd, const char *name, void *userdata) {
        (void) dirfd;
        *(unsigned *) userdata += strncmp(name, "audit", 5) == 0 && !strstr(name, ".reason");
        return 0;
}

TEST(a_broken_end_is_evidence_and_a_new_chain_says_so) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = NULL;
        char head[AUDIT_HEAD_SIZE];
        _cleanup_free_ char *text = NULL;
        unsigned aside = 0;
        AuditVerdict v;
        size_t size;
        int fd;

        make(&d, 3, head);
        text = text_of(&d, "audit", &size);
        strstr(line_at(text, 4), "reason")[0] = 'R';
        test_dir_write(&d, "audit", text, size);
        test_dir_text(&d, "audit.1", "what was before\n");
        a = open_audit(d.fd, MAX);
        CHECK_INT(add(a, 1, NULL), 0);
        CHECK_STR(verdict(d.fd, audit_head(a), &v), "");
        CHECK_INT(v.entries, 2);
        CHECK(strncmp(v.aside, "audit-", 6) == 0);
        fd = openat(d.fd, "quarantine", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        CHECK_INT(file_each(fd, find_aside, &aside), 0);
        CHECK_INT(aside, 2);
        CHECK(faccessat(fd, v.aside, F_OK, 0) == 0);
        (void) close(fd);
        CHECK(says(&d, head, "-:0:0 ", "ends with entry 2, and entry 4 was told"));
}

TEST(a_name_that_is_no_file_is_set_aside) {
        static const char *const kinds[] = { "link", "directory", "fifo" };

        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_(audit_freep) Audit *a = NULL;
                AuditVerdict v;

                CHECK_INT(i == 0 ? symlinkat("/etc/passwd", d.fd, "audit") : i == 1 ? mkdirat(d.fd, "audit", 0700) : mkfifoat(d.fd, "audit", 0600), 0);
                a = open_audit(d.fd, MAX);
                CHECK_INT(add(a, 1, NULL), 0);
                CHECK_STR(verdict(d.fd, audit_head(a), &v), "");
                CHECK(v.aside[0] != 0);
        }
}

TEST(what_is_too_long_or_nothing_is_lost_and_no_more) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(audit_freep) Audit *a = open_audit(d.fd, MAX);
        _cleanup_free_ char *filler = kit_fill('x', AUDIT_LINE_MAX);
        cJSON *json = cJSON_CreateObject();
        AuditVerdict v;

        CHECK(json_add_string(json, "words", filler));
        CHECK_INT(audit_add(a, "test", json, NULL), -E2BIG);
        CHECK_INT(audit_add(a, "test", NULL, NULL), -ENOMEM);
        CHECK_INT(add(a, 1, NULL), 0);
        CHECK_STR(verdict(d.fd, audit_head(a), &v), "");
        CHECK_INT(v.lost, 2);
        test_dir_text(&d, "audit", filler);
        CHECK(says(&d, NULL, "audit:1:0 ", "has no end"));
}

TEST(heads_are_read_strictly) {
        static const char *const bad[] = { "", "1", ":" ZEROS, "0:" ZEROS, "01:" ZEROS, "-1:" ZEROS, "1:" ZEROS "0", "1:0", " 1:" ZEROS, "1:" ZEROS " ",
                                           "1:A000000000000000000000000000000000000000000000000000000000000000", "99999999999999999999:" ZEROS };
        AuditLine l;

        for (size_t i = 0; i < ELEMENTS(bad); i++)
                if (audit_head_parse(bad[i], &l) != -EINVAL)
                        CHECK(!"taken");
        CHECK_INT(audit_head_parse("18446744073709551615:" ZEROS, &l), 0);
        CHECK(l.seq == UINT64_MAX);
        CHECK_STR(l.hash, ZEROS);
}

int main(void) {
        if (hash_init() < 0)
                return 1;
        (void) log_set_level("error");
        return test_run_all();
}
