/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The pin table: which image, by digest, a runtime means. Kept on disk so that the host goes on with the control plane away; a malformed
 * or empty table never replaces a good one. Format: protocol.md §6. */

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/json.h"
#include "secrets/envelope.h"

#define PINS_PAYLOAD_TYPE "application/vnd.molecule.pins.v1+json"

typedef struct Pin {
        char    *template_name, *region, *image_digest, *image_ref;
        uint64_t image_size_bytes;      /* 0: unknown */
        uint64_t promoted_at;           /* microseconds since the epoch; 0: not said, or no time */
} Pin;

typedef struct Pins Pins;

/* Reads the cache; a damaged one is left out, and one that was not signed where trusted keys are given. trusted is copied. */
int   pins_open(int state_fd, const TrustedKeys *trusted, Pins **ret, Fault *reterr);
void  pins_trust(Pins *p, const TrustedKeys *trusted);          /* from now on; a table that was not signed so is dropped */
Pins *pins_free(Pins *p);
DEFINE_CLEANUP(Pins *, pins_free)

/* Whose tables come from now on: an origin. One of another control plane may be older than what the one before had. Copied. */
void pins_from(Pins *p, const char *source);

/* Takes an answer's body, a table or one in a DSSE envelope, in place of the table: checked, written, then used. bad_signature: trusted keys are given
 * and none of them signed it. bad_json: malformed, empty, two rows for one (template_name, region), or older than the
 * table before from the same source, by its newest promoted_at. The old table stays on any failure. -ENODATA: well-formed, and without a row. */
int pins_replace(Pins *p, const char *body, size_t size, const char *etag, uint64_t now_realtime_usec, Fault *reterr);

const Pin  *pins_find(const Pins *p, const char *runtime, const char *region);  /* region's row, else global's; NULL. Borrowed until replaced */
cJSON      *pins_view(const Pins *p);           /* [{runtime, region, image_ref, image_digest, image_size_bytes?, promoted_at?}]; NULL when out of memory */
bool        pins_has_digest(const Pins *p, const char *digest);
const char *pins_etag(const Pins *p);           /* "" before the first table */
uint64_t    pins_fetched_at(const Pins *p);     /* microseconds since the epoch; 0: never */
