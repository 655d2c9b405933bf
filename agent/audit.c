/* SPDX-License-Identifier: Apache-2.0 */

/* Appending to the audit record. What is known to be durable (size, seq, hash) only moves on after an fsync that succeeded; whatever lies behind it in
 * the file is of a write that failed, and is cut off before the next one. */

#include "agent/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ballast.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

#define ZEROS     "0000000000000000000000000000000000000000000000000000000000000000"
#define HASH_MARK ",\"hash\":\""
#define TRAILER   (sizeof HASH_MARK - 1 + HASH_TEXT_SIZE - 1 + 2)       /* …"} */
#define TAIL_MAX  (2 * AUDIT_LINE_MAX)          /* a whole line, and a torn one behind it */
#define LOST_FORM "%020llu %020llu\n"           /* how many, since when */
#define LOST_SIZE 42

_Static_assert(sizeof ZEROS == HASH_TEXT_SIZE, "as long as a hash");
_Static_assert(TRAILER == 75, "as the header tells other programs");

struct Audit {
        int       state_fd, fd;                 /* fd -1: to be taken up before the next entry */
        uint64_t  max_bytes;
        bool      expected;                     /* this host has had a record */
        bool      known;                        /* the next four are true */
        dev_t     dev;                          /* AUDIT_FILE; ino 0: it is still to be made */
        ino_t     ino;
        uint64_t  size;                         /* durable; 0: it has no entry yet */
        AuditLine last;                         /* the newest entry; seq 0: the chain has none yet */
        uint64_t  lost, lost_since, cut;        /* to be told by the next entries; cut: bytes of a torn line */
        bool      missing;                      /* the same: there was no record where one was expected */
        char      aside[64];                    /* where a broken record lies; "" */
        char      head[AUDIT_HEAD_SIZE];
        Fault     fault;
};

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

int audit_line_read(const char *line, size_t size, AuditLine *ret, cJSON **ret_json, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        const char *mark = size > TRAILER ? line + size - TRAILER : NULL, *prev;
        int64_t seq;
        int r;

        if (!mark || memcmp(mark, HASH_MARK, sizeof HASH_MARK - 1) != 0 || memcmp(line + size - 2, "\"}", 2) != 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The line does not end in a hash.");
        hash_text(line, (size_t) (mark - line), ret->hash);
        if (memcmp(mark + sizeof HASH_MARK - 1, ret->hash, HASH_TEXT_SIZE - 1) != 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The hash is not the line's: something in it was changed.");
        r = json_parse(line, size, &json, reterr);
        if (r < 0)
                return r;
        prev = json_get_string(json, "prev");
        seq = json_get_i64(json, "seq", 0);
        if (seq <= 0 || !prev || strlen(prev) != HASH_TEXT_SIZE - 1 || !json_get_string(json, "kind") || !json_get_string(json, "at"))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The line is no entry: seq, at, kind or prev is missing.");
        ret->seq = (uint64_t) seq;
        memcpy(ret->prev, prev, HASH_TEXT_SIZE);
        if (ret_json)
                *ret_json = TAKE_PTR(json);
        return 0;
}

int audit_line_follows(const AuditLine *a, const AuditLine *b, Fault *reterr) {
        if (!a && b->seq > 1)
                return 0;
        if (b->seq != (a ? a->seq + 1 : 1))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "Entry %llu stands where %llu belongs: entries were taken out, put in or moved.",
                             (unsigned long long) b->seq, (unsigned long long) (a ? a->seq + 1 : 1));
        if (strcmp(b->prev, a ? a->hash : ZEROS) != 0)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "prev is not the hash of the entry before: one of the two is another one.");
        return 0;
}

int audit_head_parse(const char *text, AuditLine *ret) {
        const char *colon = strchr(text, ':');
        char digits[21] = {};

        if (!colon || (size_t) (colon - text) >= sizeof digits || strlen(colon + 1) != HASH_TEXT_SIZE - 1 ||
            strspn(colon + 1, "0123456789abcdef") != HASH_TEXT_SIZE - 1)
                return -EINVAL;
        memcpy(digits, text, (size_t) (colon - text));
        memcpy(ret->hash, colon + 1, HASH_TEXT_SIZE);
        return u64_parse(digits, &ret->seq) < 0 || ret->seq == 0 ? -EINVAL : 0;
}

