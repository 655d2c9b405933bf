/* SPDX-License-Identifier: Apache-2.0 */

/* libcurl's multi handle on the event loop, and the life of calls.
 *
 * libcurl tells us which sockets and what time it waits for (on_socket, on_timeout); the loop tells it what happened (on_io, on_timer), and
 * whatever ended thereby is told to its owner in the same turn. Two things make this less simple than it sounds:
 *
 * libcurl does not let itself be entered from its own callbacks, yet an owner may send and cancel inside a chunk(). Such calls wait as
 * QUEUED or DEAD until libcurl has returned (settle()).
 *
 * A wake-up is a cost. A request is therefore begun inside http_send() and not from a timer of zero length, unless a timer of another
 * transfer is about due: then libcurl would run that one, too, and its chunk() would come from inside http_send(). What ends inside
 * http_send() is told from a oneshot source. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/http-internal.h"
#include "base/log.h"
#include "base/text.h"

#define IDLE_CONNECTIONS 16L
#define DUE_SLACK_USEC   (50 * USEC_PER_MSEC)

/* libcurl calls a header line beyond its own limit OUT_OF_MEMORY, too: whether memory was what failed is known to who gives it. */
static _Atomic bool starved;                    /* in the turn that is on, or was last; libcurl looks up names in threads of its own */

static void *given(void *p, size_t size) {
        if (!p && size > 0)
                starved = true;
        return p;
}

static void *give(size_t size) { return given(malloc(size), size); }
static void *give_again(void *p, size_t size) { return given(realloc(p, size), size); }
static void *give_clear(size_t n, size_t size) { return given(calloc(n, size), n * size); }
static char *give_copy(const char *s) { return given(strdup(s), 1); }

static void call_move(HttpCall *c, CallState state) {
        TAILQ_REMOVE(&c->http->calls[c->state], c, link);
        c->state = state;
        TAILQ_INSERT_TAIL(&c->http->calls[state], c, link);
}

static HttpCall *first(Http *h, CallState state) {
        return TAILQ_FIRST(&h->calls[state]);
}

/* Takes the call out of the world, whatever state it is in. Not while libcurl is on the stack. */
static void call_end(HttpCall *c) {
        if (c->state == CALL_LIVE || c->state == CALL_DEAD)
                (void) curl_multi_remove_handle(c->http->multi, c->easy);       /* of a DEAD one that was never added: harmless */
        TAILQ_REMOVE(&c->http->calls[c->state], c, link);
        call_free(c);
}

static void finish(HttpCall *c, CURLcode result) {
        (void) curl_multi_remove_handle(c->http->multi, c->easy);
        c->result = result;
        if (result == CURLE_OUT_OF_MEMORY && !c->stop && !starved && c->headers_size > 0 && !c->in_body)
                c->stop = -EFBIG;
        call_move(c, CALL_FINISHED);
}

/* libcurl cannot go on from an error of its own here: all transfers are lost, or (7.88, after ENOMEM) its table of sockets is half made and the next
 * use of it divides by zero. So nothing is begun or told any more, the loop ends with this turn, and whoever looks after the process starts it again. */
static void give_up(Http *h, CURLMcode e) {
        Fault why = {};

        (void) fault(&why, h->refused < 0 ? h->refused : -ENOMEM, FAULT_INTERNAL, "libcurl cannot go on (%s%s%s); the process ends, to be started anew.",
                     curl_multi_strerror(e), h->refused < 0 ? ", for the loop: " : "", h->refused < 0 ? strerror(-h->refused) : "");
        log_write(LOG_ERR, &(LogFields) { .fault = &why }, "%s", why.text);
        h->broken = true;
        (void) sd_event_exit(h->event, 1);
}

static void action(Http *h, curl_socket_t fd, int what) {
        CURLMcode e;
        int running;

        starved = false;
        h->in_curl = true;
        e = curl_multi_socket_action(h->multi, fd, what, &running);
        h->in_curl = false;
        if (e != CURLM_OK)
                give_up(h, e);
}

/* "The time has come", whether or not it has. libcurl forgets thereby what it had asked for, and asks anew for what it still wants: so
 * what it had asked for is forgotten here, too. */
static void action_timeout(Http *h) {
        h->due = UINT64_MAX;
        (void) sd_event_source_set_enabled(h->timer, SD_EVENT_OFF);
        action(h, CURL_SOCKET_TIMEOUT, 0);
}

