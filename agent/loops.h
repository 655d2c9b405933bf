/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The loops that must make progress for the agent to be alive: each says when it ticked and when it will at the latest. The watchdog is fed only
 * while none is overdue; health shows the ages. */

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

typedef enum Loop { LOOP_CONTROL, LOOP_REPORTS, LOOP_HEALTH, LOOP_SWEEP, _LOOP_MAX } Loop;

typedef struct Loops { struct { uint64_t last, due, realtime; } loop[_LOOP_MAX]; } Loops;

void   loops_tick(Loops *l, Loop loop, uint64_t next_within_usec);      /* 0: it rests, nothing is due */
bool   loops_alive(const Loops *l, Loop *ret_overdue);
const char *loops_name(Loop loop);
cJSON *loops_view(const Loops *l);                                      /* {name: {last_tick_at, seconds_ago}} */
