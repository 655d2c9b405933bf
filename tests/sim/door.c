/* SPDX-License-Identifier: Apache-2.0 */

/* base/http.h over a network of this world's own. A request takes its time to come, may find nobody, may be lost with or without its effect, may come after its
 * sender has given up; the answer takes its time as well. What is sent and what an answer says is what libcurl would have sent and said. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/http-internal.h"
#include "tests/sim/sim.h"

Weather weather[_SIDE_MAX];

TAILQ_HEAD(RequestList, Request);
static struct RequestList on_their_way = TAILQ_HEAD_INITIALIZER(on_their_way);
static unsigned numbers;

typedef struct Piece { Request *q; int error, status; char *etag, *data; size_t size; bool last; } Piece;

static Request *request_unref(Request *q) {
        if (--q->refs > 0)
                return NULL;
        TAILQ_REMOVE(&on_their_way, q, link);
        free(q->method);
        free(q->url);
        free(q->etag);
        free(q->body);
        free(q);
        return NULL;
}

bool client_waits(const Request *q) { return !q->gone && !q->answered; }

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void tell(Request *q, const HttpAnswer *a) {
        HttpDone done = q->done;
        void *userdata = q->userdata;

        q->telling = true;
        done(a, userdata);                      /* may end the agent: nothing of ours is open here */
        q->telling = false;
        q->gone = true;
        request_unref(q);                       /* its sender's hold */
}

static void tell_error(Request *q, int error) {
        tell(q, &(HttpAnswer) { .error = error, .words = strerror(-error), .body = "", .sent = error != -ECONNREFUSED, .content_type = "", .retry_after = "", .etag = "",
                                .deprecation = "", .sunset = "", .api_version = "" });
}

static void give_piece(Piece *p) {
        Request *q = p->q;
        int r = q->chunk ? q->chunk(p->data, p->size, q->userdata) : 0;

        if (r < 0 && !q->gone)
                tell_error(q, r);
}

static void on_piece(void *userdata) {
        Piece *p = userdata;
        Request *q = p->q;
        bool streams = q->chunk && p->status < 300;

        if (!q->gone && !p->last)
                give_piece(p);
        else if (!q->gone && p->error)
                tell_error(q, p->error);
        else if (!q->gone && !streams && p->size > (q->max ?: 65536))
                tell_error(q, -EFBIG);
        else if (!q->gone) {
                if (streams && p->size)
                        give_piece(p);
                if (!q->gone)
                        tell(q, &(HttpAnswer) { .words = "", .status = p->status, .body = streams ? "" : p->data ?: "", .size = streams ? 0 : p->size,
                                                .content_type = "application/json", .etag = p->etag ?: "", .retry_after = "", .deprecation = "", .sunset = "",
                                                .api_version = "", .date_usec = q->side == SIDE_CP ? sim_true_time() / USEC_PER_SEC * USEC_PER_SEC : 0 });
        }
        free(p->etag);
        free(p->data);
        free(p);
        request_unref(q);
}

static void send_piece(Request *q, int error, int status, const char *etag, char *data, size_t size, bool last) {
        Piece *p = calloc(1, sizeof *p);
        uint64_t wait = between(20, 2 * weather[q->side].delay + 500);

        if (!p)
                abort();
        if (q->answered || (last && q->lose_answer && !error)) {
                free(data);
                data = NULL;
                size = 0;
                error = -ECONNRESET;
                if (!q->answered)
                        trace("  the answer to %s %.60s is lost", q->method, q->path);
        }
        q->answered = q->answered || last;
        *p = (Piece) { .q = q, .error = error, .status = status, .etag = etag ? strdup(etag) : NULL, .data = data, .size = size, .last = last };
        q->refs++;
        if (sim_now + wait <= q->last)          /* behind what went before */
                wait = q->last + 1 - sim_now;
        q->last = sim_now + wait;
        (void) task_after(wait, on_piece, p);
}

void answer(Request *q, int status, const char *etag, char *body) { send_piece(q, 0, status, etag, body, body ? strlen(body) : 0, true); }
void answer_break(Request *q, int error) { send_piece(q, error, 0, NULL, NULL, 0, true); }
void answer_piece(Request *q, const char *text) { send_piece(q, 0, 200, NULL, strdup(text), strlen(text), false); }

void answer_bytes(Request *q, const void *data, size_t size) {
        char *copy = calloc(1, size + 1);

        if (!copy)
                abort();
        memcpy(copy, data, size);
        send_piece(q, 0, 200, NULL, copy, size, true);
}

void answer_json(Request *q, int status, cJSON *json) {
        answer(q, status, NULL, json_print(json));
        cJSON_Delete(json);
}

void answer_words(Request *q, int status, const char *words) {
        cJSON *json = cJSON_CreateObject();

        (void) json_add_string(json, "message", words);
        answer_json(q, status, json);
}

