/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The readiness gate: a started workspace passes when it answers well twice, at least two seconds apart, while the same process runs, and its
 * HEALTHCHECK, if it has one, is healthy. Nothing outside the host is asked. */

#include <systemd/sd-event.h>

#include "engine/engine.h"

typedef struct Gate Gate;

typedef struct GateOptions {
        const char *container_id;
        uint16_t    port;                       /* on 127.0.0.1 */
        const char *path;
        uint64_t    timeout_usec;               /* at least start period + 3 intervals of the HEALTHCHECK, which is added here */
        unsigned    crash_loop_restarts;        /* so many restarts fail the gate at once */
} GateOptions;

/* r 0: passed; c is the container as last seen. -ENOTCONN: the engine went away. -ETIMEDOUT (readiness_timeout), -EIO (crash_loop), -ENOENT
 * (the container is gone). Borrowed. Comes once, from the loop. */
typedef void (*GateDone)(int r, const Fault *fault, const EngineContainer *c, void *userdata);

int   gate_new(sd_event *event, Http *http, Engine *engine, const GateOptions *options, GateDone done, void *userdata, Gate **ret);
Gate *gate_free(Gate *g);                       /* done() will not come */
DEFINE_CLEANUP(Gate *, gate_free)
