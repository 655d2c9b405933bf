/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The two credentials this host has towards the control plane. Sources, first found wins: systemd's credentials directory, the files the config
 * names, the platform's environment. An empty or white-space value never counts. They lie in the arena. */

#include "agent/config.h"
#include "base/hash.h"
#include "secrets/vault.h"

#define CREDENTIAL_MAX 4096
#define CREDENTIALS_FOREIGN_MARK "/run/molecule-agent-setup/foreign"    /* made by `molecule-agentctl setup`: some lie here for another machine */

typedef struct Credentials {
        Secret *provision_secret, *admin_token;
        char    configured[HASH_TEXT_SIZE];     /* hash of the provision secret as the sources have it, refreshed or not */
} Credentials;

/* A credential as someone wrote it, without white space at its ends; NULL unless what remains can stand in a header line. */
Secret *credential_from_text(Arena *arena, const char *text);

/* The environment is wiped of them, whichever source will win; *ret keeps what was there, since a reload asks again. */
typedef struct CredentialsEnv { Secret *provision_secret, *admin_token; } CredentialsEnv;
void credentials_take_environment(Arena *arena, CredentialsEnv *ret);
void credentials_env_done(CredentialsEnv *e);

int  credentials_load(const Config *c, Arena *arena, const CredentialsEnv *env, Credentials *ret, Fault *reterr);       /* not_enrolled: one of them is nowhere; credentials_foreign: or is another machine's */
int  credentials_refresh(Credentials *c, const char *secret);   /* a new provision secret; -EINVAL when it is empty or not one; 1: it was the same */
void credentials_done(Credentials *c);                          /* wipes */

/* A refreshed secret outlives the agent in <state>/credentials.seal, beside the hash of the configured one it replaced: while that is what the
 * sources say, the refreshed one wins; a configured one that changed wins over it for good. */
int  credentials_keep(int state_fd, Vault *v, const Credentials *c, Fault *reterr);
int  credentials_check(int state_fd, Vault *v, Fault *reterr);  /* whether the kept one opens; -ENOENT: there is none */
int  credentials_restore(int state_fd, Vault *v, Credentials *c, Fault *reterr);        /* 1: replaced; 0: nothing to replace it with */
