/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The two record kinds seeding needs of ustar: directories and regular files, in memory. Format: POSIX.1-1988 ustar, with pax headers
 * ("path", "size") read but never written by us; names up to 255 bytes by the prefix field. */

#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

typedef struct Tar { char *data; size_t size, allocated; } Tar;         /* start with {} */
void tar_done(Tar *t);

/* name without leading '/'; mode 0644 and the like; mtime 0 so that equal content gives equal bytes. The name "/" is the directory
 * itself that is extracted into ("." and "./" do not reach it: engines pass over them). -ENAMETOOLONG, -EINVAL (a number does not fit),
 * -ENOMEM. */
int tar_add_dir(Tar *t, const char *name, unsigned mode, unsigned uid, unsigned gid);
int tar_add_file(Tar *t, const char *name, unsigned mode, unsigned uid, unsigned gid, const void *data, size_t size);
int tar_end(Tar *t);                    /* two zero blocks */

typedef struct TarEntry {
        char        name[256];
        char        type;               /* '0' file, '5' directory, others as found */
        unsigned    mode, uid, gid;
        const char *data;               /* borrowed from the archive */
        size_t      size;
} TarEntry;

/* Walks an archive of foreign making: *offset starts at 0. 1: an entry; 0: the end; -EBADMSG: damaged (bad checksum, cut short, a size beyond the
 * end). */
int tar_next(const void *data, size_t size, size_t *offset, TarEntry *ret, Fault *reterr);
