/* SPDX-License-Identifier: Apache-2.0 */

/* Finding the engine and keeping it in sight.
 *
 *      DOWN ── /version ── /info ── /events opened ──> UP
 *       ^  └─ too old: REFUSED, again in 60 s           │
 *       └── back-off 0.25 s..5 s <── stream ended, or a call found nobody at the socket
 *
 * Nothing is polled while it is up: the /events stream ends when the engine does. The stream is opened with `since` set to a moment before
 * the first question, later to the last event seen, so that no event falls between; and each return to UP is told, so that the owner looks
 * at everything anyway. */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "engine/engine-internal.h"
#include "engine/lines.h"

#define BACKOFF_BASE_USEC   (250 * USEC_PER_MSEC)
#define BACKOFF_CAP_USEC    (5 * USEC_PER_SEC)
#define REFUSED_RETRY_USEC  (60 * USEC_PER_SEC)
#define ANSWER_MAX          (4U * 1024 * 1024)

/* /events?filters={"type":["container"],"label":["molecule.platform.managed=true"],"event":[…]}: those that change what a container is.
 * Not the exec_* ones: a HEALTHCHECK makes three of them at each interval. */
static const char event_filters[] =
        "%7B%22type%22%3A%5B%22container%22%5D%2C%22label%22%3A%5B%22molecule.platform.managed%3Dtrue%22%5D%2C%22event%22%3A%5B"
        "%22start%22%2C%22die%22%2C%22stop%22%2C%22destroy%22%2C%22oom%22%2C%22health_status%22%2C%22pause%22%2C%22unpause%22%5D%7D";

/* ── states ──────────────────────────────────────────────────────────────────────────────────────────────────── */

void engine_turn(Engine *e) {
        (void) sd_event_source_set_enabled(e->turn, SD_EVENT_ONESHOT);
}

static void retry_in(Engine *e, uint64_t usec) {
        (void) sd_event_source_set_time_relative(e->retry, usec);
        (void) sd_event_source_set_enabled(e->retry, SD_EVENT_ONESHOT);
}

static void questions_drop(Engine *e) {
        e->ask = http_call_cancel(e->ask);
        e->events = http_call_cancel(e->events);
        cJSON_Delete(TAKE_PTR(e->version));
        e->line_used = 0;
        e->line_skipping = false;
}

/* Told when the state changes or there is something new to say about it, not at each vain try. */
static void state_set(Engine *e, EngineState state, const Fault *why) {
        bool news = state == ENGINE_UP || state != e->state || !e->fault.set || strcmp(e->fault.text, why->text) != 0;

        e->state = state;
        e->fault = why ? *why : (Fault) {};
        if (!news)
                return;
        e->untold = true;
        engine_turn(e);
}

void engine_lost(Engine *e, const Fault *why) {
        questions_drop(e);
        state_set(e, ENGINE_DOWN, why);
        retry_in(e, backoff_failure(&e->backoff, random_u64()));
}

static void engine_refused(Engine *e, const Fault *why) {
        questions_drop(e);
        state_set(e, ENGINE_REFUSED, why);
        retry_in(e, REFUSED_RETRY_USEC);
}

int engine_unreachable(const Engine *e, const HttpAnswer *a, Fault *reterr) {
        const char *path = e->socket_path;

        switch (a->error) {
        case -ENOENT:
                return fault(reterr, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "there is no socket %s: the engine does not run", path);
        case -EACCES:
                return fault(reterr, -ENOTCONN, FAULT_ENGINE_UNREACHABLE,
                             "the agent may not open %s: is its user in the socket's group?", path);
        case -ECONNREFUSED:
                return fault(reterr, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "nobody answers on %s: the engine does not run", path);
        case -ETIMEDOUT:
                return fault(reterr, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "the engine on %s did not answer in time", path);
        default:
                return fault(reterr, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "the connection to the engine on %s broke: %s", path, a->words);
        }
}

/* ── events ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_event_line(const char *line, size_t size, void *userdata) {
        Engine *e = userdata;
        EngineEvent event;

        if (engine_event_parse(line, size, &event, NULL) < 0)
                return;                 /* a lost event costs one sweep */
        if (event.time_nsec >= e->since_nsec)
                e->since_nsec = event.time_nsec + 1;
        e->on_event(&event, e->userdata);
        engine_event_done(&event);
}

