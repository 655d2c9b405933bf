/* SPDX-License-Identifier: Apache-2.0 */

/* libsodium's BLAKE2b, base64 and comparison behind our own shapes. */

#include "base/hash.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(crypto_generichash_state) <= sizeof(((Hash *) NULL)->state), "the library's state fits");
_Static_assert(_Alignof(crypto_generichash_state) <= _Alignof(Hash), "and is aligned");
_Static_assert(HASH_TEXT_SIZE == 2 * HASH_SIZE + 1, "two digits a byte");

static crypto_generichash_state *hash_state(Hash *h) {
        return (crypto_generichash_state *) (void *) h->state;
}

int hash_init(void) {
        return sodium_init() < 0 ? -EIO : 0;
}

void hash_begin(Hash *h) {
        (void) crypto_generichash_init(hash_state(h), NULL, 0, HASH_SIZE);
}

void hash_add(Hash *h, const void *data, size_t size) {
        (void) crypto_generichash_update(hash_state(h), data, size);
}

void hash_add_string(Hash *h, const char *s) {
        uint64_t n = s ? strlen(s) : UINT64_MAX;
        uint8_t length[8];

        for (size_t i = 0; i < sizeof length; i++)
                length[i] = (uint8_t) (n >> 8 * i);
        hash_add(h, length, sizeof length);
        if (s)
                hash_add(h, s, n);
}

void hash_end(Hash *h, char ret[static HASH_TEXT_SIZE]) {
        uint8_t digest[HASH_SIZE];

        (void) crypto_generichash_final(hash_state(h), digest, sizeof digest);
        (void) sodium_bin2hex(ret, HASH_TEXT_SIZE, digest, sizeof digest);
        sodium_memzero(h, sizeof *h);
}

static void hash_whole(const void *data, size_t size, size_t digest_size, char *ret) {
        uint8_t digest[HASH_SIZE];

        (void) crypto_generichash(digest, digest_size, data, size, NULL, 0);
        (void) sodium_bin2hex(ret, 2 * digest_size + 1, digest, digest_size);
}

void hash_text(const void *data, size_t size, char ret[static HASH_TEXT_SIZE]) {
        hash_whole(data, size, HASH_SIZE, ret);
}

void hash128_text(const void *data, size_t size, char ret[static HASH128_TEXT_SIZE]) {
        hash_whole(data, size, HASH_SIZE / 2, ret);
}

bool equal_constant_time(const char *a, const char *b) {
        size_t n;

        if (!a || !b)
                return false;
        n = strlen(a);
        return n == strlen(b) && sodium_memcmp(a, b, n) == 0;
}

char *base64_encode(const void *data, size_t size) {
        size_t n;
        char *s;

        if (size > SIZE_MAX / 2)
                return NULL;
        n = sodium_base64_encoded_len(size, sodium_base64_VARIANT_ORIGINAL);
        s = malloc(n);
        return s ? sodium_bin2base64(s, n, data, size, sodium_base64_VARIANT_ORIGINAL) : NULL;
}

int base64_decode(const char *s, size_t max, uint8_t **ret, size_t *ret_size) {
        size_t n = strlen(s), size, done;
        uint8_t *data;

        for (size_t i = 0; i < n; i++)
                if ((unsigned char) s[i] >= 0x80)       /* libsodium 1.0.18 takes some of these for letters */
                        return -EBADMSG;
        if (n % 4 != 0)
                return -EBADMSG;
        size = n / 4 * 3;
        if (n > 0)
                size -= (size_t) (s[n - 1] == '=') + (s[n - 1] == '=' && s[n - 2] == '=');
        if (size > max)
                return -EFBIG;

        data = malloc(size + 1);
        if (!data)
                return -ENOMEM;
        if (sodium_base642bin(data, size, s, n, NULL, &done, NULL, sodium_base64_VARIANT_ORIGINAL) != 0 || done != size) {
                sodium_memzero(data, size);             /* half of what may be a secret */
                free(data);
                return -EBADMSG;
        }
        data[size] = 0;
        *ret = data;
        *ret_size = size;
        return 0;
}
