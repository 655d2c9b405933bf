/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The agent's events as lines for a person, with a bar for each pull that is under way where stdout is a terminal. */

#include "agent/ctl/client.h"

typedef struct Follow {
        bool json;                      /* each event as one line: {"event": KIND, "data": ...} */
        bool jobs_only;                 /* jobs and pulls */
        unsigned tail;                  /* so many of those that were, first */
        char from[24];                  /* the number of the first, in place of that; "": none */
} Follow;

int follow(Client *c, const Follow *f);         /* until the stream ends; an exit code, after the reason was printed */
