/* SPDX-License-Identifier: Apache-2.0 */

/* What the engine answers, read leniently: of everything it says, the few members we act upon, wherever its version has put them.
 * What must be there and is not, or is of another type, makes the answer nonsense; everything else has a default. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "engine/engine-json.h"

#define HEALTH_INTERVAL_DEFAULT_USEC (30 * USEC_PER_SEC)

static int nonsense(Fault *reterr, const char *what, const char *member) {
        return fault(reterr, -EBADMSG, FAULT_ENGINE_ERROR, "the engine's answer about %s makes no sense: '%s' is missing or mistyped",
                     what, member);
}

static int no_memory(Fault *reterr) {
        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "out of memory");
}

/* A copy of a string that may be absent. false: out of memory. */
static bool copy(char **place, const char *s) {
        *place = s ? strdup(s) : NULL;
        return !s || *place;
}

/* ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct { const char *name; size_t offset; } label_places[] = {
        { LABEL_INSTANCE,  offsetof(EngineLabels, instance) },
        { LABEL_ORG,       offsetof(EngineLabels, org) },
        { LABEL_WORKSPACE, offsetof(EngineLabels, workspace) },
        { LABEL_JOB,       offsetof(EngineLabels, job) },
        { LABEL_HOST,      offsetof(EngineLabels, host) },
        { LABEL_SPEC,      offsetof(EngineLabels, spec) },
};

static char **label_place(EngineLabels *l, size_t i) {
        return (char **) (void *) ((char *) l + label_places[i].offset);
}

void engine_labels_done(EngineLabels *l) {
        for (size_t i = 0; i < ELEMENTS(label_places); i++)
                free(*label_place(l, i));
        *l = (EngineLabels) {};
}

static bool labels_read(const cJSON *labels, EngineLabels *l) {
        uint64_t generation;

        l->managed = str_equal(cJSON_GetStringValue(json_get(labels, LABEL_MANAGED)), "true");
        if (u64_parse(cJSON_GetStringValue(json_get(labels, LABEL_GENERATION)), &generation) == 0)
                l->generation = generation;
        for (size_t i = 0; i < ELEMENTS(label_places); i++)
                if (!copy(label_place(l, i), cJSON_GetStringValue(json_get(labels, label_places[i].name))))
                        return false;
        return true;
}

/* ── containers ──────────────────────────────────────────────────────────────────────────────────────────────── */

void engine_container_done(EngineContainer *c) {
        free(c->id);
        free(c->name);
        free(c->image_id);
        free(c->status);
        free(c->started_at);
        free(c->error);
        free(c->ip_address);
        engine_labels_done(&c->labels);
        *c = (EngineContainer) {};
}

void engine_containers_done(EngineContainers *c) {
        for (size_t i = 0; i < c->n; i++)
                engine_container_done(&c->items[i]);
        free(c->items);
        *c = (EngineContainers) {};
}

static const char *bare_name(const char *name) {
        return name && name[0] == '/' ? name + 1 : name;
}

static const char *filled(const char *s) {
        return s && s[0] ? s : NULL;
}

static EngineHealth health_read(const cJSON *json) {
        static const char *const words[] = {
                [ENGINE_HEALTH_STARTING] = "starting", [ENGINE_HEALTH_HEALTHY] = "healthy", [ENGINE_HEALTH_UNHEALTHY] = "unhealthy",
        };
        const char *status = json_get_string(json, "State/Health/Status") ?: json_get_string(json, "State/Healthcheck/Status");

        for (EngineHealth h = ENGINE_HEALTH_STARTING; h <= ENGINE_HEALTH_UNHEALTHY; h++)
                if (str_equal(status, words[h]))
                        return h;
        return ENGINE_HEALTH_NONE;
}

static uint64_t duration_usec(const cJSON *json, const char *path, uint64_t otherwise) {
        int64_t nsec = json_get_i64(json, path, 0);

        return nsec > 0 ? (uint64_t) nsec / 1000 : otherwise;
}

static uint64_t health_grace(const cJSON *json) {
        const char *kind = cJSON_GetStringValue(cJSON_GetArrayItem(json_get_path(json, "Config/Healthcheck/Test"), 0));

        if (!kind || str_equal(kind, "NONE"))
                return 0;
        return duration_usec(json, "Config/Healthcheck/StartPeriod", 0) +
               3 * duration_usec(json, "Config/Healthcheck/Interval", HEALTH_INTERVAL_DEFAULT_USEC);
}

