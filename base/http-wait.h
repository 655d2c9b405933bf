/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One HTTP call, waited for: for the operator's tool, and for the moment before the daemon's loop runs. Never inside that loop. */

#include "base/http.h"

typedef struct HttpWait HttpWait;

typedef struct HttpReply {
        int    error;                   /* as HttpAnswer has it */
        long   status;
        char  *body;                    /* malloc'd, NUL-terminated; may hold secrets: http_reply_done() wipes it */
        size_t size;
        char   words[128], content_type[64];
        uint64_t date_usec, from_usec, until_usec;
} HttpReply;

int       http_wait_new(const char *ca_file, HttpWait **ret);    /* ca_file NULL: the system's */
HttpWait *http_wait_free(HttpWait *w);
DEFINE_CLEANUP(HttpWait *, http_wait_free)

int http_wait_configure(HttpWait *w, const HttpOptions *options);       /* as http_configure() */

/* 0: there is an answer, or a transport's failure, in *ret. Negative: the request is not allowed, or no memory. */
int  http_wait(HttpWait *w, const HttpRequest *q, HttpReply *ret);
void http_reply_done(HttpReply *r);
