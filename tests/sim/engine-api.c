/* SPDX-License-Identifier: Apache-2.0 */

/* The engine's API as dockerd answers it, as far as the agent asks: a line in the table at the end, and a function. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/tar.h"
#include "tests/sim/engine.h"

static bool     network_there, pulled[IMAGES];
static unsigned ids;

/* ── views ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *const state_words[] = { [BOX_CREATED] = "created", [BOX_RUNNING] = "running", [BOX_RESTARTING] = "restarting", [BOX_EXITED] = "exited" };

static cJSON *box_row(const Container *b) {
        cJSON *json = cJSON_CreateObject(), *names = cJSON_AddArrayToObject(json, "Names");
        char name[100];

        (void) snprintf(name, sizeof name, "/%s", b->name);
        (void) cJSON_AddItemToArray(names, cJSON_CreateString(name));
        (void) json_add_string(json, "Id", b->id);
        (void) json_add_string(json, "State", state_words[b->state]);
        (void) json_add_string(json, "ImageID", image_digest(b->image));
        (void) json_add_item(json, "Labels", cJSON_Duplicate(b->labels, true));
        return json;
}

static cJSON *box_view(const Container *b) {
        cJSON *json = cJSON_CreateObject(), *state = cJSON_AddObjectToObject(json, "State"), *config = cJSON_AddObjectToObject(json, "Config");
        char name[100], at[TIME_TEXT_SIZE];

        (void) snprintf(name, sizeof name, "/%s", b->name);
        (void) json_add_string(json, "Id", b->id);
        (void) json_add_string(json, "Name", name);
        (void) json_add_string(json, "Image", image_digest(b->image));
        (void) json_add_i64(json, "RestartCount", b->restarts);
        (void) json_add_string(state, "Status", state_words[b->state]);
        (void) json_add_bool(state, "Running", b->state == BOX_RUNNING || b->state == BOX_RESTARTING);
        (void) json_add_bool(state, "Restarting", b->state == BOX_RESTARTING);
        (void) json_add_i64(state, "ExitCode", b->exit_code);
        (void) json_add_string(state, "StartedAt", b->started_at ? time_text(b->started_at, at) : "0001-01-01T00:00:00Z");
        (void) json_add_item(config, "Labels", cJSON_Duplicate(b->labels, true));
        return json;
}

static cJSON *volume_view(const Volume *v) {
        cJSON *json = cJSON_CreateObject();

        (void) json_add_string(json, "Name", v->name);
        (void) json_add_item(json, "Labels", cJSON_Duplicate(v->labels, true));
        return json;
}

/* {"label":["NAME=VALUE"]} */
static bool matches(const cJSON *labels, const Request *q) {
        char text[400], name[200];
        const char *begin, *equals, *end;

        begin = strstr(query_of(q, "filters", text, sizeof text), "[\"");
        equals = begin ? strchr(begin, '=') : NULL;
        end = equals ? strchr(equals, '"') : NULL;
        if (!end)
                return true;
        (void) snprintf(name, sizeof name, "%.*s", (int) (equals - begin - 2), begin + 2);
        begin = cJSON_GetStringValue(json_get(labels, name));
        return begin && strlen(begin) == (size_t) (end - equals - 1) && strncmp(begin, equals + 1, strlen(begin)) == 0;
}

