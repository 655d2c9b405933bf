/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Names of files that a job delivers below /configs. */

#include <stdbool.h>

#include "base/fault.h"

/* Backslashes become slashes, "." parts and doubled slashes go. bad_path: empty, absolute, "..", control characters, longer than 255 bytes, deeper
 * than 8, or what the workspace itself owns. *ret is malloc'd. */
int path_clean(const char *name, char **ret, Fault *reterr);

bool path_collides(const char *a, const char *b);       /* equal, or one is a directory of the other */
bool path_is_template_asset(const char *clean);         /* config.yaml, system-prompt.md, prompts/NAME… */
unsigned path_mode(const char *clean);                  /* 0600 for token-like files, else 0644 */
