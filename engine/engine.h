/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The container engine's API over its unix socket, asynchronous: each call returns at once and its done() comes from the loop.
 * Keeps one connection check and one /events stream alive and says when the engine comes and goes. */

#include <systemd/sd-event.h>

#include "base/http.h"
#include "engine/engine-json.h"

typedef struct Engine Engine;
typedef struct EngineCall EngineCall;

typedef enum EngineState {
        ENGINE_DOWN,                    /* not asked yet, or it does not answer; tried again with back-off 0.25 s..5 s */
        ENGINE_UP,                      /* version agreed, /events open */
        ENGINE_REFUSED,                 /* it answers, but is too old; tried again every 60 s */
} EngineState;

typedef struct EngineOptions {
        const char *socket_path;
        uint64_t    timeout_usec;       /* of one call; streams and stop have their own */
} EngineOptions;

/* Both come from the loop. fault: why it is not up; NULL when up. An event only says "look again": the stream may lose some, and after
 * a reconnect `state` comes again, so that the owner sweeps. */
typedef void (*EngineStateFn)(EngineState state, const Fault *fault, void *userdata);
typedef void (*EngineEventFn)(const EngineEvent *event, void *userdata);

int     engine_new(sd_event *event, Http *http, const EngineOptions *options, EngineStateFn on_state, EngineEventFn on_event,
                   void *userdata, Engine **ret);
Engine *engine_free(Engine *e);         /* drops calls in flight without done() */
DEFINE_CLEANUP(Engine *, engine_free)

int               engine_start(Engine *e);      /* begins to look for the engine; state DOWN until found */
int               engine_configure(Engine *e, const EngineOptions *options);    /* another socket or timeout: goes DOWN and looks anew */
EngineState       engine_state(const Engine *e);
const EngineInfo *engine_info(const Engine *e); /* members NULL until first up */
const Fault      *engine_fault(const Engine *e);/* why it is not up; NULL when up */

/* How a call ended. r: 0 (also for 304 and other "already so"), -ENOENT (404: the thing is absent), -EEXIST (409 or podman's 500: the name
 * is taken), -EBUSY (other 409), -ENOTCONN (engine_unreachable: the socket is gone, the answer lost, a timeout, or the word of an engine that ends: the
 * effect is UNKNOWN), -EUCLEAN (of a start: what one before it left beneath the engine is in its way, for good), -EREMOTEIO (engine_error, with the engine's own
 * words), -ENOMEM. fault is set whenever r < 0. Everything is borrowed during the callback. */
typedef struct EngineAnswer {
        int          r;
        long         status;
        Fault        fault;
        const cJSON *json;              /* the parsed body where it is JSON, else NULL */
        const char  *body;              /* raw, for archive and logs */
        size_t       size;
} EngineAnswer;
typedef void (*EngineDone)(const EngineAnswer *a, void *userdata);

EngineCall *engine_call_cancel(EngineCall *c);  /* done() will not come; NULL is fine; returns NULL */

/* Every function below: 0 and *ret set (ret may be NULL), done() comes later from the loop, also for -ENOTCONN when the engine is down.
 * Negative (-ENOMEM, -EINVAL) means done() will not come. Names and ids are escaped here. */
int engine_image_inspect(Engine *e, const char *ref, EngineDone done, void *userdata, EngineCall **ret);
int engine_image_pull(Engine *e, const char *ref, const char *auth /* X-Registry-Auth, base64url; NULL */, PullProgress *progress /* borrowed
                      until done */, void (*on_progress)(void *userdata), EngineDone done, void *userdata, EngineCall **ret);
int engine_image_remove(Engine *e, const char *ref, EngineDone done, void *userdata, EngineCall **ret);         /* never by force: one that a container
                                        uses stays; 404 is r 0 */
int engine_network_ensure(Engine *e, const char *name, const EnginePair *labels, size_t n, EngineDone done, void *userdata, EngineCall **ret);
int engine_volume_inspect(Engine *e, const char *name, EngineDone done, void *userdata, EngineCall **ret);
int engine_volume_create(Engine *e, const char *name, const EnginePair *labels, size_t n, EngineDone done, void *userdata, EngineCall **ret);
int engine_volume_remove(Engine *e, const char *name, EngineDone done, void *userdata, EngineCall **ret);       /* 404 is r 0 */
int engine_volume_usage(Engine *e, const char *name /* for words */, EngineDone done, void *userdata, EngineCall **ret);       /* of all: their bytes are
                                        counted, which may take longer than a call; see engine_volume_is_empty() */
int engine_volume_list(Engine *e, const char *label, EngineDone done, void *userdata, EngineCall **ret);        /* json: {"Volumes":[…]} */
int engine_container_create(Engine *e, const char *name, const ContainerSpec *spec, EngineDone done, void *userdata, EngineCall **ret);
int engine_container_inspect(Engine *e, const char *id, EngineDone done, void *userdata, EngineCall **ret);
int engine_container_list(Engine *e, const char *label /* "name=value" or "name" */, EngineDone done, void *userdata, EngineCall **ret);
int engine_container_start(Engine *e, const char *id, EngineDone done, void *userdata, EngineCall **ret);
int engine_container_stop(Engine *e, const char *id, unsigned seconds, EngineDone done, void *userdata, EngineCall **ret);     /* 404 is -ENOENT */
int engine_container_rename(Engine *e, const char *id, const char *name, EngineDone done, void *userdata, EngineCall **ret);
int engine_container_remove(Engine *e, const char *id, EngineDone done, void *userdata, EngineCall **ret);      /* force; keeps volumes; 404 is r 0 */
typedef struct EngineLogQuery { unsigned lines; uint64_t since; bool follow; } EngineLogQuery;  /* since: seconds since the epoch; 0: all */
typedef struct EngineLogSink {
        bool (*ready)(void *userdata);          /* there is room for 64 KiB; where not, the engine waits until engine_call_resume() */
        void (*text)(const char *text, size_t size, void *userdata);    /* may cancel */
} EngineLogSink;
/* The same as it comes, oldest first, and on with what follows. sink is borrowed, with userdata. The answer's body is empty. */
int  engine_container_follow(Engine *e, const char *id, const EngineLogQuery *q, const EngineLogSink *sink, EngineDone done, void *userdata,
                             EngineCall **ret);
void engine_call_resume(EngineCall *c);         /* not from inside the sink; it may be called from inside this. NULL is fine */
int engine_container_logs(Engine *e, const char *id, unsigned lines, size_t max, EngineDone done, void *userdata, EngineCall **ret);
                                        /* body: plain text, stdout and stderr in order, the engine's 8-byte frames already taken out */
int engine_archive_put(Engine *e, const char *id, const char *path, const void *tar, size_t size, EngineDone done, void *userdata, EngineCall **ret);
int engine_archive_get(Engine *e, const char *id, const char *path, size_t max, EngineDone done, void *userdata, EngineCall **ret);
                                        /* body: a tar; -ENOENT: absent; -EFBIG (too_large) over max */
