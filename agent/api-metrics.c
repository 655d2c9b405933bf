/* SPDX-License-Identifier: Apache-2.0 */

/* A few connections, no bodies, one path. */

#include "agent/api-metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api-server.h"
#include "base/log.h"
#include "base/text.h"

#define CONNECTIONS_MAX 8

struct ApiMetrics {
        ApiServer *server;
        char *(*text)(void *userdata);
        void *userdata;
};

static enum MHD_Result say(struct MHD_Connection *connection, unsigned status, const char *words) {
        return api_server_text(connection, status, "text/plain; charset=utf-8", strdup(words));
}

/* Called when the head is there, and once more when the rest is. A refusal at the head ends the connection before a body is read. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **place) {
        const ApiMetrics *m = cls;

        (void) version;
        (void) data;
        if (*place)
                return *size == 0 ? api_server_text(connection, MHD_HTTP_OK, METRICS_TYPE, m->text(m->userdata)) : MHD_NO;
        if (strcmp(path, "/metrics") != 0)
                return say(connection, MHD_HTTP_NOT_FOUND, "Only /metrics is here.\n");
        if (strcmp(method, "GET") != 0)
                return say(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "Only GET.\n");
        *place = cls;
        return MHD_YES;
}

/* The head of the next request on this connection begins anew. */
static void on_completed(void *cls, struct MHD_Connection *connection, void **place, enum MHD_RequestTerminationCode why) {
        (void) cls;
        (void) connection;
        (void) why;
        *place = NULL;
}

/* ── the address ─────────────────────────────────────────────────────────────────────────────────────────────── */

int api_address_parse(const char *text, ApiAddress *ret) {
        const char *colon = strrchr(text, ':');
        bool six = text[0] == '[' && colon && colon[-1] == ']';
        char host[INET6_ADDRSTRLEN];
        size_t n = colon ? (size_t) (colon - text) - 2 * six : 0;
        ApiAddress a = {};
        uint64_t port;

        if (!colon || n >= sizeof host || u64_parse(colon + 1, &port) < 0 || port < 1 || port > 65535)
                return -EINVAL;
        memcpy(host, text + six, n);
        host[n] = 0;
        a.any.sa_family = six ? AF_INET6 : AF_INET;
        if (six)
                a.six.sin6_port = htons((uint16_t) port);
        else
                a.four.sin_port = htons((uint16_t) port);
        if (inet_pton(a.any.sa_family, host, six ? (void *) &a.six.sin6_addr : (void *) &a.four.sin_addr) != 1)
                return -EINVAL;
        *ret = a;
        return 0;
}

bool api_address_is_loopback(const ApiAddress *a) {
        if (a->any.sa_family == AF_INET6)
                return IN6_IS_ADDR_LOOPBACK(&a->six.sin6_addr);
        return ntohl(a->four.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static int listen_on(const ApiAddress *a) {
        bool six = a->any.sa_family == AF_INET6;
        _cleanup_close_ int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        const int yes = 1;

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
            (six && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) < 0) ||
            bind(fd, &a->any, six ? sizeof a->six : sizeof a->four) < 0 || listen(fd, CONNECTIONS_MAX) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int api_metrics_start(sd_event *event, const char *address, char *(*text)(void *userdata), void *userdata, ApiMetrics **ret, Fault *reterr) {
        ApiMetrics *m = calloc(1, sizeof *m);
        ApiServerOptions o = { .connections_max = CONNECTIONS_MAX, .address_max = CONNECTIONS_MAX / 2, .request = on_request, .completed = on_completed, .userdata = m };
        ApiAddress a;
        int r;

        if (!m)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        *m = (ApiMetrics){ .text = text, .userdata = userdata };
        r = api_address_parse(address, &a);
        if (r == 0)
                r = o.fd = listen_on(&a);
        if (r >= 0)
                r = api_server_start(event, &o, &m->server);
        if (r < 0) {
                free(m);
                return fault(reterr, r, FAULT_CONFIG_INVALID, "Metrics cannot be served on %s (metrics_listen): %s", address, strerror(-r));
        }
        if (!api_address_is_loopback(&a))
                log_warning("Metrics are served on %s (metrics_listen), which is no loopback address: who reaches it reads ids of workspaces, "
                            "the agent's git_sha, and why it is degraded.", address);
        *ret = m;
        return 0;
}

ApiMetrics *api_metrics_stop(ApiMetrics *m) {
        if (!m)
                return NULL;
        m->server = api_server_stop(m->server);
        free(m);
        return NULL;
}
