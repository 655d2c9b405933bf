/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* From a tag to digests, once: a tag resolved twice may be two images. Asks the registry that each runtime's pin names for the manifest of the same
 * repository under that tag, anonymously, and takes the SHA-256 of the manifest's own bytes. */

#include "tests/devcp/server.h"

typedef struct Resolve Resolve;

/* Begins; server_wake() for id when it has ended. tag is checked by the caller. -ENOENT: there is no pin, so no runtime to look for. */
int resolve_begin(Server *s, const char *tag, char ret_id[static UUID_SIZE], Fault *reterr);

/* -EAGAIN while it goes on; 0 and runtime -> NAME@sha256:… (owned by the caller); else what failed, in words. Ends with the answer. */
int resolve_end(Server *s, const char *id, cJSON **ret_images, Fault *reterr);

void resolve_free_all(Server *s);
