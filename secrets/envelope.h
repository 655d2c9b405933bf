/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* DSSE: bytes of a declared type with Ed25519 signatures over both. Judged before a byte of the payload is parsed. Format: the DSSE
 * specification, version 1 ("DSSEv1" pre-authentication encoding). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/json.h"

#define TRUSTED_KEYS_MAX 8
#define TRUSTED_KEY_SIZE 32                     /* an Ed25519 public key */

/* Whose signature counts. None: signatures are not judged. */
typedef struct TrustedKeys {
        uint8_t keys[TRUSTED_KEYS_MAX][TRUSTED_KEY_SIZE];
        size_t  n;
} TrustedKeys;

int trusted_keys_add(TrustedKeys *t, const char *base64);       /* -EINVAL: not a key; -E2BIG: one too many */

bool envelope_is(const cJSON *json);            /* {payloadType, payload, signatures} by its shape */

/* The payload of an envelope of `type`: malloc'd, at most max bytes, a NUL behind it. bad_json, unsupported_type, too_large, bad_signature.
 * keyid is only a hint and is not looked at. */
int envelope_open(const cJSON *envelope, const char *type, const TrustedKeys *trusted, size_t max, char **ret, size_t *ret_size, Fault *reterr);
