/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The state directory as the tool sees it: opened, nothing changed, with the keys that are at hand. */

#include "agent/identity.h"
#include "secrets/vault.h"

typedef struct Store {
        int      state_fd;
        Identity identity;
        char    *org;                           /* as the daemon last had it */
        Arena   *arena;
        Keys    *keys;
        Vault   *vault;
} Store;

/* 0, or an exit code after the reason was printed. */
int  store_open(Store *s);
void store_done(Store *s);