static const char *address_read(const cJSON *json, const char *network) {
        const cJSON *networks = json_get_path(json, "NetworkSettings/Networks"), *n;
        const char *address = network ? filled(cJSON_GetStringValue(json_get(json_get(networks, network), "IPAddress"))) : NULL;

        cJSON_ArrayForEach(n, networks)
                address = address ?: filled(cJSON_GetStringValue(json_get(n, "IPAddress")));
        return address;
}

int engine_container_parse(const cJSON *json, const char *network, EngineContainer *ret, Fault *reterr) {
        const char *id = filled(json_get_string(json, "Id")), *status = filled(json_get_string(json, "State/Status"));
        const char *name = filled(bare_name(json_get_string(json, "Name"))), *image = filled(json_get_string(json, "Image"));
        EngineContainer c = {};

        *ret = (EngineContainer) {};
        if (!id || !name || !status || !image)
                return nonsense(reterr, "a container", !id ? "Id" : !name ? "Name" : !image ? "Image" : "State.Status");
        c.running = json_get_bool(json, "State/Running", false);
        c.restarting = json_get_bool(json, "State/Restarting", false);
        c.oom_killed = json_get_bool(json, "State/OOMKilled", false);
        c.exit_code = json_get_i64(json, "State/ExitCode", 0);
        c.restart_count = json_get_i64(json, "RestartCount", 0);
        c.health = health_read(json);
        c.health_grace_usec = health_grace(json);
        if (!copy(&c.id, id) || !copy(&c.name, name) || !copy(&c.status, status) || !copy(&c.image_id, image) ||
            !copy(&c.started_at, json_get_string(json, "State/StartedAt")) ||
            !copy(&c.error, filled(json_get_string(json, "State/Error"))) ||
            !copy(&c.ip_address, address_read(json, network)) || !labels_read(json_get_path(json, "Config/Labels"), &c.labels)) {
                engine_container_done(&c);
                return no_memory(reterr);
        }
        *ret = c;
        return 0;
}

/* Of several names (links give more) the one that is a name and not a path. */
static const char *list_name(const cJSON *names) {
        const cJSON *n;

        cJSON_ArrayForEach(n, names) {
                const char *name = filled(bare_name(cJSON_GetStringValue(n)));

                if (name && !strchr(name, '/'))
                        return name;
        }
        return NULL;
}

static int list_item_parse(const cJSON *json, EngineContainer *c, Fault *reterr) {
        const char *id = filled(json_get_string(json, "Id")), *status = filled(json_get_string(json, "State"));
        const char *name = list_name(json_get(json, "Names"));

        if (!id || !status)
                return nonsense(reterr, "containers", !id ? "Id" : "State");
        c->restarting = str_equal(status, "restarting");
        c->running = c->restarting || str_equal(status, "running") || str_equal(status, "paused");     /* as inspect has it */
        if (!copy(&c->id, id) || !copy(&c->name, name ?: id) || !copy(&c->status, status) ||
            !copy(&c->image_id, json_get_string(json, "ImageID")) || !labels_read(json_get(json, "Labels"), &c->labels))
                return no_memory(reterr);
        return 0;
}

int engine_containers_parse(const cJSON *json, EngineContainers *ret, Fault *reterr) {
        EngineContainers all = {};
        const cJSON *item;
        int r = 0;

        *ret = (EngineContainers) {};
        if (!cJSON_IsArray(json))
                return nonsense(reterr, "containers", "[]");
        all.items = calloc((size_t) cJSON_GetArraySize(json) + 1, sizeof *all.items);
        if (!all.items)
                return no_memory(reterr);
        cJSON_ArrayForEach(item, json) {
                r = list_item_parse(item, &all.items[all.n++], reterr);
                if (r < 0)
                        break;
        }
        if (r < 0) {
                engine_containers_done(&all);
                return r;
        }
        *ret = all;
        return 0;
}

/* ── images, volumes, the engine itself ──────────────────────────────────────────────────────────────────────── */

static char **strings_free(char **strings) {
        for (char **s = strings; s && *s; s++)
                free(*s);
        free(strings);
        return NULL;
}

static char **strings_copy(char *const *strings) {
        size_t n = 0;
        char **all;

        while (strings[n])
                n++;
        all = calloc(n + 1, sizeof *all);
        for (size_t i = 0; all && i < n; i++)
                if (!copy(&all[i], strings[i]))
                        return strings_free(all);
        return all;
}

/* The strings of an array, NULL-terminated; an absent or empty one gives an empty list. NULL when out of memory. */
static char **strings_parse(const cJSON *array) {
        char **strings = calloc((size_t) cJSON_GetArraySize(array) + 1, sizeof *strings);
        const cJSON *item;
        size_t n = 0;

        cJSON_ArrayForEach(item, array)
                if (strings && cJSON_IsString(item) && !copy(&strings[n++], item->valuestring))
                        return strings_free(strings);
        return strings;
}

