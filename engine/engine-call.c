/* SPDX-License-Identifier: Apache-2.0 */

/* The life of one call to the engine, and the one judgement over its answer.
 *
 * The engines differ in their status codes (a name that is taken: 409 of docker, 500 of podman), so a caller gets an errno and decides by
 * looking again, never by the code. A call is on one of two lists, those that libcurl works on and those that failed before they began; it
 * leaves them just before it is told, so that a done() may cancel whatever it likes. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/metrics.h"
#include "base/text.h"
#include "engine/engine-internal.h"

#define WORDS_MAX 1024                                  /* docker says last what was wrong, behind ids and addresses */
#define ENGINE_VALUES_MAX 500000                        /* a list of 4,096 containers has about 300,000 */

/* ── the life of a call ──────────────────────────────────────────────────────────────────────────────────────── */

static bool is_held(const Engine *e) {
        EngineCall *c;

        TAILQ_FOREACH(c, &e->calls, link)
                if (c->held_path)
                        return true;
        return false;
}

/* c leaves its list; those that waited for it get their turn from the loop. */
static void call_leave(EngineCall *c) {
        Engine *e = c->engine;

        if (c->begun)
                TAILQ_REMOVE(&e->calls, c, link);
        else
                TAILQ_REMOVE(&e->failed, c, link);
        c->engine = NULL;
        if (c->second_kind && is_held(e))
                engine_turn(e);
}

