/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What engine.c (finding the engine, its events), engine-call.c (the life of calls) and engine-api.c (which calls there are) share; nobody
 * else includes this. */

#include <sys/queue.h>

#include "base/retry.h"
#include "engine/engine.h"
#include "engine/log-stream.h"

#define ENGINE_URL "http://localhost"           /* the name is of no account: the socket is the address */

TAILQ_HEAD(EngineCallList, EngineCall);

struct Engine {
        sd_event              *event;
        Http                  *http;
        char                  *socket_path;
        uint64_t               timeout_usec;
        EngineStateFn          on_state;
        EngineEventFn          on_event;
        void                  *userdata;

        EngineState            state;
        Fault                  fault;
        bool                   untold;          /* on_state() is due */
        EngineInfo             info;
        char                   api[16];         /* the version agreed upon */
        Backoff                backoff;
        sd_event_source       *retry, *turn;    /* turn: what is due from the loop, on_state() and calls that failed before they began */
        HttpCall              *ask, *events;
        cJSON                 *version;         /* its answer, until that of /info is there */
        uint64_t               since_nsec;      /* no event before this one is of interest */
        char                   line[32768];     /* of the event stream */
        size_t                 line_used;
        bool                   line_skipping;

        struct EngineCallList  calls, failed;
};

/* The engine did not answer: DOWN from now on, looked for again after a while. */
void engine_lost(Engine *e, const Fault *why);

/* Words for a transport's failure; returns -ENOTCONN. */
int  engine_unreachable(const Engine *e, const HttpAnswer *a, Fault *reterr);

void engine_turn(Engine *e);                    /* arms e->turn */
void engine_calls_tell(Engine *e);              /* from the loop: done() of those on e->failed */
void engine_calls_release(Engine *e);           /* from the loop: those that waited for another's end are sent */
void engine_calls_abort(Engine *e);             /* all calls fail, done() comes from the loop */
void engine_calls_free(Engine *e);              /* all calls vanish */

/* The engine's own words out of the body of a refusal; never empty. */
const char *engine_words(const cJSON *json, const HttpAnswer *a, char *buffer, size_t size);

/* ── calls ── */

typedef enum KindFlags {
        KIND_JSON      = 1 << 0,        /* a good answer is JSON */
        KIND_ABSENT_OK = 1 << 1,        /* 404 is what was wanted */
        KIND_NAMED     = 1 << 2,        /* takes a name: a conflict means it is taken */
        KIND_TAKEN_OK  = 1 << 3,        /* … and that is as good as having made it */
        KIND_LOG       = 1 << 4,        /* a good answer is a log */
        KIND_STARTS    = 1 << 5,        /* what a start before it left beneath the engine may be in its way */
} KindFlags;

typedef struct CallKind {
        const char *method, *words;     /* "cannot <words> '<thing>': …" */
        KindFlags   flags;
        size_t      max;
} CallKind;

struct EngineCall {
        Engine                *engine;
        TAILQ_ENTRY(EngineCall) link;
        bool                   begun;           /* on engine->calls; else on engine->failed */
        bool                   sending;         /* inside http_send() */
        bool                   telling;         /* inside done() */
        const CallKind        *kind;
        char                  *thing;
        HttpCall              *http;
        EngineDone             done;
        uint64_t               sent_at;         /* boottime */
        void                  *userdata;
        Fault                  fault;           /* why it failed before it began */
        const CallKind        *second_kind;     /* what follows on -ENOENT, with its body; or NULL */
        const char            *second_path;     /* static */
        char                  *second_body;
        char                  *held_path;       /* not sent yet: another call ensures the same thing; or NULL */
        PullProgress          *progress;
        void                 (*on_progress)(void *userdata);
        LogStream              log;
        const EngineLogSink   *sink;            /* of a log that is followed, in place of the body; takes as long as it takes */
        size_t                 limit;           /* of a good answer's body, where it is below what a refusal may take; or 0 */
};

/* On e's list, not begun. NULL: out of memory. */
EngineCall *engine_call_new(Engine *e, const CallKind *kind, const char *thing, EngineDone done, void *userdata);

/* Takes c and path over (NULL: out of memory). more: whatever differs from a plain question. */
int engine_call_begin(EngineCall *c, char *path, const HttpRequest *more, EngineCall **ret);
