/* SPDX-License-Identifier: Apache-2.0 */

/* libmicrohttpd on our event loop: it brings its own epoll descriptor, our loop watches that one descriptor and microhttpd's timer, so
 * there is one thread and one wait. */

#include <errno.h>
#include <microhttpd.h>
#include <sys/epoll.h>

#include "base/http.h"
#include "base/retry.h"
#include "tests/devcp/exchange.h"
#include "tests/devcp/listen.h"
#include "tests/devcp/resolve.h"
#include "tests/devcp/roll.h"
#include "tests/devcp/sign.h"

#define IDLE_SECONDS      120           /* a kept connection without a request */
#define STOPPING_SECONDS  25            /* over so long those come back who wait when we stop */
#define CONNECTIONS_MAX   16384
#define CONNECTION_MEMORY (16 * 1024)

/* Called when the head is there, then for each piece of the body, then once with no data, and once more after a resume. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  const char *data, size_t *size, void **place) {
        Server *s = cls;
        Request *q = *place;
        int r = 0;

        (void) version;
        if (!q) {
                q = *place = calloc(1, sizeof *q);
                if (!q)
                        return MHD_NO;
                q->server = s;
                q->connection = connection;
                return request_begin(s, q, method, url) < 0 ? MHD_NO : MHD_YES;
        }
        if (*size > 0) {
                r = request_take_body(q, data, *size);
                *size = 0;
                return r < 0 ? MHD_NO : MHD_YES;
        }
        if (!q->status)
                request_run(s, q, q->route->handle);
        if (!q->status && request_suspend(s, q) < 0)
                (void) request_error(q, 503, "internal", "the control plane could not do that now");
        return q->status ? (enum MHD_Result) request_send(q) : MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **place, enum MHD_RequestTerminationCode why) {
        Request *q = *place;

        (void) cls;
        (void) connection;
        (void) why;
        if (!q)
                return;
        free(q->body);
        free(q->answer);
        free(q->ack_lines);
        free(q);
        *place = NULL;
}

static void server_step(Server *s) {
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
        server_step(userdata);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        (void) source;
        (void) usec;
        server_step(userdata);
        return 0;
}

static int on_again(sd_event_source *source, void *userdata) {
        (void) source;
        server_step(userdata);
        return 0;
}

static int server_watch(Server *s) {
        const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD);
        int r;

        r = info ? sd_event_add_io(s->event, &s->io, info->epoll_fd, EPOLLIN, on_io, s) : -EIO;
        if (r >= 0)
                r = sd_event_add_time(s->event, &s->timer, CLOCK_BOOTTIME, 0, 1000, on_timer, s);
        if (r >= 0)
                r = sd_event_add_defer(s->event, &s->again, on_again, s);
        return r < 0 ? r : 0;
}

static struct MHD_Daemon *server_listen(Server *s) {
        const Options *o = s->options;
        struct MHD_OptionItem tls[] = {
                { MHD_OPTION_HTTPS_MEM_CERT, 0, o->tls_cert },
                { MHD_OPTION_HTTPS_MEM_KEY, 0, o->tls_key },
                { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *) "SECURE128:-VERS-ALL:+VERS-TLS1.2:+VERS-TLS1.3" },
                { MHD_OPTION_END, 0, NULL },
        };
        unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (o->tls_cert ? MHD_USE_TLS : 0);

        return MHD_start_daemon(flags, 0, NULL, NULL, on_request, s,
                                MHD_OPTION_LISTEN_SOCKET, s->listen_fd,
                                MHD_OPTION_CONNECTION_LIMIT, (unsigned) CONNECTIONS_MAX,
                                MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
                                MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) IDLE_SECONDS,
                                MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
                                MHD_OPTION_ARRAY, o->tls_cert ? tls : tls + ELEMENTS(tls) - 1,
                                MHD_OPTION_END);
}

int server_start(const Options *options, Store *store, sd_event *event, Server **ret, Fault *reterr) {
        _cleanup_(server_stopp) Server *s = calloc(1, sizeof *s);
        int r;

        if (!s)
                return -ENOMEM;
        s->options = options;
        s->store = store;
        s->event = event;
        s->started = now_boottime();
        s->ack_fd = s->listen_fd = -1;
        r = options->signing_seed ? signer_new(options->signing_seed, &s->signer, reterr) : 0;
        if (r < 0)
                return r;
        r = listen_open(options->listen, options->tls_cert, &s->listen_fd, s->url, sizeof s->url, reterr);
        if (r < 0)
                return r;
        r = listen_open_log(options->ack_log, &s->ack_fd, reterr);
        if (r < 0)
                return r;
        s->mhd = server_listen(s);
        if (!s->mhd)
                return fault(reterr, -EIO, FAULT_INTERNAL, "cannot start the HTTP server; are certificate and key good?");
        s->listen_fd = -1;                              /* microhttpd's now */
        r = http_new(event, &s->http);
        if (r >= 0)
                r = server_watch(s);
        if (r >= 0)
                r = roll_watch(s);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "cannot watch the HTTP server: %m");
        *ret = TAKE_PTR(s);
        return 0;
}

Server *server_stop(Server *s) {
        Request *q;

        if (!s)
                return NULL;
        while ((q = LIST_FIRST(&s->parked))) {
                q->retry_after = 1 + (unsigned) (random_u64() % STOPPING_SECONDS);      /* each its own: they would all be back at once */
                (void) request_error(q, 503, "stopping", NULL);
                request_unpark(s, q);
        }
        if (s->mhd) {
                for (int i = 0; i < 4; i++)             /* resume, handle, write, close */
                        (void) MHD_run(s->mhd);
                MHD_stop_daemon(s->mhd);
        }
        s->io = sd_event_source_disable_unref(s->io);
        s->timer = sd_event_source_disable_unref(s->timer);
        s->again = sd_event_source_disable_unref(s->again);
        roll_unwatch(s);
        s->http = http_free(s->http);
        resolve_free_all(s);
        closep(&s->listen_fd);
        closep(&s->ack_fd);
        s->signer = signer_free(s->signer);
        free(s);
        return NULL;
}
