/* SPDX-License-Identifier: Apache-2.0 */

/* What a workspace's container says, through to whoever may see it. Nothing is left out: where the reader is slow, the engine waits. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/api-routes.h"
#include "base/text.h"
#include "provision/container.h"

#define LINES_MAX   100000
#define LINES_TOLD  200
#define SINCE_MAX   (UINT64_C(1) << 40)
#define FOLLOWS_MAX 8
#define ROOM        ((size_t) 256 * 1024)
#define STEP        ((size_t) 64 * 1024)        /* more than comes at once */

typedef struct LogReader {
        Agent *a;
        EngineCall *call;               /* NULL: it ended, or could not begin */
        char *text;                     /* ROOM bytes; NULL before the first */
        size_t size, at;
        int r;
        char last[sizeof((Fault *) NULL)->text + 64];   /* what is to be said at the end */
} LogReader;

static bool is_ready(void *userdata) {
        LogReader *l = userdata;

        if (!l->text)
                l->text = malloc(ROOM);
        if (!l->text)
                return false;
        memmove(l->text, l->text + l->at, l->size - l->at);
        l->size -= l->at;
        l->at = 0;
        return ROOM - l->size >= STEP;
}

static void on_text(const char *text, size_t size, void *userdata) {
        LogReader *l = userdata;

        if (size > ROOM - l->size) {    /* no chunk is so large */
                l->call = engine_call_cancel(l->call);
                l->r = -ENOBUFS;
                return;
        }
        memcpy(l->text + l->size, text, size);
        l->size += size;
        api_wake(l->a->api);
}

static void on_end(const EngineAnswer *answer, void *userdata) {
        LogReader *l = userdata;

        l->call = NULL;
        l->r = answer->r < 0 ? answer->r : -ENODATA;
        if (answer->r < 0)
                (void) snprintf(l->last, sizeof l->last, "%s: %s\n", fault_code_name(answer->fault.code), answer->fault.text);
        api_wake(l->a->api);
}

static ssize_t read_log(void *state, char *to, size_t room) {
        LogReader *l = state;
        size_t n = l->size - l->at < room ? l->size - l->at : room;

        if (n == 0 && l->last[0]) {             /* the reason, and then the break that says that it is one */
                n = strnlen(l->last, room);
                memcpy(to, l->last, n);
                l->last[0] = 0;
                return (ssize_t) n;
        }
        if (n == 0) {
                engine_call_resume(l->call);    /* there was no memory for it before */
                return l->size > l->at ? read_log(state, to, room) : l->r;
        }
        memcpy(to, l->text + l->at, n);
        l->at += n;
        if (l->size - l->at < STEP)
                engine_call_resume(l->call);    /* may bring text at once */
        return (ssize_t) n;
}

static void log_done(void *state) {
        LogReader *l = state;

        l->a->n_log_readers--;
        (void) engine_call_cancel(l->call);
        free(l->text);
        free(l);
}

static int read_query(const ApiCall *c, EngineLogQuery *ret, Fault *reterr) {
        uint64_t lines;
        int r = api_read_count(c, "tail", LINES_MAX, LINES_TOLD, &lines, reterr);

        if (r < 0)
                return r;
        ret->lines = (unsigned) lines;
        ret->follow = str_equal(api_query(c, "follow"), "true");
        return api_read_count(c, "since", SINCE_MAX, 0, &ret->since, reterr);
}

int api_get_logs(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        static const ApiSource source = { .read = read_log, .done = log_done };
        static const EngineLogSink sink = { is_ready, on_text };
        char name[CONTAINER_NAME_SIZE];
        EngineLogQuery q = {};
        LogReader *l;
        int r = read_query(c, &q, reterr);

        if (r < 0)
                return r;
        if (!queue_knows(a->queue, c->part))
                return fault(reterr, -ENOENT, FAULT_UNKNOWN_WORKSPACE, "There is no workspace of this id on this host.");
        if (a->n_log_readers >= FOLLOWS_MAX)
                return -EUSERS;
        l = calloc(1, sizeof *l);
        if (!l)
                return -ENOMEM;
        l->a = a;
        a->n_log_readers++;
        r = engine_container_follow(a->engine, container_name(c->part, CONTAINER_CURRENT, name), &q, &sink, on_end, l, &l->call);
        if (r < 0) {
                log_done(l);
                return r;
        }
        *ret = (ApiAnswer){ .source = &source, .state = l, .type = "text/plain; charset=utf-8" };
        return 0;
}
