/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/stray.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/config.h"
#include "agent/ctl/answer.h"
#include "agent/ctl/ctl.h"
#include "base/http-wait.h"
#include "base/json.h"
#include "base/text.h"
#include "provision/container.h"

#define API        "http://localhost/v1.41"
#define MANAGED    "filters=%7B%22label%22%3A%5B%22" LABEL_MANAGED "%3Dtrue%22%5D%7D"
#define LIST_MAX   (16 * 1024 * 1024)
#define VALUES_MAX 500000

typedef struct Engine { HttpWait *http; Config *config; } Engine;

static void engine_done(Engine *e) {
        http_wait_free(e->http);
        config_free(e->config);
}

static int engine_open(Engine *e) {
        Fault why = {};

        if (config_load(NULL, false, &e->config, &why) < 0) {
                fprintf(stderr, "%s\n", why.text);
                return CTL_CONFIG;
        }
        return http_wait_new(NULL, &e->http) < 0 ? CTL_FAILED : CTL_OK;
}

static int call(const Engine *e, const char *method, const char *path, HttpReply *ret) {
        _cleanup_free_ char *url = str_printf(API "%s", path);
        int r = url ? http_wait(e->http, &(HttpRequest) { .method = method, .url = url, .socket_path = e->config->engine_socket, .answer_max = LIST_MAX,
                                                          .timeout_usec = 60 * USEC_PER_SEC }, ret) : -ENOMEM;

        if (r >= 0 && ret->error < 0) {
                fprintf(stderr, "The engine does not answer on %s: %s\n", e->config->engine_socket, ret->words);
                r = ret->error;
        } else if (r >= 0 && ret->status >= 300) {
                fprintf(stderr, "The engine refuses %s %s: HTTP %ld\n", method, path, ret->status);
                r = -EIO;
        }
        return r;
}

static int get(const Engine *e, const char *path, cJSON **ret) {
        HttpReply reply = {};
        int r = call(e, "GET", path, &reply);

        if (r >= 0)
                r = json_parse_values(reply.body, reply.size, VALUES_MAX, ret, NULL);
        http_reply_done(&reply);
        return r;
}

static const char *label(const cJSON *item, const char *name) {
        const cJSON *value = json_get(json_get(item, "Labels"), name);

        return cJSON_IsString(value) ? value->valuestring : NULL;
}

/* Only what says whose it is; without that word it may be of the platform's own provisioner. */
static bool is_foreign(const cJSON *item, const char *host_id) {
        const char *host = label(item, LABEL_HOST);

        return host && strcmp(host, host_id) != 0;
}

static const char *container_of(const cJSON *item) {
        const cJSON *name = cJSON_GetArrayItem(json_get(item, "Names"), 0);

        return cJSON_IsString(name) ? name->valuestring + (name->valuestring[0] == '/') : json_get_string(item, "Id") ?: "?";
}

int stray_list(const char *host_id) {
        _cleanup_(engine_done) Engine e = {};
        _cleanup_json_ cJSON *list = NULL;
        const cJSON *item;
        int code = engine_open(&e);

        if (code != CTL_OK || get(&e, "/containers/json?all=1&" MANAGED, &list) < 0)
                return code == CTL_OK ? CTL_FAILED : code;
        cJSON_ArrayForEach(item, list)
                if (is_foreign(item, host_id)) {
                        const char *name = container_of(item), *host = label(item, LABEL_HOST), *state = json_get_string(item, "State") ?: "?";

                        answer_words("foreign: container %s of host %s, %s\n", name, host, state);
                        answer_add("foreign", answer_item("container", name, "host_id", host, "state", state));
                }
        return CTL_OK;
}

static bool remove_one(const Engine *e, const char *kind, const char *name, bool dry_run) {
        _cleanup_free_ char *path = str_printf("/%ss/%s?force=1", kind, name);
        HttpReply reply = {};
        int r = dry_run ? 0 : path ? call(e, "DELETE", path, &reply) : -ENOMEM;

        http_reply_done(&reply);
        if (r < 0)
                return false;
        answer_words("%s: %s %s\n", dry_run ? "would go" : "removed", kind, name);
        answer_add("removed", answer_item("kind", kind, "name", name));
        return true;
}

int stray_remove(const char *host_id, bool volumes, bool dry_run) {
        _cleanup_(engine_done) Engine e = {};
        _cleanup_json_ cJSON *containers = NULL, *all = NULL;
        unsigned gone = 0, failed = 0;
        const cJSON *item;
        int code = engine_open(&e);

        if (code != CTL_OK || get(&e, "/containers/json?all=1&" MANAGED, &containers) < 0 || get(&e, "/volumes?" MANAGED, &all) < 0)
                return code == CTL_OK ? CTL_FAILED : code;
        answer_list("removed");
        answer_bool("dry_run", dry_run);
        cJSON_ArrayForEach(item, containers)
                if (is_foreign(item, host_id))
                        ++*(remove_one(&e, "container", container_of(item), dry_run) ? &gone : &failed);
        cJSON_ArrayForEach(item, json_get(all, "Volumes"))
                if (volumes && is_foreign(item, host_id))
                        ++*(remove_one(&e, "volume", json_get_string(item, "Name") ?: "?", dry_run) ? &gone : &failed);
        answer_words("%u %s%s\n", gone, dry_run ? "would go" : "are gone", failed ? ", some could not be removed." : ".");
        return failed ? CTL_FAILED : CTL_OK;
}
