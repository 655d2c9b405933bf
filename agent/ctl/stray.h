/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Containers that are managed by this agent, but of another host id. Straight from the engine, by the socket that the configuration names. */

#include <stdbool.h>

int stray_list(const char *host_id);    /* prints them; an exit code; silent where there are none */

/* Removes them, running or not; with volumes, those that bear the same labels too. dry_run: only says what would go. An exit code. */
int stray_remove(const char *host_id, bool volumes, bool dry_run);
