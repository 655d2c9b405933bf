/* SPDX-License-Identifier: Apache-2.0 */

/* Look at the container, then probe until it answers well, looking again now and then; two seconds later probe once more. The second good answer is
 * followed by a last look, and counts only if the run seen (StartedAt, RestartCount) is the one that gave the first: what answers and dies does
 * not pass. */

#include "provision/gate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define GOOD_APART_USEC   (2 * USEC_PER_SEC)
#define PROBE_USEC        (5 * USEC_PER_SEC)
#define LOOK_EVERY_USEC   (500 * USEC_PER_MSEC)
#define PAUSE_FIRST_USEC  (25 * USEC_PER_MSEC)
#define PAUSE_MAX_USEC    (1 * USEC_PER_SEC)

struct Gate {
        Http            *http;
        Engine          *engine;
        sd_event_source *timer;
        EngineCall      *look;
        HttpCall        *probe;
        GateDone         done;
        void            *userdata;
        char            *container_id, *url;
        uint64_t         timeout_usec, began, looked_at;
        unsigned         crash_loop_restarts;
        EngineContainer  seen;                  /* the run that the good answers belong to */
        uint64_t         good_since;            /* boottime of the first good answer of this run; 0: none */
        bool             good_twice;            /* only the last look is missing */
        int64_t          exit_code;             /* of the run that ended last: one that was started since has none */
        bool             end_seen;              /* … if a look fell on it */
        bool             oom_killed;
        char             last[160];             /* what the last probe said, for the words of a timeout */
};

static void look(Gate *g);
static void probe(Gate *g);

static void finish(Gate *g, int r, const Fault *f) {
        g->done(r, f, r == 0 ? &g->seen : NULL, g->userdata);   /* frees g */
}

/* A look costs the engine more than a probe costs the workspace, so between two probes of one run there is one only now and then. */
static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Gate *g = userdata;
        bool fresh = g->looked_at && now_boottime() - g->looked_at < LOOK_EVERY_USEC;

        (void) s;
        (void) usec;
        if (!g->good_twice && (g->good_since || (fresh && g->seen.running)))
                probe(g);
        else
                look(g);
        return 0;
}

static void again_after(Gate *g, uint64_t usec) {
        (void) sd_event_source_set_time_relative(g->timer, usec);
        (void) sd_event_source_set_enabled(g->timer, SD_EVENT_ONESHOT);
}

/* An eighth of its age: readiness is seen at most that much late, and a slow starter is asked once a second. */
static void again(Gate *g) {
        uint64_t pause = (now_boottime() - g->began) / 8;

        again_after(g, pause < PAUSE_FIRST_USEC ? PAUSE_FIRST_USEC : pause > PAUSE_MAX_USEC ? PAUSE_MAX_USEC : pause);
}

static uint64_t limit(const Gate *g) { return g->timeout_usec > g->seen.health_grace_usec ? g->timeout_usec : g->seen.health_grace_usec; }

static void on_probe(const HttpAnswer *a, void *userdata) {
        Gate *g = userdata;
        uint64_t now = now_boottime();

        g->probe = NULL;
        if (a->error == 0 && a->status < 500) {
                g->last[0] = 0;
                if (!g->good_since) {
                        g->good_since = now;
                        again_after(g, GOOD_APART_USEC);
                        return;
                }
                if (now - g->good_since >= GOOD_APART_USEC) {
                        g->good_twice = true;
                        look(g);
                        return;
                }
        } else {
                g->good_since = 0;
                if (a->error)
                        (void) snprintf(g->last, sizeof g->last, "no answer (%s)", strerror(-a->error));
                else
                        (void) snprintf(g->last, sizeof g->last, "HTTP status %ld", a->status);
        }
        again(g);
}

static int discard(const void *data, size_t size, void *userdata) {
        (void) data;
        (void) size;
        (void) userdata;
        return 0;
}

static void probe(Gate *g) {
        HttpRequest q = {
                .url = g->url, .timeout_usec = PROBE_USEC, .chunk = discard, .flags = HTTP_PLAIN_LOOPBACK | HTTP_NO_PROXY | HTTP_FRESH
        };

        if (http_send(g->http, &q, on_probe, g, &g->probe) < 0)
                again(g);
}

