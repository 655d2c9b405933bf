/* SPDX-License-Identifier: Apache-2.0 */

/* agent/events: what a quick reader, a slow one and one that was away for long get to read. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/events.h"
#include "tests/kit.h"

static void add(Events *e, const char *kind, int n) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        CHECK(json_add_i64(json, "n", n));
        events_add(e, kind, json);
}

static const char *read_all(const Events *e, EventCursor *c, size_t room) {
        static char text[64 * 1024];
        size_t used = 0;
        ssize_t n;

        while ((n = events_read(e, c, text + used, room)) > 0)
                used += (size_t) n;
        text[used] = 0;
        return text;
}

TEST(a_quick_reader_gets_all_in_order_in_any_room) {
        Events *e;
        EventCursor c;

        CHECK_INT(events_new(&e), 0);
        c = events_cursor(e, 10);
        CHECK_STR(read_all(e, &c, 100), "");
        add(e, "job", 1);
        add(e, "hold", 2);
        CHECK_STR(read_all(e, &c, 4096), "id: 0\nevent: job\ndata: {\"n\":1}\n\nid: 1\nevent: hold\ndata: {\"n\":2}\n\n");
        CHECK_STR(read_all(e, &c, 4096), "");
        c = events_cursor(e, 1);
        CHECK_STR(read_all(e, &c, 3), "id: 1\nevent: hold\ndata: {\"n\":2}\n\n");
        c = events_cursor(e, 0);
        CHECK_STR(read_all(e, &c, 4096), "");
        events_free(e);
}

TEST(a_slow_reader_is_told_how_many_it_lost) {
        Events *e;
        EventCursor slow, half;
        char some[8];

        CHECK_INT(events_new(&e), 0);
        slow = half = events_cursor(e, 0);
        add(e, "job", 0);
        CHECK(events_read(e, &half, some, sizeof some) == sizeof some);
        for (int i = 1; i < EVENTS_KEPT + 10; i++)
                add(e, "job", i);
        CHECK(strncmp(read_all(e, &slow, 4096), "event: lost\ndata: {\"events\":10}\n\nid: 10\n", 40) == 0);
        CHECK(slow.next == EVENTS_KEPT + 10);
        CHECK(events_read(e, &half, some, sizeof some) == -ESTALE);
        slow = events_cursor(e, 100000);
        CHECK(slow.next == 10);
        events_free(e);
}

TEST(what_is_too_large_or_not_there_is_told_as_lost) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        char large[EVENT_SIZE_MAX + 1];
        Events *e;
        EventCursor c;

        CHECK_INT(events_new(&e), 0);
        c = events_cursor(e, 0);
        memset(large, 'x', sizeof large);
        large[EVENT_SIZE_MAX] = 0;
        CHECK(json_add_string(json, "text", large));
        events_add(e, "job", json);
        events_add(e, "job", NULL);
        add(e, "job", 2);
        CHECK_STR(read_all(e, &c, 4096), "event: lost\ndata: {\"events\":1}\n\nevent: lost\ndata: {\"events\":1}\n\nid: 2\nevent: job\ndata: {\"n\":2}\n\n");
        CHECK_INT((int) events_next(e), 3);
        c = events_from(e, 2);
        CHECK_STR(read_all(e, &c, 4096), "id: 2\nevent: job\ndata: {\"n\":2}\n\n");
        c = events_from(e, 100);
        CHECK_STR(read_all(e, &c, 4096), "");
        events_free(e);
}

int main(void) { return test_run_all(); }