static void call_begin(HttpCall *c) {
        Http *h = c->http;
        bool quiet = h->due == UINT64_MAX || h->due > now_boottime() + DUE_SLACK_USEC;
        CURLMcode e;

        h->in_curl = true;
        e = curl_multi_add_handle(h->multi, c->easy);
        h->in_curl = false;
        if (e != CURLM_OK) {
                c->result = CURLE_OUT_OF_MEMORY;
                call_move(c, CALL_FINISHED);
                return;
        }
        call_move(c, CALL_LIVE);
        if (quiet)
                action_timeout(h);
}

/* After libcurl has returned: free what was cancelled in it, begin what was sent in it, note what ended in it. */
static void settle(Http *h) {
        HttpCall *c;
        CURLMsg *m;
        int left;

        assert(!h->in_curl);
        do {
                if (h->broken)
                        return;
                while ((c = first(h, CALL_DEAD)))
                        call_end(c);
                while ((m = curl_multi_info_read(h->multi, &left))) {
                        CURLcode result = m->data.result;

                        if (m->msg != CURLMSG_DONE)
                                continue;
                        (void) curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **) &c);
                        finish(c, result);                                      /* m is gone with this */
                }
                if ((c = first(h, CALL_QUEUED)))
                        call_begin(c);
        } while (c || first(h, CALL_DEAD));
}

/* Tells everything that ended. A done() may send and cancel: what ends thereby is told here, too. */
static void tell(Http *h) {
        HttpCall *c;

        h->telling = true;
        for (settle(h); !h->broken && (c = first(h, CALL_FINISHED)); settle(h)) {
                call_move(c, CALL_TELLING);
                call_tell(c);
                call_end(c);
        }
        h->telling = false;
}

static int on_drain(sd_event_source *s, void *userdata) {
        (void) s;
        tell(userdata);
        return 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        int what = 0;

        (void) s;
        if (revents & EPOLLIN)
                what |= CURL_CSELECT_IN;
        if (revents & EPOLLOUT)
                what |= CURL_CSELECT_OUT;
        if (revents & (EPOLLERR|EPOLLHUP))
                what |= CURL_CSELECT_ERR;
        action(userdata, fd, what);
        tell(userdata);
        return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Http *h = userdata;

        (void) s;
        (void) usec;
        action_timeout(h);
        tell(h);
        return 0;
}

/* What a callback of libcurl's answers: -1 loses all transfers, and give_up() says why. */
static int answer(Http *h, int r) {
        if (r >= 0)
                return 0;
        h->refused = r;
        return -1;
}

/* libcurl: "watch this socket so". The source itself is what is left with libcurl for that socket. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *source) {
        Http *h = userdata;
        sd_event_source *io = source;
        uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
        int r;

        (void) easy;
        if (what == CURL_POLL_REMOVE) {
                sd_event_source_disable_unref(io);
                (void) curl_multi_assign(h->multi, fd, NULL);
                return 0;
        }
        if (io)
                return answer(h, sd_event_source_set_io_events(io, events));
        r = sd_event_add_io(h->event, &io, fd, events, on_io, h);
        if (r < 0)
                return answer(h, r);
        (void) sd_event_source_set_description(io, "http-io");
        if (curl_multi_assign(h->multi, fd, io) != CURLM_OK) {
                sd_event_source_disable_unref(io);
                return answer(h, -ENOMEM);
        }
        return 0;
}

/* libcurl: "wake me after so long". Long waits may be late, so that the kernel can let them fall together with others. */
static int on_timeout(CURLM *multi, long ms, void *userdata) {
        Http *h = userdata;
        uint64_t usec = (uint64_t) ms * 1000, accuracy = usec / 10;
        int r;

        (void) multi;
        if (ms < 0) {
                h->due = UINT64_MAX;
                return answer(h, sd_event_source_set_enabled(h->timer, SD_EVENT_OFF));
        }
        accuracy = ms < 1000 ? USEC_PER_MSEC : accuracy > USEC_PER_SEC ? USEC_PER_SEC : accuracy;
        h->due = now_boottime() + usec;
        if ((r = sd_event_source_set_time_accuracy(h->timer, accuracy)) < 0 || (r = sd_event_source_set_time(h->timer, h->due)) < 0)
                return answer(h, r);
        return answer(h, sd_event_source_set_enabled(h->timer, SD_EVENT_ONESHOT));
}

