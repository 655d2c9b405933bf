/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What lies on disk for one workspace under its own key: sealed/<id>/key.seal, one immutable set of secrets a generation, and blobs (payloads, undo
 * sets) that are kept elsewhere. Losing one workspace's key or file never touches another's. Formats: docs/sealed-files.md. */

#include "secrets/hostkey.h"

#define SECRETS_MAX     1024                    /* in one set */
#define SECRETS_SUM_MAX ((size_t) 256 * 1024)   /* bytes of values in one set, as for env */

typedef struct SecretItem { char *name; Secret *value; } SecretItem;
typedef struct SecretSet { SecretItem *items; size_t n; } SecretSet;    /* values lie in the arena: free it soon */
void secret_set_done(SecretSet *s);
int  secret_set_add(SecretSet *s, const char *name, Secret *value);     /* owns value, also on failure; -ENOMEM */

typedef struct Vault Vault;

/* keys is borrowed. org "" (not enrolled): nothing can be sealed or opened. */
int    vault_new(int state_fd, const Keys *keys, const char *org, Vault **ret, Fault *reterr);
int    vault_look(int state_fd, const Keys *keys, const char *org, Vault **ret, Fault *reterr);     /* the same, and no directory is made */
Vault *vault_free(Vault *v);
DEFINE_CLEANUP(Vault *, vault_free)
void         vault_set_org(Vault *v, const char *org);
/* Hears of each generation's set that was made durable, where it was not there yet; names only. NULL: nobody does. */
typedef void (*VaultStored)(const char *workspace, uint64_t generation, size_t n, void *userdata);
void         vault_watch(Vault *v, VaultStored stored, void *userdata);
const char  *vault_org(const Vault *v);
const Fault *vault_fault(const Vault *v);       /* why nothing can be sealed or opened here at all; NULL: it can */
Arena       *vault_arena(const Vault *v);

/* Errors of all that open: -ENOENT (nothing there), -EBADMSG (damaged: secret_undecryptable, words begin with the stable word), -ENOKEY (no root or
 * org, or not this org's: nothing is wrong with the file), or the disk's. */

/* A blob of this workspace: what is "payload" or "undo". Sealing makes the workspace's key where there is none. *ret is malloc'd. */
int vault_seal(Vault *v, const char *workspace, uint64_t generation, const char *what, const void *data, size_t size, uint8_t **ret,
               size_t *ret_size, Fault *reterr);
int vault_open(Vault *v, const char *workspace, uint64_t generation, const char *what, const void *file, size_t size, char **ret,
               size_t *ret_size, Fault *reterr);

/* One secret outside of any set, kept elsewhere. */
int vault_secret_seal(Vault *v, const char *workspace, uint64_t generation, const char *name, const Secret *value, uint8_t **ret,
                      size_t *ret_size, Fault *reterr);
int vault_secret_open(Vault *v, const char *workspace, uint64_t generation, const char *name, const void *file, size_t size, Secret **ret,
                      Fault *reterr);

/* A generation's set: written whole or not at all; one that is there and good stays, one that is damaged is set aside. Durable when 0. */
int vault_set_write(Vault *v, const char *workspace, uint64_t generation, const SecretSet *set, Fault *reterr);
int vault_set_open(Vault *v, const char *workspace, uint64_t generation, SecretSet *ret, Fault *reterr);

/* Sets aside what does not open: the whole set, or the workspace's key. */
int vault_set_aside(Vault *v, const char *workspace, uint64_t generation, const char *reason);
int vault_key_aside(Vault *v, const char *workspace, const char *reason);
int vault_key_check(Vault *v, const char *workspace, Fault *reterr);    /* 0: it opens; -ENOENT, -EBADMSG, -ENOKEY */

void vault_sweep(Vault *v);                     /* at start: what a crash left of a write, below every workspace */

/* Goes on with the next workspace whatever one returns but for negative. Names only. */
typedef int (*VaultEach)(Vault *v, const char *workspace, void *userdata);
int vault_each(Vault *v, VaultEach fn, void *userdata);                 /* every directory of sealed/ */
typedef int (*VaultEachSet)(Vault *v, const char *workspace, uint64_t generation, void *userdata);
int vault_each_set(Vault *v, const char *workspace, VaultEachSet fn, void *userdata);

int  vault_destroy_key(Vault *v, const char *workspace);                /* first: without it, the rest is noise */
int  vault_destroy_set(Vault *v, const char *workspace, uint64_t generation);
int  vault_destroy_sets(Vault *v, const char *workspace);               /* all; the directory too, once no key is in it */
bool vault_has_key(const Vault *v, const char *workspace);              /* unknown is not absent: true when it cannot be looked at */
bool vault_has_sets(const Vault *v, const char *workspace);

/* What is wrong with one set, file by file; for `secrets verify`. Returns how many files are bad; *ret_files: how many there are. */
int vault_verify_set(Vault *v, const char *workspace, uint64_t generation, SealedBad bad, void *userdata, unsigned *ret_files);
