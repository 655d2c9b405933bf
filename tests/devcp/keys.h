/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which key the secrets of a host are sealed to. */

#include "tests/devcp/server.h"

typedef struct SealingKey {
        char *key_id, *public_key;      /* public_key: base64 of 32 bytes, good to seal to. Both NULL: none */
        char *proof;                    /* base64 of 32 bytes; NULL: none */
} SealingKey;

void key_done(SealingKey *k);

/* Setters for register's fields, in a SealingKey. */
int key_set(const JsonField *f, const cJSON *v, void *place, Fault *reterr);
int key_set_proof(const JsonField *f, const cJSON *v, void *place, Fault *reterr);

/* Takes the key of a register for the host's, or finds that it needs its proof: then *ret_challenge (malloc'd) is what the holder of the
 * known key must answer, else NULL. The host's row must exist. */
int key_take(Server *s, const char *host_id, const SealingKey *key, char **ret_challenge);

/* The host's row in SQL_SEALING_KEY_GET: key_id, public_key, and pending_key_id while there is a conflict. *ret is NULL when it has no
 * key. */
int key_get(Server *s, const char *host_id, cJSON **ret);
