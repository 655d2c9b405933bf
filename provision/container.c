/* SPDX-License-Identifier: Apache-2.0 */

/* The tier table decides what a workspace may do; the rest is naming. The hash covers what the engine is told, so two equal hashes are the same
 * container but for its age. */

#include "provision/container.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "secrets/handover.h"

#define ENV_OWN 8

static const struct Tier {
        bool read_only_root, tmpfs_tmp, configs_only;
        bool privileged, host_pid, host_network, engine_socket;
} tiers[] = {                           /* memory and CPU are settings: tier{n}_memory_mb, tier{n}_cpu_shares */
        [1] = { .read_only_root = true, .tmpfs_tmp = true, .configs_only = true },
        [2] = {},
        [3] = { .privileged = true, .host_pid = true },
        [4] = { .privileged = true, .host_pid = true, .host_network = true, .engine_socket = true },
};

struct ContainerPlan {
        ContainerSpec  spec;
        EnginePair    *env;
        IdentityLabels labels;
        Volume         volumes[VOLUMES_MAX];
        EngineMount    mounts[VOLUMES_MAX + 3];
        const char   **command;         /* the image's entrypoint and command, one after the other */
        char           handover[HANDOVER_PATH_MAX];
        char           alias[CONTAINER_NAME_SIZE];
        char           tier_text[4], url[300];
        char           hash[HASH_TEXT_SIZE];
};

const char *container_name(const char *workspace_id, ContainerRole role, char ret[static CONTAINER_NAME_SIZE]) {
        static const char *const suffix[] = { [CONTAINER_CURRENT] = "", [CONTAINER_NEXT] = ".next", [CONTAINER_PREV] = ".prev" };

        (void) snprintf(ret, CONTAINER_NAME_SIZE, "ws-%.36s%s", workspace_id, suffix[role]);
        return ret;
}

static const struct { const char *suffix, *target; } volume_table[VOLUMES_MAX] = {
        { "configs", CONFIGS_PATH },
        { "workspace", "/workspace" },
        { "claude-sessions", "/root/.claude/sessions" },
};

size_t container_volumes_all(const char *workspace_id, Volume ret[static VOLUMES_MAX]) {
        for (size_t i = 0; i < VOLUMES_MAX; i++) {
                (void) snprintf(ret[i].name, sizeof ret[i].name, "ws-%.36s-%s", workspace_id, volume_table[i].suffix);
                ret[i].target = volume_table[i].target;
        }
        return VOLUMES_MAX;
}

size_t container_volumes(const char *workspace_id, const WorkspaceSpec *s, Volume ret[static VOLUMES_MAX]) {
        (void) container_volumes_all(workspace_id, ret);
        if (tiers[s->tier].configs_only)
                return 1;
        return spec_has_claude_sessions(s) ? 3 : 2;
}

void container_labels(const Settings *settings, const ContainerIdentity *id, const char *spec_hash, IdentityLabels *ret) {
        const EnginePair pairs[IDENTITY_LABELS] = {
                { LABEL_MANAGED, "true" },
                { LABEL_INSTANCE, settings->host_id },
                { LABEL_ORG, settings->org_id },
                { LABEL_WORKSPACE, id->workspace_id },
                { LABEL_GENERATION, u64_text(id->generation, ret->generation) },
                { LABEL_JOB, id->job_id },
                { LABEL_HOST, settings->host_id },
                { LABEL_SPEC, spec_hash },
        };

        memcpy(ret->pairs, pairs, sizeof pairs);
        ret->n = spec_hash ? IDENTITY_LABELS : IDENTITY_LABELS - 1;
}

uint16_t workspace_port(unsigned tier, uint16_t port) { return tier == 4 ? WORKSPACE_PORT : port; }

void workspace_url(const Settings *settings, unsigned tier, uint16_t port, char *ret, size_t size) {
        (void) snprintf(ret, size, "http://%s:%u", settings->advertise_host, workspace_port(tier, port));
}

static int plan_env(ContainerPlan *p, const WorkspaceSpec *s, const ContainerIdentity *id) {
        const EnginePair own[ENV_OWN] = {
                { "WORKSPACE_ID", id->workspace_id },     { "WORKSPACE_CONFIG_PATH", CONFIGS_PATH }, { "PLATFORM_URL", s->platform_url },
                { "MOLECULE_URL", s->platform_url },      { "TIER", p->tier_text },                  { "PLUGINS_DIR", "/plugins" },
                { "PYTHONPATH", "/app" },                 { "MOLECULE_WORKSPACE_URL", p->url },
        };

        p->env = calloc(s->n_env + ENV_OWN, sizeof *p->env);
        if (!p->env)
                return -ENOMEM;
        memcpy(p->env, own, sizeof own);
        p->spec.n_env = ENV_OWN;
        for (size_t i = 0; i < s->n_env; i++)
                if (!s->env[i].secret)          /* the engine would keep it in clear */
                        p->env[p->spec.n_env++] = (EnginePair) { s->env[i].name, s->env[i].value };
        p->spec.env = p->env;
        return 0;
}

static size_t count(const char *const *words) {
        size_t n = 0;

        while (words && words[n])
                n++;
        return n;
}