static EngineCall *call_free(EngineCall *c) {
        if (!c)
                return NULL;
        if (c->engine)
                call_leave(c);
        (void) http_call_cancel(c->http);
        log_stream_done(&c->log);
        free(c->thing);
        free(c->second_body);
        free(c->held_path);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(EngineCall *, call_free)

EngineCall *engine_call_cancel(EngineCall *c) {
        if (c && !c->telling)           /* inside its own done() it ends when that returns */
                call_free(c);
        return NULL;
}

void engine_calls_free(Engine *e) {
        EngineCall *c;

        while ((c = TAILQ_FIRST(&e->calls)) || (c = TAILQ_FIRST(&e->failed)))
                call_free(c);
}

/* The call's end. It is on no list any more, so whatever done() cancels or frees, this is touched by nobody else. */
static void call_tell(EngineCall *c, EngineAnswer *a) {
        call_leave(c);
        c->http = NULL;
        c->telling = true;
        if (a->r < 0 && !a->fault.set)
                (void) fault(&a->fault, a->r, a->r == -ENOMEM ? FAULT_INTERNAL : FAULT_ENGINE_ERROR, "cannot %s '%s': %m",
                             c->kind->words, c->thing);
        c->done(a, c->userdata);
        call_free(c);
}

/* It will be told from the loop that it failed. */
static void call_fail(EngineCall *c, const Fault *why) {
        Engine *e = c->engine;

        if (c->begun)
                TAILQ_REMOVE(&e->calls, c, link);
        c->begun = false;
        c->http = http_call_cancel(c->http);
        c->fault = *why;
        TAILQ_INSERT_TAIL(&e->failed, c, link);
        engine_turn(e);
}

void engine_calls_abort(Engine *e) {
        Fault why = {};
        EngineCall *c;

        (void) fault(&why, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "the connection to the engine was given up");
        while ((c = TAILQ_FIRST(&e->calls)))
                call_fail(c, &why);
}

/* As many as there are now: what a done() adds waits for the next turn. */
void engine_calls_tell(Engine *e) {
        EngineCall *c;
        size_t n = 0;

        TAILQ_FOREACH(c, &e->failed, link)
                n++;
        for (; n > 0 && (c = TAILQ_FIRST(&e->failed)); n--) {
                EngineAnswer a = { .r = -ENOTCONN, .fault = c->fault, .body = "" };

                call_tell(c, &a);
        }
}

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

const char *engine_words(const cJSON *json, const HttpAnswer *a, char *buffer, size_t size) {
        _cleanup_json_ cJSON *own = NULL;
        const char *message;

        if (!json && json_parse(a->body, a->size, &own, NULL) == 0)
                json = own;
        message = json_get_string(json, "message");
        if (message && message[0])
                (void) snprintf(buffer, size, "%s", message);
        else
                (void) snprintf(buffer, size, "it answered with status %ld", a->status);
        return buffer;
}

static int judge_transport(const EngineCall *c, const HttpAnswer *a, Fault *reterr) {
        int r;

        if (a->error == -EFBIG)
                r = fault(reterr, -EFBIG, FAULT_TOO_LARGE, "the answer is larger than its limit");
        else if (a->error == -ENOMEM)
                r = fault(reterr, -ENOMEM, FAULT_INTERNAL, "out of memory");
        else
                r = engine_unreachable(c->engine, a, reterr);
        return fault_prefix(reterr, r, "cannot %s '%s': ", c->kind->words, c->thing);
}

/* podman says 500 where docker says 409. */
static bool says_taken(const HttpAnswer *a, const char *words) {
        return a->status == 409 || (a->status == 500 && (strcasestr(words, "already in use") || strcasestr(words, "already exists")));
}

/* An engine that ends, or has just begun, fails at what is nobody's fault: its listener goes first, its stores and the runtime beneath it one by one, and
 * containerd's word is then the last. */
static bool says_away(const EngineCall *c, long status, const char *words) {
        static const char word[] = ": unavailable";
        size_t n = strlen(words);

        return status >= 500 && (c->engine->state != ENGINE_UP || (n >= sizeof word && strcmp(words + n - (sizeof word - 1), word) == 0));
}

static int away(const EngineCall *c, const char *words, Fault *reterr) {
        return fault(reterr, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "cannot %s '%s': %s", c->kind->words, c->thing, words);
}

/* Where the engine, or the runtime beneath it, ended in mid-start: what is left there is in the way of this container's id, and of no other's.
 * A 403 is about names. */
static bool says_left_behind(const char *words) {
        return strstr(words, "already exists") || strstr(words, "id already in use") || strstr(words, "file exists") ||
               strstr(words, "marked for removal");     /* docker's own, of a removal that was cut short */
}

static int judge_refusal(const EngineCall *c, const HttpAnswer *a, const char *words, Fault *reterr) {
        KindFlags flags = c->kind->flags;
        int r = a->status == 404 ? -ENOENT : a->status == 409 ? -EBUSY : -EREMOTEIO;

        if (says_away(c, a->status, words))
                return away(c, words, reterr);
        if (a->status == 404 && (flags & KIND_ABSENT_OK))
                return 0;
        if ((flags & KIND_NAMED) && says_taken(a, words)) {
                if (flags & KIND_TAKEN_OK)
                        return 0;
                return fault(reterr, -EEXIST, FAULT_NAME_CONFLICT, "cannot %s '%s': %s", c->kind->words, c->thing, words);
        }
        if ((flags & KIND_STARTS) && a->status != 404 && a->status != 403 && says_left_behind(words))
                r = -EUCLEAN;
        return fault(reterr, r, FAULT_ENGINE_ERROR, "cannot %s '%s': %s", c->kind->words, c->thing, words);
}

/* A pull's status says little; the last word of its stream counts. */
static int judge_pull(const EngineCall *c, const HttpAnswer *a, const char *words, Fault *reterr) {
        pull_progress_end(c->progress);
        if (a->status < 300 && !c->progress->failed)
                return 0;
        if (a->status < 300)
                words = c->progress->error;
        if (says_away(c, a->status < 300 ? 500 : a->status, words))
                return away(c, words, reterr);
        return fault(reterr, -EREMOTEIO, pull_error_classify(a->status, words), "cannot %s '%s': %s", c->kind->words, c->thing, words);
}

static int judge(const EngineCall *c, const HttpAnswer *a, cJSON **json, Fault *reterr) {
        char words[WORDS_MAX] = "";
        bool good = (a->status >= 200 && a->status < 300) || a->status == 304;

        if (a->error < 0)
                return judge_transport(c, a, reterr);
        if (!good || (c->kind->flags & KIND_JSON))
                if (json_parse_values(a->body, a->size, ENGINE_VALUES_MAX, json, NULL) < 0 && good)
                        return fault(reterr, -EREMOTEIO, FAULT_ENGINE_ERROR, "cannot %s '%s': the engine's answer is no JSON",
                                     c->kind->words, c->thing);
        if (good && c->limit > 0 && a->size > c->limit)
                return fault(reterr, -EFBIG, FAULT_TOO_LARGE, "cannot %s '%s': the answer is larger than its limit",
                             c->kind->words, c->thing);
        if (!good)
                (void) engine_words(*json, a, words, sizeof words);
        if (c->progress)
                return judge_pull(c, a, words, reterr);
        return good ? 0 : judge_refusal(c, a, words, reterr);
}

static int call_send(EngineCall *c, const char *path, const HttpRequest *more);

/* The second half of an "ensure": there was none, so it is made. true: the call goes on. */
static bool goes_on(EngineCall *c, int r) {
        _cleanup_free_ char *body = NULL;
        HttpRequest q = { .content_type = "application/json" };

        if (r != -ENOENT || !c->second_body)
                return false;
        body = TAKE_PTR(c->second_body);
        q.body = body;
        q.body_size = strlen(body);
        c->kind = c->second_kind;
        return call_send(c, c->second_path, &q) == 0;
}

/* What the caller gets as the body: as it came, or a log's text. */
static int body_choose(EngineCall *c, const HttpAnswer *a, EngineAnswer *answer) {
        int r;

        answer->body = a->body;
        answer->size = a->size;
        if (!(c->kind->flags & KIND_LOG) || answer->r < 0)
                return answer->r;
        r = log_stream_end(&c->log);
        if (r < 0)
                return r;
        answer->body = c->log.text ?: "";
        answer->size = c->log.size;
        return 0;
}

static void on_answer(const HttpAnswer *a, void *userdata) {
        EngineCall *c = userdata;
        Engine *e = c->engine;
        _cleanup_json_ cJSON *json = NULL;
        EngineAnswer answer = { .status = a->status, .body = "" };
        bool nobody = a->error == -ECONNREFUSED || a->error == -ENOENT || a->error == -EACCES;

        c->http = NULL;
        if (!c->progress && !c->sink && a->error == 0)  /* of the two, how long the caller wanted to look would be measured */
                metric_observe(METRIC_ENGINE_CALL, 0, now_boottime() - c->sent_at);
        answer.r = judge(c, a, &json, &answer.fault);
        if (goes_on(c, answer.r))
                return;
        answer.r = body_choose(c, a, &answer);
        answer.json = json;
        if (nobody && e->state == ENGINE_UP) {
                Fault why = {};

                (void) engine_unreachable(e, a, &why);
                engine_lost(e, &why);   /* told from the loop, after this call */
        }
        call_tell(c, &answer);
}

void engine_call_resume(EngineCall *c) { http_call_resume(c ? c->http : NULL); }

/* ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int on_chunk(const void *data, size_t size, void *userdata) {
        EngineCall *c = userdata;

        if (c->kind->flags & KIND_LOG) {
                int r;

                if (c->sink && !c->sink->ready(c->userdata))
                        return HTTP_PAUSE;
                r = log_stream_feed(&c->log, data, size);
                size = c->log.size;
                if (r < 0 || !c->sink || size == 0)
                        return r;
                c->log.size = 0;
                c->sink->text(c->log.text, size, c->userdata);  /* may cancel: c is not touched any more */
                return 0;
        }
        pull_progress_feed(c->progress, data, size);
        if (c->on_progress && !c->sending)
                c->on_progress(c->userdata);    /* may cancel: c is not touched any more */
        return 0;
}

