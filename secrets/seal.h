/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One sealed file, MSEAL1: what it is for stands in its head in clear and is authenticated with its content, so that a file that was moved,
 * renamed or put back from an older generation does not open. Pure but for the nonce. Format: docs/sealed-files.md. */

#include "secrets/arena.h"

#define KEY_SIZE         32
#define SEAL_SECRET_MAX  ((size_t) 64 * 1024)           /* of plaintext */
#define SEAL_MANIFEST_MAX ((size_t) 256 * 1024)
#define SEAL_BLOB_MAX    ((size_t) 32 * 1024 * 1024)
#define SEAL_HEADER_MAX  1024
#define SEAL_KEY_MAX     (SEAL_HEADER_MAX + KEY_SIZE + 16)         /* the largest file of a wrapped key */
#define SEAL_FILE_MAX    (SEAL_BLOB_MAX + 64 + 16 + SEAL_HEADER_MAX)   /* the largest file there can be */

typedef enum SealType {
        SEAL_WORKSPACE_KEY = 1,         /* under a root key */
        SEAL_SECRET,                    /* the next three under their workspace's key */
        SEAL_MANIFEST,
        SEAL_BLOB,                      /* "payload", "undo" */
        SEAL_HOST_KEY,                  /* under a root key, workspace "host" */
        _SEAL_TYPE_MAX,
} SealType;

/* What a file is for: written into its head, or expected there. Borrowed. */
typedef struct SealContext {
        SealType    type;
        const char *org, *workspace, *name;     /* name "" for types 1, 3, 5 */
        uint64_t    generation;                 /* 0 for types 1, 5 */
} SealContext;

/* The key of one epoch; NULL: unknown. */
typedef const uint8_t *(*SealRoot)(uint32_t epoch, const void *userdata);

/* Where the key comes from: types 1 and 5 by the epoch in the file, the others from their workspace. */
typedef struct SealKeys {
        SealRoot       root;
        const void    *userdata;
        const uint8_t *workspace;               /* KEY_SIZE bytes */
} SealKeys;

/* *ret: the whole file, malloc'd. key: the root of `epoch` for types 1 and 5, the workspace's otherwise; KEY_SIZE bytes. -E2BIG, -EINVAL, -ENOMEM. */
int seal_make(const SealContext *c, uint32_t epoch, const uint8_t *key, const void *data, size_t size, Arena *arena, uint8_t **ret,
              size_t *ret_size, Fault *reterr);
/* The same with a nonce of 24 bytes that is given: for test vectors. */
int seal_make_with(const SealContext *c, uint32_t epoch, const uint8_t *key, const uint8_t *nonce, const void *data, size_t size, Arena *arena,
                   uint8_t **ret, size_t *ret_size, Fault *reterr);

/* Opens what agrees with *c in every part. Words begin with the stable word of docs/sealed-files.md ("bad_tag: …"); the code is
 * secret_undecryptable. -EBADMSG; -ENOKEY: no root of that epoch; -EXDEV: a good key of another organization; -ENOMEM: the arena
 * is full. */
int seal_open(const SealContext *c, const SealKeys *keys, const uint8_t *file, size_t size, Arena *arena, Secret **ret, Fault *reterr);
/* The same into ordinary memory, for what is too large for the arena: types 3 and 4. A NUL follows. */
int seal_open_plain(const SealContext *c, const SealKeys *keys, const uint8_t *file, size_t size, char **ret, size_t *ret_size, Fault *reterr);

int seal_epoch(const uint8_t *file, size_t size, uint32_t *ret);        /* as the head says, not yet authenticated; -EBADMSG */

/* BLAKE2b-256(key = root, message = "mseal/1/check"), in hexadecimal: tells a wrong root key from a damaged file. */
#define ROOT_CHECK_SIZE 65
void seal_root_check(const uint8_t *root, char ret[static ROOT_CHECK_SIZE]);
