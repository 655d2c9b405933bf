/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Secrets on their way to a host: boxes that only its key opens, and the values behind them, remembered for the day they must be sealed
 * to another key. */

#include "tests/devcp/jobs.h"

#define SEALING_KEY_SIZE      32        /* X25519 */
#define SEALING_KEY_TEXT_SIZE 45        /* its base64 */

/* The base64 of a box for this key. -EBADMSG when no box can be made for it: it is no base64 of 32 bytes, or a point of small order. */
int seal_box(const char *public_key, const void *bytes, size_t size, char **ret);

/* Is a value of this name a secret? */
bool seal_is_secret(const char *name);

/* Moves the secret values of spec/env that are not empty to *ret_secrets, name to value: NULL when there are none. */
int seal_split(cJSON *spec, cJSON **ret_secrets);

/* Adds a box for each of the order's secrets to spec/secrets, and sealed_to where the spec has none. key: a row of SQL_SEALING_KEY_GET. */
int seal_spec(const JobOrder *order, const cJSON *key, cJSON *spec);

/* Remembers what a job carries. key is NULL for boxes that came ready made. */
int seal_remember(Server *s, const char *job_id, const cJSON *secrets, const cJSON *key);

/* The opposite of seal_spec(): takes the job's remembered values out of the boxes of its spec. *ret_secrets is NULL when there are none. */
int seal_recall(Server *s, const char *job_id, cJSON *spec, cJSON **ret_secrets);
