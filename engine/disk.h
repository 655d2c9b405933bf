/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How full the file system is that a path lies on. */

#include <stdint.h>

typedef struct Disk {
        uint64_t free_bytes;            /* for others than root */
        unsigned used_percent;          /* as df counts it, rounded up */
} Disk;

/* Where the agent may not look, the nearest place above counts. 0 or negative errno. */
int disk_look(const char *path, Disk *ret);
