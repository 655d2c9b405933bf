/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The two credentials this host has towards the control plane. Sources, first found wins: systemd's credentials directory, the files the config
 * names, the platform's environment. An empty or white-space value never counts. */

#include "agent/config.h"
#include "base/fault.h"

#define CREDENTIAL_MAX 4096

typedef struct Credentials {
        char *provision_secret, *admin_token;
} Credentials;

int  credentials_load(const Config *c, Credentials *ret, Fault *reterr);        /* not_enrolled: one of them is nowhere */
int  credentials_refresh(Credentials *c, const char *secret);   /* a new provision secret; -EINVAL when it is empty or not one; 1: it was the same */
void credentials_done(Credentials *c);                          /* wipes */