static int on_events_chunk(const void *data, size_t size, void *userdata) {
        Engine *e = userdata;
        const LineCut cut = {
                .line = e->line, .max = sizeof e->line, .used = &e->line_used, .skipping = &e->line_skipping,
                .fn = on_event_line, .userdata = e,
        };

        lines_feed(&cut, data, size);
        return 0;
}

static void on_events_end(const HttpAnswer *a, void *userdata) {
        Engine *e = userdata;
        char words[256];
        Fault why = {};

        e->events = NULL;
        if (a->error == 0 && a->status >= 300)
                (void) fault(&why, -EREMOTEIO, FAULT_ENGINE_ERROR, "the engine does not give its events: %s",
                             engine_words(NULL, a, words, sizeof words));
        else if (a->error == 0 || a->error == -ECONNRESET)
                (void) fault(&why, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "the engine on %s went away", e->socket_path);
        else
                (void) engine_unreachable(e, a, &why);
        engine_lost(e, &why);
}

static int events_open(Engine *e) {
        char url[640];
        const HttpRequest q = {
                .url = url, .socket_path = e->socket_path, .chunk = on_events_chunk, .flags = HTTP_KEEP_BODY,
        };

        if (snprintf(url, sizeof url, ENGINE_URL "/v%s/events?since=%" PRIu64 ".%09" PRIu64 "&filters=%s", e->api,
                     e->since_nsec / 1000000000, e->since_nsec % 1000000000, event_filters) >= (int) sizeof url)
                return -ENAMETOOLONG;
        return http_send(e->http, &q, on_events_end, e, &e->events);
}

/* ── the questions ───────────────────────────────────────────────────────────────────────────────────────────── */

static int ask(Engine *e, const char *path, HttpDone done) {
        char url[64];
        const HttpRequest q = {
                .url = url, .socket_path = e->socket_path, .answer_max = ANSWER_MAX, .timeout_usec = e->timeout_usec,
        };

        (void) snprintf(url, sizeof url, ENGINE_URL "%s", path);
        return http_send(e->http, &q, done, e, &e->ask);
}

/* The answer to a question as JSON, or why there is none. */
static int answer_read(Engine *e, const char *what, const HttpAnswer *a, cJSON **ret, Fault *reterr) {
        char words[256];

        if (a->error < 0)
                return engine_unreachable(e, a, reterr);
        if (a->status != 200)
                return fault(reterr, -EREMOTEIO, FAULT_ENGINE_ERROR, "the engine does not say its %s: %s", what,
                             engine_words(NULL, a, words, sizeof words));
        if (json_parse(a->body, a->size, ret, NULL) < 0)
                return fault(reterr, -EREMOTEIO, FAULT_ENGINE_ERROR, "the engine's answer about its %s is no JSON", what);
        return 0;
}

static void on_info(const HttpAnswer *a, void *userdata) {
        Engine *e = userdata;
        _cleanup_json_ cJSON *json = NULL;
        EngineInfo info;
        Fault why = {};
        int r;

        e->ask = NULL;
        r = answer_read(e, "state", a, &json, &why);
        if (r == 0)
                r = engine_info_parse(e->version, json, &info, &why);
        if (r == 0) {
                engine_info_done(&e->info);
                e->info = info;
                r = events_open(e);
                if (r < 0)
                        (void) fault(&why, r, FAULT_INTERNAL, "cannot ask the engine for its events: %m");
        }
        if (r < 0) {
                engine_lost(e, &why);
                return;
        }
        cJSON_Delete(TAKE_PTR(e->version));
        e->backoff = (Backoff) { .base = BACKOFF_BASE_USEC, .cap = BACKOFF_CAP_USEC };
        state_set(e, ENGINE_UP, NULL);
}

