/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Files below a directory descriptor: bounded reads, and replacement that a crash at any instant leaves whole, old or new.
 * No path of more than one part travels through the program; names are checked where they are made. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

/* Temp name (0600, O_EXCL) -> write -> fsync -> close -> rename -> fsync of the directory. 0 or negative errno; after a failure the temp
 * file is gone and the old file is as it was (or, when only the directory's fsync failed, either: the caller says "not done"). On a full disk the ballast
 * is given up for it (base/ballast.h). */
int file_write_atomic(int dirfd, const char *name, const void *data, size_t size);

int file_write_full(int fd, const void *data, size_t size);     /* all of it, or negative errno */

/* The whole file, at most max bytes, a NUL behind it (not counted). O_NOFOLLOW, regular files only. -ENOENT, -EFBIG, -ELOOP, … */
int file_read(int dirfd, const char *name, size_t max, char **ret, size_t *ret_size);

/* The same for a path that an operator gave: links are followed. */
int file_read_path(const char *path, size_t max, char **ret, size_t *ret_size);

/* The same for what is made anew anyway and for others to read (mode): no fsync, and no claim on the ballast. */
int file_replace(int dirfd, const char *name, const void *data, size_t size, mode_t mode);

/* Removes the name and fsyncs the directory; 0 also when it was not there. */
int file_remove(int dirfd, const char *name);

/* Makes the directory (0700) if absent, fsyncs the parent, returns a descriptor for it. O_NOFOLLOW. */
int file_open_dir(int dirfd, const char *name);

/* Removes temp files that a crash left (names that begin with '.' and hold a nonce of ours). Returns how many. */
int file_sweep_temp(int dirfd);

/* Calls fn for each regular name in the directory that does not begin with '.', in byte order. Stops at the first negative return. */
int file_each(int dirfd, int (*fn)(int dirfd, const char *name, void *userdata), void *userdata);
int file_each_dir(int dirfd, int (*fn)(int dirfd, const char *name, void *userdata), void *userdata);   /* the same for directories */
int file_each_hidden_dir(int dirfd, int (*fn)(int dirfd, const char *name, void *userdata), void *userdata);    /* whose names begin with '.' */

/* Removes the name and what is below it, at most 8 levels, without following a link, and fsyncs the directory; 0 also when it was not there. */
int file_remove_tree(int dirfd, const char *name);

/* Moves a damaged or foreign file (or directory) out of the way into state_fd's quarantine/, as `as`, with the reason in `as`.reason beside it.
 * The oldest give way beyond QUARANTINE_MAX. Durable when 0. */
#define QUARANTINE_MAX 64
int file_set_aside(int state_fd, int dirfd, const char *name, const char *as, const char *reason);