/* A run that ended starts the counting anew. */
static void take_look(Gate *g, EngineContainer *c) {
        if (!str_equal(c->started_at, g->seen.started_at) || c->restart_count != g->seen.restart_count) {
                g->good_since = 0;
                g->good_twice = false;
        }
        if (c->restarting || !c->running) {
                g->end_seen = true;
                g->exit_code = c->exit_code;
                g->oom_killed = c->oom_killed;
        }
        engine_container_done(&g->seen);
        g->seen = *c;
        g->looked_at = now_boottime();
}

static void judge(Gate *g) {
        const EngineContainer *c = &g->seen;
        char how[64] = "";
        Fault f = {};

        if (c->restart_count >= (int64_t) g->crash_loop_restarts) {
                if (g->end_seen)
                        (void) snprintf(how, sizeof how, " (last exit code %lld%s)", (long long) g->exit_code, g->oom_killed ? ", out of memory" : "");
                (void) fault(&f, -EIO, FAULT_CRASH_LOOP, "The workspace's process ended %lld times within the gate%s.", (long long) c->restart_count, how);
                finish(g, -EIO, &f);
                return;
        }
        if (now_boottime() - g->began > limit(g)) {
                (void) fault(&f, -ETIMEDOUT, FAULT_READINESS_TIMEOUT, "The workspace was not ready after %llu s: %s.",
                             (unsigned long long) (limit(g) / USEC_PER_SEC),
                             !c->running ? "its process does not run" : g->last[0] ? g->last : "its health check is not healthy");
                finish(g, -ETIMEDOUT, &f);
                return;
        }
        if (!c->running || c->restarting) {
                g->good_since = 0;
                g->good_twice = false;
                again(g);
                return;
        }
        if (!g->good_twice)
                probe(g);
        else if (c->health == ENGINE_HEALTH_NONE || c->health == ENGINE_HEALTH_HEALTHY)
                finish(g, 0, NULL);
        else
                again(g);               /* answers, but its own health check has not agreed yet */
}

static void on_look(const EngineAnswer *a, void *userdata) {
        Gate *g = userdata;
        EngineContainer c = {};
        Fault f = {};
        int r = a->r;

        g->look = NULL;
        if (r == 0)
                r = engine_container_parse(a->json, NULL, &c, &f);
        else
                f = a->fault;
        if (r == -EREMOTEIO && now_boottime() - g->began <= limit(g)) {
                again(g);                       /* the engine stumbled; the workspace did not */
                return;
        }
        if (r < 0) {
                finish(g, r, &f);
                return;
        }
        take_look(g, &c);
        judge(g);
}

static void look(Gate *g) {
        Fault f = {};
        int r = engine_container_inspect(g->engine, g->container_id, on_look, g, &g->look);

        if (r < 0) {
                (void) fault(&f, r, FAULT_INTERNAL, "Cannot ask the engine: %m");
                finish(g, r, &f);
        }
}

int gate_new(sd_event *event, Http *http, Engine *engine, const GateOptions *options, GateDone done, void *userdata, Gate **ret) {
        _cleanup_(gate_freep) Gate *g = calloc(1, sizeof *g);
        int r;

        if (!g)
                return -ENOMEM;
        g->http = http;
        g->engine = engine;
        g->done = done;
        g->userdata = userdata;
        g->timeout_usec = options->timeout_usec;
        g->crash_loop_restarts = options->crash_loop_restarts;
        g->began = now_boottime();
        g->container_id = strdup(options->container_id);
        g->url = str_printf("http://127.0.0.1:%u%s", options->port, options->path);
        if (!g->container_id || !g->url)
                return -ENOMEM;
        r = sd_event_add_time_relative(event, &g->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, g);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(g);
        return 0;
}

Gate *gate_free(Gate *g) {
        if (!g)
                return NULL;
        (void) http_call_cancel(g->probe);
        (void) engine_call_cancel(g->look);
        sd_event_source_disable_unref(g->timer);
        engine_container_done(&g->seen);
        free(g->container_id);
        free(g->url);
        free(g);
        return NULL;
}
