/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of the audit record share: a record in a directory of its own, and what is said of it. */

#include "agent/audit-verify.h"
#include "base/file.h"
#include "base/log.h"
#include "tests/kit.h"

#define MAX   (64 * 1024)
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static inline Audit *open_audit(int fd, uint64_t max) {
        Audit *a = NULL;

        if (!CHECK_INT(audit_open(fd, max, false, &a), 0))
                abort();
        return a;
}

static inline int add(Audit *a, unsigned n, Fault *why) {
        cJSON *json = cJSON_CreateObject();

        if (!json_add_i64(json, "n", n) || !json_add_string(json, "words", "a \"reason\"\n, and \\ more: ü"))
                abort();
        return audit_add(a, "test", json, why);
}

/* A record of `begun` and n entries more. */
static inline void make(const TestDir *d, unsigned n, char head[static AUDIT_HEAD_SIZE]) {
        _cleanup_(audit_freep) Audit *a = open_audit(d->fd, MAX);

        for (unsigned i = 0; i < n; i++)
                CHECK_INT(add(a, i, NULL), 0);
        CHECK_INT(audit_fault(a) != NULL, 0);
        (void) snprintf(head, AUDIT_HEAD_SIZE, "%s", audit_head(a));
}

static inline char *text_of(const TestDir *d, const char *name, size_t *size) {
        char *text;

        if (file_read(d->fd, name, 4 << 20, &text, size) < 0)
                abort();
        return text;
}

static inline char *line_at(char *text, unsigned n) {
        while (--n > 0)
                text = strchr(text, '\n') + 1;
        return text;
}

/* "" where all is well, else "FILE:LINE:SEQ WORDS". Valid until the next call. */
static inline const char *verdict(int fd, const char *head, AuditVerdict *ret) {
        static char text[600];
        AuditVerdict own, *v = ret ?: &own;
        AuditHead told = { .whose = "was told" };
        Fault why = {};
        int r;

        if (head && audit_head_parse(head, &told.line) < 0)
                abort();
        r = audit_verify(fd, false, &told, head ? 1 : 0, v, &why);
        if (r == 0)
                return "";
        (void) snprintf(text, sizeof text, "%s:%lu:%llu %s", v->file ?: "-", v->line, (unsigned long long) v->seq, why.set ? why.text : strerror(-r));
        return text;
}

static inline bool says(const TestDir *d, const char *head, const char *place, const char *words) {
        const char *text = verdict(d->fd, head, NULL);

        if (strncmp(text, place, strlen(place)) == 0 && strstr(text, words))
                return true;
        printf("#   '%s' does not begin with '%s' or lacks '%s'\n", text, place, words);
        return false;
}

static inline bool is_in(const TestDir *d, const char *name, unsigned line, const char *words) {
        size_t size;
        _cleanup_free_ char *text = text_of(d, name, &size);
        const char *at = line_at(text, line);

        return memmem(at, strcspn(at, "\n"), words, strlen(words)) != NULL;
}