/* ── containers ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void copy_label(const cJSON *labels, const char *name, char *ret, size_t size) {
        (void) snprintf(ret, size, "%s", cJSON_GetStringValue(json_get(labels, name)) ?: "");
}

static void create(Request *q) {
        _cleanup_json_ cJSON *json = NULL;
        char name[80], generation[24];
        const cJSON *labels, *mount;
        Container *b;

        (void) query_of(q, "name", name, sizeof name);
        if (json_parse(q->body, q->size, &json, NULL) < 0 || image_of(json_get_string(json, "Image") ?: "") < 0 || !pulled[image_of(json_get_string(json, "Image"))]) {
                answer_words(q, 404, "No such image");
                return;
        }
        labels = json_get(json, "Labels");
        copy_label(labels, LABEL_GENERATION, generation, sizeof generation);
        if (box_find(name)) {
                answer_words(q, 409, "Conflict. The container name is already in use");
                return;
        }
        b = calloc(1, sizeof *b);
        if (!b)
                abort();
        (void) snprintf(b->id, sizeof b->id, "%064x", ++ids * 2654435761u);
        (void) snprintf(b->name, sizeof b->name, "%s", name);
        b->labels = cJSON_Duplicate(labels, true);
        copy_label(labels, LABEL_WORKSPACE, b->workspace, sizeof b->workspace);
        copy_label(labels, LABEL_JOB, b->job, sizeof b->job);
        b->generation = strtoull(generation, NULL, 10);
        b->image = image_of(json_get_string(json, "Image"));
        b->port = (unsigned) strtoul(cJSON_GetStringValue(json_get(cJSON_GetArrayItem(json_get(json_get_path(json, "HostConfig/PortBindings"), "8000/tcp"), 0), "HostPort")) ?: "0", NULL, 10);
        cJSON_ArrayForEach(mount, json_get_path(json, "HostConfig/Mounts"))
                if (strcmp(json_get_string(mount, "Type") ?: "", "bind") == 0 && strstr(json_get_string(mount, "Source") ?: "", "/ws/"))
                        b->secrets = strdup(json_get_string(mount, "Source"));
        TAILQ_INSERT_TAIL(&boxes, b, link);
        changed("create", b);
        json_add_string(json, "Id", b->id);
        answer_json(q, 201, TAKE_PTR(json));
}

static void on_stopped(void *userdata) {
        Request *q = userdata;
        char id[100];
        Container *b;

        (void) sscanf(q->path, "/containers/%99[^/]", id);
        b = box_find(id);
        if (b)
                box_end(b, true);
        answer(q, b ? 204 : 404, NULL, NULL);
}

static bool port_is_taken(const Container *b) {
        Container *other;

        TAILQ_FOREACH(other, &boxes, link)
                if (other != b && other->port == b->port && (other->state == BOX_RUNNING || other->state == BOX_RESTARTING))
                        return true;
        return false;
}

static void start(Request *q, Container *b) {
        if (b->state == BOX_RUNNING || b->state == BOX_RESTARTING)
                answer(q, 304, NULL, NULL);
        else if (!network_there)
                answer_words(q, 404, "network not found");
        else if (!has_mounts(b))
                answer_words(q, 400, "invalid mount config for type bind: bind source path does not exist");
        else if (port_is_taken(b))
                answer_words(q, 500, "driver failed programming external connectivity: port is already allocated");
        else {
                box_begin(b);
                answer(q, 204, NULL, NULL);
        }
}

static void rename_box(Request *q, Container *b) {
        char name[80];

        (void) query_of(q, "name", name, sizeof name);
        if (strcmp(b->name, name) == 0)
                answer_words(q, 400, "Renaming a container with the same name as its current name");
        else if (box_find(name))
                answer_words(q, 409, "Conflict. The container name is already in use");
        else {
                (void) snprintf(b->name, sizeof b->name, "%s", name);
                changed("rename", b);
                answer(q, 204, NULL, NULL);
        }
}

/* Below /configs only: nothing else is of interest to the agent. */
static void archive_put(Request *q, const Container *b) {
        Volume *v = configs_of(b->workspace);
        char path[200];
        bool lies = chance(weather[SIDE_ENGINE].lie);
        TarEntry e;
        size_t offset = 0;

        if (lies) {
                trace("  what is written is lost");
                model_hit(b);
        }
        (void) query_of(q, "path", path, sizeof path);
        while (v && !lies && tar_next(q->body, q->size, &offset, &e, NULL) > 0) {
                const char *name = strcmp(path, "/configs") == 0 ? e.name : strncmp(e.name, "configs/", 8) == 0 ? e.name + 8 : NULL;
                Kept *k;

                if (e.type != '0' || !name)
                        continue;
                k = kept_find(v, name) ?: v->n < FILES_HELD ? &v->files[v->n++] : NULL;
                if (!k)
                        abort();
                (void) snprintf(k->name, sizeof k->name, "%.63s", name);
                free(k->data);
                k->data = calloc(1, e.size + 1);
                memcpy(k->data, e.data, e.size);
                k->size = e.size;
        }
        model_engine("write", b);
        answer(q, v ? 200 : 404, NULL, NULL);
}

static void archive_get(Request *q, const Container *b) {
        char path[200];
        const Kept *k;
        Tar t = {};
        int r;

        (void) query_of(q, "path", path, sizeof path);
        k = strncmp(path, "/configs/", 9) == 0 ? kept_find(configs_of(b->workspace), path + 9) : NULL;
        if (!k) {
                answer_words(q, 404, "Could not find the file");
                return;
        }
        r = tar_add_file(&t, k->name, 0644, 1000, 1000, k->data, k->size);
        if (r >= 0 && tar_end(&t) >= 0)
                answer_bytes(q, t.data, t.size);
        tar_done(&t);
}

