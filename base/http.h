/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTTP/1.1 on the event loop, over TLS to the control plane, over a unix socket to the engine, over plain loopback to a workspace's probe.
 * The only door to libcurl. What it guarantees, whoever calls:
 *
 *   - credentials go to one origin only, redirects are never followed (a 3xx is an answer like any other),
 *     a proxy comes only from HttpOptions and never serves unix sockets, loopback or link-local addresses;
 *   - plain http only over a unix socket, to a loopback or link-local address with the flag that says so, or never;
 *   - TLS 1.2 or newer, verification on; no compression is asked for; the answer's size is counted by us;
 *   - done() is called exactly once, from the loop, never from inside http_send(), and not after http_call_cancel();
 *     chunk() comes from the loop, too, but the first may come from inside the http_send() of its own call. Both may send and cancel;
 *   - a request is made once, but for one case: a kept connection that breaks within a second, before any of the answer has come, is taken for one that
 *     had been closed, and libcurl makes the request again on another. So the other side may see it twice.
 *
 * Where libcurl itself cannot go on (it is out of memory inside), no done() comes any more: that is logged and the loop ends with 1, so that systemd
 * starts the process anew. What is on the disk then counts, as after any other end. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/fault.h"

typedef struct Http Http;               /* one per process: connections are kept and shared */
typedef struct HttpCall HttpCall;       /* one request in flight */

typedef struct HttpAnswer {
        int         error;              /* 0, or the transport's failure: -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH, -EKEYREJECTED
                                           (certificate), -EFBIG (answer over its cap), -ECONNRESET, -ENOENT (no such socket), -EACCES, -EIO, -ENOMEM */
        const char *words;              /* libcurl's words for error; "" otherwise */
        long        status;             /* 100..599 when error is 0 */
        const char *body;               /* NUL-terminated; valid during the callback */
        size_t      size;
        bool        sent;               /* error only: bytes of the request may have reached the other side */
        bool        reused;             /* an established connection was used */
        const char *content_type;       /* headers of the answer that someone needs; "" where absent */
        const char *retry_after, *etag, *deprecation, *sunset, *api_version /* the engine's */;
        uint64_t    date_usec;          /* Date header, microseconds since the epoch; 0 where absent */
        uint64_t    from_usec, until_usec;      /* HTTP_CERTIFICATE: from when to when the other side's own certificate is good; else 0 */
} HttpAnswer;

typedef void (*HttpDone)(const HttpAnswer *answer, void *userdata);
/* Negative: end the transfer (answer.error is that). HTTP_PAUSE: not now; the other side waits, and the same bytes come again after http_call_resume(). */
typedef int (*HttpChunk)(const void *data, size_t size, void *userdata);
#define HTTP_PAUSE 1

typedef enum HttpFlags {
        HTTP_CREDENTIALS    = 1 << 0,   /* attach the origin's credential headers; -EPERM from http_send() when the URL is of another origin */
        HTTP_PLAIN_LOOPBACK = 1 << 1,   /* http:// to 127.0.0.0/8 or [::1] literals is allowed */
        HTTP_NO_PROXY       = 1 << 2,
        HTTP_KEEP_BODY      = 1 << 3,   /* with a chunk callback: bodies of status >= 300 are collected instead of streamed */
        HTTP_FRESH          = 1 << 4,   /* a connection of its own, not kept: probes */
        HTTP_PLAIN_LINK_LOCAL = 1 << 5, /* http:// to a link-local literal is allowed: a cloud's metadata service */
        HTTP_FAR            = 1 << 6,   /* only packets that a router could still have sent on count as an answer (IP_MINTTL 2) */
        HTTP_CERTIFICATE    = 1 << 7,   /* say what time the other side's certificate is for; only of a fresh connection */
} HttpFlags;

typedef struct HttpRequest {
        const char        *method;      /* NULL: GET */
        const char        *url;
        const char        *socket_path; /* NULL, or the unix socket to go through */
        const char        *content_type;
        const char *const *headers;     /* "Name: value", NULL-terminated; or NULL; copied */
        const void        *body;        /* copied, wiped when done; NULL: none */
        size_t             body_size;
        size_t             answer_max;  /* bytes collected; 0: 64 KiB */
        uint64_t           timeout_usec;        /* the whole transfer; 0: none (streams) */
        bool               low_speed;   /* end a transfer that moves less than 1 byte/s for 30 s (only for those that carry a body) */
        HttpFlags          flags;
        const char        *sigv4, *sigv4_key;   /* NULL, or "aws:amz:REGION:SERVICE" and "ID:SECRET": signed by libcurl; borrowed during the call of http_send() */
        HttpChunk          chunk;       /* NULL, or the stream of the answer's body (status 2xx) instead of collecting it */
} HttpRequest;

typedef struct HttpOptions {
        const char *user_agent;
        const char *ca_file;            /* NULL: the system's */
        const char *proxy, *no_proxy;   /* NULL: none */
        uint64_t    connect_timeout_usec;
} HttpOptions;

int   http_new(sd_event *event, Http **ret);
Http *http_free(Http *h);               /* calls in flight are dropped without done() */
DEFINE_CLEANUP(Http *, http_free)

int   http_configure(Http *h, const HttpOptions *options);      /* copied; for calls from now on. -ENOMEM */

/* The one origin (taken from url: scheme, host, port) and the header lines that go there and nowhere else. The lines (NULL-terminated list and
 * text) are borrowed until the next call of this function that returns 0, or http_free(): their owner knows where secrets may lie. -EINVAL: not http(s), with user info, query or fragment, or plain http to something other than loopback. */
int   http_set_credentials(Http *h, const char *url, const char *const *headers, Fault *reterr);

/* 0: done() will be called. Negative: it will not; -EINVAL/-EPERM for a URL that is not allowed, -ENOMEM. ret_call may
 * be NULL. */
int       http_send(Http *h, const HttpRequest *q, HttpDone done, void *userdata, HttpCall **ret_call);
void      http_call_resume(HttpCall *c);        /* not from inside a chunk(); a chunk() may come from inside it. NULL, and one that is not paused, is fine */
HttpCall *http_call_cancel(HttpCall *c);        /* NULL is fine; returns NULL */

bool http_url_is_loopback(const char *url);

/* Where a proxy is, as libcurl will read it: also without a scheme, whose default is http's, and port 1080. -EINVAL: nowhere. */
int http_proxy_place(const char *proxy, char ret_host[static 256], char ret_port[static 8]);
