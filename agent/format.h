/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which version of its records the agent writes. State that an older agent made is written as that one can read it, until the upgrade has been well for
 * `finalize_seconds`; then all of it is written anew. Since when, is remembered in <state>/format, which an older agent does not know. */

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"

/* Before any record is read or written. 1: it is the former version's. -EPROTONOSUPPORT: a newer agent has finished its upgrade here. */
int format_open(int state_fd, Fault *reterr);

/* Now and then; healthy: the engine answers, state can be written, the control plane has heard of it. */
void format_tick(int state_fd, uint64_t finalize_seconds, bool healthy);
