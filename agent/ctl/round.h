/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Work that goes on in the agent, watched from outside until it ends, and what is said of it: words for people, and as the last line one JSON object
 * of at most ROUND_LINE_MAX bytes for what called us. */

#include <stdbool.h>
#include <stdint.h>

#include "agent/ctl/client.h"

#define ROUND_LINE_MAX 2000

typedef struct Round {
        Client  *client;
        const char *mark;               /* as the change's answer gave it; borrowed */
        bool     sync;                  /* the control plane is to be asked, and told, too */
        bool     json;                  /* the last line only */
        uint64_t timeout_seconds;
} Round;

/* Waits for the end, prints, and returns the exit code of what was found. */
int round_watch(const Round *r);

/* Where it could not even begin: the words on stderr, the last line all the same; returns code. */
int round_refused(int code, const Fault *why);

/* --wait, --timeout S and --json, as every verb that waits has them. */
typedef struct RoundOptions {
        bool     wait, json;
        uint64_t timeout_seconds;
} RoundOptions;

#define ROUND_LONG_OPTIONS { "wait", no_argument, NULL, 'w' }, { "timeout", required_argument, NULL, 't' }, { "json", no_argument, NULL, 'j' }
#define ROUND_OPTIONS_INIT { .timeout_seconds = 3600 }
bool round_option(RoundOptions *o, int opt, const char *value);         /* false: not one of them, or a bad value */
