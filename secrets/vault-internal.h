/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What vault.c (a workspace's key, blobs, what goes) and set.c (a generation's set) share. */

#include "base/text.h"
#include "secrets/vault.h"

#define MANIFEST_FILE "manifest.seal"
#define SET_NAME_SIZE 24

struct Vault {
        int         state_fd, fd;               /* fd: sealed/ */
        const Keys *keys;
        char        org[UUID_SIZE];
        VaultStored stored;
        void       *userdata;                   /* of stored */
};

int workspace_dir(const Vault *v, const char *workspace);       /* a descriptor of sealed/<id>, which must be there; -ENOENT */
int workspace_dir_make(const Vault *v, const char *workspace);
/* make: a new one where there is none, or where the one that is there is damaged and goes to quarantine. -ENOENT without make. */
int workspace_key(Vault *v, const char *workspace, bool make, Secret **ret, Fault *reterr);
int key_for(Vault *v, const char *workspace, Secret **ret, Fault *reterr);      /* for a file that is there, so that its key should be: else -EBADMSG */

SealContext own_context(const Vault *v, SealType type, const char *workspace, uint64_t generation, const char *name);    /* views */

void sets_sweep(int workspace_fd);              /* what a crash left of a set's writing */
const char *set_name(uint64_t generation, char ret[static SET_NAME_SIZE]);      /* "g<generation>" */
bool        set_generation(const char *name, uint64_t *ret);
int         vault_usable(const Vault *v, Fault *reterr);        /* -ENOKEY */
