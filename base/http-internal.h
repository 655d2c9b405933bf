/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the three files behind base/http.h share; nobody else includes this.
 * http.c: the loop and the life of calls. http-call.c: one transfer. http-url.c: what a URL is, and who may see credentials. */

#include <curl/curl.h>
#include <sys/queue.h>

#include "base/http.h"

/* Where a call is. It is on exactly one list, that of its state. */
typedef enum CallState {
        CALL_QUEUED,                    /* made inside a callback of libcurl, which does not let itself be entered again */
        CALL_LIVE,                      /* libcurl has it */
        CALL_FINISHED,                  /* over; done() is due */
        CALL_TELLING,                   /* inside its done() */
        CALL_DEAD,                      /* cancelled inside a callback of libcurl: freed once that has returned */
        _CALL_STATE_MAX,
} CallState;

TAILQ_HEAD(CallList, HttpCall);

/* The headers of an answer that someone needs. A value that does not fit its place, or that is not printable, counts as absent. */
typedef struct Captured {
        char content_type[128], retry_after[64], etag[256], deprecation[64], sunset[64], api_version[32], date[64];
} Captured;

struct HttpCall {
        Http                *http;
        CallState            state;
        TAILQ_ENTRY(HttpCall) link;
        CURL                *easy;
        CURLcode             result;    /* CALL_FINISHED */
        int                  stop;      /* why we made libcurl end the transfer; 0: we did not */
        uint64_t             asked_at;  /* boottime: the request began to go out; 0: not yet */
        HttpDone             done;
        HttpChunk            chunk;
        HttpFlags            flags;
        void                *userdata;
        struct curl_slist   *headers;
        char                *request;   /* body */
        size_t               request_size;
        char                *body;      /* of the answer */
        size_t               size, allocated, max, headers_size;
        bool                 in_body, paused;
        Captured             captured;
        char                 words[CURL_ERROR_SIZE];
};

struct Http {
        sd_event        *event;
        CURLM           *multi;
        sd_event_source *timer, *drain;
        uint64_t         due;           /* when libcurl wants to be woken, CLOCK_BOOTTIME; UINT64_MAX: it does not */
        bool             in_curl;       /* libcurl is on the stack */
        bool             telling;       /* a done() is on the stack */
        bool             broken;        /* libcurl cannot go on: it is only taken apart */
        int              refused;       /* -errno of what the loop did not do for it; 0: nothing */
        struct CallList  calls[_CALL_STATE_MAX];

        char            *user_agent, *ca_file, *proxy, *no_proxy;
        uint64_t         connect_timeout_usec;
        char            *origin;        /* of the credentials; NULL: there are none */
        const char *const *credentials; /* header lines, NULL-terminated; borrowed */
};

/* ── http-call.c ── */

/* A transfer ready to be begun, on no list yet. -EINVAL, -EPERM, -ENOMEM. */
int       call_new(Http *h, const HttpRequest *q, HttpDone done, void *userdata, HttpCall **ret);
HttpCall *call_free(HttpCall *c);       /* libcurl must have let go of it; wipes what may be secret */
DEFINE_CLEANUP(HttpCall *, call_free)
void      call_tell(HttpCall *c);       /* calls done() */

/* ── http-url.c ── */

typedef struct UrlFacts {
        char origin[320];               /* "https://host:port": lower case, the port always there */
        bool tls, loopback, link_local, user_info;
        bool tail;                      /* has a query or a fragment */
} UrlFacts;

int  url_facts(const char *url, UrlFacts *ret);         /* -EINVAL: no http(s) URL; -ENOMEM */
bool header_is_valid(const char *line);                 /* "Name: value", one line */
