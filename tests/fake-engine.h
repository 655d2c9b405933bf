/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An engine that does as told, speaking the real protocol over a unix socket. What it shall do and what it has seen stands in memory that
 * the test shares with it. */

#include "base/http.h"
#include "engine/engine.h"
#include "tests/server.h"

#define FAKE_DIGEST "sha256:5ec8cbacaa2f4ba193cf83b003e2a2e0e944d4c6fa1b78f7b3eb2a96fe61cc41"
#define FAKE_REF    "registry.example.com/molecule/test@" FAKE_DIGEST

/* As docker says it, at its full length. */
#define FAKE_PORT_WORDS "driver failed programming external connectivity on endpoint ws-0b4b3f5e-6a0c-4d0e-9b1a-0f6f0f3b7d11 " \
                        "(33fcca050e24cff09d90861a8600cc2629daae65d8636c563e5804ee9471861a): Error starting userland proxy: " \
                        "listen tcp4 127.0.0.1:24914: bind: address already in use"

typedef enum FakePull {
        FAKE_PULL_OK,
        FAKE_PULL_REFUSED,              /* .status and .words */
        FAKE_PULL_ERROR,                /* 200, and .words at the end of the stream */
        FAKE_PULL_STALL,                /* a little, then silence */
        FAKE_PULL_TRICKLE,              /* a few bytes now and then, for ever */
        FAKE_PULL_UNPACK,               /* extraction moves for a second, no bytes */
        FAKE_PULL_DIE,                  /* the connection breaks in the middle */
} FakePull;

typedef struct FakeEngine {
        _Atomic int       questions, event_streams, pulls, pulls_open, inspects, networks_made, closed;
        _Atomic int       old, broken, network_there, network_race, network_slow, present, wrong_digest;
        _Atomic int       status, fail_times;           /* so many pulls fail, the next is good; -1: all */
        volatile FakePull pull;
        char              words[200], root_dir[100], since[64], auth[64], from_image[256];
} FakeEngine;

static FakeEngine *fake;

static inline void fake_refuse(const ServerRequest *q, int status, const char *message) {
        char body[300];

        (void) snprintf(body, sizeof body, "{\"message\":\"%s\"}", message);
        server_answer(q, status, "Content-Type: application/json\r\n", body);
}

