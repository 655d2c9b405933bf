/* SPDX-License-Identifier: Apache-2.0 */

/* Records: the header is a function of the kind and of the bytes that follow, so a reader makes the header it expects and compares. Only
 * when they differ is the found one looked into, for words. */

#include "base/record.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"

#define MAGIC      "molecule-agent"
#define KIND_MAX   32
#define HEADER_MAX 160

static unsigned version_now = RECORD_VERSION;

void     record_set_version(unsigned version) { version_now = version; }
unsigned record_version(void) { return version_now; }

static size_t header_make(const char *kind, unsigned version, const char *json, size_t size, char ret[static HEADER_MAX]) {
        char digest[HASH128_TEXT_SIZE];
        int n;

        assert(strlen(kind) <= KIND_MAX);
        hash128_text(json, size, digest);
        n = snprintf(ret, HEADER_MAX, MAGIC " %s v%u %zu %s\n", kind, version, size, digest);
        return (size_t) n;
}

/* The record around a body that may hold anything; malloc'd, a NUL behind it. */
static char *record_make(const char *kind, const char *body, size_t size, size_t *ret_size) {
        char header[HEADER_MAX], *text;
        size_t n = header_make(kind, version_now, body, size, header);

        text = malloc(n + size + 1);
        if (!text)
                return NULL;
        memcpy(text, header, n);
        memcpy(text + n, body, size);
        text[n + size] = 0;
        *ret_size = n + size;
        return text;
}

int record_format(const char *kind, const cJSON *json, char **ret, size_t *ret_size) {
        _cleanup_free_ char *body = NULL;
        char *text;
        size_t size;
        int r;

        body = json_print(json);
        if (!body)
                return -ENOMEM;
        size = strlen(body);
        r = json_check(body, size, NULL);
        if (r < 0)
                return r;                               /* what could not be read back is not written */

        body[size++] = '\n';                            /* in the place of NUL */
        text = record_make(kind, body, size, ret_size);
        if (!text)
                return -ENOMEM;
        *ret = text;
        return 0;
}

/* Kind and version as a header claims them. */
static bool header_read(const char *header, size_t size, char ret_kind[static KIND_MAX + 1], unsigned *ret_version) {
        char copy[HEADER_MAX];

        memcpy(copy, header, size);
        copy[size] = 0;
        return sscanf(copy, MAGIC " %32s v%u ", ret_kind, ret_version) == 2;
}

/* The header is not the expected one: what is it then? */
static int header_judge(const char *header, size_t size, const char *kind, Fault *reterr) {
        char found[KIND_MAX + 1];
        unsigned version;

        if (!header_read(header, size, found, &version))
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "not a record of ours");
        if (!str_equal(found, kind))
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "a record of kind '%s' instead of '%s'", found, kind);
        if (version != RECORD_VERSION && version != version_now)
                return fault(reterr, -EPROTONOSUPPORT, FAULT_STATE_DEGRADED, "a record of version %u in a state of version %u", version, version_now);
        return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "the record is damaged: its length or checksum is another");
}

static bool is_of_version(const char *kind, unsigned version, const char *text, const char *body, size_t size) {
        char expected[HEADER_MAX];
        size_t n = header_make(kind, version, body, size, expected);

        return (size_t) (body - text) == n && memcmp(text, expected, n) == 0;
}

int record_parse(const char *text, size_t size, const char *kind, cJSON **ret, Fault *reterr) {
        const char *newline = memchr(text, '\n', size < HEADER_MAX ? size : HEADER_MAX - 1), *body;
        Fault inner = {};
        int r;

        if (!newline)
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "the record has no header line");
        body = newline + 1;
        size -= (size_t) (body - text);
        if (!is_of_version(kind, RECORD_VERSION, text, body, size) && !is_of_version(kind, version_now, text, body, size))
                return header_judge(text, (size_t) (newline - text), kind, reterr);
        if (size == 0 || body[size - 1] != '\n')
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "the record does not end with a newline");

        r = json_parse(body, size, ret, &inner);
        return r < 0 ? fault(reterr, r, FAULT_STATE_DEGRADED, "inside the record: %s", inner.text) : 0;
}

int record_write(int dirfd, const char *name, const char *kind, const cJSON *json, Fault *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = record_format(kind, json, &text, &size);
        if (r == 0)
                r = file_write_atomic(dirfd, name, text, size);
        return r < 0 ? fault(reterr, r, FAULT_STATE_DEGRADED, "cannot write %s record '%s': %m", kind, name) : 0;
}

int record_read(int dirfd, const char *name, const char *kind, size_t max, cJSON **ret, Fault *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = file_read(dirfd, name, max, &text, &size);
        if (r == -ENOENT)
                return r;
        if (r == -EFBIG)                        /* we wrote no such record */
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "%s record '%s' is larger than %zu bytes", kind, name, max);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "cannot read %s record '%s': %m", kind, name);
        r = record_parse(text, size, kind, ret, reterr);
        return r < 0 ? fault_prefix(reterr, r, "record '%s'", name) : 0;
}

int record_start(int state_fd, const char *name, int r, const Fault *why) {
        if (r != -EBADMSG && r != -EPROTONOSUPPORT)
                return r == -ENOENT ? 0 : r;
        (void) file_set_aside(state_fd, state_fd, name, name, why->text);       /* ignoring: it can be read no more, wherever it lies */
        return 0;
}

/* ── from one version to the next ────────────────────────────────────────────────────────────────────────────── */

typedef struct Whole {
        char       *text;
        const char *body;
        size_t      size;                       /* of the body */
        char        kind[KIND_MAX + 1];
        unsigned    version;
} Whole;

static void whole_done(Whole *w) { free(w->text); }

/* Any undamaged record, of any version. */
static int whole_read(int dirfd, const char *name, size_t max, Whole *ret) {
        const char *newline;
        size_t size;
        int r = file_read(dirfd, name, max, &ret->text, &size);

        if (r < 0)
                return r;
        newline = memchr(ret->text, '\n', size < HEADER_MAX ? size : HEADER_MAX - 1);
        if (!newline || !header_read(ret->text, (size_t) (newline - ret->text), ret->kind, &ret->version))
                return -EBADMSG;
        ret->body = newline + 1;
        ret->size = size - (size_t) (ret->body - ret->text);
        return is_of_version(ret->kind, ret->version, ret->text, ret->body, ret->size) ? 0 : -EBADMSG;
}

int record_version_of(int dirfd, const char *name, size_t max) {
        _cleanup_(whole_done) Whole w = {};
        int r = whole_read(dirfd, name, max, &w);

        return r < 0 ? r : (int) w.version;
}

int record_rewrite(int dirfd, const char *name, size_t max) {
        _cleanup_(whole_done) Whole w = {};
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = whole_read(dirfd, name, max, &w);

        if (r < 0 || w.version == version_now)
                return r;
        text = record_make(w.kind, w.body, w.size, &size);
        return text ? file_write_atomic(dirfd, name, text, size) : -ENOMEM;
}
