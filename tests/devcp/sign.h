/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Signed envelopes: DSSE with Ed25519. */

#include <stddef.h>

#include "base/fault.h"
#include "base/json.h"

#define ENVELOPE_ROOM 1024              /* bytes of an envelope besides its payload's base64, and of what is around it */

/* How an envelope is signed. All but the first are what an agent must not take. */
typedef enum SignatureKind {
        SIGNATURE_GOOD,
        SIGNATURE_NONE,
        SIGNATURE_WRONG,                /* by the right key, over something else */
        SIGNATURE_OTHER_KEY,            /* over the right thing, by a key made at start */
        _SIGNATURE_KIND_MAX,
} SignatureKind;

int         signature_kind_find(const char *word, SignatureKind *ret);  /* -ENOENT */
const char *signature_kind_name(SignatureKind kind);

typedef struct Signer Signer;

/* seed: the base64 of an Ed25519 seed's 32 bytes. -EINVAL with words that do not hold it. */
int     signer_new(const char *seed, Signer **ret, Fault *reterr);
Signer *signer_free(Signer *s);
DEFINE_CLEANUP(Signer *, signer_free)

const char *signer_public_key(const Signer *s);         /* base64 */
const char *signer_key_id(const Signer *s);             /* the first 16 hexadecimal digits of the public key's BLAKE2b-256 */

/* {payloadType, payload, signatures} around these bytes; signatures is empty when s is NULL. 0 or -ENOMEM. */
int envelope_make(const Signer *s, SignatureKind kind, const char *type, const void *bytes, size_t size, cJSON **ret);
