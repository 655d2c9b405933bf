/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A record: one header line, then JSON. `cat` shows it; a flipped bit, a missing or a trailing byte is seen.
 *
 *      molecule-agent <kind> v1 <length of the JSON in bytes> <BLAKE2b-128 of the JSON, hexadecimal>\n
 *      {…}\n                   (the length counts this last newline)
 */

#include "base/fault.h"
#include "base/json.h"

#define RECORD_VERSION 1

/* Durable when it returns 0 (see file_write_atomic). The fault is state_degraded. */
int record_write(int dirfd, const char *name, const char *kind, const cJSON *json, Fault *reterr);

/* -ENOENT where there is none (no fault set); -EBADMSG damaged or of another kind; -EPROTONOSUPPORT a version this program does not
 * read; the words say which. max bounds the file. Limits of json_check() hold for what is inside. */
int record_read(int dirfd, const char *name, const char *kind, size_t max, cJSON **ret, Fault *reterr);

/* The same in memory, for tests and fuzzing. */
int record_format(const char *kind, const cJSON *json, char **ret, size_t *ret_size);   /* -ENOMEM */
int record_parse(const char *text, size_t size, const char *kind, cJSON **ret, Fault *reterr);
