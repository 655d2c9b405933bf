/* SPDX-License-Identifier: Apache-2.0 */

/* What is signed is not the JSON but the bytes it carries, with their type and both lengths in front (DSSE's pre-authentication encoding):
 * whoever checks needs no parser before the signature is known to be good, and a job can never be taken for a pin table. */

#include "tests/devcp/sign.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"

#define KEY_ID_SIZE 17

typedef struct Pair {
        unsigned char secret[crypto_sign_SECRETKEYBYTES];
        char          key_id[KEY_ID_SIZE];
} Pair;

struct Signer {
        Pair  own, other;
        char *public_key;
};

static const char *const kind_names[_SIGNATURE_KIND_MAX] = {
        [SIGNATURE_GOOD] = "good",
        [SIGNATURE_NONE] = "none",
        [SIGNATURE_WRONG] = "wrong",
        [SIGNATURE_OTHER_KEY] = "other-key",
};

int signature_kind_find(const char *word, SignatureKind *ret) {
        for (SignatureKind kind = 0; kind < _SIGNATURE_KIND_MAX; kind++)
                if (str_equal(kind_names[kind], word)) {
                        *ret = kind;
                        return 0;
                }
        return -ENOENT;
}

const char *signature_kind_name(SignatureKind kind) {
        return kind_names[kind];
}

static void pair_make(Pair *p, const unsigned char seed[static crypto_sign_SEEDBYTES],
                      unsigned char public_key[static crypto_sign_PUBLICKEYBYTES]) {
        char hash[HASH_TEXT_SIZE];

        (void) crypto_sign_seed_keypair(public_key, p->secret, seed);
        hash_text(public_key, crypto_sign_PUBLICKEYBYTES, hash);
        (void) snprintf(p->key_id, KEY_ID_SIZE, "%.16s", hash);
}

int signer_new(const char *seed, Signer **ret, Fault *reterr) {
        _cleanup_(signer_freep) Signer *s = calloc(1, sizeof *s);
        unsigned char public_key[crypto_sign_PUBLICKEYBYTES], random[crypto_sign_SEEDBYTES];
        uint8_t *bytes;
        size_t size;
        int r;

        if (!s)
                return -ENOMEM;
        r = base64_decode(seed, crypto_sign_SEEDBYTES, &bytes, &size);
        if (r == -ENOMEM)
                return r;
        if (r == 0 && size == crypto_sign_SEEDBYTES) {
                pair_make(&s->own, bytes, public_key);
                s->public_key = base64_encode(public_key, sizeof public_key);
        }
        if (r == 0) {
                sodium_memzero(bytes, size);
                free(bytes);
        }
        if (r < 0 || size != crypto_sign_SEEDBYTES)
                return fault(reterr, -EINVAL, FAULT_CONFIG_INVALID, "the signing key's file must hold the base64 of 32 bytes");
        randombytes_buf(random, sizeof random);
        pair_make(&s->other, random, public_key);
        sodium_memzero(random, sizeof random);
        if (!s->public_key)
                return -ENOMEM;
        *ret = TAKE_PTR(s);
        return 0;
}

Signer *signer_free(Signer *s) {
        if (!s)
                return NULL;
        free(s->public_key);
        sodium_memzero(s, sizeof *s);
        free(s);
        return NULL;
}

const char *signer_public_key(const Signer *s) {
        return s->public_key;
}

const char *signer_key_id(const Signer *s) {
        return s->own.key_id;
}

/* "DSSEv1", the type and the bytes, each of the two with its length in front, blanks between. */
static int pre_authentication(const char *type, const void *bytes, size_t size, unsigned char **ret, size_t *ret_size) {
        _cleanup_free_ char *head = str_printf("DSSEv1 %zu %s %zu ", strlen(type), type, size);
        size_t head_size = head ? strlen(head) : 0;
        unsigned char *text = head ? malloc(head_size + size) : NULL;

        if (!text)
                return -ENOMEM;
        memcpy(text, head, head_size);
        if (size > 0)
                memcpy(text + head_size, bytes, size);
        *ret = text;
        *ret_size = head_size + size;
        return 0;
}

static int sign(const Signer *s, SignatureKind kind, const char *type, const void *bytes, size_t size, cJSON **ret) {
        const Pair *pair = kind == SIGNATURE_OTHER_KEY ? &s->other : &s->own;
        _cleanup_json_ cJSON *signature = cJSON_CreateObject();
        unsigned char sig[crypto_sign_BYTES];
        _cleanup_free_ unsigned char *text = NULL;
        _cleanup_free_ char *sig_text = NULL;
        size_t text_size;
        int r;

        r = pre_authentication(type, bytes, size, &text, &text_size);
        if (r < 0)
                return r;
        if (kind == SIGNATURE_WRONG)
                text[text_size - 1] ^= 1;
        (void) crypto_sign_detached(sig, NULL, text, text_size, pair->secret);
        sig_text = base64_encode(sig, sizeof sig);
        if (!sig_text || !json_add_string(signature, "keyid", pair->key_id) || !json_add_string(signature, "sig", sig_text))
                return -ENOMEM;
        *ret = TAKE_PTR(signature);
        return 0;
}

int envelope_make(const Signer *s, SignatureKind kind, const char *type, const void *bytes, size_t size, cJSON **ret) {
        _cleanup_json_ cJSON *envelope = cJSON_CreateObject(), *signatures = cJSON_CreateArray(), *signature = NULL;
        _cleanup_free_ char *payload = base64_encode(bytes, size);
        int r;

        if (s && kind != SIGNATURE_NONE) {
                r = sign(s, kind, type, bytes, size, &signature);
                if (r < 0)
                        return r;
                if (!cJSON_AddItemToArray(signatures, signature))
                        return -ENOMEM;
                signature = NULL;
        }
        if (!payload || !json_add_string(envelope, "payloadType", type) || !json_add_string(envelope, "payload", payload) ||
            !json_add_item(envelope, "signatures", TAKE_PTR(signatures)))
                return -ENOMEM;
        *ret = TAKE_PTR(envelope);
        return 0;
}
