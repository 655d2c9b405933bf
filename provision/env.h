/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which environment may reach a workspace: the platform's last line of defence, so a rule broken refuses the job, it never drops a key. */

#include "provision/spec.h"

/* Every rule that needs no box to be opened, over `env` and `secrets` alike; words hold names, never values. bad_env, privileged_env_forbidden,
 * missing_required_env, bad_secret. */
int env_check(const WorkspaceSpec *s, Fault *reterr);

bool env_name_is_valid(const char *name);               /* ^[A-Za-z_][A-Za-z0-9_]{0,127}$ */
bool env_value_is_marker(const char *value);            /* a disclosure marker in place of a credential */
bool env_name_is_secret(const char *name);              /* contains TOKEN, SECRET, KEY or PASSWORD, in any case */
