/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A record: one header line, then JSON. `cat` shows it; a flipped bit, a missing or a trailing byte is seen.
 *
 *      molecule-agent <kind> v1 <length of the JSON in bytes> <BLAKE2b-128 of the JSON, hexadecimal>\n
 *      {…}\n                   (the length counts this last newline)
 */

#include "base/fault.h"
#include "base/json.h"

/* The newest format that this program writes. A state is of one version: of this one, or of the one before for as long as an upgrade is young
 * (agent/format.h), so that one step back always works. Then that is written, and both are read. */
#ifndef RECORD_VERSION
#define RECORD_VERSION 1
#endif

void     record_set_version(unsigned version);                  /* of the state: RECORD_VERSION, or the one before */
unsigned record_version(void);

/* The version that an undamaged record has, known to this program or not; -ENOENT, -EBADMSG. */
int record_version_of(int dirfd, const char *name, size_t max);

/* Writes a record again as record_version() has it, its content untouched. 0 also where it was so already. Negative where it is no record, or damaged. */
int record_rewrite(int dirfd, const char *name, size_t max);

/* Durable when it returns 0 (see file_write_atomic). The fault is state_degraded. */
int record_write(int dirfd, const char *name, const char *kind, const cJSON *json, Fault *reterr);

/* -ENOENT where there is none (no fault set); -EBADMSG damaged or of another kind; -EPROTONOSUPPORT a version this program does not
 * read; the words say which. max bounds the file: what is larger is damaged. Limits of json_check() hold for what is inside. */
int record_read(int dirfd, const char *name, const char *kind, size_t max, cJSON **ret, Fault *reterr);

/* What a start makes of a record that was read with r: 0 also where there is none, and where it is damaged: then it goes to quarantine/, with why it
 * is. Otherwise r: what cannot be read now is not damaged. */
int record_start(int state_fd, const char *name, int r, const Fault *why);

/* Reading and writing in memory, for tests and fuzzing. */
int record_format(const char *kind, const cJSON *json, char **ret, size_t *ret_size);   /* -ENOMEM */
int record_parse(const char *text, size_t size, const char *kind, cJSON **ret, Fault *reterr);