/* Where it is decided, and not where it comes late. */
void engine_asked(const Request *q) {
        _cleanup_json_ cJSON *json = NULL;
        const cJSON *labels;
        char id[100] = "";
        Container *b;

        if (strcmp(q->method, "DELETE") == 0 && sscanf(q->path, "/volumes/ws-%36s", id) == 1)
                model_erase(id);
        if (strncmp(q->path, "/containers/create?", 19) == 0 && json_parse(q->body, q->size, &json, NULL) == 0) {
                labels = json_get(json, "Labels");
                model_create(cJSON_GetStringValue(json_get(labels, LABEL_WORKSPACE)), json_get_u64_text(labels, LABEL_GENERATION, 0));
        } else if (sscanf(q->path, "/containers/%99[^/?]", id) == 1 && (b = box_find(id)) && (strcmp(q->method, "DELETE") == 0 || strstr(q->path, "/stop")))
                model_stop(b);
}

static void container(Request *q) {
        char id[100] = "", verb[40] = "";
        bool get = strcmp(q->method, "GET") == 0;
        Container *b;

        (void) sscanf(q->path, "/containers/%99[^/?]/%39[a-z]", id, verb);
        b = box_find(id);
        if (!b) {
                answer_words(q, 404, "No such container");
                return;
        }
        if (strcmp(q->method, "DELETE") == 0) {
                box_remove(b);
                answer(q, 204, NULL, NULL);
        } else if (strcmp(verb, "json") == 0)
                answer_json(q, 200, box_view(b));
        else if (strcmp(verb, "start") == 0)
                start(q, b);
        else if (strcmp(verb, "stop") == 0) {
                q->refs++;
                (void) task_after(between(1, 9000) * USEC_PER_MSEC, on_stopped, q);
        } else if (strcmp(verb, "rename") == 0)
                rename_box(q, b);
        else if (strcmp(verb, "logs") == 0)
                answer(q, 200, NULL, NULL);
        else if (strcmp(verb, "archive") == 0 && get)
                archive_get(q, b);
        else
                archive_put(q, b);
}

/* ── images ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Pulling { Request *q; int image; unsigned part; } Pulling;
#define PARTS 5U

static void on_part(void *userdata) {
        Pulling *p = userdata;
        char line[200];

        if (!engine_is_up || !client_waits(p->q)) {     /* an engine gives up a pull that nobody waits for */
                if (!p->q->answered)
                        answer_break(p->q, -ECONNRESET);
                free(p);
                return;
        }
        if (p->part < PARTS) {
                p->part++;
                (void) snprintf(line, sizeof line, "{\"status\":\"Downloading\",\"id\":\"layer\",\"progressDetail\":{\"current\":%u,\"total\":%u}}\n", p->part * 4000000U, PARTS * 4000000U);
                answer_piece(p->q, line);
                (void) task_after(between(100, 6000) * USEC_PER_MSEC, on_part, p);
                return;
        }
        pulled[p->image] = true;
        answer(p->q, 200, NULL, NULL);
        free(p);
}

static void image(Request *q) {
        cJSON *json, *config;
        char ref[300];
        Pulling *p;
        int i = image_of(q->path);

        if (strncmp(q->path, "/images/create", 14) == 0) {
                i = image_of(query_of(q, "fromImage", ref, sizeof ref));
                p = calloc(1, sizeof *p);
                if (i < 0 || !p) {
                        answer_words(q, 404, "manifest unknown");
                        free(p);
                        return;
                }
                *p = (Pulling) { .q = q, .image = i };
                q->refs++;
                on_part(p);
        } else if (i < 0 || !pulled[i])
                answer_words(q, 404, "No such image");
        else if (strcmp(q->method, "DELETE") == 0) {
                pulled[i] = false;
                answer(q, 200, NULL, strdup("[]"));
        } else {
                json = cJSON_CreateObject();
                (void) json_add_string(json, "Id", image_digest(i));
                (void) json_add_i64(json, "Size", PARTS * 4000000);
                (void) cJSON_AddItemToArray(cJSON_AddArrayToObject(json, "RepoDigests"), cJSON_CreateString(image_ref(i)));
                config = cJSON_AddObjectToObject(json, "Config");
                (void) cJSON_AddItemToArray(cJSON_AddArrayToObject(config, "Cmd"), cJSON_CreateString("/serve"));
                answer_json(q, 200, json);
        }
}

/* ── volumes, the network, lists ─────────────────────────────────────────────────────────────────────────────── */

static void volume_create(Request *q) {
        _cleanup_json_ cJSON *json = NULL;
        const char *name;
        Volume *v;

        if (json_parse(q->body, q->size, &json, NULL) < 0 || !(name = json_get_string(json, "Name"))) {
                answer_words(q, 400, "no name");
                return;
        }
        v = volume_find(name);
        if (!v) {
                v = calloc(1, sizeof *v);
                if (!v)
                        abort();
                (void) snprintf(v->name, sizeof v->name, "%s", name);
                v->labels = cJSON_Duplicate(json_get(json, "Labels"), true);
                TAILQ_INSERT_TAIL(&volumes, v, link);
                model_engine("make a volume", NULL);
        }
        answer_json(q, 201, volume_view(v));
}