int http_send(Http *h, const HttpRequest *q, HttpDone done, void *userdata, HttpCall **ret_call) {
        HttpCall *c;
        int r;

        assert(h && q && q->url && done);
        r = call_new(h, q, done, userdata, &c);
        if (r < 0)
                return r;
        c->state = CALL_QUEUED;
        TAILQ_INSERT_TAIL(&h->calls[CALL_QUEUED], c, link);
        if (ret_call)
                *ret_call = c;
        if (h->in_curl)
                return 0;
        settle(h);
        if (first(h, CALL_FINISHED) && !h->telling)
                (void) sd_event_source_set_enabled(h->drain, SD_EVENT_ONESHOT);
        return 0;
}

HttpCall *http_call_cancel(HttpCall *c) {
        if (!c || c->state == CALL_TELLING)     /* inside its own done(): it ends when that returns */
                return NULL;
        if (c->http->in_curl)
                call_move(c, CALL_DEAD);
        else
                call_end(c);
        return NULL;
}

/* libcurl hands out what waited, and watches the socket again. What fails in that it only answers: it does not look at the transfer again by itself. */
void http_call_resume(HttpCall *c) {
        Http *h = c ? c->http : NULL;
        CURLcode e;

        if (!c || !c->paused || c->state != CALL_LIVE || h->in_curl || h->broken)
                return;
        c->paused = false;
        h->in_curl = true;
        e = curl_easy_pause(c->easy, CURLPAUSE_CONT);
        h->in_curl = false;
        if (e == CURLE_ABORTED_BY_CALLBACK) {                   /* the socket cannot be watched */
                give_up(h, CURLM_ABORTED_BY_CALLBACK);
                return;
        }
        if (e != CURLE_OK && c->state == CALL_LIVE)
                finish(c, e);
        settle(h);                                              /* c is not touched any more */
        if (first(h, CALL_FINISHED) && !h->telling)
                (void) sd_event_source_set_enabled(h->drain, SD_EVENT_ONESHOT);
}

/* ── the client as a whole ───────────────────────────────────────────────────────────────────────────────────── */

static int string_set(char **place, const char *value) {
        char *copy = value ? strdup(value) : NULL;

        if (value && !copy)
                return -ENOMEM;
        free(*place);
        *place = copy;
        return 0;
}

int http_configure(Http *h, const HttpOptions *o) {
        int r;

        if ((r = string_set(&h->user_agent, o->user_agent)) < 0 || (r = string_set(&h->ca_file, o->ca_file)) < 0 ||
            (r = string_set(&h->proxy, o->proxy)) < 0 || (r = string_set(&h->no_proxy, o->no_proxy)) < 0)
                return r;
        h->connect_timeout_usec = o->connect_timeout_usec;
        return 0;
}

Http *http_free(Http *h) {
        HttpCall *c;

        if (!h)
                return NULL;
        assert(!h->in_curl && !h->telling);
        for (CallState s = 0; s < _CALL_STATE_MAX; s++)
                while ((c = first(h, s)))
                        call_end(c);
        if (h->multi)
                (void) curl_multi_cleanup(h->multi);    /* may still call on_socket() */
        sd_event_source_disable_unref(h->drain);
        sd_event_source_disable_unref(h->timer);
        sd_event_unref(h->event);
        free(h->user_agent);
        free(h->ca_file);
        free(h->proxy);
        free(h->no_proxy);
        free(h->origin);
        free(h);
        curl_global_cleanup();
        return NULL;
}

static int sources_add(Http *h) {
        int r;

        r = sd_event_add_defer(h->event, &h->drain, on_drain, h);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(h->drain, "http-drain");
        r = sd_event_source_set_enabled(h->drain, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time(h->event, &h->timer, CLOCK_BOOTTIME, UINT64_MAX, 0, on_timer, h);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(h->timer, "http-timer");
        return sd_event_source_set_enabled(h->timer, SD_EVENT_OFF);
}

int http_new(sd_event *event, Http **ret) {
        _cleanup_(http_freep) Http *h = NULL;
        int r;

        if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, give, free, give_again, give_copy, give_clear) != CURLE_OK)        /* counted: http_free() gives it back */
                return -EIO;
        h = calloc(1, sizeof *h);
        if (!h) {
                curl_global_cleanup();
                return -ENOMEM;
        }
        for (CallState s = 0; s < _CALL_STATE_MAX; s++)
                TAILQ_INIT(&h->calls[s]);
        h->due = UINT64_MAX;
        h->connect_timeout_usec = 10 * USEC_PER_SEC;
        h->event = sd_event_ref(event);
        h->multi = curl_multi_init();
        if (!h->multi)
                return -ENOMEM;
        r = sources_add(h);
        if (r < 0)
                return r;
        if (curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timeout) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS) != CURLM_OK)
                return -EINVAL;
        *ret = TAKE_PTR(h);
        return 0;
}
