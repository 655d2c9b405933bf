/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The daemon: owns every part and wires them together. */

#include <stdbool.h>

#include "base/fault.h"

typedef struct Agent Agent;

typedef struct AgentOptions {
        const char *config_path;        /* NULL: the standard place */
        bool        once;               /* one full round, then exit */
} AgentOptions;

/* Config, state, identity, records: everything that must be there before anyone is spoken to. Nothing has been done to the world when it returns.
 * -EBADMSG with config_invalid: neither a valid configuration nor a last good one. */
int    agent_new(const AgentOptions *options, Agent **ret, Fault *reterr);
int    agent_run(Agent *a);             /* until SIGTERM, or the end of --once; the exit code */
Agent *agent_free(Agent *a);
DEFINE_CLEANUP(Agent *, agent_free)