void engine_image_done(EngineImage *i) {
        free(i->id);
        strings_free(i->repo_digests);
        strings_free(i->entrypoint);
        strings_free(i->cmd);
        *i = (EngineImage) {};
}

int engine_image_copy(EngineImage *to, const EngineImage *from) {
        EngineImage image = { .size_bytes = from->size_bytes, .repo_digests = strings_copy(from->repo_digests),
                              .entrypoint = strings_copy(from->entrypoint), .cmd = strings_copy(from->cmd) };

        if (!image.repo_digests || !image.entrypoint || !image.cmd || !copy(&image.id, from->id)) {
                engine_image_done(&image);
                return -ENOMEM;
        }
        *to = image;
        return 0;
}

int engine_image_parse(const cJSON *json, EngineImage *ret, Fault *reterr) {
        const char *id = filled(json_get_string(json, "Id"));
        int64_t size = json_get_i64(json, "Size", 0);
        EngineImage image = { .size_bytes = size > 0 ? (uint64_t) size : 0 };

        *ret = (EngineImage) {};
        if (!id)
                return nonsense(reterr, "an image", "Id");
        image.repo_digests = strings_parse(json_get(json, "RepoDigests"));
        image.entrypoint = strings_parse(json_get_path(json, "Config/Entrypoint"));
        image.cmd = strings_parse(json_get_path(json, "Config/Cmd"));
        if (!image.repo_digests || !image.entrypoint || !image.cmd || !copy(&image.id, id)) {
                engine_image_done(&image);
                return no_memory(reterr);
        }
        *ret = image;
        return 0;
}

bool engine_image_has_digest(const EngineImage *i, const char *digest) {
        for (char **d = i->repo_digests; d && *d; d++) {
                const char *at = strrchr(*d, '@');

                if (at && str_equal(at + 1, digest))
                        return true;
        }
        return false;
}

void engine_volume_done(EngineVolume *v) {
        free(v->name);
        engine_labels_done(&v->labels);
        *v = (EngineVolume) {};
}

static bool has_items(const cJSON *json) { return cJSON_GetArraySize(json) > 0; }

int engine_volume_parse(const cJSON *json, EngineVolume *ret, Fault *reterr) {
        const char *name = filled(json_get_string(json, "Name"));
        EngineVolume v = {};

        *ret = (EngineVolume) {};
        if (!name)
                return nonsense(reterr, "a volume", "Name");
        if (!copy(&v.name, name) || !labels_read(json_get(json, "Labels"), &v.labels)) {
                engine_volume_done(&v);
                return no_memory(reterr);
        }
        v.plain = !has_items(json_get(json, "Labels")) && !has_items(json_get(json, "Options"));
        *ret = v;
        return 0;
}

bool engine_volume_is_empty(const cJSON *usage, const char *name) {
        const cJSON *v = json_find(json_get(usage, "Volumes"), "Name", name);

        return json_get_i64(v, "UsageData/Size", -1) == 0 && json_get_i64(v, "UsageData/RefCount", -1) == 0;
}

void engine_info_done(EngineInfo *i) {
        free(i->name);
        free(i->version);
        free(i->api_version);
        free(i->min_api_version);
        free(i->driver);
        free(i->root_dir);
        free(i->cgroup_driver);
        *i = (EngineInfo) {};
}

static const char *engine_name(const cJSON *version) {
        const cJSON *c;

        cJSON_ArrayForEach(c, json_get(version, "Components")) {
                const char *name = json_get_string(c, "Name");

                if (name && strncasecmp(name, "podman", 6) == 0)
                        return "podman";
        }
        return "docker";
}

int engine_info_parse(const cJSON *version, const cJSON *info, EngineInfo *ret, Fault *reterr) {
        const char *api = filled(json_get_string(version, "ApiVersion")), *own = filled(json_get_string(version, "Version"));
        EngineInfo i = {};

        *ret = (EngineInfo) {};
        if (!api || !own)
                return nonsense(reterr, "its version", !api ? "ApiVersion" : "Version");
        if (!cJSON_IsObject(info))
                return nonsense(reterr, "itself", "{}");
        i.live_restore = json_get_bool(info, "LiveRestoreEnabled", false);
        if (!copy(&i.name, engine_name(version)) || !copy(&i.version, own) || !copy(&i.api_version, api) ||
            !copy(&i.min_api_version, json_get_string(version, "MinAPIVersion")) || !copy(&i.driver, json_get_string(info, "Driver")) ||
            !copy(&i.root_dir, filled(json_get_string(info, "DockerRootDir"))) ||
            !copy(&i.cgroup_driver, json_get_string(info, "CgroupDriver"))) {
                engine_info_done(&i);
                return no_memory(reterr);
        }
        *ret = i;
        return 0;
}

