/* SPDX-License-Identifier: Apache-2.0 */

/* The calls of the engine's API that we make: each a line in the table and a path.
 *
 * Ids and names that are no names by the engine's own grammar are refused here: what goes into a path cannot leave its place there. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "engine/engine-internal.h"

#define FOLLOW_STEP_MAX (256 * 1024)    /* more than one piece of an answer */
#define INSPECT_MAX (1U * 1024 * 1024)
#define LIST_MAX    (8U * 1024 * 1024)
#define REFUSAL_MAX 4096

static const CallKind
        image_inspect_kind = { "GET", "look at image", KIND_JSON, INSPECT_MAX },
        image_pull_kind = { "POST", "pull image", 0, INSPECT_MAX },
        image_remove_kind = { "DELETE", "remove image", KIND_ABSENT_OK, INSPECT_MAX },
        network_inspect_kind = { "GET", "look at network", KIND_JSON, INSPECT_MAX },
        network_create_kind = { "POST", "make network", KIND_JSON | KIND_NAMED | KIND_TAKEN_OK, INSPECT_MAX },
        volume_inspect_kind = { "GET", "look at volume", KIND_JSON, INSPECT_MAX },
        volume_create_kind = { "POST", "make volume", KIND_JSON | KIND_NAMED, INSPECT_MAX },
        volume_remove_kind = { "DELETE", "remove volume", KIND_ABSENT_OK, INSPECT_MAX },
        volume_usage_kind = { "GET", "measure volume", KIND_JSON, LIST_MAX },
        volume_list_kind = { "GET", "list volumes with", KIND_JSON, LIST_MAX },
        container_create_kind = { "POST", "create container", KIND_JSON | KIND_NAMED, INSPECT_MAX },
        container_inspect_kind = { "GET", "look at container", KIND_JSON, INSPECT_MAX },
        container_list_kind = { "GET", "list containers with", KIND_JSON, LIST_MAX },
        container_start_kind = { "POST", "start container", KIND_STARTS, INSPECT_MAX },
        container_stop_kind = { "POST", "stop container", 0, INSPECT_MAX },
        container_rename_kind = { "POST", "rename container", KIND_NAMED, INSPECT_MAX },
        container_remove_kind = { "DELETE", "remove container", KIND_ABSENT_OK, INSPECT_MAX },
        container_logs_kind = { "GET", "read the logs of container", KIND_LOG, INSPECT_MAX },
        archive_put_kind = { "PUT", "write files into container", 0, INSPECT_MAX },
        archive_get_kind = { "GET", "read files out of container", 0, INSPECT_MAX };

/* ── paths ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_name_char(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

/* What the engine takes for a name or an id. */
static bool name_is_valid(const char *s) {
        size_t n = strlen(s);

        if (n == 0 || n > 255 || s[0] == '.' || s[0] == '-')
                return false;
        for (size_t i = 0; i < n; i++)
                if (!is_name_char(s[i]))
                        return false;
        return true;
}

static char *escape(const char *s) {
        static const char digits[] = "0123456789ABCDEF";
        char *text = malloc(strlen(s) * 3 + 1), *to = text;

        for (; text && *s; s++)
                if (is_name_char(*s))
                        *to++ = *s;
                else {
                        *to++ = '%';
                        *to++ = digits[(unsigned char) *s >> 4];
                        *to++ = digits[(unsigned char) *s & 15];
                }
        if (text)
                *to = 0;
        return text;
}

/* NULL: out of memory. */
static char *path_escaped(const char *before, const char *arg, const char *behind) {
        _cleanup_free_ char *escaped = escape(arg);

        return escaped ? str_printf("%s%s%s", before, escaped, behind) : NULL;
}

/* ── shapes of calls ───────────────────────────────────────────────────────────────────────────────────────────── */

static int call_simple(Engine *e, const CallKind *kind, const char *thing, char *path, EngineDone done, void *userdata, EngineCall **ret) {
        return engine_call_begin(engine_call_new(e, kind, thing, done, userdata), path, &(HttpRequest) {}, ret);
}

static int call_post(Engine *e, const CallKind *kind, const char *thing, char *path, const char *body, EngineDone done, void *userdata,
                     EngineCall **ret) {
        return engine_call_begin(engine_call_new(e, kind, thing, done, userdata), path,
                                 &(HttpRequest) { .content_type = "application/json", .body = body, .body_size = strlen(body) }, ret);
}

/* ── images, networks, volumes ───────────────────────────────────────────────────────────────────────────────── */

int engine_image_inspect(Engine *e, const char *ref, EngineDone done, void *userdata, EngineCall **ret) {
        return call_simple(e, &image_inspect_kind, ref, path_escaped("/images/", ref, "/json"), done, userdata, ret);
}