/* more: whatever differs from a plain question. */
static int call_send(EngineCall *c, const char *path, const HttpRequest *more) {
        Engine *e = c->engine;
        _cleanup_free_ char *url = str_printf(ENGINE_URL "/v%s%s", e->api, path);
        HttpRequest q = *more;
        int r;

        if (!url)
                return -ENOMEM;
        q.url = url;
        q.method = c->kind->method;
        q.socket_path = e->socket_path;
        q.answer_max = q.answer_max ?: c->kind->max;
        if (c->progress || (c->kind->flags & KIND_LOG)) {
                q.chunk = on_chunk;
                q.flags |= HTTP_KEEP_BODY;
        }
        if (!c->progress && !c->sink)           /* a pull takes as long as it takes; who asked for it watches its progress */
                q.timeout_usec += e->timeout_usec;
        c->sending = true;
        c->sent_at = now_boottime();
        r = http_send(e->http, &q, on_answer, c, &c->http);
        c->sending = false;
        return r;
}

/* Two that find nothing at the same time would both make it, and docker lets networks share a name: then no container can join either. */
static bool must_wait(const EngineCall *c) {
        EngineCall *other;

        TAILQ_FOREACH(other, &c->engine->calls, link)
                if (other != c && other->second_kind == c->second_kind && !other->held_path && strcmp(other->thing, c->thing) == 0)
                        return c->second_kind != NULL;
        return false;
}

void engine_calls_release(Engine *e) {
        EngineCall *c, *next;

        for (c = TAILQ_FIRST(&e->calls); c; c = next) {
                _cleanup_free_ char *path = NULL;
                Fault why = e->fault;
                int r = -ENOTCONN;

                next = TAILQ_NEXT(c, link);
                if (!c->held_path || must_wait(c))
                        continue;
                path = TAKE_PTR(c->held_path);
                if (e->state == ENGINE_UP)
                        r = call_send(c, path, &(HttpRequest) {});
                if (r < 0) {
                        (void) fault(&why, r, FAULT_ENGINE_UNREACHABLE, "cannot ask the engine: %m");
                        call_fail(c, &why);
                }
        }
}

int engine_call_begin(EngineCall *_c, char *_path, const HttpRequest *more, EngineCall **ret) {
        _cleanup_(call_freep) EngineCall *c = _c;
        _cleanup_free_ char *path = _path;
        Engine *e = c ? c->engine : NULL;
        int r;

        if (!c || !path)
                return -ENOMEM;
        if (e->state == ENGINE_UP && must_wait(c))
                c->held_path = TAKE_PTR(path);
        else if (e->state == ENGINE_UP) {
                r = call_send(c, path, more);
                if (r < 0)
                        return r;
        } else {
                Fault why = e->fault;

                if (!why.set)
                        (void) fault(&why, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "the engine on %s has not been found yet", e->socket_path);
                call_fail(c, &why);
        }
        if (ret)
                *ret = c;
        TAKE_PTR(c);
        return 0;
}

EngineCall *engine_call_new(Engine *e, const CallKind *kind, const char *thing, EngineDone done, void *userdata) {
        EngineCall *c = calloc(1, sizeof *c);

        assert(e && done);
        if (!c)
                return NULL;
        c->kind = kind;
        c->done = done;
        c->userdata = userdata;
        c->thing = strdup(thing);
        if (!c->thing)
                return call_free(c);
        c->engine = e;
        c->begun = true;
        TAILQ_INSERT_TAIL(&e->calls, c, link);
        return c;
}
