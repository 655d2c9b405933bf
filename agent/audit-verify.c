/* SPDX-License-Identifier: Apache-2.0 */

/* The first thing that is wrong is all that is told: behind a broken link, nothing proves anything. */

#include "agent/audit-verify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"

/* ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static int open_one(int state_fd, const char *name, FILE **ret, struct stat *ret_st) {
        _cleanup_close_ int fd = openat(state_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

        *ret = NULL;
        *ret_st = (struct stat) {};
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        if (fstat(fd, ret_st) < 0)
                return -errno;
        if (!S_ISREG(ret_st->st_mode))
                return -EBADFD;
        *ret = fdopen(fd, "re");
        if (!*ret)
                return -errno;
        TAKE_FD(fd);
        return 0;
}

/* The newer one first: where it is rotated in between, both are the same file, and it is begun anew. */
int audit_reader_open(int state_fd, AuditReader *ret) {
        struct stat newer, older;
        int r;

        for (unsigned tries = 0; tries < 5; tries++) {
                *ret = (AuditReader) {};
                r = open_one(state_fd, AUDIT_FILE, &ret->files[1], &newer);
                if (r >= 0)
                        r = open_one(state_fd, AUDIT_OLD_FILE, &ret->files[0], &older);
                if (r >= 0 && !ret->files[0] && !ret->files[1])
                        return -ENOENT;
                if (r >= 0 && !(ret->files[0] && ret->files[1] && newer.st_ino == older.st_ino && newer.st_dev == older.st_dev))
                        return 0;
                audit_reader_close(ret);
                if (r < 0)
                        return r;
        }
        return -EAGAIN;
}

void audit_reader_close(AuditReader *r) {
        for (size_t i = 0; i < ELEMENTS(r->files); i++) {
                if (r->files[i])
                        (void) fclose(r->files[i]);
                r->files[i] = NULL;
        }
}

static int read_line(AuditReader *r, FILE *f) {
        int c, result = 1;

        for (r->size = 0; (c = getc_unlocked(f)) != EOF && c != '\n';)
                if (r->size < AUDIT_LINE_MAX)
                        r->text[r->size++] = (char) c;
                else
                        result = -E2BIG;
        r->text[r->size] = 0;
        if (ferror(f))
                return -EIO;
        r->torn = c == EOF;
        return r->torn && r->size == 0 ? 0 : result;
}

int audit_reader_next(AuditReader *r) {
        static const char *const names[] = { AUDIT_OLD_FILE, AUDIT_FILE };

        for (; r->at < ELEMENTS(r->files); r->at++) {
                int n = r->files[r->at] ? read_line(r, r->files[r->at]) : 0;

                r->line = r->file == names[r->at] ? r->line + 1 : 1;
                r->file = names[r->at];
                if (n != 0)
                        return n;
        }
        return 0;
}

/* ── the chain ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* What the entries themselves say of breaks in time. */
static void note(AuditVerdict *v, const cJSON *json) {
        const char *kind = json_get_string(json, "kind");

        if (str_equal(kind, "gap"))
                v->lost += (uint64_t) json_get_i64(json, "lost", 0);
        else if (str_equal(kind, "recovered"))
                v->cut++;
        else if (str_equal(kind, "begun"))
                (void) snprintf(v->aside, sizeof v->aside, "%s", json_get_string(json, "set_aside") ?: "");
        v->missing = v->missing || json_get_bool(json, "missing", false);
}

/* What stands before a file's first entry is only known from that entry. */
static int check_first(const AuditLine *entry, const cJSON *json, const AuditVerdict *v, Fault *reterr) {
        unsigned long long first = (unsigned long long) json_get_i64(json, "first", 0);

        if (entry->seq == 1)
                return 0;
        if (v->entries == 0 && strcmp(v->file, AUDIT_FILE) == 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "Entry %llu is the first, and nothing is kept in " AUDIT_OLD_FILE ": what was before it was taken out.",
                             (unsigned long long) entry->seq);
        if (!str_equal(json_get_string(json, "kind"), "rotated"))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "No file begins with an entry such as %llu: what was before it was taken out.",
                             (unsigned long long) entry->seq);
        if (v->entries > 0 && first != v->first.seq)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, AUDIT_OLD_FILE " begins with entry %llu, and began with %llu when it was rotated.",
                             (unsigned long long) v->first.seq, first);
        return 0;
}

static int check_line(const AuditReader *reader, int n, const AuditHead *heads, size_t n_heads, AuditVerdict *v, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        AuditLine entry = {};
        int r;

        v->file = reader->file;
        v->line = reader->line;
        v->seq = 0;
        if (n < 0)
                return n == -E2BIG ? fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The line is longer than any entry.") : n;
        if (reader->torn)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The line has no end: a crash tore it (the agent cuts it off at its start), or the file was cut.");
        r = audit_line_read(reader->text, reader->size, &entry, &json, reterr);
        if (r < 0)
                return r;
        v->seq = entry.seq;
        r = reader->line == 1 ? check_first(&entry, json, v, reterr) : 0;
        if (r >= 0)
                r = audit_line_follows(v->entries ? &v->last : NULL, &entry, reterr);
        for (size_t i = 0; r >= 0 && i < n_heads; i++)
                if (heads[i].line.seq == entry.seq && strcmp(heads[i].line.hash, entry.hash) != 0)
                        r = fault(reterr, -EBADMSG, FAULT_BAD_JSON, "Entry %llu is not the one that %s: the record was written anew.",
                                  (unsigned long long) entry.seq, heads[i].whose);
        if (r < 0)
                return r;
        if (v->entries++ == 0)
                v->first = entry;
        v->last = entry;
        note(v, json);
        return 0;
}

static int check_heads(const AuditHead *heads, size_t n, const AuditVerdict *v, Fault *reterr) {
        for (size_t i = 0; i < n; i++) {
                unsigned long long told = heads[i].line.seq;

                if (heads[i].line.seq > v->last.seq)
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The record ends with entry %llu, and entry %llu %s: its end was cut off, or an old one was put back.",
                                     (unsigned long long) v->last.seq, told, heads[i].whose);
                if (heads[i].line.seq < v->first.seq)
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "Entry %llu, which %s, is not kept any more: the record begins with %llu. Compare with a newer one.",
                                     told, heads[i].whose, (unsigned long long) v->first.seq);
        }
        return 0;
}

int audit_verify(int state_fd, bool running, const AuditHead *heads, size_t n_heads, AuditVerdict *ret, Fault *reterr) {
        _cleanup_(audit_reader_close) AuditReader reader = {};
        bool newer = running;                   /* between two files there is none for a moment */
        int n, r;

        *ret = (AuditVerdict) {};
        r = audit_reader_open(state_fd, &reader);
        if (r < 0)
                return r;
        while ((n = audit_reader_next(&reader)) != 0) {
                if (n > 0 && reader.torn && running && strcmp(reader.file, AUDIT_FILE) == 0)
                        break;                  /* it is being written */
                r = check_line(&reader, n, heads, n_heads, ret, reterr);
                if (r < 0)
                        return r;
                newer = newer || strcmp(reader.file, AUDIT_FILE) == 0;
        }
        ret->file = NULL;
        ret->line = ret->seq = 0;
        if (ret->entries == 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The record is empty.");
        if (!newer)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, AUDIT_FILE " has no entry, and " AUDIT_OLD_FILE " has: it was removed, or a crash came between the two.");
        return check_heads(heads, n_heads, ret, reterr);
}