/* The last whole line of the file, and how long the file is up to its end; -ENODATA where there is none. Above *ret_size lies what a crash tore. */
static int read_tail(int fd, uint64_t size, AuditLine *ret, uint64_t *ret_size, Fault *reterr) {
        _cleanup_free_ char *tail = malloc(TAIL_MAX);
        size_t n = size < TAIL_MAX ? (size_t) size : TAIL_MAX;
        const char *end, *begin;
        ssize_t got;

        if (!tail)
                return -ENOMEM;
        got = pread(fd, tail, n, (off_t) (size - n));
        if (got < 0)
                return -errno;
        if ((size_t) got != n)
                return -EIO;
        end = memrchr(tail, '\n', n);
        if (!end && n < size)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The last line is longer than any entry.");
        *ret_size = end ? size - n + (size_t) (end + 1 - tail) : 0;
        if (!end)
                return -ENODATA;
        begin = memrchr(tail, '\n', (size_t) (end - tail));
        if (!begin && n < size)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The last line is longer than any entry.");
        begin = begin ? begin + 1 : tail;
        return audit_line_read(begin, (size_t) (end - begin), ret, NULL, reterr);
}

/* The seq of the file's first line; 0 where that is no entry. */
static uint64_t read_first(int fd) {
        _cleanup_free_ char *head = malloc(AUDIT_LINE_MAX);
        ssize_t n = head ? pread(fd, head, AUDIT_LINE_MAX, 0) : -1;
        const char *end = n > 0 ? memchr(head, '\n', (size_t) n) : NULL;
        AuditLine first = {};

        return end && audit_line_read(head, (size_t) (end - head), &first, NULL, NULL) >= 0 ? first.seq : 0;
}

/* Only files that are ours to read: a link or a directory under the name is as good as a broken record. */
static int open_file(const Audit *a, const char *name, int flags, struct stat *ret_st) {
        _cleanup_close_ int fd = TEMP_FAILURE_RETRY(openat(a->state_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600));

        if (fd < 0)
                return errno == ELOOP || errno == EISDIR || errno == ENXIO ? -EBADMSG : -errno;
        if (fstat(fd, ret_st) < 0)
                return -errno;
        return S_ISREG(ret_st->st_mode) ? TAKE_FD(fd) : -EBADMSG;
}

/* ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static char *make_line(const Audit *a, const char *kind, const cJSON *fields, char hash[static HASH_TEXT_SIZE]) {
        _cleanup_free_ char *members = json_print(fields), *text = NULL;
        char now[TIME_TEXT_SIZE];
        size_t n = members ? strlen(members) : 0;

        if (n < 2)
                return NULL;
        text = str_printf("{\"seq\":%llu,\"at\":\"%s\",\"kind\":\"%s\",\"prev\":\"%s\"%s%.*s", (unsigned long long) a->last.seq + 1,
                          time_text(now_realtime(), now), kind, a->last.seq ? a->last.hash : ZEROS, n > 2 ? "," : "", (int) n - 2, members + 1);
        if (!text)
                return NULL;
        hash_text(text, strlen(text), hash);
        return str_printf("%s" HASH_MARK "%s\"}\n", text, hash);
}

static void let_go(Audit *a) {
        if (a->fd >= 0)
                (void) close(a->fd);
        a->fd = -1;
}

static int make_file(Audit *a) {
        struct stat st;

        a->fd = open_file(a, AUDIT_FILE, O_RDWR | O_APPEND | O_CREAT | O_EXCL, &st);
        if (a->fd < 0)
                return a->fd;
        a->dev = st.st_dev;
        a->ino = st.st_ino;
        return fsync(a->state_fd) < 0 ? -errno : 0;
}

static int rotate(Audit *a) {
        if (renameat(a->state_fd, AUDIT_FILE, a->state_fd, AUDIT_OLD_FILE) < 0)
                return -errno;
        let_go(a);
        a->size = a->ino = 0;
        return make_file(a);
}

/* One entry behind the last; 1, and nothing done, where max is not 0 and the file would become larger. A descriptor that failed once is not asked again. */
static int append(Audit *a, const char *kind, const cJSON *fields, uint64_t max) {
        char hash[HASH_TEXT_SIZE];
        _cleanup_free_ char *line = fields ? make_line(a, kind, fields, hash) : NULL;
        size_t size = line ? strlen(line) : 0;
        int r;

        if (!line || size > AUDIT_LINE_MAX)
                return line ? -E2BIG : -ENOMEM;
        if (max && a->size > 0 && a->size + size > max)
                return 1;
        r = file_write_full(a->fd, line, size);
        if (r < 0 || fsync(a->fd) < 0)
                return r < 0 ? r : -errno;
        a->size += size;
        a->last.seq++;
        memcpy(a->last.hash, hash, sizeof hash);
        return 0;
}

/* What a file begins with: a chain, or where the one before begins. */
static int put_first(Audit *a) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        bool begun = a->last.seq == 0;
        struct stat st;
        _cleanup_close_ int old = begun ? -1 : open_file(a, AUDIT_OLD_FILE, O_RDONLY, &st);
        int r;

        if (!json || !(begun ? json_add_string(json, "set_aside", a->aside[0] ? a->aside : NULL)
                             : json_add_i64(json, "first", old < 0 ? 0 : (int64_t) read_first(old))) ||
            (a->missing && !json_add_bool(json, "missing", true)))
                return -ENOMEM;
        r = append(a, begun ? "begun" : "rotated", json, 0);
        a->missing = a->missing && r < 0;
        return r;
}