int engine_image_remove(Engine *e, const char *ref, EngineDone done, void *userdata, EngineCall **ret) {
        return call_simple(e, &image_remove_kind, ref, path_escaped("/images/", ref, ""), done, userdata, ret);
}

int engine_image_pull(Engine *e, const char *ref, const char *auth, PullProgress *progress, void (*on_progress)(void *userdata),
                      EngineDone done, void *userdata, EngineCall **ret) {
        _cleanup_free_ char *header = auth ? str_printf("X-Registry-Auth: %s", auth) : NULL;
        const char *const headers[] = { header, NULL };
        EngineCall *c = engine_call_new(e, &image_pull_kind, ref, done, userdata);
        int r;

        assert(progress);
        if (c) {
                c->progress = progress;
                c->on_progress = on_progress;
        }
        if (auth && !header) {
                (void) engine_call_cancel(c);
                return -ENOMEM;
        }
        r = engine_call_begin(c, path_escaped("/images/create?fromImage=", ref, ""), &(HttpRequest) { .headers = headers }, ret);
        if (header)
                explicit_bzero(header, strlen(header));
        return r;
}

int engine_network_ensure(Engine *e, const char *name, const EnginePair *labels, size_t n, EngineDone done, void *userdata,
                          EngineCall **ret) {
        _cleanup_free_ char *body = NULL;
        EngineCall *c;
        int r;

        if (!name_is_valid(name))
                return -EINVAL;
        r = network_body(name, labels, n, &body);
        if (r < 0)
                return r;
        c = engine_call_new(e, &network_inspect_kind, name, done, userdata);
        if (c) {
                c->second_kind = &network_create_kind;
                c->second_path = "/networks/create";
                c->second_body = TAKE_PTR(body);
        }
        return engine_call_begin(c, str_printf("/networks/%s", name), &(HttpRequest) {}, ret);
}

int engine_volume_inspect(Engine *e, const char *name, EngineDone done, void *userdata, EngineCall **ret) {
        if (!name_is_valid(name))
                return -EINVAL;
        return call_simple(e, &volume_inspect_kind, name, str_printf("/volumes/%s", name), done, userdata, ret);
}

int engine_volume_create(Engine *e, const char *name, const EnginePair *labels, size_t n, EngineDone done, void *userdata,
                         EngineCall **ret) {
        _cleanup_free_ char *body = NULL;
        int r;

        if (!name_is_valid(name))
                return -EINVAL;
        r = volume_body(name, labels, n, &body);
        if (r < 0)
                return r;
        return call_post(e, &volume_create_kind, name, strdup("/volumes/create"), body, done, userdata, ret);
}

int engine_volume_remove(Engine *e, const char *name, EngineDone done, void *userdata, EngineCall **ret) {
        if (!name_is_valid(name))
                return -EINVAL;
        return call_simple(e, &volume_remove_kind, name, str_printf("/volumes/%s", name), done, userdata, ret);
}

int engine_volume_usage(Engine *e, const char *name, EngineDone done, void *userdata, EngineCall **ret) {
        return call_simple(e, &volume_usage_kind, name, strdup("/system/df?type=volume"), done, userdata, ret);
}

/* {"label":["…"]}, escaped, behind a path. */
static char *path_filtered(const char *before, const char *label) {
        _cleanup_json_ cJSON *filters = cJSON_CreateObject();
        _cleanup_free_ char *text = NULL;
        cJSON *list = filters ? cJSON_AddArrayToObject(filters, "label") : NULL, *item = cJSON_CreateString(label);

        if (!list || !item || !cJSON_AddItemToArray(list, item)) {
                cJSON_Delete(item);
                return NULL;
        }
        text = json_print(filters);
        return text ? path_escaped(before, text, "") : NULL;
}

int engine_volume_list(Engine *e, const char *label, EngineDone done, void *userdata, EngineCall **ret) {
        return call_simple(e, &volume_list_kind, label, path_filtered("/volumes?filters=", label), done, userdata, ret);
}

/* ── containers ──────────────────────────────────────────────────────────────────────────────────────────────── */

int engine_container_create(Engine *e, const char *name, const ContainerSpec *spec, EngineDone done, void *userdata, EngineCall **ret) {
        _cleanup_free_ char *body = NULL;
        int r;

        if (!name_is_valid(name))
                return -EINVAL;
        r = container_spec_body(spec, &body, NULL);
        if (r < 0)
                return r;
        r = call_post(e, &container_create_kind, name, str_printf("/containers/create?name=%s", name), body, done, userdata, ret);
        explicit_bzero(body, strlen(body));     /* holds the env */
        return r;
}

