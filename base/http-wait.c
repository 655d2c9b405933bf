/* SPDX-License-Identifier: Apache-2.0 */

#include "base/http-wait.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct HttpWait {
        sd_event *event;
        Http     *http;
        HttpReply reply;
        bool      done;
};

int http_wait_new(const char *ca_file, HttpWait **ret) {
        _cleanup_(http_wait_freep) HttpWait *w = calloc(1, sizeof *w);
        int r = w ? sd_event_new(&w->event) : -ENOMEM;

        if (r >= 0)
                r = http_new(w->event, &w->http);
        if (r >= 0)
                r = http_configure(w->http, &(HttpOptions) { .user_agent = "molecule-agent/" VERSION, .ca_file = ca_file, .connect_timeout_usec = 10000000 });
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

int http_wait_configure(HttpWait *w, const HttpOptions *options) { return http_configure(w->http, options); }

HttpWait *http_wait_free(HttpWait *w) {
        if (!w)
                return NULL;
        http_free(w->http);
        sd_event_unref(w->event);
        free(w);
        return NULL;
}

static void on_answer(const HttpAnswer *a, void *userdata) {
        HttpWait *w = userdata;

        w->reply = (HttpReply) { .error = a->error, .status = a->status, .size = a->size, .body = malloc(a->size + 1), .date_usec = a->date_usec,
                                 .from_usec = a->from_usec, .until_usec = a->until_usec };
        if (w->reply.body)
                memcpy(w->reply.body, a->body, a->size + 1);
        else
                w->reply.error = -ENOMEM;
        (void) snprintf(w->reply.words, sizeof w->reply.words, "%s", a->words);
        (void) snprintf(w->reply.content_type, sizeof w->reply.content_type, "%s", a->content_type);
        w->done = true;
}

int http_wait(HttpWait *w, const HttpRequest *q, HttpReply *ret) {
        int r = http_send(w->http, q, on_answer, w, NULL);

        w->done = false;
        while (r >= 0 && !w->done)
                r = sd_event_run(w->event, UINT64_MAX);
        if (r < 0)
                return r;
        *ret = w->reply;
        w->reply = (HttpReply) {};
        return 0;
}

void http_reply_done(HttpReply *r) {
        if (r->body)
                explicit_bzero(r->body, r->size);
        free(r->body);
        *r = (HttpReply) {};
}