static int put(Audit *a, const char *kind, const cJSON *fields) {
        int r = append(a, kind, fields, a->max_bytes);

        if (r > 0) {
                r = rotate(a);
                if (r >= 0)
                        r = put_first(a);
                if (r >= 0)
                        r = append(a, kind, fields, 0);
        }
        if (r < 0 && r != -E2BIG && r != -ENOMEM)
                let_go(a);
        return r;
}

/* ── taking up ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* Both files: what goes before the broken one proves nothing about what comes now. */
static int set_aside(Audit *a, const char *reason) {
        static const char *const names[] = { AUDIT_OLD_FILE, AUDIT_FILE };
        unsigned long long now = now_realtime();
        char as[sizeof a->aside];
        int r;

        a->aside[0] = 0;
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                (void) snprintf(as, sizeof as, "%s-%llu", names[i], now);
                if (faccessat(a->state_fd, names[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
                        continue;
                r = file_set_aside(a->state_fd, a->state_fd, names[i], as, reason);
                if (r < 0)
                        return r;
                memcpy(a->aside, as, sizeof as);
        }
        log_error("The audit record is broken%s%s, and a new chain begins: %s", a->aside[0] ? "; it lies in quarantine/" : "", a->aside, reason);
        a->last = (AuditLine) {};
        a->size = a->cut = a->ino = 0;
        a->known = true;
        return 0;
}

/* The end of the file before, where this one has no entry yet. */
static int read_old(const Audit *a, AuditLine *ret, Fault *reterr) {
        struct stat st = {};
        _cleanup_close_ int fd = open_file(a, AUDIT_OLD_FILE, O_RDONLY, &st);
        uint64_t size = (uint64_t) st.st_size, whole = 0;
        int r;

        if (fd == -ENOENT)
                return 0;
        r = fd < 0 ? fd : read_tail(fd, size, ret, &whole, reterr);
        if (r == -ENODATA || (r == 0 && whole != size))
                r = -EBADMSG;                   /* it was whole when it was rotated */
        return r == -EBADMSG ? fault(reterr, r, FAULT_BAD_JSON, AUDIT_OLD_FILE " does not end in an entry.") : r;
}

static int look(Audit *a, const struct stat *st, Fault *reterr) {
        AuditLine last = {};
        uint64_t size = (uint64_t) st->st_size, whole = a->size;
        int r;

        if (a->ino && (st->st_ino != a->ino || st->st_dev != a->dev))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "It is another file than the one that was written to.");
        if (a->known && size < a->size)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "It is shorter than what was written.");
        r = read_tail(a->fd, a->known ? a->size : size, &last, &whole, reterr);
        if (r == -ENODATA)
                r = read_old(a, &last, reterr);
        if (r < 0)
                return r;
        if (a->known && (whole != a->size || last.seq != a->last.seq || strcmp(last.hash, a->last.hash) != 0))
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "It does not end in what was written last.");
        if (whole < size && ftruncate(a->fd, (off_t) whole) < 0)
                return -errno;
        if (!a->known) {
                a->cut = size - whole;
                a->missing = a->expected && whole == 0;
                if (a->missing)
                        log_error("The audit record is not there, though this host has had one: it was removed.");
        }
        a->dev = st->st_dev;
        a->ino = st->st_ino;
        a->size = whole;
        a->last = last;
        a->known = true;
        return fsync(a->fd) < 0 || fsync(a->state_fd) < 0 ? -errno : 0;
}

/* Whether what is written goes into the file that has the name. */
static bool is_there(const Audit *a) {
        struct stat st;

        return fstatat(a->state_fd, AUDIT_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == a->ino && st.st_dev == a->dev;
}

static int open_record(Audit *a, struct stat *ret_st) {
        int fd = open_file(a, AUDIT_FILE, O_RDWR | O_APPEND, ret_st), r;

        if (fd != -ENOENT)
                return fd;
        if (a->known && a->size > 0) {
                r = set_aside(a, "It is not there any more: it was removed while the agent ran.");
                if (r < 0)
                        return r;
                a->missing = true;
        }
        return open_file(a, AUDIT_FILE, O_RDWR | O_APPEND | O_CREAT, ret_st);
}

static int take_up(Audit *a) {
        Fault why = {};
        struct stat st = {};
        int r = 0;

        if (a->fd >= 0 && !is_there(a))
                let_go(a);
        for (unsigned tries = 0; a->fd < 0 && tries < 2; tries++) {
                a->fd = open_record(a, &st);
                r = a->fd < 0 ? a->fd : look(a, &st, &why);
                if (r < 0)
                        let_go(a);
                if (r == -EBADMSG)
                        r = set_aside(a, why.set ? why.text : "It is not a file.");
                if (r < 0)
                        return r;
        }
        return a->fd < 0 ? -EBADMSG : 0;
}

static int put_number(Audit *a, const char *kind, const char *name, uint64_t n, uint64_t since) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_i64(json, name, (int64_t) n) || (since && !json_add_time(json, "since", since)))
                return -ENOMEM;
        return put(a, kind, json);
}

