/* SPDX-License-Identifier: Apache-2.0 */

/* libmicrohttpd on our event loop: it brings its own epoll descriptor, our loop watches that and microhttpd's timer. What a peer may do is judged
 * before a byte of its body is kept. */

#include "agent/api.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

#define IDLE_SECONDS      10 /* a connection on which nothing moves */
#define CONNECTIONS_MAX   32
#define CONNECTION_MEMORY (8 * 1024)
#define BODY_STEP         (64 * 1024)

struct Api {
        Agent *agent;
        struct MHD_Daemon *mhd;
        sd_event_source *io, *timer, *again;
        char path[sizeof((struct sockaddr_un *) NULL)->sun_path];
};

typedef struct Request {
        const ApiRoute *route; /* NULL: status says why not */
        unsigned status;
        const char *refusal; /* the words to it */
        struct ucred peer;
        char *body;
        size_t size, room;
} Request;

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static enum MHD_Result send_json(struct MHD_Connection *connection, unsigned status, const cJSON *json) {
        char *text = json ? json_print(json) : NULL;
        struct MHD_Response *response;
        enum MHD_Result r;

        if (!text)
                return MHD_NO;
        response = MHD_create_response_from_buffer_with_free_callback(strlen(text), text, free);
        if (!response) {
                free(text);
                return MHD_NO;
        }
        (void) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
        r = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return r;
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

static int read_peer(struct MHD_Connection *connection, struct ucred *ret) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        socklen_t size = sizeof *ret;

        return info && getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, ret, &size) == 0 && size == sizeof *ret ? 0 : -EPERM;
}

static void refuse(Request *q, unsigned status, const char *words) {
        q->route = NULL;
        q->status = status;
        q->refusal = words;
}

static bool may_change(const Request *q) { return q->peer.uid == 0 || q->peer.uid == geteuid(); }

static void find_route(Request *q, const char *method, const char *path) {
        refuse(q, 404, "There is no such path; docs/openapi/local.yaml lists them.");
        for (const ApiRoute *r = api_routes; r->path; r++) {
                if (strcmp(r->path, path) != 0)
                        continue;
                if (strcmp(r->method, method) == 0) {
                        q->route = r;
                        break;
                }
                refuse(q, 405, "This path has another method; docs/openapi/local.yaml says which.");
        }
        if (q->route && strcmp(method, MHD_HTTP_METHOD_GET) != 0 && !may_change(q))
                refuse(q, 403, "Changes are for root.");
}

static Request *request_new(struct MHD_Connection *connection, const char *method, const char *path) {
        Request *q = calloc(1, sizeof *q);

        if (!q)
                return NULL;
        if (read_peer(connection, &q->peer) < 0)
                refuse(q, 403, "The kernel does not say who you are.");
        else
                find_route(q, method, path);
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

static int run(Api *api, struct MHD_Connection *connection, Request *q, cJSON **ret, Fault *reterr) {
        _cleanup_json_ cJSON *body = NULL;
        char who[32];
        ApiCall call = { .who = who };
        int r = 0;

        (void) snprintf(who, sizeof who, "uid %u", q->peer.uid);
        if (q->route->parameter)
                call.query = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, q->route->parameter);
        if (q->route->body_max > 0 && q->size > 0) {
                r = json_parse(q->body, q->size, &body, reterr);
                if (r == 0 && !cJSON_IsObject(body))
                        r = fault(reterr, -EBADMSG, FAULT_BAD_JSON, "The body is not an object.");
                drop_body(q);
        }
        call.json = body;
        return r < 0 ? r : q->route->handle(api->agent, &call, ret, reterr);
}

static enum MHD_Result answer(Api *api, struct MHD_Connection *connection, Request *q) {
        _cleanup_json_ cJSON *json = NULL;
        Fault why = {};

        if (!q->route)
                return send_refusal(connection, q);
        if (run(api, connection, q, &json, &why) >= 0 && json)
                return send_json(connection, 200, json);
        if (!why.set)
                (void) fault(&why, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return send_error(connection, status_of(why.code), fault_code_name(why.code), why.text);
}

/* Called when the head is there, then for each piece of the body, then once with no data. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **place) {
        Request *q = *place;
        int r;

        (void) version;
        if (!q) {
                *place = request_new(connection, method, path);
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

/* ── on the loop ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void step(Api *api) {
        MHD_UNSIGNED_LONG_LONG msec;

        (void) MHD_run(api->mhd);
        if (MHD_get_timeout(api->mhd, &msec) != MHD_YES)
                (void) sd_event_source_set_enabled(api->timer, SD_EVENT_OFF);
        else if (msec == 0)
                (void) sd_event_source_set_enabled(api->again, SD_EVENT_ONESHOT);
        else {
                (void) sd_event_source_set_time(api->timer, now_boottime() + msec * USEC_PER_MSEC);
                (void) sd_event_source_set_enabled(api->timer, SD_EVENT_ONESHOT);
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        (void) source;
        (void) fd;
        (void) revents;
        step(userdata);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) source;
        (void) usec;
        step(userdata);
        return 0;
}

static int on_again(sd_event_source *source, void *userdata) {
        (void) source;
        step(userdata);
        return 0;
}

static int watch(Api *api, sd_event *event) {
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(api->mhd, MHD_DAEMON_INFO_EPOLL_FD);
        int r = info ? sd_event_add_io(event, &api->io, info->epoll_fd, EPOLLIN, on_io, api) : -EIO;

        if (r >= 0)
                r = sd_event_add_time(event, &api->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, api);
        if (r >= 0)
                r = sd_event_source_set_enabled(api->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_defer(event, &api->again, on_again, api);
        return r < 0 ? r : 0;
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

int api_start(sd_event *event, const char *runtime_path, Agent *a, Api **ret, Fault *reterr) {
        Api *api = calloc(1, sizeof *api);
        int fd = -ENAMETOOLONG, r;

        if (!api)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        api->agent = a;
        if (snprintf(api->path, sizeof api->path, "%s/" API_SOCKET, runtime_path) < (int) sizeof api->path)
                fd = listen_on(api->path);
        if (fd < 0) {
                r = fault(reterr, fd, FAULT_INTERNAL, "Cannot listen on %s/" API_SOCKET ": %s", runtime_path, strerror(-fd));
                free(api);
                return r;
        }
        api->mhd = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, api,
                                    MHD_OPTION_LISTEN_SOCKET, fd,
                                    MHD_OPTION_CONNECTION_LIMIT, (unsigned) CONNECTIONS_MAX,
                                    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
                                    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) IDLE_SECONDS,
                                    MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
                                    MHD_OPTION_END);
        if (!api->mhd)
                (void) close(fd);
        r = api->mhd ? watch(api, event) : -EIO;
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
        sd_event_source_disable_unref(api->io);
        sd_event_source_disable_unref(api->timer);
        sd_event_source_disable_unref(api->again);
        if (api->mhd)
                MHD_stop_daemon(api->mhd);
        (void) unlink(api->path);
        free(api);
        return NULL;
}
