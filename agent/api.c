/* SPDX-License-Identifier: Apache-2.0 */

/* One request, from its head to its answer. What a peer may do is judged before a byte of its body is kept. */

#include "agent/api.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/api-server.h"
#include "base/log.h"
#include "base/text.h"

#define CONNECTIONS_MAX   128
#define STREAMS_MAX       100 /* so that there is always room for a question */
#define PEER_GROUPS_MAX   256
#define GROUP_ROOM        ((size_t) 1024 * 1024) /* a group with very many members */
#define BODY_STEP         (64 * 1024)

struct Api {
        Agent *agent;
        ApiServer *server;
        bool has_admins;
        gid_t admins;
        char path[sizeof((struct sockaddr_un *) NULL)->sun_path];
};

typedef struct Request {
        const ApiRoute *route; /* NULL: status says why not */
        unsigned status;
        const char *refusal; /* the words to it */
        char part[API_PART_MAX + 1];
        uid_t uid;
        char *body;
        size_t size, room;
} Request;

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static enum MHD_Result send_json(struct MHD_Connection *connection, unsigned status, const cJSON *json) {
        return api_server_text(connection, status, "application/json", json ? json_print(json) : NULL);
}

static enum MHD_Result send_error(struct MHD_Connection *connection, unsigned status, const char *code, const char *words) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || !json_add_string(json, "error", code) || !json_add_string(json, "message", words))
                return MHD_NO;
        return send_json(connection, status, json);
}

static unsigned status_of(FaultCode code) {
        static const struct {
                FaultCode code;
                unsigned status;
        } table[] = {
                { FAULT_BAD_JSON, 400 },
                { FAULT_UNSUPPORTED_FIELD, 400 },
                { FAULT_TOO_LARGE, 413 },
                { FAULT_BAD_SIGNATURE, 403 },
                { FAULT_UNKNOWN_WORKSPACE, 404 },
                { FAULT_HELD, 409 },
                { FAULT_TOO_LATE, 409 },
                { FAULT_NOT_ENROLLED, 409 },
                { FAULT_CREDENTIALS_FOREIGN, 409 },
                { FAULT_STATE_DEGRADED, 503 },
                { FAULT_RUNTIME_PIN_MISSING, 422 },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++)
                if (table[i].code == code)
                        return table[i].status;
        return 500;
}