/* ── requests ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_timeout(void *userdata) {
        Request *q = userdata;

        if (!q->gone) {
                trace("  %s %.60s: no answer in time", q->method, q->path);
                tell_error(q, -ETIMEDOUT);
        }
        request_unref(q);
}

static void on_refused(void *userdata) {
        Request *q = userdata;

        q->answered = true;
        if (!q->gone)
                tell_error(q, -ECONNREFUSED);
        request_unref(q);
}

/* A request that is late comes all the same, whether or not its sender has given up: a process on the other side has it in its socket. */
static void on_arrival(void *userdata) {
        Request *q = userdata;

        if (q->side == SIDE_ENGINE)
                engine_handle(q);
        else if (q->side == SIDE_CP)
                cp_handle(q);
        else if (!q->gone)
                probe_handle(q);
        request_unref(q);
}

static void on_lost(void *userdata) {
        Request *q = userdata;

        answer_break(q, -ECONNRESET);
        request_unref(q);
}

static void set_out(Request *q) {
        const Weather *w = &weather[q->side];
        uint64_t wait = between(20, 2 * w->delay + 500);
        void (*fate)(void *userdata) = on_arrival;

        if (chance(w->refuse))
                fate = on_refused;
        else if (chance(w->lose_request))
                fate = on_lost;
        else if (chance(w->lose_answer))
                q->lose_answer = true;
        else if (chance(w->late))
                wait = between(1, 90) * USEC_PER_SEC;
        if (fate == on_refused || fate == on_lost)
                trace("  %s %.60s is %s", q->method, q->path, fate == on_refused ? "refused" : "lost");
        q->refs++;
        (void) task_after(wait, fate, q);
}

/* Where its path begins for the other side. */
static const char *path_of(const char *url) {
        const char *p = strstr(url, "://"), *version;

        p = p ? strchr(p + 3, '/') ?: "/" : url;
        version = strncmp(p, "/v1.", 4) == 0 ? strchr(p + 1, '/') : strncmp(p, "/api/v1/", 8) == 0 ? p + 7 : NULL;
        return version ?: p;
}

static char *etag_of(const char *const *headers) {
        for (; headers && *headers; headers++)
                if (strncasecmp(*headers, "If-None-Match: ", 15) == 0)
                        return strdup(*headers + 15);
        return strdup("");
}

int http_send(Http *h, const HttpRequest *r, HttpDone done, void *userdata, HttpCall **ret_call) {
        Request *q = calloc(1, sizeof *q);

        if (!q)
                return -ENOMEM;
        *q = (Request) { .refs = 1, .number = ++numbers, .side = r->socket_path ? SIDE_ENGINE : strncmp(r->url, SIM_CP "/", strlen(SIM_CP) + 1) == 0 ? SIDE_CP : SIDE_PROBE,
                         .method = strdup(r->method ?: "GET"), .url = strdup(r->url), .etag = etag_of(r->headers), .size = r->body_size, .max = r->answer_max, .done = done,
                         .chunk = r->chunk, .flags = r->flags, .userdata = userdata };
        TAILQ_INSERT_TAIL(&on_their_way, q, link);
        q->path = path_of(q->url);
        q->body = calloc(1, r->body_size + 1);
        if (r->body_size)
                memcpy(q->body, r->body, r->body_size);
        if (q->side == SIDE_CP && !h->origin)
                wrong("the control plane is spoken to without credentials");
        if (q->side == SIDE_CP && strstr(q->path, "/reports"))
                model_said(q->body);
        if (q->side == SIDE_ENGINE)
                engine_asked(q);
        set_out(q);
        if (r->timeout_usec) {
                q->refs++;
                (void) task_after(r->timeout_usec, on_timeout, q);
        }
        if (ret_call)
                *ret_call = (HttpCall *) (void *) q;
        return 0;
}

HttpCall *http_call_cancel(HttpCall *c) {
        Request *q = (Request *) (void *) c;

        if (!q || q->telling || q->gone)
                return NULL;
        q->gone = true;
        request_unref(q);
        return NULL;
}

void http_call_resume(HttpCall *c) { (void) c; }

void door_forget(void) {
        Request *q, *next;

        for (q = TAILQ_FIRST(&on_their_way); q; q = next) {
                next = TAILQ_NEXT(q, link);
                if (q->gone)
                        continue;
                q->gone = true;
                q->telling = false;
                request_unref(q);
        }
}

const char *query_of(const Request *q, const char *name, char *ret, size_t size) {
        const char *p = strchr(q->path, '?');
        size_t n = strlen(name), used = 0;
        unsigned byte;

        ret[0] = 0;
        for (; p; p = strchr(p, '&'))
                if (strncmp(++p, name, n) == 0 && p[n] == '=')
                        break;
        for (p = p ? p + n + 1 : ""; *p && *p != '&' && used + 1 < size; p++) {
                if (*p == '%' && sscanf(p + 1, "%2x", &byte) == 1) {
                        ret[used++] = (char) byte;
                        p += 2;
                } else
                        ret[used++] = *p;
        }
        ret[used] = 0;
        return ret;
}

/* ── the client as a whole ───────────────────────────────────────────────────────────────────────────────────── */

int http_new(sd_event *event, Http **ret) {
        Http *h = calloc(1, sizeof *h);

        if (!h)
                return -ENOMEM;
        h->event = event;
        *ret = h;
        return 0;
}

Http *http_free(Http *h) {
        if (!h)
                return NULL;
        door_forget();
        free(h->origin);
        free(h);
        return NULL;
}

int http_configure(Http *h, const HttpOptions *options) {
        (void) h;
        (void) options;
        return 0;
}