static bool is_in_use(const Volume *v) {
        const Container *b;

        TAILQ_FOREACH(b, &boxes, link)
                if (strncmp(v->name + 3, b->workspace, UUID_SIZE - 1) == 0)
                        return true;
        return false;
}

static void volume(Request *q) {
        Volume *v = volume_find(q->path + strlen("/volumes/"));

        if (!v)
                answer_words(q, 404, "no such volume");
        else if (strcmp(q->method, "DELETE") != 0)
                answer_json(q, 200, volume_view(v));
        else if (is_in_use(v))
                answer_words(q, 409, "volume is in use");
        else {
                TAILQ_REMOVE(&volumes, v, link);
                for (size_t i = 0; i < v->n; i++)
                        free(v->files[i].data);
                cJSON_Delete(v->labels);
                free(v);
                model_engine("remove a volume", NULL);
                answer(q, 204, NULL, NULL);
        }
}

static void list_boxes(Request *q) {
        cJSON *list = cJSON_CreateArray();
        const Container *b;

        TAILQ_FOREACH(b, &boxes, link)
                if (matches(b->labels, q))
                        (void) cJSON_AddItemToArray(list, box_row(b));
        answer_json(q, 200, list);
}

static void list_volumes(Request *q) {
        cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "Volumes");
        const Volume *v;

        TAILQ_FOREACH(v, &volumes, link)
                if (matches(v->labels, q))
                        (void) cJSON_AddItemToArray(list, volume_view(v));
        answer_json(q, 200, json);
}

static void network(Request *q) {
        if (strcmp(q->method, "POST") == 0) {
                network_there = true;
                answer(q, 201, NULL, strdup("{\"Id\":\"n1\"}"));
        } else if (network_there)
                answer(q, 200, NULL, strdup("{\"Name\":\"" SIM_NETWORK "\"}"));
        else
                answer_words(q, 404, "network not found");
}

static void listen_to_events(Request *q) { listener = q; q->refs++; }
static void version(Request *q) { answer(q, 200, NULL, strdup("{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\"}")); }
static void info(Request *q) { answer(q, 200, NULL, strdup("{\"Driver\":\"overlay2\",\"CgroupDriver\":\"cgroupfs\",\"DockerRootDir\":\"/\"}")); }

static const struct { const char *method, *path; void (*fn)(Request *q); bool firm; } ways[] = {   /* firm: does not fail */
        { "GET", "/version", version, true },
        { "GET", "/info", info, true },
        { "GET", "/events", listen_to_events, true },
        { "POST", "/images/create", image, true },
        { "", "/images/", image, false },
        { "GET", "/containers/json", list_boxes, false },
        { "POST", "/containers/create", create, false },
        { "", "/containers/", container, false },
        { "POST", "/volumes/create", volume_create, false },
        { "GET", "/volumes?", list_volumes, false },
        { "", "/volumes/", volume, false },
        { "", "/networks/", network, false },
};

/* A call for a container or a volume, or for what has a workspace's label, is that workspace's. */
static void stumble(Request *q) {
        char id[100] = "";
        const Container *b;

        (void) sscanf(q->path, "/containers/%99[^/?]", id);
        b = box_find(id);
        model_stumbles(b ? b->workspace : q->path);
        answer_words(q, 500, "the engine stumbles");
}

void engine_handle(Request *q) {
        if (!engine_is_up) {
                answer_break(q, -ECONNREFUSED);
                return;
        }
        for (size_t i = 0; i < ELEMENTS(ways); i++) {
                if (strncmp(q->method, ways[i].method, strlen(ways[i].method)) != 0 || strncmp(q->path, ways[i].path, strlen(ways[i].path)) != 0)
                        continue;
                trace("  engine: %s %.110s", q->method, q->path);
                if (!ways[i].firm && chance(weather[SIDE_ENGINE].fail))
                        stumble(q);
                else
                        ways[i].fn(q);
                return;
        }
        wrong("the engine does not know %s %s", q->method, q->path);
}

void probe_handle(Request *q) {
        unsigned port = 0;
        Container *b;

        (void) sscanf(q->url, "http://127.0.0.1:%u", &port);
        TAILQ_FOREACH(b, &boxes, link)
                if (b->port == port && b->state == BOX_RUNNING)
                        break;
        if (!b || b->image == IMAGE_BAD)
                answer_break(q, -ECONNREFUSED);
        else if (sim_now < b->ready_at)
                answer(q, 503, NULL, strdup("not yet"));
        else {
                b->probes++;
                model_engine("probe", NULL);
                answer(q, 200, NULL, strdup("hello"));
        }
}
