/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tool does with systemd: encrypt a credential for this machine, and have the service manager act on the unit. */

#include <stdbool.h>
#include <stddef.h>

#define CREDSTORE "/etc/credstore.encrypted"
#define UNIT      "molecule-agentd.service"

/* systemd-creds encrypt, with the value on its standard input: in no argument, no file. In the directory `store` the credential is replaced whole, and is on
 * disk when 0 is returned; else the old one is as it was. size is at most 4,096 bytes: it has to fit into a pipe. Negative errno. */
int creds_store(const char *store, const char *name, const void *value, size_t size);
/* Whether the file in `store` decrypts on this machine as the credential `name`. */
int  creds_open(const char *store, const char *name, char **ret, size_t *ret_size);      /* its value, at most 4,096 bytes; malloc'd. Negative errno */
bool creds_decrypts(const char *store, const char *file, const char *name);

int creds_sync(const char *path);               /* fsync of a file or directory */

/* RestartUnit, ReloadUnit, StartUnit; reload_units: unit files changed. Negative where there is no service manager, after words on stderr. */
int unit_do(const char *method, bool reload_units);

/* Prints how the agent's process last ended, where the service manager knows of one. */
void unit_say_last_end(void);