/* The launcher first, so that secrets reach the process and nothing else; then what the image itself would run. */
static int plan_command(ContainerPlan *p, const ContainerIdentity *id) {
        static const char *const launcher[] = { LAUNCHER_TARGET, NULL };
        size_t entrypoint = count(id->entrypoint), cmd = count(id->cmd);

        p->command = calloc(entrypoint + cmd + 1, sizeof *p->command);
        if (!p->command)
                return -ENOMEM;
        if (entrypoint > 0)
                memcpy(p->command, id->entrypoint, entrypoint * sizeof *p->command);
        if (cmd > 0)
                memcpy(p->command + entrypoint, id->cmd, cmd * sizeof *p->command);
        p->spec.entrypoint = launcher;
        p->spec.cmd = p->command;
        return 0;
}

static void plan_mounts(ContainerPlan *p, const WorkspaceSpec *s, const Settings *settings, const ContainerIdentity *id) {
        size_t n = container_volumes(id->workspace_id, s, p->volumes);

        for (size_t i = 0; i < n; i++)
                p->mounts[i] = (EngineMount) { .type = "volume", .source = p->volumes[i].name, .target = p->volumes[i].target };
        (void) handover_path(settings->runtime_path, id->workspace_id, id->generation, p->handover);
        p->mounts[n++] = (EngineMount) { .type = "bind", .source = p->handover, .target = HANDOVER_TARGET, .read_only = true };
        p->mounts[n++] = (EngineMount) { .type = "bind", .source = settings->launcher, .target = LAUNCHER_TARGET, .read_only = true };
        if (tiers[s->tier].engine_socket)
                p->mounts[n++] = (EngineMount) { .type = "bind", .source = settings->engine_socket, .target = "/var/run/docker.sock" };
        p->spec.mounts = p->mounts;
        p->spec.n_mounts = n;
}

static void plan_limits(ContainerPlan *p, unsigned tier, const Settings *settings) {
        const struct Tier *t = &tiers[tier];

        p->spec.memory_bytes = (uint64_t) settings->tier_memory_mb[tier] << 20;
        p->spec.nano_cpus = settings->tier_cpu_shares[tier] * UINT64_C(1000000000) / 1024;
        p->spec.read_only_root = t->read_only_root;
        p->spec.tmpfs_tmp = t->tmpfs_tmp;
        p->spec.privileged = t->privileged;
        p->spec.host_pid = t->host_pid;
        p->spec.host_network = t->host_network;
        p->spec.drop_net_raw = p->spec.no_new_privileges = !t->privileged;
}

static void plan_hash(ContainerPlan *p, const WorkspaceSpec *s, const ContainerIdentity *id) {
        char port[21];
        Hash h;

        hash_begin(&h);
        hash_add_string(&h, id->image_digest);
        hash_add_string(&h, p->tier_text);
        hash_add_string(&h, u64_text(p->spec.memory_bytes, port));
        hash_add_string(&h, u64_text(p->spec.nano_cpus, port));
        for (size_t i = 0; i < p->spec.n_env; i++) {
                hash_add_string(&h, p->env[i].name);
                hash_add_string(&h, p->env[i].value);
        }
        for (size_t i = 0; i < s->n_env; i++)
                if (s->env[i].secret)
                        hash_add_string(&h, s->env[i].name);
        for (size_t i = 0; i < s->n_boxes; i++)
                hash_add_string(&h, s->boxes[i].name);
        for (size_t i = 0; i < p->spec.n_mounts; i++) {         /* the place of the secrets is another in each generation */
                hash_add_string(&h, p->mounts[i].source == p->handover ? NULL : p->mounts[i].source);
                hash_add_string(&h, p->mounts[i].target);
        }
        for (size_t i = 0; p->command[i]; i++)
                hash_add_string(&h, p->command[i]);
        hash_add_string(&h, s->runtime);
        hash_add_string(&h, u64_text(id->port, port));
        hash_end(&h, p->hash);
}

int container_plan(const WorkspaceSpec *s, const Settings *settings, const ContainerIdentity *id, ContainerPlan **ret, Fault *reterr) {
        _cleanup_(container_plan_freep) ContainerPlan *p = calloc(1, sizeof *p);

        if (!p)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        (void) snprintf(p->tier_text, sizeof p->tier_text, "%u", s->tier);
        workspace_url(settings, s->tier, id->port, p->url, sizeof p->url);
        if (plan_env(p, s, id) < 0 || plan_command(p, id) < 0)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        plan_mounts(p, s, settings, id);
        plan_limits(p, s->tier, settings);
        plan_hash(p, s, id);
        container_labels(settings, id, p->hash, &p->labels);
        p->spec.image_id = id->image_id;
        p->spec.labels = p->labels.pairs;
        p->spec.n_labels = p->labels.n;
        p->spec.cgroup_parent = settings->cgroup_parent;
        p->spec.network = settings->network;
        p->spec.alias = container_name(id->workspace_id, CONTAINER_CURRENT, p->alias);
        p->spec.host_port = id->port;
        *ret = TAKE_PTR(p);
        return 0;
}

ContainerPlan *container_plan_free(ContainerPlan *p) {
        if (!p)
                return NULL;
        free(p->env);
        free(p->command);
        free(p);
        return NULL;
}

const ContainerSpec *container_plan_spec(const ContainerPlan *p) { return &p->spec; }
const char *container_plan_hash(const ContainerPlan *p) { return p->hash; }
