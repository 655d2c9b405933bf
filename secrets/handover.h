/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How a workspace gets its secrets: a directory on tmpfs, <runtime>/ws/<id>/<generation>, that is mounted read-only at /run/molecule. In it the
 * file `env` (what molecule-launch reads) and secrets/NAME. Checked to be memory, ours, and reached by no link, at every write.
 * Format of env: docs/sealed-files.md. */

#include "secrets/vault.h"

#define HANDOVER_PATH_MAX 256

/* What the engine mounts. Returns ret. */
const char *handover_path(const char *runtime, const char *workspace, uint64_t generation, char ret[static HANDOVER_PATH_MAX]);

/* Makes the directory say just what the set says; what is there and right is left alone, so a running container may have it mounted.
 * state_degraded: the place is not one where secrets may be written, or it is full. */
int handover_write(const char *runtime, const char *workspace, uint64_t generation, const SecretSet *set, Fault *reterr);

/* A directory that may be trusted, written to its end. */
bool handover_is_whole(const char *runtime, const char *workspace, uint64_t generation);

int  handover_remove(const char *runtime, const char *workspace, uint64_t generation);
int  handover_remove_all(const char *runtime, const char *workspace);
bool handover_any(const char *runtime, const char *workspace);          /* something of it is there; true when it cannot be looked at */

/* Each generation that has a directory. */
typedef int (*HandoverEach)(uint64_t generation, void *userdata);
int  handover_each(const char *runtime, const char *workspace, HandoverEach fn, void *userdata);
