/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the host's configuration says about workspaces. Filled by agent/config; borrowed by everything here and re-read at each use, so that a
 * reload takes effect from the next step on. */

#include <stdbool.h>
#include <stdint.h>

#include "secrets/envelope.h"
#include "secrets/hostkey.h"

typedef struct Settings {
        const char        *org_id, *host_id, *region;   /* region NULL: unknown, only global pins apply */
        const char        *network, *advertise_host, *engine_socket;
        const HostKeys    *host_keys;                   /* NULL: no secret can be opened */
        const TrustedKeys *trusted;                     /* whose signature jobs and pins must bear */
        const char        *runtime_path, *launcher;     /* as the engine sees them: the tmpfs of secrets, molecule-launch */
        uint16_t           port_low, port_high;
        unsigned           max_parallel_jobs, max_workspaces, max_tier;
        unsigned           tier_memory_mb[5], tier_cpu_shares[5];       /* by tier 1..4; 1024 shares are one CPU */
        unsigned           stop_timeout_seconds;
        const char        *probe_path;
        unsigned           probe_timeout_seconds;
        unsigned           crash_loop_restarts;           /* so many ends of the process fail the gate */
        unsigned           crash_loop_window_seconds;     /* … within so long are a crash loop of a settled workspace */
        unsigned           volume_grace_seconds;          /* volumes outlive a deprovision that does not say otherwise by so long */
        unsigned           prefetch_spread_seconds;       /* a prefetch begins at a random moment within it */
        bool               prefetch;                      /* a pin's image is fetched before a job asks for it */
        unsigned           job_deadline_seconds;
        unsigned           engine_wait_seconds;
        const char        *cgroup_parent;               /* NULL: the engine's own */
        const char *const *registries;                  /* NULL-terminated */
} Settings;
