/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* BLAKE2b, hexadecimal, base64 and comparison in constant time: the little that everyone may take from libsodium.
 * hash_init() must have been called once. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HASH_SIZE 32                                    /* BLAKE2b-256 */
#define HASH_TEXT_SIZE 65
#define HASH128_TEXT_SIZE 33

typedef struct Hash {                                   /* incremental; opaque, aligned as the library wants */
        __attribute__((aligned(64))) unsigned char state[384];
} Hash;

int  hash_init(void);                                   /* -EIO when the library cannot start */
void hash_begin(Hash *h);
void hash_add(Hash *h, const void *data, size_t size);
void hash_add_string(Hash *h, const char *s);           /* with its length in front, so that fields cannot run together; NULL differs from "" */
void hash_end(Hash *h, char ret[static HASH_TEXT_SIZE]);                        /* lower-case hexadecimal */
void hash_text(const void *data, size_t size, char ret[static HASH_TEXT_SIZE]);         /* BLAKE2b-256 */
void hash128_text(const void *data, size_t size, char ret[static HASH128_TEXT_SIZE]);   /* BLAKE2b-128 */

bool  equal_constant_time(const char *a, const char *b);        /* strings; false when either is NULL; takes the same time whatever differs but the lengths */

char *base64_encode(const void *data, size_t size);             /* RFC 4648 with padding; malloc'd, NULL when out of memory */
int   base64_decode(const char *s, size_t max, uint8_t **ret, size_t *ret_size);  /* strict: no white space, padding required; -EBADMSG,
                                                                   -EFBIG above max bytes decoded, -ENOMEM. *ret has a NUL behind it */
