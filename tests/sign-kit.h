/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Signs envelopes, by the library and the DSSE specification alone. */

#include <sodium.h>

#include "base/hash.h"
#include "secrets/envelope.h"
#include "tests/kit.h"

typedef struct Signer { uint8_t public[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES]; } Signer;

static inline Signer signer(uint8_t seed) {
        uint8_t bytes[crypto_sign_SEEDBYTES];
        Signer s;

        memset(bytes, seed, sizeof bytes);
        crypto_sign_seed_keypair(s.public, s.secret, bytes);
        return s;
}

static inline TrustedKeys trust(const Signer *s, size_t n) {
        TrustedKeys t = {};

        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *text = base64_encode(s[i].public, sizeof s[i].public);

                if (trusted_keys_add(&t, text) < 0)
                        abort();
        }
        return t;
}

static inline void set_string(cJSON *object, const char *name, const char *value) {
        cJSON_DeleteItemFromObjectCaseSensitive(object, name);
        if (!json_add_string(object, name, value))
                abort();
}

/* Not signed yet. */
static inline cJSON *envelope_with(const char *type, const char *payload64) {
        cJSON *e = kit_json("{\"signatures\":[]}");

        set_string(e, "payloadType", type);
        set_string(e, "payload", payload64);
        return e;
}

static inline void add_signature(cJSON *e, const char *keyid, const char *sig64) {
        cJSON *item = kit_json("{}");

        set_string(item, "keyid", keyid);
        set_string(item, "sig", sig64);
        if (!cJSON_AddItemToArray((cJSON *) json_get(e, "signatures"), item))
                abort();
}

static inline void sign_bytes(cJSON *e, const void *message, size_t size, const Signer *s, int flip) {
        _cleanup_free_ char *text = NULL;
        uint8_t sig[crypto_sign_BYTES];

        crypto_sign_detached(sig, NULL, message, size, s->secret);
        if (flip >= 0)
                sig[flip / 8] ^= (uint8_t) (1 << flip % 8);
        text = base64_encode(sig, sizeof sig);
        add_signature(e, "k", text);
}

static inline void sign_raw(cJSON *e, const void *message, size_t size, const Signer *s) { sign_bytes(e, message, size, s, -1); }

/* As if the payload were of that type. flip: a bit of the signature; negative: none. */
static inline void sign_with_bit(cJSON *e, const char *type, const char *payload, const Signer *s, int flip) {
        _cleanup_free_ char *message = str_printf("DSSEv1 %zu %s %zu %s", strlen(type), type, strlen(payload), payload);

        sign_bytes(e, message, strlen(message), s, flip);
}

static inline void sign(cJSON *e, const char *type, const char *payload, const Signer *s) { sign_with_bit(e, type, payload, s, -1); }

static inline cJSON *signed_envelope(const char *type, const char *payload, const Signer *s, size_t n) {
        _cleanup_free_ char *text = base64_encode(payload, strlen(payload));
        cJSON *e = envelope_with(type, text);

        for (size_t i = 0; i < n; i++)
                sign(e, type, payload, &s[i]);
        return e;
}
