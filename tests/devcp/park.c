/* SPDX-License-Identifier: Apache-2.0 */

/* Requests that wait: each has a timer of its own, which is its deadline, and is moved to now to say "look again". That is all there is to a long
 * poll, and thousands cost no more than their timers. */

#include <errno.h>
#include <microhttpd.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "tests/devcp/exchange.h"

static void request_arm(Request *q) {
        (void) sd_event_source_set_time(q->timer, q->due ? 0 : q->wake_at);
        (void) sd_event_source_set_enabled(q->timer, SD_EVENT_ONESHOT);
}

static void request_wake(Request *q) {
        q->due = true;
        request_arm(q);
}

static int on_due(sd_event_source *source, uint64_t usec, void *userdata) {
        Request *q = userdata;

        (void) source;
        (void) usec;
        q->due = false;
        if (q->gone)
                (void) request_error(q, 503, "gone", NULL);     /* to nobody */
        else
                request_run(q->server, q, q->resume);
        if (q->status)
                request_unpark(q->server, q);
        else
                request_arm(q);                         /* at once when somebody has woken it meanwhile */
        return 0;
}

/* microhttpd does not look at a connection it has set aside. Without this a poll whose client is gone would still be handed jobs. */
static int on_hangup(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Request *q = userdata;

        (void) fd;
        (void) revents;
        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        q->gone = true;
        request_wake(q);
        return 0;
}

int request_suspend(Server *s, Request *q) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(q->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        int r = sd_event_add_time(s->event, &q->timer, CLOCK_BOOTTIME, q->wake_at, 1000, on_due, q);

        if (r < 0)
                return r;
        if (info && sd_event_add_io(s->event, &q->hangup, info->connect_fd, EPOLLRDHUP, on_hangup, q) < 0)
                log_warning("cannot watch a waiting connection, ignoring");
        LIST_INSERT_HEAD(&s->parked, q, parked);
        MHD_suspend_connection(q->connection);
        return 0;
}

void request_unpark(Server *s, Request *q) {
        LIST_REMOVE(q, parked);
        q->hangup = sd_event_source_disable_unref(q->hangup);
        q->timer = sd_event_source_disable_unref(q->timer);
        MHD_resume_connection(q->connection);
        (void) sd_event_source_set_enabled(s->again, SD_EVENT_ONESHOT);
}

void server_wake(Server *s, const char *key) {
        Request *q;

        LIST_FOREACH(q, &s->parked, parked)
                if (!key || strcmp(q->key, key) == 0)
                        request_wake(q);
}
