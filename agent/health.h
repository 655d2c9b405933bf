/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The heartbeat: the whole truth on change and every ten minutes, "unchanged" with its hash in between. */

#include "agent/cp.h"
#include "agent/loops.h"
#include "engine/engine.h"

typedef struct Health Health;

/* What health is made of; asked at each beat. Everything is borrowed. */
typedef struct HealthSources {
        cJSON *(*agent)(void *userdata);        /* agent{} */
        cJSON *(*pins)(void *userdata);
        cJSON *(*foreign)(void *userdata);
        cJSON *(*workspaces)(void *userdata);
        void   (*answered)(const CpAnswer *a, void *userdata);
        void   *userdata;
        const Engine *engine;
        int     state_fd;
} HealthSources;

int     health_new(sd_event *event, Cp *cp, const Identity *identity, Loops *loops, const HealthSources *sources, Health **ret);
Health *health_free(Health *h);
DEFINE_CLEANUP(Health *, health_free)

void health_open(Health *h, bool open, uint64_t heartbeat_usec);
void health_changed(Health *h);         /* the next beat comes within a second */
void health_hurry(Health *h);           /* somebody waits for it here: what is not current is told in spite of the pace after a failure */
bool health_is_current(const Health *h);        /* the control plane has acknowledged the state as it is now, once at least */
bool health_is_heard(const Health *h);          /* it listens, and acknowledged the last beat that ended; another may be on its way */
