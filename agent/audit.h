/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The audit record: what was done on this host, each entry bound to the one before, so that nothing in the middle can be changed, taken out or put in
 * without a trace. What stands against a new record from the start is the newest entry's number and hash at the control plane.
 *
 * `audit` in the state directory, and `audit.1`, which it became when it was full. One line an entry, a JSON object:
 *
 *      {"seq":N,"at":"TIME","kind":"KIND","prev":"HASH", … what the kind has …,"hash":"HASH"}\n
 *
 * hash: BLAKE2b-256 (no key), 64 lower-case hexadecimal digits, of the line's bytes from its `{` up to, and without, the `,"hash":"` that ends it
 * (the line's last 75 bytes before its newline).
 * prev: the hash of the entry before, also across the two files; 64 zeros in the first entry of a chain, which is of the kind `begun` and has seq 1.
 * seq: one more than that of the entry before.
 * The first entry of a file that goes on with a chain is of the kind `rotated`: `first` is the seq that the file before begins with. */

#include <sys/types.h>

#include "base/hash.h"
#include "base/json.h"

#define AUDIT_FILE     "audit"
#define AUDIT_OLD_FILE "audit.1"
#define AUDIT_LOST_FILE "audit.lost"    /* how many entries are missing, until a `gap` says it; overwritten in place, so that a full disk does not matter */
#define AUDIT_LINE_MAX 8192             /* with its newline */
#define AUDIT_HEAD_SIZE (20 + 1 + HASH_TEXT_SIZE)

typedef struct Audit Audit;

/* Takes up the record where it ends. A last line that a crash tore is cut off, a file whose end does not verify goes to quarantine/ and a new chain
 * begins; an entry says so. expected: this host has had a record, so that one that is not there, or empty, is missing, and an entry says that, too. Where the
 * disk refuses, it is tried again with each entry and each retry. -ENOMEM. */
int    audit_open(int state_fd, uint64_t max_bytes, bool expected, Audit **ret);
Audit *audit_free(Audit *a);
DEFINE_CLEANUP(Audit *, audit_free)
void   audit_limit(Audit *a, uint64_t max_bytes);       /* a file that would become larger is rotated; one old one is kept */

/* Owns fields, an object (NULL counts as out of memory). Durable when 0, and in the file that has the name: where that was removed or replaced, a new chain
 * begins. On a full disk the ballast is given up for it (base/ballast.h). What could not be written is counted, and an entry `gap` says how many were lost
 * once writing works again, also after a restart. */
int  audit_add(Audit *a, const char *kind, cJSON *fields, Fault *reterr);
void audit_retry(Audit *a);                     /* after a failure: whether writing works again, and if so, the `gap` */

const char  *audit_head(Audit *a);              /* "SEQ:HASH" of the newest entry; NULL: there is none */
const Fault *audit_fault(const Audit *a);       /* why the last entry could not be written; NULL: it was */

/* ── what somebody on this host changes ──────────────────────────────────────────────────────────────────────────── */

typedef struct AuditLocal {             /* everything but verb and uid may be NULL, "" or 0 */
        const char  *verb, *reason, *workspace_id, *job_id;
        uint32_t     seconds;
        const Fault *why;               /* set: it was refused, which is one entry more */
        uid_t        uid;
        const char  *claimed_loginuid, *claimed_executable;     /* as whoever it is says; cut off, made printable */
} AuditLocal;

cJSON *audit_local(const AuditLocal *l);        /* of the kind `local`; NULL: out of memory */
bool   audit_noted_verb(const char *verb);      /* whether it is one of those that `POST /v1/note` is for */

/* ── for those that read it ──────────────────────────────────────────────────────────────────────────────────── */

typedef struct AuditLine {
        uint64_t seq;
        char     prev[HASH_TEXT_SIZE], hash[HASH_TEXT_SIZE];
} AuditLine;

/* One line without its newline: 0 where its hash is that of its bytes, and the members that each entry has are there; -EBADMSG with words. ret_json: the
 * whole entry, or NULL. */
int audit_line_read(const char *line, size_t size, AuditLine *ret, cJSON **ret_json, Fault *reterr);

/* Whether b may stand behind a; a NULL: whether it may be the first that is kept. */
int audit_line_follows(const AuditLine *a, const AuditLine *b, Fault *reterr);

int audit_head_parse(const char *text, AuditLine *ret);         /* "SEQ:HASH" into seq and hash; -EINVAL */
