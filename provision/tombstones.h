/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The floors of workspaces that were removed, so that a late job of an old generation does not bring one back. One bounded record, `tombstones`, a
 * line of text each; the oldest give way. */

#include "provision/workspace.h"

#define TOMBSTONES_MAX 10000

typedef struct Tombstones Tombstones;

/* A damaged record is set aside and reported; the list starts empty. */
int         tombstones_open(int state_fd, Tombstones **ret, Fault *reterr);
Tombstones *tombstones_free(Tombstones *t);
DEFINE_CLEANUP(Tombstones *, tombstones_free)

int    tombstones_add(Tombstones *t, const Workspace *w);       /* in memory, in place of an older one of this workspace; -ENOMEM */
int    tombstones_save(const Tombstones *t, Fault *reterr);     /* durable when 0 */
size_t tombstones_count(const Tombstones *t);

/* Gives a new record the floors of its tombstone, if there is one; the tombstone goes (from memory: the record wins from now on). */
bool tombstones_take(Tombstones *t, Workspace *w);

/* The same for a look; false: there is none. */
bool tombstones_look(const Tombstones *t, const char *workspace_id, Workspace *ret /* floors, hashes and job ids only */);