/* "1.41" -> 1 * 1000 + 41; 0: not of that form. */
static unsigned api_number(const char *s) {
        unsigned major, minor;
        int n = 0;

        if (!s || strlen(s) > 8 || s[0] < '0' || s[0] > '9' || sscanf(s, "%u.%u%n", &major, &minor, &n) != 2 || s[n] || minor > 999)
                return 0;
        return major * 1000 + minor;
}

int engine_api_choose(const char *api_version, const char *min_api_version, char ret[static 16], Fault *reterr) {
        unsigned theirs = api_number(api_version), floor = api_number(min_api_version), chosen;

        if (theirs == 0)
                return fault(reterr, -EBADMSG, FAULT_ENGINE_ERROR, "the engine does not say which API version it speaks");
        if (theirs < api_number(ENGINE_API_MIN))
                return fault(reterr, -EPROTONOSUPPORT, FAULT_ENGINE_TOO_OLD,
                             "the engine speaks API %s; at least " ENGINE_API_MIN " is needed", api_version);
        chosen = theirs < api_number(ENGINE_API_MAX) ? theirs : api_number(ENGINE_API_MAX);
        if (chosen < floor)
                return fault(reterr, -EPROTONOSUPPORT, FAULT_ENGINE_TOO_OLD,
                             "the engine refuses API versions below %s; this agent speaks up to " ENGINE_API_MAX, min_api_version);
        (void) snprintf(ret, 16, "%u.%u", chosen / 1000, chosen % 1000);
        return 0;
}

/* ── events ──────────────────────────────────────────────────────────────────────────────────────────────────── */

void engine_event_done(EngineEvent *e) {
        free(e->action);
        free(e->container_id);
        free(e->workspace);
        *e = (EngineEvent) {};
}

/* The time of an event is a number beyond 2^53, which strict JSON refuses. Its digits are cut out of a copy of the line and read by
 * themselves. A label of the container may have the key's name, or end in it: but labels are strings, and no digit follows. */
static uint64_t time_cut(char *line) {
        static const char key[] = "\"timeNano\":";
        char *digits = line, *end;
        char text[21] = "";
        uint64_t v;

        do {
                digits = strstr(digits, key);
                if (!digits)
                        return 0;
                digits += strlen(key);
                digits += strspn(digits, " ");
                end = digits + strspn(digits, "0123456789");
        } while (end == digits);
        if (end - digits >= (ptrdiff_t) sizeof text)
                return 0;
        memcpy(text, digits, (size_t) (end - digits));
        memset(digits, ' ', (size_t) (end - digits));
        *digits = '0';
        return u64_parse(text, &v) == 0 ? v : 0;
}

int engine_event_parse(const char *line, size_t size, EngineEvent *ret, Fault *reterr) {
        _cleanup_free_ char *text = strndup(line, size);
        _cleanup_json_ cJSON *json = NULL;
        const char *action, *id, *exit_code;
        EngineEvent e = { .exit_code = -1 };
        uint64_t code;
        int r;

        *ret = (EngineEvent) { .exit_code = -1 };
        if (!text)
                return no_memory(reterr);
        e.time_nsec = time_cut(text);
        r = json_parse(text, strlen(text), &json, NULL);
        if (r == -ENOMEM)
                return no_memory(reterr);
        if (r < 0)
                return fault(reterr, -EBADMSG, FAULT_ENGINE_ERROR, "a line of the engine's event stream is no JSON");
        action = filled(json_get_string(json, "Action"));
        id = filled(json_get_string(json, "Actor/ID"));
        if (!action || !id)
                return nonsense(reterr, "an event", !action ? "Action" : "Actor.ID");
        exit_code = json_get_string(json, "Actor/Attributes/exitCode");
        if (u64_parse(exit_code, &code) == 0 && code <= INT32_MAX)
                e.exit_code = (int64_t) code;
        if (!copy(&e.action, action) || !copy(&e.container_id, id) ||
            !copy(&e.workspace, cJSON_GetStringValue(json_get(json_get_path(json, "Actor/Attributes"), LABEL_WORKSPACE)))) {
                engine_event_done(&e);
                return no_memory(reterr);
        }
        *ret = e;
        return 0;
}