/* The many calls on one container: a path with its id in the middle. */
static int container_call(Engine *e, const CallKind *kind, const char *id, const char *behind, EngineDone done, void *userdata,
                          EngineCall **ret) {
        if (!name_is_valid(id))
                return -EINVAL;
        return call_simple(e, kind, id, str_printf("/containers/%s%s", id, behind), done, userdata, ret);
}

int engine_container_inspect(Engine *e, const char *id, EngineDone done, void *userdata, EngineCall **ret) {
        return container_call(e, &container_inspect_kind, id, "/json", done, userdata, ret);
}

int engine_container_list(Engine *e, const char *label, EngineDone done, void *userdata, EngineCall **ret) {
        return call_simple(e, &container_list_kind, label, path_filtered("/containers/json?all=1&filters=", label), done, userdata, ret);
}

int engine_container_start(Engine *e, const char *id, EngineDone done, void *userdata, EngineCall **ret) {
        return container_call(e, &container_start_kind, id, "/start", done, userdata, ret);
}

int engine_container_stop(Engine *e, const char *id, unsigned seconds, EngineDone done, void *userdata, EngineCall **ret) {
        if (!name_is_valid(id))
                return -EINVAL;
        return engine_call_begin(engine_call_new(e, &container_stop_kind, id, done, userdata),
                                 str_printf("/containers/%s/stop?t=%u", id, seconds),
                                 &(HttpRequest) { .timeout_usec = seconds * USEC_PER_SEC }, ret);
}

int engine_container_rename(Engine *e, const char *id, const char *name, EngineDone done, void *userdata, EngineCall **ret) {
        if (!name_is_valid(id) || !name_is_valid(name))
                return -EINVAL;
        /* Not on a kept connection: where that breaks, libcurl asks a second time by itself, and no name can be given twice. */
        return engine_call_begin(engine_call_new(e, &container_rename_kind, id, done, userdata),
                                 str_printf("/containers/%s/rename?name=%s", id, name), &(HttpRequest) { .flags = HTTP_FRESH }, ret);
}

int engine_container_remove(Engine *e, const char *id, EngineDone done, void *userdata, EngineCall **ret) {
        return container_call(e, &container_remove_kind, id, "?force=1", done, userdata, ret);
}

int engine_container_logs(Engine *e, const char *id, unsigned lines, size_t max, EngineDone done, void *userdata, EngineCall **ret) {
        EngineCall *c;

        if (!name_is_valid(id))
                return -EINVAL;
        c = engine_call_new(e, &container_logs_kind, id, done, userdata);
        if (c)
                c->log.max = max;
        return engine_call_begin(c, str_printf("/containers/%s/logs?stdout=1&stderr=1&tail=%u", id, lines), &(HttpRequest) {}, ret);
}

int engine_container_follow(Engine *e, const char *id, const EngineLogQuery *q, const EngineLogSink *sink, EngineDone done, void *userdata,
                            EngineCall **ret) {
        EngineCall *c;

        if (!name_is_valid(id))
                return -EINVAL;
        c = engine_call_new(e, &container_logs_kind, id, done, userdata);
        if (c) {
                c->log.max = FOLLOW_STEP_MAX;
                c->sink = sink;
        }
        return engine_call_begin(c, str_printf("/containers/%s/logs?stdout=1&stderr=1&tail=%u&since=%llu&follow=%d", id, q->lines,
                                               (unsigned long long) q->since, q->follow), &(HttpRequest) {}, ret);
}

static char *archive_path(const char *id, const char *path) {
        _cleanup_free_ char *before = str_printf("/containers/%s/archive?path=", id);

        return before ? path_escaped(before, path, "") : NULL;
}

int engine_archive_put(Engine *e, const char *id, const char *path, const void *tar, size_t size, EngineDone done, void *userdata,
                       EngineCall **ret) {
        if (!name_is_valid(id))
                return -EINVAL;
        return engine_call_begin(engine_call_new(e, &archive_put_kind, id, done, userdata), archive_path(id, path),
                                 &(HttpRequest) { .content_type = "application/x-tar", .body = tar, .body_size = size }, ret);
}

int engine_archive_get(Engine *e, const char *id, const char *path, size_t max, EngineDone done, void *userdata, EngineCall **ret) {
        EngineCall *c;

        if (!name_is_valid(id))
                return -EINVAL;
        c = engine_call_new(e, &archive_get_kind, id, done, userdata);
        if (c)
                c->limit = max;
        return engine_call_begin(c, archive_path(id, path),
                                 &(HttpRequest) { .answer_max = max < REFUSAL_MAX ? REFUSAL_MAX : max }, ret);
}
