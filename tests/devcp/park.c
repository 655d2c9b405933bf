/* SPDX-License-Identifier: Apache-2.0 */

/* Requests that wait. A list, a deadline, and a flag on each that says "look again": that is all there is to a long poll. */

#include <microhttpd.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "tests/devcp/exchange.h"

static void server_arm_deadline(Server *s) {
        uint64_t first = UINT64_MAX;

        for (Request *q = s->parked; q; q = q->next)
                if (q->wake_at < first)
                        first = q->wake_at;
        (void) sd_event_source_set_time(s->deadline, first);
        (void) sd_event_source_set_enabled(s->deadline, first == UINT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}

/* microhttpd does not look at a connection it has set aside. Without this a poll whose client is gone would still be handed jobs. */
static int on_hangup(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Request *q = userdata;

        (void) fd;
        (void) revents;
        (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        q->gone = q->due = true;
        (void) sd_event_source_set_enabled(q->server->wake, SD_EVENT_ONESHOT);
        return 0;
}

void request_suspend(Server *s, Request *q) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(q->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

        if (info && sd_event_add_io(s->event, &q->hangup, info->connect_fd, EPOLLRDHUP, on_hangup, q) < 0)
                log_warning("cannot watch a waiting connection, ignoring");
        q->next = s->parked;
        s->parked = q;
        MHD_suspend_connection(q->connection);
        server_arm_deadline(s);
}

void request_unpark(Server *s, Request *q) {
        for (Request **p = &s->parked; *p; p = &(*p)->next)
                if (*p == q) {
                        *p = q->next;
                        break;
                }
        q->hangup = sd_event_source_disable_unref(q->hangup);
        MHD_resume_connection(q->connection);
        (void) sd_event_source_set_enabled(s->again, SD_EVENT_ONESHOT);
}

int on_wake(sd_event_source *source, void *userdata) {
        Server *s = userdata;
        Request *next;

        (void) source;
        for (Request *q = s->parked; q; q = next) {
                next = q->next;
                if (!q->due)
                        continue;
                q->due = false;
                if (q->gone)
                        (void) request_error(q, 503, "gone", NULL);     /* to nobody */
                else
                        request_run(s, q, q->resume);
                if (q->status)
                        request_unpark(s, q);
        }
        server_arm_deadline(s);
        return 0;
}

int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Server *s = userdata;
        uint64_t now = now_boottime();

        (void) source;
        (void) usec;
        for (Request *q = s->parked; q; q = q->next)
                q->due = q->due || q->wake_at <= now;
        return on_wake(NULL, s);
}

void server_wake(Server *s, const char *key) {
        for (Request *q = s->parked; q; q = q->next)
                q->due = q->due || !key || strcmp(q->key, key) == 0;
        (void) sd_event_source_set_enabled(s->wake, SD_EVENT_ONESHOT);
}