static enum MHD_Result send_refusal(struct MHD_Connection *connection, const Request *q) {
        static const struct {
                unsigned status;
                const char *code;
        } table[] = {
                { 403, "forbidden" },
                { 404, "not_found" },
                { 405, "method_not_allowed" },
                { 413, "too_large" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++)
                if (table[i].status == q->status)
                        return send_error(connection, q->status, table[i].code, q->refusal);
        return MHD_NO;
}

/* ── one request ─────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_member(int fd, gid_t primary, gid_t wanted) {
        gid_t groups[PEER_GROUPS_MAX];
        socklen_t size = sizeof groups;

        if (primary == wanted)
                return true;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
                return false;
        for (size_t i = 0; i < size / sizeof *groups; i++)
                if (groups[i] == wanted)
                        return true;
        return false;
}

static ApiPeer read_peer(const Api *api, struct MHD_Connection *connection, uid_t *ret_uid) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct ucred peer;
        socklen_t size = sizeof peer;

        if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || size != sizeof peer)
                return API_NOBODY;
        *ret_uid = peer.uid;
        if (peer.uid == 0 || peer.uid == geteuid())
                return API_ROOT;
        return api->has_admins && is_member(info->connect_fd, peer.gid, api->admins) ? API_ADMIN : API_GROUP;
}

static void refuse(Request *q, unsigned status, const char *words) {
        q->route = NULL;
        q->status = status;
        q->refusal = words;
}

/* A route whose path ends in '/' takes one part more. */
static bool matches(const ApiRoute *r, const char *path, char part[static API_PART_MAX + 1]) {
        size_t n = strlen(r->path);
        const char *rest = path + n;

        if (strncmp(r->path, path, n) != 0)
                return false;
        if (r->path[n - 1] != '/')
                return *rest == 0;
        if (*rest == 0 || strlen(rest) > API_PART_MAX || strchr(rest, '/'))
                return false;
        memcpy(part, rest, strlen(rest) + 1);
        return true;
}

static void find_route(Request *q, ApiPeer peer, const char *method, const char *path) {
        static const char *const refusals[] = {
                [API_GROUP] = "The kernel does not say who you are.",
                [API_ADMIN] = "This is for root and the members of admin_group.",
                [API_ROOT] = "Changes are for root.",
        };

        refuse(q, 404, "There is no such path; docs/openapi/local.yaml lists them.");
        for (const ApiRoute *r = api_routes; r->path; r++) {
                if (!matches(r, path, q->part))
                        continue;
                if (strcmp(r->method, method) == 0) {
                        q->route = r;
                        break;
                }
                refuse(q, 405, "This path has another method; docs/openapi/local.yaml says which.");
        }
        if (q->route && peer < q->route->needs)
                refuse(q, 403, refusals[q->route->needs]);
}

static Request *request_new(const Api *api, struct MHD_Connection *connection, const char *method, const char *path) {
        Request *q = calloc(1, sizeof *q);

        if (q)
                find_route(q, read_peer(api, connection, &q->uid), method, path);
        return q;
}

static void drop_body(Request *q) {
        free(q->body);
        q->body = NULL;
        q->size = q->room = 0;
}

/* What is not wanted is read and forgotten, so that the refusal can be heard. */
static int take_body(Request *q, const char *data, size_t size) {
        if (!q->route)
                return 0;
        if (size > q->route->body_max || q->size > q->route->body_max - size) {
                drop_body(q);
                refuse(q, 413, "The body is larger than this path takes.");
                return 0;
        }
        if (q->size + size > q->room) {
                size_t room = q->room * 2 > q->size + size ? q->room * 2 : q->size + size + BODY_STEP;
                char *larger = realloc(q->body, room);

                if (!larger)
                        return -ENOMEM;
                q->body = larger;
                q->room = room;
        }
        memcpy(q->body + q->size, data, size);
        q->size += size;
        return 0;
}

static void answer_done(ApiAnswer *a) {
        cJSON_Delete(a->json);
        free(a->text);
}

const char *api_query(const ApiCall *c, const char *name) {
        const char *value = MHD_lookup_connection_value((struct MHD_Connection *) c->connection, MHD_GET_ARGUMENT_KIND, name);

        return value && strlen(value) > API_PART_MAX ? "?" : value;
}

int api_read_text(const ApiCall *c, const char *name, char *ret, size_t size, Fault *reterr) {
        const char *value = MHD_lookup_connection_value((struct MHD_Connection *) c->connection, MHD_GET_ARGUMENT_KIND, name);

        if (value && strlen(value) >= size)
                return fault(reterr, -EINVAL, FAULT_BAD_JSON, "%s is longer than %zu bytes.", name, size - 1);
        (void) snprintf(ret, size, "%s", value ?: "");
        text_make_printable(ret);
        return 0;
}

static int run(const Api *api, struct MHD_Connection *connection, Request *q, ApiAnswer *ret, Fault *reterr) {
        _cleanup_json_ cJSON *body = NULL;
        char who[32];
        ApiCall call = { .who = who,
                         .part = q->part,
                         .connection = connection,
                         .uid = q->uid,
                         .claimed_loginuid = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, API_CLAIMED_LOGINUID),
                         .claimed_executable = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, API_CLAIMED_EXECUTABLE) };
        int r = 0;

        (void) snprintf(who, sizeof who, "uid %u", q->uid);
        if (q->route->body_max > 0 && q->size > 0) {
                r = json_parse(q->body, q->size, &body, reterr);
                if (r == 0 && !cJSON_IsObject(body))
                        r = fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The body is not an object.");
                drop_body(q);
        }
        call.json = body;
        return r < 0 ? r : q->route->handle(api->agent, &call, ret, reterr);
}

static enum MHD_Result send_too_many(struct MHD_Connection *connection) {
        return send_error(connection, 503, "too_many", "So many read or follow already that one more is refused.");
}

static enum MHD_Result send_stream(const Api *api, struct MHD_Connection *connection, ApiAnswer *a) {
        if (api_server_has_room(api->server))
                return api_server_stream(api->server, connection, a->type, a->source, a->state);
        a->source->done(a->state);
        return send_too_many(connection);
}

