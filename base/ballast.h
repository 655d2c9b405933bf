/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Room that is kept for what must be stored on a disk that is full: a file of no use but its size, `ballast`. file_write_atomic() gives it up at the first
 * ENOSPC and tries once more. One for the process. */

#include <stdbool.h>
#include <stddef.h>

#define BALLAST_BYTES ((size_t) 16 * 1024 * 1024)

/* Makes it, its blocks reserved, where it is not whole; dirfd is borrowed from now on. -ENOSPC: there is no room for it, and it counts as given up. */
int ballast_make(int dirfd);

bool ballast_release(void);             /* true: it was there, and its room is free */
bool ballast_is_out(void);              /* given up, or never had room: what is stored now may be the last */
