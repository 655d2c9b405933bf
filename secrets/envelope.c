/* SPDX-License-Identifier: Apache-2.0 */

/* What is signed is "DSSEv1 <length> <type> <length> <payload>". It is fed to the verifier as one piece, since Ed25519 reads its message twice. */

#include "secrets/envelope.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"

#define SIGNATURES_MAX 16
#define PAIRS_MAX      32                       /* of a signature and a key: each costs a walk over the payload, and nothing else may run */

_Static_assert(TRUSTED_KEY_SIZE == crypto_sign_PUBLICKEYBYTES, "as the library has it");

int trusted_keys_add(TrustedKeys *t, const char *base64) {
        _cleanup_free_ uint8_t *key = NULL;
        size_t size;

        if (base64_decode(base64, TRUSTED_KEY_SIZE, &key, &size) < 0 || size != TRUSTED_KEY_SIZE)
                return -EINVAL;
        if (t->n == TRUSTED_KEYS_MAX)
                return -E2BIG;
        memcpy(t->keys[t->n++], key, TRUSTED_KEY_SIZE);
        return 0;
}

bool envelope_is(const cJSON *json) {
        return cJSON_IsObject(json) && json_get_string(json, "payloadType") && json_get_string(json, "payload") &&
               cJSON_IsArray(json_get(json, "signatures"));
}

/* The pre-authentication encoding; malloc'd. */
static uint8_t *encoding(const char *type, const uint8_t *payload, size_t size, size_t *ret_size) {
        char head[160];
        int n = snprintf(head, sizeof head, "DSSEv1 %zu %s %zu ", strlen(type), type, size);
        uint8_t *all = n > 0 && n < (int) sizeof head ? malloc((size_t) n + size) : NULL;

        if (!all)
                return NULL;
        memcpy(all, head, (size_t) n);
        memcpy(all + n, payload, size);
        *ret_size = (size_t) n + size;
        return all;
}

static bool signed_by_one(const cJSON *item, const TrustedKeys *trusted, const uint8_t *message, size_t size) {
        const char *text = json_get_string(item, "sig");
        _cleanup_free_ uint8_t *sig = NULL;
        size_t n;

        if (!text || base64_decode(text, crypto_sign_BYTES, &sig, &n) < 0 || n != crypto_sign_BYTES)
                return false;
        for (size_t i = 0; i < trusted->n; i++)
                if (crypto_sign_verify_detached(sig, message, size, trusted->keys[i]) == 0)
                        return true;
        return false;
}

static int verify(const cJSON *signatures, const char *type, const TrustedKeys *trusted, const uint8_t *payload, size_t size, Fault *reterr) {
        _cleanup_free_ uint8_t *message = NULL;
        const cJSON *item;
        size_t n;

        if (cJSON_GetArraySize(signatures) == 0)
                return fault(reterr, -EPERM, FAULT_BAD_SIGNATURE, "It is not signed, and this host takes only what is (signing_keys).");
        if (cJSON_GetArraySize(signatures) > SIGNATURES_MAX)
                return fault(reterr, -EPERM, FAULT_BAD_SIGNATURE, "It has more than %d signatures.", SIGNATURES_MAX);
        if ((size_t) cJSON_GetArraySize(signatures) * trusted->n > PAIRS_MAX)
                return fault(reterr, -EPERM, FAULT_BAD_SIGNATURE, "Its %d signatures are too many for the %zu keys that this host trusts.",
                             cJSON_GetArraySize(signatures), trusted->n);
        message = encoding(type, payload, size, &n);
        if (!message)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        cJSON_ArrayForEach(item, signatures)
                if (signed_by_one(item, trusted, message, n))
                        return 0;
        return fault(reterr, -EPERM, FAULT_BAD_SIGNATURE, "None of its signatures is by a key that this host trusts (signing_keys).");
}

int envelope_open(const cJSON *envelope, const char *type, const TrustedKeys *trusted, size_t max, char **ret, size_t *ret_size, Fault *reterr) {
        _cleanup_free_ uint8_t *payload = NULL;
        size_t size = 0;
        int r;

        if (!envelope_is(envelope))
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "The envelope is not {payloadType, payload, signatures}.");
        if (!str_equal(json_get_string(envelope, "payloadType"), type))
                return fault(reterr, -EINVAL, FAULT_UNSUPPORTED_TYPE, "The envelope's payloadType is not %s.", type);
        r = base64_decode(json_get_string(envelope, "payload"), max, &payload, &size);
        if (r == -EFBIG)
                return fault(reterr, r, FAULT_TOO_LARGE, "The payload is larger than %zu bytes.", max);
        if (r == -ENOMEM)
                return fault(reterr, r, FAULT_INTERNAL, "Out of memory.");
        if (r < 0)
                return fault(reterr, r, FAULT_BAD_JSON, "The envelope's payload is not base64.");
        if (trusted && trusted->n > 0)
                r = verify(json_get(envelope, "signatures"), type, trusted, payload, size, reterr);
        if (r < 0)
                return r;
        *ret = (char *) TAKE_PTR(payload);
        *ret_size = size;
        return 0;
}