static void on_version(const HttpAnswer *a, void *userdata) {
        Engine *e = userdata;
        Fault why = {};
        char path[32];
        int r;

        e->ask = NULL;
        r = answer_read(e, "version", a, &e->version, &why);
        if (r == 0)
                r = engine_api_choose(json_get_string(e->version, "ApiVersion"), json_get_string(e->version, "MinAPIVersion"),
                                      e->api, &why);
        if (r == -EPROTONOSUPPORT) {
                engine_refused(e, &why);
                return;
        }
        if (r == 0) {
                (void) snprintf(path, sizeof path, "/v%s/info", e->api);
                r = ask(e, path, on_info);
                if (r < 0)
                        (void) fault(&why, r, FAULT_INTERNAL, "cannot ask the engine: %m");
        }
        if (r < 0)
                engine_lost(e, &why);
}

static void look(Engine *e) {
        Fault why = {};
        int r;

        questions_drop(e);
        if (e->since_nsec == 0)
                e->since_nsec = now_realtime() * 1000;
        r = ask(e, "/version", on_version);
        if (r < 0) {
                (void) fault(&why, r, FAULT_ENGINE_UNREACHABLE, "cannot ask the engine on %s: %m", e->socket_path);
                engine_lost(e, &why);
        }
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        look(userdata);
        return 0;
}

static int on_turn(sd_event_source *s, void *userdata) {
        Engine *e = userdata;

        (void) s;
        if (e->untold) {
                e->untold = false;
                e->on_state(e->state, e->fault.set ? &e->fault : NULL, e->userdata);
        }
        engine_calls_tell(e);
        engine_calls_release(e);
        return 0;
}

/* ── the object ──────────────────────────────────────────────────────────────────────────────────────────────── */

static int options_copy(Engine *e, const EngineOptions *o) {
        char *path = strdup(o->socket_path);

        if (!path)
                return -ENOMEM;
        free(e->socket_path);
        e->socket_path = path;
        e->timeout_usec = o->timeout_usec;
        return 0;
}

int engine_configure(Engine *e, const EngineOptions *o) {
        Fault why = {};
        int r;

        r = options_copy(e, o);
        if (r < 0)
                return r;
        (void) fault(&why, -ENOTCONN, FAULT_ENGINE_UNREACHABLE, "the engine's settings changed; looking for it on %s", e->socket_path);
        questions_drop(e);
        engine_calls_abort(e);
        state_set(e, ENGINE_DOWN, &why);
        e->since_nsec = 0;
        retry_in(e, 0);
        return 0;
}

int engine_start(Engine *e) {
        retry_in(e, 0);
        return 0;
}

EngineState engine_state(const Engine *e) {
        return e->state;
}

const EngineInfo *engine_info(const Engine *e) {
        return &e->info;
}

const Fault *engine_fault(const Engine *e) {
        return e->state == ENGINE_UP || !e->fault.set ? NULL : &e->fault;
}

Engine *engine_free(Engine *e) {
        if (!e)
                return NULL;
        questions_drop(e);
        engine_calls_free(e);
        sd_event_source_disable_unref(e->retry);
        sd_event_source_disable_unref(e->turn);
        sd_event_unref(e->event);
        engine_info_done(&e->info);
        free(e->socket_path);
        free(e);
        return NULL;
}

int engine_new(sd_event *event, Http *http, const EngineOptions *options, EngineStateFn on_state, EngineEventFn on_event,
               void *userdata, Engine **ret) {
        _cleanup_(engine_freep) Engine *e = NULL;
        int r;

        assert(event && http && options && options->socket_path && on_state && on_event);
        e = calloc(1, sizeof *e);
        if (!e)
                return -ENOMEM;
        TAILQ_INIT(&e->calls);
        TAILQ_INIT(&e->failed);
        e->event = sd_event_ref(event);
        e->http = http;
        e->on_state = on_state;
        e->on_event = on_event;
        e->userdata = userdata;
        e->backoff = (Backoff) { .base = BACKOFF_BASE_USEC, .cap = BACKOFF_CAP_USEC };
        r = options_copy(e, options);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &e->turn, on_turn, e);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(e->turn, "engine-turn");
        r = sd_event_source_set_enabled(e->turn, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time(event, &e->retry, CLOCK_BOOTTIME, UINT64_MAX, 20 * USEC_PER_MSEC, on_retry, e);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(e->retry, "engine-retry");
        r = sd_event_source_set_enabled(e->retry, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(e);
        return 0;
}
