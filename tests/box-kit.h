/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Boxes as a control plane makes them, by the library and docs/sealed-files.md alone. */

#include <sodium.h>

#include "tests/sealed-kit.h"

typedef struct Box { uint8_t *data; size_t size; } Box;

/* To a public key in base64. */
static inline Box box_to(const char *public, const char *org, const char *workspace, const char *name, const void *value, size_t size) {
        const char *parts[] = { "molecule.secret.v1", org, workspace, name };
        uint8_t *plain = calloc(1, size + 600);
        Box b = { .data = malloc(size + 700) };
        uint8_t key[32];
        size_t n = 0;

        if (!plain || !b.data || sodium_base642bin(key, 32, public, strlen(public), NULL, NULL, NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
                abort();
        for (size_t i = 0; i < ELEMENTS(parts); i++) {
                strcpy((char *) plain + n, parts[i]);
                n += strlen(parts[i]) + 1;
        }
        memcpy(plain + n, value, size);
        b.size = n + size + crypto_box_SEALBYTES;
        if (crypto_box_seal(b.data, plain, n + size, key) != 0)
                abort();
        free(plain);
        return b;
}

static inline Box box_for(const SealedKit *k, const char *org, const char *workspace, const char *name, const void *value, size_t size) {
        return box_to(host_keys_public(k->host), org, workspace, name, value, size);
}

static inline void box_done(Box *b) { free(b->data); }

/* What is in it, as text, valid until the next call; NULL when it does not open. */
static inline const char *box_open_as(const SealedKit *k, const char *id, const char *name, const Box *b) {
        static char text[200];
        Secret *s = NULL;

        if (host_keys_open_box(k->host, id, KIT_WORKSPACE, name, b->data, b->size, &s, NULL) < 0)
                return NULL;
        (void) snprintf(text, sizeof text, "%s", secret_text(s));
        secret_free(s);
        return text;
}

static inline const char *box_open(const SealedKit *k, const char *id, const Box *b) { return box_open_as(k, id, "API_TOKEN", b); }
