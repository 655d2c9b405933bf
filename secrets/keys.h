/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The root keys, by epoch: systemd credentials `seal-key.e<epoch>`, else files keys/root.e<epoch> that this host made itself; 32 raw bytes each.
 * The identity record remembers a check of each, so that a wrong root is told from a damaged file. Format: docs/sealed-files.md. */

#include "secrets/seal.h"

#define ROOTS_MAX 8                             /* epochs known at a time; two while a rotation is under way */
#define KEY_FILE  "key.seal"                    /* a workspace's key, below sealed/<id> */

typedef struct RootCheck { uint32_t epoch; char check[ROOT_CHECK_SIZE]; } RootCheck;

/* What the identity record holds about the roots. */
typedef struct RootChecks {
        RootCheck items[ROOTS_MAX];
        size_t    n;
        uint32_t  wrapped;                      /* every key on disk is wrapped by this epoch; 0: none is yet */
} RootChecks;

typedef struct Keys Keys;

/* Reads the roots that there are, makes the first one where there never was one, and brings *checks up to date; *ret_changed: the caller stores
 * it before anything is sealed. A missing or wrong root is no failure here: keys_fault() says it, and nothing can be sealed or opened with
 * it. Negative only when the disk or memory fails. state_fd and arena are borrowed. */
int   keys_open(int state_fd, Arena *arena, RootChecks *checks, bool *ret_changed, Keys **ret, Fault *reterr);
int   keys_look(int state_fd, Arena *arena, const RootChecks *checks, Keys **ret, Fault *reterr);      /* the same, and nothing made or changed */
Keys *keys_free(Keys *k);
DEFINE_CLEANUP(Keys *, keys_free)

const Fault   *keys_fault(const Keys *k);       /* secret_undecryptable: why nothing can be sealed; NULL: all is well */
uint32_t       keys_epoch(const Keys *k);       /* the current one; 0 with a fault */
const uint8_t *keys_root(uint32_t epoch, const void *keys);     /* as SealRoot */
SealKeys       keys_for(const Keys *k, const uint8_t *workspace_key);   /* everything that opens: views into *k */
bool           keys_were_made_now(const Keys *k);       /* … and that keys_open() made it */
bool           keys_are_made_here(const Keys *k);       /* the current root is a file of this disk, not a credential */
Arena         *keys_arena(const Keys *k);

bool keys_is_host_key(const char *name);         /* whether a file of keys/ is called as a host key is: host.*.seal */
bool keys_any_wrapped(int state_fd);            /* whether any key that a root wraps is left: sealed/<id>/key.seal, keys/host.*.seal */

typedef struct Rewrapped {
        unsigned wrapped, unreadable;           /* files wrapped anew; files left as they are since they do not open */
        Fault    first;                         /* why, of the first of those */
} Rewrapped;

/* Wraps anew, under the current epoch, every key that an older one wraps: sealed/<id>/key.seal and keys/host.*.seal, each replaced atomically.
 * checks->wrapped moves when all is done; the caller stores it. Negative when the disk fails: to be done again at the next start. */
int keys_rewrap(const Keys *k, int state_fd, RootChecks *checks, Rewrapped *ret, Fault *reterr);
