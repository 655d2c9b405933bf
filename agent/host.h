/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What this machine is and how it fares: for register and health. */

#include "agent/identity.h"
#include "base/json.h"

cJSON *host_register_view(const Identity *identity);    /* register: host{} */
/* health: host{}. disk: of the file system that holds path (the engine's root; where it cannot be looked at, the state directory's). */
cJSON *host_health_view(const char *disk_path, int state_fd, bool has_skew, double skew_seconds);
uint64_t host_agent_memory(void);                       /* resident bytes of this process */
