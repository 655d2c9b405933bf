/* SPDX-License-Identifier: Apache-2.0 */

/* What the engine is told: bodies of create calls, built as trees and printed, never by templates. The same spec gives the same bytes.
 *
 * Mounts, not Binds: a bind whose source is missing must be refused, where Binds would make an empty directory in its place. */

#include <errno.h>
#include <stdio.h>

#include "engine/engine-json.h"

#define PIDS_LIMIT     1024
#define CONTAINER_PORT "8000/tcp"
#define TMPFS_OPTIONS  "rw,noexec,nosuid,size=64m"

/* Adds a new, empty object or array and lends it; NULL when out of memory. */
static cJSON *open_object(cJSON *parent, const char *name) {
        return parent ? cJSON_AddObjectToObject(parent, name) : NULL;
}

static cJSON *open_array(cJSON *parent, const char *name) {
        return parent ? cJSON_AddArrayToObject(parent, name) : NULL;
}

static bool array_add(cJSON *array, cJSON *item) {
        if (array && item && cJSON_AddItemToArray(array, item))
                return true;
        cJSON_Delete(item);
        return false;
}

static bool add_list_of_one(cJSON *parent, const char *name, const char *value) {
        return array_add(open_array(parent, name), cJSON_CreateString(value));
}

static bool add_labels(cJSON *parent, const EnginePair *labels, size_t n) {
        cJSON *o = open_object(parent, "Labels");
        bool ok = o;

        for (size_t i = 0; ok && i < n; i++)
                ok = json_add_string(o, labels[i].name, labels[i].value);
        return ok;
}

static bool add_env(cJSON *body, const ContainerSpec *s) {
        cJSON *env = open_array(body, "Env");
        bool ok = env;

        for (size_t i = 0; ok && i < s->n_env; i++) {
                _cleanup_free_ char *line = NULL;

                if (asprintf(&line, "%s=%s", s->env[i].name, s->env[i].value) < 0) {
                        line = NULL;
                        return false;
                }
                ok = array_add(env, cJSON_CreateString(line));
        }
        return ok;
}

static bool add_words(cJSON *body, const char *name, const char *const *words) {
        cJSON *list = words ? open_array(body, name) : NULL;
        bool ok = !words || list;

        for (; ok && words && *words; words++)
                ok = array_add(list, cJSON_CreateString(*words));
        return ok;
}

static bool add_mounts(cJSON *host, const ContainerSpec *s) {
        cJSON *mounts = open_array(host, "Mounts");
        bool ok = mounts;

        for (size_t i = 0; ok && i < s->n_mounts; i++) {
                const EngineMount *m = &s->mounts[i];
                cJSON *o = cJSON_CreateObject();

                ok = o && json_add_string(o, "Type", m->type) && json_add_string(o, "Source", m->source) &&
                     json_add_string(o, "Target", m->target) && json_add_bool(o, "ReadOnly", m->read_only);
                if (!ok)
                        cJSON_Delete(o);
                else
                        ok = array_add(mounts, o);
        }
        return ok;
}

static bool add_always(cJSON *host) {
        cJSON *restart = open_object(host, "RestartPolicy"), *log = open_object(host, "LogConfig");
        cJSON *log_config = open_object(log, "Config"), *core = cJSON_CreateObject();
        bool ok = core && json_add_string(core, "Name", "core") && json_add_i64(core, "Soft", 0) && json_add_i64(core, "Hard", 0);

        if (!array_add(open_array(host, "Ulimits"), core))
                return false;
        return ok && restart && log_config && json_add_string(restart, "Name", "unless-stopped") &&
               json_add_string(log, "Type", "json-file") && json_add_string(log_config, "max-size", "10m") &&
               json_add_string(log_config, "max-file", "3") && json_add_i64(host, "PidsLimit", PIDS_LIMIT);
}

