/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Every setting, its default, where its value came from. Order of precedence: MOLECULE_AGENT_<KEY>, the files (agent.conf, then
 * agent.conf.d/ *.conf by name, later wins), the platform's own environment names, the default. docs/molecule-agent.conf.5 is for readers. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/json.h"
#include "secrets/envelope.h"

#define CONFIG_REGISTRIES_MAX 32

typedef struct Config {
        char    *cp_url, *cp_prefix, *org_id, *org_slug, *ca_file, *proxy, *no_proxy, *log_level, *admin_group, *metrics_listen, *textfile_path;
        char    *engine_socket, *network, *advertise_host, *probe_path, *registries;
        char    *provision_secret_file, *admin_token_file, *launcher, *signing_keys, *registry_auth_file, *preloaded_file, *imds, *imds_url;
        uint64_t connect_timeout_seconds, engine_timeout_seconds, engine_wait_seconds;
        uint64_t port_low, port_high;
        uint64_t max_parallel_jobs, max_workspaces, max_tier;
        uint64_t tier_memory_mb[5], tier_cpu_shares[5];
        uint64_t stop_timeout_seconds, probe_timeout_seconds, crash_loop_restarts, crash_loop_window_seconds, volume_grace_seconds, job_deadline_seconds;
        uint64_t pull_stall_seconds, prefetch_spread_seconds, finalize_seconds, gc_high_percent, gc_low_percent, min_free_bytes;
        uint64_t audit_max_bytes;
        bool     allow_insecure_loopback, require_signed_jobs, allow_unlocked_memory, prefetch;
        TrustedKeys trusted;                    /* signing_keys, decoded */
        char    *registry_list[CONFIG_REGISTRIES_MAX + 1];      /* registries, split; NULL-terminated */
} Config;

typedef struct ConfigSource ConfigSource;       /* where each value came from */

/* path NULL: <CONFIGURATION_DIRECTORY or /etc/molecule-agent>/agent.conf, which may be absent. Warnings (unknown keys) are logged when `warn`.
 * config_invalid names file, line, key and reason. */
int     config_load(const char *path, bool warn, Config **ret, Fault *reterr);
Config *config_free(Config *c);
DEFINE_CLEANUP(Config *, config_free)

/* The value set as one text in the form of a file, to be kept as the last good one; and back. */
int     config_save_good(int state_fd, const Config *c);
int     config_load_good(int state_fd, Config **ret, Fault *reterr);     /* -ENOENT */

/* What changed, without a value: adds the key of each setting that has another one to the array; before NULL: the defaults. False: out of memory. */
bool    config_differences(const Config *before, const Config *now, cJSON *keys);
int     config_hash(const Config *c, char ret[static HASH_TEXT_SIZE]);   /* of all keys and values, as config_save_good() writes them; -ENOMEM */

bool    config_can_enrol(const Config *c);      /* cp_url and org_id are there */
cJSON  *config_list(const Config *c);           /* the same as an array of {key, value, origin}; NULL: out of memory */
void    config_show(const Config *c, FILE *to); /* "key = value    # where from"; no credential is a setting, so none is shown */