static inline void fake_begin_stream(const ServerRequest *q) {
        server_say(q, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
}

/* Until the other side goes, or so many milliseconds. */
static inline void fake_pause(const ServerRequest *q, int ms) {
        struct pollfd p = { .fd = q->fd, .events = POLLIN|POLLRDHUP };

        if (poll(&p, 1, ms) > 0) {
                fake->closed++;
                fake->pulls_open--;
                _exit(0);
        }
}

static inline void fake_layer(const ServerRequest *q, const char *status, unsigned current, unsigned total) {
        char line[200];

        (void) snprintf(line, sizeof line, "{\"status\":\"%s\",\"progressDetail\":{\"current\":%u,\"total\":%u},\"id\":\"abc\"}\r\n",
                        status, current, total);
        server_chunk(q, line);
}

static inline bool fake_pull(const ServerRequest *q) {
        char error[300];
        bool good = fake->fail_times == 0;
        const char *auth = strcasestr(q->head, "X-Registry-Auth: "), *from = strstr(q->path, "fromImage=");

        fake->pulls++;
        if (fake->fail_times > 0)
                fake->fail_times--;
        (void) snprintf(fake->auth, sizeof fake->auth, "%.*s", auth ? (int) strcspn(auth + 17, "\r") : 0, auth ? auth + 17 : "");
        (void) snprintf(fake->from_image, sizeof fake->from_image, "%s", from ? from + 10 : "");
        if (fake->pull == FAKE_PULL_REFUSED && !good) {
                fake_refuse(q, fake->status, fake->words);
                return true;
        }
        fake->pulls_open++;
        fake_begin_stream(q);
        fake_pause(q, 10);              /* so that the first word comes from the loop and is told */
        fake_layer(q, "Downloading", 1000, 4000000);
        if (!good)
                switch (fake->pull) {
                case FAKE_PULL_STALL:
                        fake_pause(q, -1);
                        break;
                case FAKE_PULL_TRICKLE:
                        for (unsigned i = 2; i < 1000; i++) {
                                fake_pause(q, 20);
                                fake_layer(q, "Downloading", i * 1000, 4000000);
                        }
                        break;
                case FAKE_PULL_UNPACK:
                        for (unsigned i = 1; i < 50; i++) {
                                fake_pause(q, 20);
                                fake_layer(q, "Extracting", i, 4000000);
                        }
                        good = true;
                        break;
                case FAKE_PULL_DIE:
                        server_reset(q);
                        break;
                default:
                        (void) snprintf(error, sizeof error, "{\"errorDetail\":{\"message\":\"%s\"}}\r\n", fake->words);
                        server_chunk(q, error);
                }
        if (good) {
                fake_pause(q, 50);
                fake_layer(q, "Downloading", 4000000, 4000000);
                fake_layer(q, "Pull complete", 0, 0);
                fake->present = 1;
        }
        server_say(q, "0\r\n\r\n");
        fake->pulls_open--;
        return true;
}

static inline void fake_image(const ServerRequest *q) {
        char body[400];

        fake->inspects++;
        if (!fake->present) {
                fake_refuse(q, 404, "No such image");
                return;
        }
        (void) snprintf(body, sizeof body, "{\"Id\":\"sha256:1234\",\"RepoDigests\":[\"other.example.com/x@%s\"],\"Size\":4000000}",
                        fake->wrong_digest ? "sha256:0000000000000000000000000000000000000000000000000000000000000000" : FAKE_DIGEST);
        server_answer(q, 200, "Content-Type: application/json\r\n", body);
}

static inline bool fake_network(const ServerRequest *q) {
        if (strcmp(q->method, "POST") == 0) {
                fake->networks_made++;
                if (fake->network_slow) {
                        fake_pause(q, 150);
                        fake->network_there = 1;
                }
                if (fake->network_race)
                        fake_refuse(q, 409, "network with name n already exists");
                else
                        server_answer(q, 201, "Content-Type: application/json\r\n", "{\"Id\":\"1\",\"Warning\":\"\"}");
        } else if (fake->network_there)
                server_answer(q, 200, "Content-Type: application/json\r\n", "{\"Name\":\"n\"}");
        else
                fake_refuse(q, 404, "network n not found");
        return true;
}

/* The thing's name says what becomes of it: "s404-…" is answered with that status, "hang-…" not at all. */
static inline bool fake_thing(const ServerRequest *q, const char *name) {
        unsigned status;

        if (strncmp(name, "hang-", 5) == 0)
                server_wait_closed(q);
        if (strncmp(name, "reset-", 6) == 0)
                server_reset(q);
        if (strncmp(name, "html-", 5) == 0)
                server_answer(q, 200, "Content-Type: text/html\r\n", "<html>no engine</html>");
        else if (strncmp(name, "port-", 5) == 0)
                fake_refuse(q, 500, FAKE_PORT_WORDS);
        else if (strncmp(name, "away-", 5) == 0)        /* dockerd's words while it and its containerd end */
                fake_refuse(q, 500, "cannot start container 'x': transport is closing: unavailable");
        else if (strncmp(name, "taken-", 6) == 0)
                fake_refuse(q, 500, "creating container storage: the container name is already in use by abc");
        else if (sscanf(name, "s%u-", &status) == 1 && status >= 300) {
                if (status == 304)
                        server_say(q, "HTTP/1.1 304 Not Modified\r\n\r\n");
                else
                        fake_refuse(q, (int) status, "words of the engine");
        } else if (sscanf(name, "s%u-", &status) == 1 && status == 204)
                server_say(q, "HTTP/1.1 204 No Content\r\n\r\n");
        else
                server_answer(q, 200, "Content-Type: application/json\r\n", "{\"Id\":\"1\"}");
        return true;
}

static inline bool fake_version(const ServerRequest *q) {
        fake->questions++;
        if (fake->broken)
                server_answer(q, 200, "Content-Type: text/html\r\n", "<html>hello</html>");
        else if (fake->old)
                server_answer(q, 200, "", "{\"Version\":\"19.03\",\"ApiVersion\":\"1.40\",\"MinAPIVersion\":\"1.12\"}");
        else
                server_answer(q, 200, "", "{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\"}");
        return true;
}

static inline bool fake_events(const ServerRequest *q) {
        const char *since = strstr(q->path, "since=");

        (void) snprintf(fake->since, sizeof fake->since, "%.*s", (int) strcspn(since + 6, "&"), since + 6);
        fake_begin_stream(q);
        server_chunk(q, "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"c1\",\"Attributes\":"
                        "{\"exitCode\":\"3\"}},\"timeNano\":90000000001234");
        server_chunk(q, "56789}\nnot json\n{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"c2\","
                        "\"Attributes\":{}},\"timeNano\":9000000000123457000}\n");
        fake->event_streams++;
        server_wait_closed(q);
        return false;
}

static inline bool fake_serve(const ServerRequest *q) {
        const char *path = q->path, *name;

        if (strcmp(path, "/version") == 0)
                return fake_version(q);
        if (strncmp(path, "/v1.41/", 7) != 0) {
                fake_refuse(q, 400, "client version is too new");
                return true;
        }
        path += 6;
        if (strcmp(path, "/info") == 0) {
                char body[300];

                (void) snprintf(body, sizeof body, "{\"Driver\":\"overlay2\",\"CgroupDriver\":\"systemd\",\"DockerRootDir\":\"%s\"}",
                                fake->root_dir);
                server_answer(q, 200, "", body);
                return true;
        }
        if (strncmp(path, "/events?", 8) == 0)
                return fake_events(q);
        if (strncmp(path, "/images/create?", 15) == 0)
                return fake_pull(q);
        if (strncmp(path, "/images/", 8) == 0) {
                fake_image(q);
                return true;
        }
        if (strncmp(path, "/networks/", 10) == 0)
                return fake_network(q);
        name = strstr(path, "name=");
        if (strncmp(path, "/containers/create?name=", 24) == 0)
                return fake_thing(q, name + 5);
        if (strcmp(path, "/volumes/create") == 0)
                return fake_thing(q, strstr(q->body, "\"Name\":\"") + 8);
        if (strncmp(path, "/containers/", 12) == 0)
                return fake_thing(q, path + 12);
        if (strncmp(path, "/volumes/", 9) == 0)
                return fake_thing(q, path + 9);
        fake_refuse(q, 404, "page not found");
        return true;
}

/* ── the agent's side ────────────────────────────────────────────────────────────────────────────────────────── */

static Server server;
static sd_event *event;
static Http *http;
static Engine *engine;
static int states_told, ups, downs, events_seen;
static Fault last_fault;
static char last_action[32];

static inline void on_state(EngineState state, const Fault *fault, void *userdata) {
        CHECK(userdata == &states_told);
        CHECK((state == ENGINE_UP) == (fault == NULL));
        states_told++;
        ups += state == ENGINE_UP;
        downs += state != ENGINE_UP;
        last_fault = fault ? *fault : (Fault) {};
}

static inline void on_event(const EngineEvent *e, void *userdata) {
        CHECK(userdata == &states_told);
        events_seen++;
        (void) snprintf(last_action, sizeof last_action, "%s", e->action);
}

static inline void fake_setup(uint64_t timeout_usec) {
        fake = server_shared(sizeof *fake);
        server_prepare(&server);
        if (sd_event_new(&event) < 0 || http_new(event, &http) < 0 ||
            engine_new(event, http, &(EngineOptions) { .socket_path = server.socket, .timeout_usec = timeout_usec }, on_state, on_event,
                       &states_told, &engine) < 0)
                abort();
}

/* All as at first, the engine running and found. */
static inline void fake_fresh(void) {
        server_kill(&server);
        memset(fake, 0, sizeof *fake);
        (void) snprintf(fake->root_dir, sizeof fake->root_dir, "/tmp");
        server_start(&server, fake_serve);
        states_told = ups = downs = events_seen = 0;
        (void) engine_configure(engine, &(EngineOptions) { .socket_path = server.socket, .timeout_usec = 2 * USEC_PER_SEC });
        CHECK(loop_until(event, &ups, 1, 5000));
}

static inline void fake_teardown(void) {
        (void) engine_free(engine);
        (void) http_free(http);
        (void) sd_event_unref(event);
        server_end(&server);
}