/* ── what could not be written ───────────────────────────────────────────────────────────────────────────────── */

/* The block that it lies in was had at the start. Where the disk takes nothing at all, memory has it until the end of the process. */
static void keep_lost(const Audit *a) {
        char text[LOST_SIZE + 1];
        struct stat st;
        _cleanup_close_ int fd = open_file(a, AUDIT_LOST_FILE, O_RDWR | O_CREAT, &st);

        (void) snprintf(text, sizeof text, LOST_FORM, (unsigned long long) a->lost, (unsigned long long) a->lost_since);
        if (fd >= 0 && pwrite(fd, text, LOST_SIZE, 0) == LOST_SIZE)
                (void) fsync(fd);
}

static void read_lost(Audit *a) {
        char text[LOST_SIZE + 1] = {};
        unsigned long long lost, since;
        struct stat st;
        _cleanup_close_ int fd = open_file(a, AUDIT_LOST_FILE, O_RDONLY, &st);

        if (fd >= 0 && pread(fd, text, LOST_SIZE, 0) == LOST_SIZE && sscanf(text, "%20llu %20llu", &lost, &since) == 2) {
                a->lost = lost;
                a->lost_since = since;
        } else
                keep_lost(a);
}

/* What must be said before anything else: what a file begins with; what was cut off; what could not be written. */
static int put_news(Audit *a) {
        int r = a->size == 0 ? put_first(a) : 0;

        if (r < 0)
                let_go(a);
        if (r >= 0 && a->cut > 0) {
                log_warning("The audit record ended in a torn line; %llu bytes were cut off.", (unsigned long long) a->cut);
                r = put_number(a, "recovered", "cut_bytes", a->cut, 0);
                a->cut = r < 0 ? a->cut : 0;
        }
        if (r >= 0 && a->lost > 0) {
                r = put_number(a, "gap", "lost", a->lost, a->lost_since);
                if (r >= 0) {
                        a->lost = a->lost_since = 0;
                        keep_lost(a);
                }
        }
        return r;
}

static int noted(Audit *a, int r, Fault *reterr) {
        a->fault = (Fault) {};
        if (r >= 0)
                return 0;
        (void) fault(&a->fault, r, FAULT_STATE_DEGRADED, "The audit record cannot be written: %m");
        if (reterr)
                *reterr = a->fault;
        return r;
}

/* kind NULL: only what is to be said anyway. */
static int try_once(Audit *a, const char *kind, const cJSON *fields) {
        int r = take_up(a);

        if (r >= 0)
                r = put_news(a);
        return r >= 0 && kind ? put(a, kind, fields) : r;
}

static int try(Audit *a, const char *kind, const cJSON *fields) {
        int r = try_once(a, kind, fields);
        return r == -ENOSPC && ballast_release() ? try_once(a, kind, fields) : r;
}

int audit_add(Audit *a, const char *kind, cJSON *fields, Fault *reterr) {
        _cleanup_json_ cJSON *own = fields;
        int r = try(a, kind, own);

        if (r < 0) {
                a->lost_since = a->lost++ == 0 ? now_realtime() : a->lost_since;
                keep_lost(a);
        }
        return noted(a, r, reterr);
}

void audit_retry(Audit *a) { (void) noted(a, try(a, NULL, NULL), NULL); }

int audit_open(int state_fd, uint64_t max_bytes, bool expected, Audit **ret) {
        Audit *a = calloc(1, sizeof *a);

        if (!a)
                return -ENOMEM;
        *a = (Audit) { .state_fd = state_fd, .fd = -1, .max_bytes = max_bytes, .expected = expected };
        read_lost(a);
        audit_retry(a);
        *ret = a;
        return 0;
}

Audit *audit_free(Audit *a) {
        if (a)
                let_go(a);
        free(a);
        return NULL;
}

const char *audit_head(Audit *a) {
        (void) snprintf(a->head, sizeof a->head, "%llu:%s", (unsigned long long) a->last.seq, a->last.hash);
        return a->last.seq ? a->head : NULL;
}

void         audit_limit(Audit *a, uint64_t max_bytes) { a->max_bytes = max_bytes; }
const Fault *audit_fault(const Audit *a) { return a->fault.set ? &a->fault : NULL; }