static enum MHD_Result answer(const Api *api, struct MHD_Connection *connection, Request *q) {
        _cleanup_(answer_done) ApiAnswer a = {};
        Fault why = {};
        int r;

        if (!q->route)
                return send_refusal(connection, q);
        r = run(api, connection, q, &a, &why);
        if (r == -EUSERS)
                return send_too_many(connection);
        if (r < 0) {
                if (!why.set)
                        (void) fault(&why, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
                return send_error(connection, status_of(why.code), fault_code_name(why.code), why.text);
        }
        if (a.source)
                return send_stream(api, connection, &a);
        return a.text ? api_server_text(connection, 200, a.type, TAKE_PTR(a.text)) : send_json(connection, 200, a.json);
}

/* Called when the head is there, then for each piece of the body, then once with no data. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **place) {
        Request *q = *place;
        int r;

        (void) version;
        if (!q) {
                *place = request_new(cls, connection, method, path);
                return *place ? MHD_YES : MHD_NO;
        }
        if (*size > 0) {
                r = take_body(q, data, *size);
                *size = 0;
                return r < 0 ? MHD_NO : MHD_YES;
        }
        return answer(cls, connection, q);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **place, enum MHD_RequestTerminationCode why) {
        Request *q = *place;

        (void) cls;
        (void) connection;
        (void) why;
        if (q)
                drop_body(q);
        free(q);
        *place = NULL;
}

/* ── the socket ──────────────────────────────────────────────────────────────────────────────────────────────── */

static int listen_on(const char *path) {
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        mode_t mask;
        int r;

        if (fd < 0)
                return -errno;
        memcpy(address.sun_path, path, strlen(path) + 1);
        if (unlink(path) < 0 && errno != ENOENT)
                return -errno;
        mask = umask(0117);
        r = bind(fd, (const struct sockaddr *) &address, sizeof address) < 0 ? -errno : 0;
        (void) umask(mask);
        if (r < 0)
                return r;
        return listen(fd, CONNECTIONS_MAX) < 0 ? -errno : TAKE_FD(fd);
}

static void find_admins(Api *api, const char *name) {
        _cleanup_free_ char *room = malloc(GROUP_ROOM);
        struct group entry, *found = NULL;

        if (!name)
                return;
        if (!room || getgrnam_r(name, &entry, room, GROUP_ROOM, &found) != 0 || !found) {
                log_warning("This host has no group '%s' that can be read (admin_group): only root looks at logs and workspaces.", name);
                return;
        }
        api->has_admins = true;
        api->admins = found->gr_gid;
}

int api_start(sd_event *event, const char *runtime_path, const char *admin_group, Agent *a, Api **ret, Fault *reterr) {
        Api *api = calloc(1, sizeof *api);
        ApiServerOptions o = { .fd = -ENAMETOOLONG, .connections_max = CONNECTIONS_MAX, .streams_max = STREAMS_MAX,
                               .request = on_request, .completed = on_completed, .userdata = api };
        int r;

        if (!api)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        api->agent = a;
        find_admins(api, admin_group);
        if (snprintf(api->path, sizeof api->path, "%s/" API_SOCKET, runtime_path) < (int) sizeof api->path)
                o.fd = listen_on(api->path);
        if (o.fd < 0) {
                free(api);
                return fault(reterr, o.fd, FAULT_INTERNAL, "Cannot listen on %s/" API_SOCKET ": %s", runtime_path, strerror(-o.fd));
        }
        r = api_server_start(event, &o, &api->server);
        if (r < 0) {
                (void) api_stop(api);
                return fault(reterr, r, FAULT_INTERNAL, "The local API cannot start: %s", strerror(-r));
        }
        *ret = api;
        return 0;
}

Api *api_stop(Api *api) {
        if (!api)
                return NULL;
        api->server = api_server_stop(api->server);
        (void) unlink(api->path);
        free(api);
        return NULL;
}

unsigned api_followers(const Api *api) { return api ? api_server_streams(api->server) : 0; }

void api_wake(Api *api) {
        if (api)
                api_server_wake(api->server);
}
