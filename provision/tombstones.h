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

int    tombstones_add(Tombstones *t, const Workspace *w);       /* in memory, in place of an older one of this workspace; -ENOMEM: nothing has changed */
int    tombstones_save(const Tombstones *t, Fault *reterr);     /* durable when 0 */
size_t tombstones_count(const Tombstones *t);

/* The floors, hashes and job ids of a tombstone, for a look or for a new record; false: there is none. It stays: where there is a record, the record wins. */
bool tombstones_look(const Tombstones *t, const char *workspace_id, Workspace *ret);
