/* SPDX-License-Identifier: Apache-2.0 */

/* A long answer whose source has nothing is suspended, and so costs nothing; all are woken when something happened, and now and then to find out whose
 * reader has gone. One that does not read is ended by microhttpd's own clock, since what it was sent does not move. */

#include "agent/api-server.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"

#define IDLE_SECONDS      10 /* a connection on which nothing moves */
#define READER_SECONDS    300 /* one that does not read what is due to it */
#define CONNECTION_MEMORY (8 * 1024)
#define STREAM_BLOCK      (4 * 1024)
#define BEAT_USEC         (5 * USEC_PER_SEC)

/* A connection. Whoever sends his request byte by byte is not idle for microhttpd, and would have his place for good. */
typedef struct Peer {
        TAILQ_ENTRY(Peer) link;
        int fd;
        uint64_t since;                 /* boottime: it was accepted, or its last answer was given */
        bool answered;                  /* its answer is on its way */
} Peer;

typedef struct Stream {
        TAILQ_ENTRY(Stream) link;
        ApiServer *server;
        struct MHD_Connection *connection;
        const ApiSource *source;
        void *state;
        bool suspended;
} Stream;

struct ApiServer {
        struct MHD_Daemon *mhd;
        sd_event_source *io, *timer, *again, *beat;
        ApiServerOptions o;
        TAILQ_HEAD(PeerHead, Peer) peers;
        TAILQ_HEAD(StreamHead, Stream) streams;
        unsigned n_connections, n_streams, streams_max;
};

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static Peer *peer_of(struct MHD_Connection *connection) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        return info ? info->socket_context : NULL;
}

static enum MHD_Result queue_response(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response) {
        Peer *p = peer_of(connection);

        if (p)
                p->answered = true;
        return MHD_queue_response(connection, status, response);
}

enum MHD_Result api_server_text(struct MHD_Connection *connection, unsigned status, const char *type, char *text) {
        struct MHD_Response *response;
        enum MHD_Result r;

        if (!text)
                return MHD_NO;
        response = MHD_create_response_from_buffer_with_free_callback(strlen(text), text, free);
        if (!response) {
                free(text);
                return MHD_NO;
        }
        (void) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
        r = queue_response(connection, status, response);
        MHD_destroy_response(response);
        return r;
}

/* ── connections ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* Somebody is connected: whoever is slow, or has gone, is found. A host on which nobody asks is not woken for it. */
static void beat_after(sd_event_source *beat) {
        (void) sd_event_source_set_time_relative(beat, BEAT_USEC);
        (void) sd_event_source_set_enabled(beat, SD_EVENT_ONESHOT);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **place, enum MHD_ConnectionNotificationCode what) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        ApiServer *s = cls;
        Peer *p = *place;

        if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
                if (--s->n_connections == 0)
                        (void) sd_event_source_set_enabled(s->beat, SD_EVENT_OFF);
                if (p)
                        TAILQ_REMOVE(&s->peers, p, link);
                free(p);
                /* Where all places were taken, microhttpd listens again only when it is called once more, and nothing else would call it. */
                (void) sd_event_source_set_enabled(s->again, SD_EVENT_ONESHOT);
                return;
        }
        if (s->n_connections++ == 0)
                beat_after(s->beat);
        p = calloc(1, sizeof *p);               /* without one it is not watched, and that is all */
        if (!p)
                return;
        *p = (Peer){ .fd = info ? info->connect_fd : -1, .since = now_boottime() };
        TAILQ_INSERT_TAIL(&s->peers, p, link);
        *place = p;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **place, enum MHD_RequestTerminationCode why) {
        ApiServer *s = cls;
        Peer *p = peer_of(connection);

        s->o.completed(s->o.userdata, connection, place, why);
        if (p)
                *p = (Peer){ .link = p->link, .fd = p->fd, .since = now_boottime() };
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **place) {
        const ApiServer *s = cls;
        return s->o.request(s->o.userdata, connection, path, method, version, data, size, place);
}

static void end_slow_peers(ApiServer *s) {
        const Peer *p;

        TAILQ_FOREACH(p, &s->peers, link)
                if (!p->answered && now_boottime() - p->since > IDLE_SECONDS * USEC_PER_SEC)
                        (void) shutdown(p->fd, SHUT_RDWR);      /* microhttpd sees its end, and forgets it */
}

/* ── long answers ────────────────────────────────────────────────────────────────────────────────────────────── */

