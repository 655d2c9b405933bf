/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of base/http share: a server that behaves as told by the path, and one call with what became of it. */

#include "base/http.h"
#include "tests/server.h"

/* ── the server ──────────────────────────────────────────────────────────────────────────────────────────────── */

static inline void answer_big(const ServerRequest *q, size_t size, bool announced) {
        char block[1024];

        memset(block, 'x', sizeof block);
        if (announced)
                server_say(q, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
        else
                server_say(q, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        for (; size > 0; size -= size < sizeof block ? size : sizeof block)
                server_say_bytes(q, block, size < sizeof block ? size : sizeof block);
}

static inline void answer_headers(const ServerRequest *q, unsigned lines, unsigned length) {
        server_say(q, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
        for (unsigned i = 0; i < lines; i++) {
                server_say(q, "X-Filler-%u: ", i);
                for (unsigned k = 0; k < length; k++)
                        server_say(q, "y");
                server_say(q, "\r\n");
        }
        server_say(q, "\r\n");
}

static inline void answer_chunks(const ServerRequest *q, unsigned n, const char *end) {
        server_say(q, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (unsigned i = 0; i < n; i++) {
                server_chunk(q, "part\n");
                server_sleep(10);
        }
        server_say(q, "%s", end);
}

static inline bool serve(const ServerRequest *q) {
        static const char wanted_headers[] =
                "content-TYPE: text/plain; charset=utf-8\r\nRETRY-after:   120  \r\nEtag: \"abc\"\r\n"
                "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                "deprecation: @1\r\nSunset: later\r\nAPI-Version: 1.41\r\n";
        unsigned number;

        if (strcmp(q->path, "/ok") == 0)
                server_answer(q, 200, wanted_headers, "hello");
        else if (strcmp(q->path, "/echo") == 0) {
                server_say(q, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", strlen(q->head) + 1 + q->body_size);
                server_say_bytes(q, q->head, strlen(q->head));
                server_say(q, "\n");
                server_say_bytes(q, q->body, q->body_size);
        } else if (sscanf(q->path, "/status/%u", &number) == 1)
                server_answer(q, (int) number, "Location: /ok\r\n", "{\"message\":\"words\"}");
        else if (sscanf(q->path, "/big/%u", &number) == 1)
                answer_big(q, number, true);
        else if (sscanf(q->path, "/unannounced/%u", &number) == 1) {
                answer_big(q, number, false);
                return false;
        } else if (sscanf(q->path, "/headers/%u", &number) == 1)
                answer_headers(q, number, 1000);
        else if (strcmp(q->path, "/header-line") == 0)
                answer_headers(q, 1, 200000);
        else if (strcmp(q->path, "/long-etag") == 0) {
                server_say(q, "HTTP/1.1 200 OK\r\nETag: \"%0400d\"\r\nContent-Length: 0\r\n\r\n", 7);
        } else if (strcmp(q->path, "/interim") == 0) {
                server_say(q, "HTTP/1.1 103 Early Hints\r\nETag: \"early\"\r\n\r\n");
                server_answer(q, 200, "Sunset: now\r\n", "late");
        } else if (strcmp(q->path, "/trailers") == 0)
                answer_chunks(q, 1, "0\r\nETag: \"trailer\"\r\n\r\n");
        else if (strcmp(q->path, "/count") == 0) {
                char text[16];

                (void) snprintf(text, sizeof text, "%u", q->number);
                server_answer(q, 200, "", text);
        } else if (strcmp(q->path, "/stall") == 0)
                server_wait_closed(q);
        else if (strcmp(q->path, "/chunks") == 0)
                answer_chunks(q, 3, "0\r\n\r\n");
        else if (strcmp(q->path, "/cut-chunks") == 0) {
                answer_chunks(q, 2, "");
                return false;
        } else if (strcmp(q->path, "/stream") == 0)
                answer_chunks(q, 100000, "");
        else if (strcmp(q->path, "/break-late") == 0) {
                if (q->number == 1)
                        server_answer(q, 200, "", "asked again");
                server_sleep(1300);
                server_reset(q);
        } else if (strcmp(q->path, "/reset") == 0)
                server_reset(q);
        else if (strcmp(q->path, "/close") == 0)
                return false;
        else if (strcmp(q->path, "/truncated") == 0) {
                server_say(q, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
                return false;
        } else if (strcmp(q->path, "/garbage") == 0) {
                server_say(q, "this is no HTTP at all\r\n\r\n");
                return false;
        } else
                server_answer(q, 404, "", "no such path");
        return true;
}

/* ── one call and what became of it ──────────────────────────────────────────────────────────────────────────── */

typedef struct Result {
        int        done, error, chunks;
        long       status;
        bool       sent, reused;
        size_t     size, streamed;
        uint64_t   date_usec;
        char       body[4096], stream[256], words[256], type[64], retry_after[64], etag[256], deprecation[32], sunset[32], api[32];
        HttpCall **cancel;              /* cancelled in the callback, if not NULL */
        const HttpRequest *again;       /* sent in the callback, if not NULL */
        struct Result *again_result;
        int        chunk_answer;        /* what on_chunk() returns */
} Result;

static Server server;
static sd_event *event;
static Http *http;
static bool in_send;

static inline void on_done(const HttpAnswer *a, void *userdata) {
        Result *r = userdata;

        CHECK(!in_send);
        r->done++;
        r->error = a->error;
        r->status = a->status;
        r->sent = a->sent;
        r->reused = a->reused;
        r->size = a->size;
        r->date_usec = a->date_usec;
        CHECK(a->body && a->body[a->size] == 0);
        CHECK((a->error == 0) == (a->words[0] == 0));
        (void) snprintf(r->body, sizeof r->body, "%s", a->body);
        (void) snprintf(r->words, sizeof r->words, "%s", a->words);
        (void) snprintf(r->type, sizeof r->type, "%s", a->content_type);
        (void) snprintf(r->retry_after, sizeof r->retry_after, "%s", a->retry_after);
        (void) snprintf(r->etag, sizeof r->etag, "%s", a->etag);
        (void) snprintf(r->deprecation, sizeof r->deprecation, "%s", a->deprecation);
        (void) snprintf(r->sunset, sizeof r->sunset, "%s", a->sunset);
        (void) snprintf(r->api, sizeof r->api, "%s", a->api_version);
        if (r->cancel)
                *r->cancel = http_call_cancel(*r->cancel);
        if (r->again)
                CHECK_INT(http_send(http, r->again, on_done, r->again_result, NULL), 0);
}

static inline int on_chunk(const void *data, size_t size, void *userdata) {
        Result *r = userdata;

        if (r->streamed + size < sizeof r->stream)
                memcpy(r->stream + r->streamed, data, size);
        r->chunks++;
        r->streamed += size;
        if (r->again) {
                CHECK_INT(http_send(http, r->again, on_done, r->again_result, NULL), 0);
                r->again = NULL;
        }
        if (r->cancel)
                *r->cancel = http_call_cancel(*r->cancel);
        return r->chunk_answer;
}

static inline int send_it(const HttpRequest *q, Result *r, HttpCall **call) {
        int e;

        in_send = true;
        e = http_send(http, q, on_done, r, call);
        in_send = false;
        return e;
}

/* url: a path for the server at its port. */
static inline HttpRequest request(const char *path) {
        static char urls[8][160];
        static unsigned turn;
        char *url = urls[turn++ % 8];

        (void) snprintf(url, sizeof urls[0], "%s%s", server.url, path);
        return (HttpRequest) { .url = url, .flags = HTTP_PLAIN_LOOPBACK, .timeout_usec = 5 * USEC_PER_SEC };
}

static inline Result run(const HttpRequest *q) {
        Result r = {};

        if (CHECK_INT(send_it(q, &r, NULL), 0)) {
                CHECK(loop_until(event, &r.done, 1, 8000));
                loop_for(event, 0);
                CHECK_INT(r.done, 1);
        }
        return r;
}

static inline Result get(const char *path) {
        HttpRequest q = request(path);

        return run(&q);
}

static inline int http_kit_main(void) {
        int bad;

        server_prepare(&server);
        server_start(&server, serve);
        if (sd_event_new(&event) < 0 || http_new(event, &http) < 0 ||
            http_configure(http, &(HttpOptions) { .user_agent = "test/1", .connect_timeout_usec = 5 * USEC_PER_SEC }) < 0)
                return 1;
        bad = test_run_all();
        (void) http_free(http);
        (void) sd_event_unref(event);
        server_end(&server);
        return bad;
}
