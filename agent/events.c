/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

struct Events {
        char    *ring[EVENTS_KEPT];
        uint64_t n;                     /* ever added: the next one's number */
};

int events_new(Events **ret) {
        *ret = calloc(1, sizeof **ret);
        return *ret ? 0 : -ENOMEM;
}

Events *events_free(Events *e) {
        if (!e)
                return NULL;
        for (size_t i = 0; i < EVENTS_KEPT; i++)
                free(e->ring[i]);
        free(e);
        return NULL;
}

static uint64_t oldest(const Events *e) { return e->n > EVENTS_KEPT ? e->n - EVENTS_KEPT : 0; }

void events_add(Events *e, const char *kind, const cJSON *json) {
        _cleanup_free_ char *data = json ? json_print(json) : NULL;
        char *text = data ? str_printf("id: %llu\nevent: %s\ndata: %s\n\n", (unsigned long long) e->n, kind, data) : NULL;

        if (!text || strlen(text) > EVENT_SIZE_MAX) {
                free(text);
                text = strdup("event: lost\ndata: {\"events\":1}\n\n");
        }
        if (!text)
                return;
        free(e->ring[e->n % EVENTS_KEPT]);
        e->ring[e->n++ % EVENTS_KEPT] = text;
}

uint64_t events_next(const Events *e) { return e->n; }

EventCursor events_from(const Events *e, uint64_t number) { return (EventCursor){ .next = number < e->n ? number : e->n }; }

EventCursor events_cursor(const Events *e, size_t newest) {
        uint64_t kept = e->n - oldest(e);

        return (EventCursor){ .next = e->n - (newest < kept ? newest : kept) };
}

ssize_t events_read(const Events *e, EventCursor *c, char *to, size_t room) {
        const char *text;
        size_t n;

        if (c->next < oldest(e)) {
                int lost = snprintf(to, room, "event: lost\ndata: {\"events\":%llu}\n\n", (unsigned long long) (oldest(e) - c->next));

                if (c->offset)
                        return -ESTALE;         /* half of one was read, and the rest is gone */

                *c = (EventCursor){ .next = oldest(e) };
                return lost > 0 && (size_t) lost < room ? lost : 0;
        }
        if (c->next == e->n)
                return 0;
        text = e->ring[c->next % EVENTS_KEPT] + c->offset;
        n = strnlen(text, room);
        memcpy(to, text, n);
        c->offset += n;
        if (!text[n])
                *c = (EventCursor){ .next = c->next + 1 };
        return (ssize_t) n;
}
