/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A scripted HTTP/1.1 server for tests: a child process that listens on a loopback port and on a unix socket, and one more process for
 * each connection. What it says is the test's: one function, called for each request with the raw connection in hand. */

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <time.h>

#include "base/text.h"
#include "tests/test.h"

typedef struct ServerRequest {
        int      fd;
        char     method[16], path[2048], head[32768];
        char    *body;
        size_t   body_size;
        unsigned number;                /* of the request on this connection, from 1 */
} ServerRequest;

typedef bool (*ServerHandler)(const ServerRequest *q);         /* false: the connection is closed */

typedef struct Server {
        pid_t pid;
        int   port;
        char  url[64];                  /* "http://127.0.0.1:PORT" */
        char  directory[64], socket[96];
} Server;

static inline void server_say_bytes(const ServerRequest *q, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = send(q->fd, p, size, MSG_NOSIGNAL);

                if (n <= 0)
                        _exit(0);
                p += n;
                size -= (size_t) n;
        }
}

static inline void _printf_(2, 3) server_say(const ServerRequest *q, const char *fmt, ...) {
        char text[16384];
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        if (n > 0 && n < (int) sizeof text)
                server_say_bytes(q, text, (size_t) n);
}

static inline void server_answer(const ServerRequest *q, int status, const char *headers, const char *body) {
        server_say(q, "HTTP/1.1 %d Words\r\nContent-Length: %zu\r\n%s\r\n", status, strlen(body), headers);
        server_say_bytes(q, body, strlen(body));
}

static inline void server_chunk(const ServerRequest *q, const char *text) {
        server_say(q, "%zx\r\n%s\r\n", strlen(text), text);
}

static inline void server_reset(const ServerRequest *q) {
        const struct linger now = { .l_onoff = 1 };

        (void) setsockopt(q->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        _exit(0);
}

static inline void server_sleep(unsigned ms) {
        const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long) (ms % 1000) * 1000000 };

        (void) nanosleep(&t, NULL);
}

/* Until the other side has closed; then the process ends. */
static inline void server_wait_closed(const ServerRequest *q) {
        char c;

        while (recv(q->fd, &c, 1, 0) > 0)
                ;
        _exit(0);
}

static inline bool server_read(ServerRequest *q) {
        size_t used = 0, body_here;
        char *end, *length, *chunked;

        for (;;) {
                ssize_t n = recv(q->fd, q->head + used, sizeof q->head - used - 1, 0);

                if (n <= 0)
                        return false;
                used += (size_t) n;
                q->head[used] = 0;
                end = memmem(q->head, used, "\r\n\r\n", 4);
                if (end)
                        break;
        }
        *end = 0;
        if (sscanf(q->head, "%15s %2047s", q->method, q->path) != 2)
                return false;
        length = strcasestr(q->head, "\r\nContent-Length:");
        chunked = strcasestr(q->head, "\r\nTransfer-Encoding:");
        if (chunked)
                return false;
        q->body_size = length ? strtoul(length + 17, NULL, 10) : 0;
        q->body = malloc(q->body_size + 1);
        body_here = used - (size_t) (end + 4 - q->head);
        memcpy(q->body, end + 4, body_here < q->body_size ? body_here : q->body_size);
        while (body_here < q->body_size) {
                ssize_t n = recv(q->fd, q->body + body_here, q->body_size - body_here, 0);

                if (n <= 0)
                        return false;
                body_here += (size_t) n;
        }
        q->body[q->body_size] = 0;
        return true;
}

static inline void server_serve(int fd, ServerHandler handler) {
        static ServerRequest q;

        q.fd = fd;
        for (q.number = 1; server_read(&q) && handler(&q); q.number++)
                free(q.body);
        _exit(0);
}

static inline void server_loop(int tcp, int local, ServerHandler handler) {
        struct pollfd p[] = { { .fd = tcp, .events = POLLIN }, { .fd = local, .events = POLLIN } };

        (void) signal(SIGCHLD, SIG_IGN);
        for (;;) {
                if (poll(p, 2, -1) < 0 && errno != EINTR)
                        _exit(1);
                for (int i = 0; i < 2; i++) {
                        int fd = p[i].revents & POLLIN ? accept4(p[i].fd, NULL, NULL, SOCK_CLOEXEC) : -1;

                        if (fd < 0)
                                continue;
                        if (fork() == 0) {
                                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                                close(tcp);
                                close(local);
                                server_serve(fd, handler);
                        }
                        close(fd);
                }
        }
}

static inline int server_listen_local(const char *path) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0);

        (void) snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
        if (fd < 0 || bind(fd, (struct sockaddr *) &a, sizeof a) < 0 || listen(fd, 16) < 0)
                abort();
        return fd;
}

static inline int server_listen_tcp(int *ret_port) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof a;
        int fd = socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *) &a, sizeof a) < 0 || listen(fd, 16) < 0 ||
            getsockname(fd, (struct sockaddr *) &a, &n) < 0)
                abort();
        *ret_port = ntohs(a.sin_port);
        return fd;
}

/* Begins to serve on s->socket, which server_prepare() has named. */
static inline void server_start(Server *s, ServerHandler handler) {
        int local = server_listen_local(s->socket), tcp = server_listen_tcp(&s->port);

        (void) snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", s->port);
        (void) fflush(stdout);
        s->pid = fork();
        if (s->pid < 0)
                abort();
        if (s->pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                server_loop(tcp, local, handler);
        }
        close(tcp);
        close(local);
}

static inline void server_prepare(Server *s) {
        *s = (Server) {};
        (void) snprintf(s->directory, sizeof s->directory, "%s/test.XXXXXX", P_tmpdir);
        if (!mkdtemp(s->directory))
                abort();
        (void) snprintf(s->socket, sizeof s->socket, "%s/s", s->directory);
}

static inline void server_kill(Server *s) {
        if (s->pid > 0) {
                (void) kill(s->pid, SIGKILL);
                (void) waitpid(s->pid, NULL, 0);
        }
        s->pid = 0;
        (void) unlink(s->socket);
}

static inline void server_end(Server *s) {
        server_kill(s);
        (void) rmdir(s->directory);
}

/* Memory that this process and the server's see alike. */
static inline void *server_shared(size_t size) {
        void *p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
                abort();
        return p;
}

/* Runs the loop until *count has reached `wanted`, at most so long. */
static inline bool loop_until(sd_event *event, const int *count, int wanted, unsigned ms) {
        uint64_t end = now_boottime() + ms * USEC_PER_MSEC;

        while (*count < wanted) {
                uint64_t now = now_boottime();

                if (now >= end || sd_event_run(event, end - now) < 0)
                        return false;
        }
        return true;
}

static inline void loop_for(sd_event *event, unsigned ms) {
        int never = 0;

        (void) loop_until(event, &never, 1, ms);
}
