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

static size_t header_make(const char *kind, const char *json, size_t size, char ret[static HEADER_MAX]) {
        char digest[HASH128_TEXT_SIZE];
        int n;

        assert(strlen(kind) <= KIND_MAX);
        hash128_text(json, size, digest);
        n = snprintf(ret, HEADER_MAX, MAGIC " %s v%i %zu %s\n", kind, RECORD_VERSION, size, digest);
        return (size_t) n;
}

int record_format(const char *kind, const cJSON *json, char **ret, size_t *ret_size) {
        _cleanup_free_ char *body = NULL;
        char header[HEADER_MAX], *text;
        size_t n, size;
        int r;

        body = json_print(json);
        if (!body)
                return -ENOMEM;
        size = strlen(body);
        r = json_check(body, size, NULL);
        if (r < 0)
                return r;                               /* what could not be read back is not written */

        body[size++] = '\n';                            /* in the place of NUL */
        n = header_make(kind, body, size, header);
        text = malloc(n + size + 1);
        if (!text)
                return -ENOMEM;
        memcpy(text, header, n);
        memcpy(text + n, body, size);
        text[n + size] = 0;
        *ret = text;
        *ret_size = n + size;
        return 0;
}

/* The header is not the expected one: what is it then? */
static int header_judge(const char *header, size_t size, const char *kind, Fault *reterr) {
        char copy[HEADER_MAX], found[KIND_MAX + 1];
        unsigned version;

        memcpy(copy, header, size);
        copy[size] = 0;
        if (sscanf(copy, MAGIC " %32s v%u ", found, &version) != 2)
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "not a record of ours");
        if (!str_equal(found, kind))
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "a record of kind '%s' instead of '%s'", found, kind);
        if (version != RECORD_VERSION)
                return fault(reterr, -EPROTONOSUPPORT, FAULT_STATE_DEGRADED, "a record of version %u, this program reads %i",
                             version, RECORD_VERSION);
        return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "the record is damaged: its length or checksum is another");
}

int record_parse(const char *text, size_t size, const char *kind, cJSON **ret, Fault *reterr) {
        const char *newline = memchr(text, '\n', size < HEADER_MAX ? size : HEADER_MAX - 1), *body;
        char expected[HEADER_MAX];
        Fault inner = {};
        size_t n;
        int r;

        if (!newline)
                return fault(reterr, -EBADMSG, FAULT_STATE_DEGRADED, "the record has no header line");
        body = newline + 1;
        size -= (size_t) (body - text);
        n = header_make(kind, body, size, expected);
        if ((size_t) (body - text) != n || memcmp(text, expected, n) != 0)
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
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "cannot read %s record '%s': %m", kind, name);
        r = record_parse(text, size, kind, ret, reterr);
        return r < 0 ? fault_prefix(reterr, r, "record '%s'", name) : 0;
}
