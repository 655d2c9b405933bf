/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a container said, made fit to leave the host: no value of a secret of its set, in clear or in base64, nothing that is assigned to a
 * secret-named word, no control characters. Pure. */

#include <stddef.h>

#include "secrets/vault.h"

#define REDACT_VALUE_MIN 4      /* a shorter value would blank every other word */

/* In place; the text only grows shorter. text ends in a NUL that size does not count. Returns the new size. Broken UTF-8 becomes '?'. 0 may be
 * returned; -ENOMEM (negative) leaves nothing of the text. */
ptrdiff_t redact(const SecretSet *set, char *text, size_t size);

/* The last bytes of a text, from the beginning of a line where one is near. Borrowed from it. */
const char *text_tail(const char *text, size_t size, size_t max);
