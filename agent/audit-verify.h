/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reading the audit record from the outside, beside an agent that may be writing it: line by line, and as one chain. Memory is one line's. */

#include <stdio.h>

#include "agent/audit.h"

typedef struct AuditReader {
        FILE         *files[2];         /* audit.1 and audit; NULL: not there */
        unsigned      at;
        const char   *file;             /* of the line */
        unsigned long line;             /* from 1 */
        char          text[AUDIT_LINE_MAX + 1];         /* NUL-terminated, without its newline */
        size_t        size;
        bool          torn;             /* the file ended before the line did */
} AuditReader;

int  audit_reader_open(int state_fd, AuditReader *ret);         /* -ENOENT: there is no record */
void audit_reader_close(AuditReader *r);
int  audit_reader_next(AuditReader *r);         /* 1: there is a line; 0: there is no more; -E2BIG: it is longer than any entry, and was passed over */

typedef struct AuditVerdict {
        uint64_t      entries, lost, cut;       /* lost: as gaps say; cut: times that a torn line was cut off */
        bool          missing;                  /* as an entry says: a record was gone at its time */
        AuditLine     first, last;
        char          aside[64];                /* where a broken record lies that this chain took the place of; "" */
        const char   *file;                     /* of the first broken link; NULL: none, or it is no line that is wrong */
        unsigned long line;
        uint64_t      seq;                      /* of that line, 0 where it is no entry */
} AuditVerdict;

/* An entry that has to be in it; of its line seq and hash only. whose: "was told", or who else knows it, for words. */
typedef struct AuditHead {
        AuditLine   line;
        const char *whose;
} AuditHead;

/* Checks both files as one chain, that what is said to be before each is there, and that each head is in it. running: the agent may be writing the last
 * line. 0; -EBADMSG with words and the place; -ENOENT; or the disk's. */
int audit_verify(int state_fd, bool running, const AuditHead *heads, size_t n_heads, AuditVerdict *ret, Fault *reterr);