static bool add_limits(cJSON *host, const ContainerSpec *s) {
        bool ok = true;

        if (s->memory_bytes > 0)        /* MemorySwap is memory and swap together: the same number allows no swap */
                ok = json_add_i64(host, "Memory", (int64_t) s->memory_bytes) && json_add_i64(host, "MemorySwap", (int64_t) s->memory_bytes);
        if (ok && s->nano_cpus > 0)
                ok = json_add_i64(host, "NanoCpus", (int64_t) s->nano_cpus);
        if (ok && s->cgroup_parent)
                ok = json_add_string(host, "CgroupParent", s->cgroup_parent);
        return ok;
}

static bool add_privileges(cJSON *host, const ContainerSpec *s) {
        bool ok = true;

        if (s->read_only_root)
                ok = json_add_bool(host, "ReadonlyRootfs", true);
        if (ok && s->tmpfs_tmp)
                ok = json_add_string(open_object(host, "Tmpfs"), "/tmp", TMPFS_OPTIONS);
        if (ok && s->privileged)
                ok = json_add_bool(host, "Privileged", true);
        if (ok && s->host_pid)
                ok = json_add_string(host, "PidMode", "host");
        if (ok && s->drop_net_raw)
                ok = add_list_of_one(host, "CapDrop", "NET_RAW");
        if (ok && s->no_new_privileges)
                ok = add_list_of_one(host, "SecurityOpt", "no-new-privileges");
        return ok;
}

static bool add_port(cJSON *body, cJSON *host, uint16_t port) {
        cJSON *bindings = open_array(open_object(host, "PortBindings"), CONTAINER_PORT), *b = cJSON_CreateObject();
        char text[8];
        bool ok;

        (void) snprintf(text, sizeof text, "%u", port);
        ok = b && json_add_string(b, "HostIp", "127.0.0.1") && json_add_string(b, "HostPort", text);
        return array_add(bindings, b) && ok && open_object(open_object(body, "ExposedPorts"), CONTAINER_PORT);
}

static bool add_network(cJSON *body, cJSON *host, const ContainerSpec *s) {
        cJSON *endpoint;

        if (s->host_network)
                return json_add_string(host, "NetworkMode", "host");
        if (s->host_port > 0 && !add_port(body, host, s->host_port))
                return false;
        if (!s->network)
                return true;
        endpoint = open_object(open_object(open_object(body, "NetworkingConfig"), "EndpointsConfig"), s->network);
        if (!endpoint || !json_add_string(host, "NetworkMode", s->network))
                return false;
        return !s->alias || add_list_of_one(endpoint, "Aliases", s->alias);
}

int container_spec_body(const ContainerSpec *s, char **ret, Fault *reterr) {
        _cleanup_json_ cJSON *body = cJSON_CreateObject();
        cJSON *host;
        char *text;

        if (!s->image_id)
                return fault(reterr, -EINVAL, FAULT_INTERNAL, "a container needs an image");
        host = body && json_add_string(body, "Image", s->image_id) && add_words(body, "Entrypoint", s->entrypoint) &&
                               add_words(body, "Cmd", s->cmd) && add_env(body, s) && add_labels(body, s->labels, s->n_labels)
                ? open_object(body, "HostConfig") : NULL;
        if (!host || !add_always(host) || !add_limits(host, s) || !add_privileges(host, s) || !add_network(body, host, s) ||
            !add_mounts(host, s) || !(text = json_print(body)))
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "out of memory");
        *ret = text;
        return 0;
}

int volume_body(const char *name, const EnginePair *labels, size_t n, char **ret) {
        _cleanup_json_ cJSON *body = cJSON_CreateObject();
        char *text;

        if (!body || !json_add_string(body, "Name", name) || !json_add_string(body, "Driver", "local") || !add_labels(body, labels, n) ||
            !(text = json_print(body)))
                return -ENOMEM;
        *ret = text;
        return 0;
}

int network_body(const char *name, const EnginePair *labels, size_t n, char **ret) {
        _cleanup_json_ cJSON *body = cJSON_CreateObject();
        char *text;

        if (!body || !json_add_string(body, "Name", name) || !json_add_string(body, "Driver", "bridge") ||
            !json_add_bool(body, "CheckDuplicate", true) || !add_labels(body, labels, n) || !(text = json_print(body)))
                return -ENOMEM;
        *ret = text;
        return 0;
}