static bool has_gone(struct MHD_Connection *connection) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct pollfd p = { .fd = info ? info->connect_fd : -1 };

        return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static ssize_t on_read(void *cls, uint64_t at, char *to, size_t room) {
        Stream *t = cls;
        ssize_t n = t->source->read(t->state, to, room);

        (void) at;
        if (n > 0)
                return n;
        if (n < 0 || has_gone(t->connection))
                return n == -ENODATA ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
        t->suspended = true;                    /* what its source says from now on wakes it */
        MHD_suspend_connection(t->connection);
        return 0;
}

static void stream_free(void *cls) {
        Stream *t = cls;

        TAILQ_REMOVE(&t->server->streams, t, link);
        t->server->n_streams--;
        t->source->done(t->state);
        free(t);
}

unsigned api_server_streams(const ApiServer *s) { return s->n_streams; }
bool api_server_has_room(const ApiServer *s) { return s->n_streams < s->streams_max; }

enum MHD_Result api_server_stream(ApiServer *s, struct MHD_Connection *connection, const char *type, const ApiSource *source, void *state) {
        Stream *t = calloc(1, sizeof *t);
        struct MHD_Response *response;
        enum MHD_Result r;

        if (!t) {
                source->done(state);
                return MHD_NO;
        }
        *t = (Stream){ .server = s, .connection = connection, .source = source, .state = state };
        TAILQ_INSERT_TAIL(&s->streams, t, link);
        s->n_streams++;
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_read, t, stream_free);
        if (!response) {
                stream_free(t);
                return MHD_NO;
        }
        (void) MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
        (void) MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned) READER_SECONDS);
        r = queue_response(connection, MHD_HTTP_OK, response);
        MHD_destroy_response(response);
        return r;
}

void api_server_wake(ApiServer *s) {
        Stream *t;

        TAILQ_FOREACH(t, &s->streams, link)
                if (t->suspended) {
                        t->suspended = false;
                        MHD_resume_connection(t->connection);
                }
        if (s->n_streams > 0)
                (void) sd_event_source_set_enabled(s->again, SD_EVENT_ONESHOT);
}

/* ── on the loop ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void step(ApiServer *s) {
        MHD_UNSIGNED_LONG_LONG msec;

        (void) MHD_run(s->mhd);
        if (MHD_get_timeout(s->mhd, &msec) != MHD_YES)
                (void) sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
        else if (msec == 0)
                (void) sd_event_source_set_enabled(s->again, SD_EVENT_ONESHOT);
        else {
                (void) sd_event_source_set_time(s->timer, now_boottime() + msec * USEC_PER_MSEC);
                (void) sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
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

static int on_beat(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) usec;
        end_slow_peers(userdata);
        api_server_wake(userdata);
        beat_after(source);
        return 0;
}

static int watch(ApiServer *s, sd_event *event) {
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
        int r = info ? sd_event_add_io(event, &s->io, info->epoll_fd, EPOLLIN, on_io, s) : -EIO;

        if (r >= 0)
                r = sd_event_add_time(event, &s->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_defer(event, &s->again, on_again, s);
        if (r >= 0)
                r = sd_event_add_time(event, &s->beat, CLOCK_BOOTTIME, UINT64_MAX, USEC_PER_SEC, on_beat, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->beat, SD_EVENT_OFF);
        return r < 0 ? r : 0;
}

int api_server_start(sd_event *event, const ApiServerOptions *o, ApiServer **ret) {
        ApiServer *s = calloc(1, sizeof *s);
        int r;

        if (!s) {
                (void) close(o->fd);
                return -ENOMEM;
        }
        TAILQ_INIT(&s->peers);
        TAILQ_INIT(&s->streams);
        s->o = *o;
        s->streams_max = o->streams_max;
        s->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, s,
                                  MHD_OPTION_LISTEN_SOCKET, o->fd,
                                  MHD_OPTION_CONNECTION_LIMIT, o->connections_max,
                                  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
                                  MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) IDLE_SECONDS,
                                  MHD_OPTION_PER_IP_CONNECTION_LIMIT, o->address_max,
                                  MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
                                  MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                                  MHD_OPTION_END);
        if (!s->mhd)
                (void) close(o->fd);
        r = s->mhd ? watch(s, event) : -EIO;
        if (r < 0) {
                (void) api_server_stop(s);
                return r;
        }
        *ret = s;
        return 0;
}

ApiServer *api_server_stop(ApiServer *s) {
        if (!s)
                return NULL;
        api_server_wake(s);                     /* microhttpd wants none suspended when it stops */
        sd_event_source_disable_unref(s->io);
        sd_event_source_disable_unref(s->timer);
        s->again = sd_event_source_disable_unref(s->again);
        s->beat = sd_event_source_disable_unref(s->beat);
        if (s->mhd)
                MHD_stop_daemon(s->mhd);
        free(s);
        return NULL;
}
