/* SPDX-License-Identifier: Apache-2.0 */

/* agent/api-server: what its clock is for, and that it does not run where nobody is connected. */

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agent/api-server.h"
#include "tests/clock.h"
#include "tests/kit.h"

#define BEAT (7 * USEC_PER_SEC)         /* one has come by then */

static int told;                        /* how often the source was asked */
static int sources;                     /* how many there are */

static ssize_t read_nothing(void *state, char *to, size_t room) {
        (void) state;
        (void) to;
        (void) room;
        told++;
        return 0;
}

static void source_done(void *state) {
        (void) state;
        sources--;
}

static const ApiSource silent = { .read = read_nothing, .done = source_done };

static enum MHD_Result on_request(void *server, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **place) {
        ApiServer **s = server;

        (void) method;
        (void) version;
        (void) data;
        (void) size;
        (void) place;
        if (strcmp(path, "/short") == 0)
                return api_server_text(connection, 200, "text/plain", strdup("well"));
        sources++;
        return api_server_stream(*s, connection, "text/plain", &silent, NULL);
}

static void on_completed(void *server, struct MHD_Connection *connection, void **place, enum MHD_RequestTerminationCode why) {
        (void) server;
        (void) connection;
        (void) place;
        (void) why;
}

typedef struct Room {
        TestDir dir;
        struct sockaddr_un address;
        sd_event *event;
        ApiServer *server;
} Room;

static void room_done(Room *r) {
        r->server = api_server_stop(r->server);
        sd_event_unref(r->event);
        test_dir_done(&r->dir);
}

static void room_open(Room *r) {
        ApiServerOptions o = { .connections_max = 4, .streams_max = 2, .request = on_request, .completed = on_completed, .userdata = &r->server };

        *r = (Room) { .dir = test_dir(), .address = { .sun_family = AF_UNIX } };
        (void) snprintf(r->address.sun_path, sizeof r->address.sun_path, "%s/s", r->dir.path);
        o.fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);
        if (bind(o.fd, (struct sockaddr *) &r->address, sizeof r->address) < 0 || listen(o.fd, 8) < 0 || sd_event_new(&r->event) < 0 ||
            api_server_start(r->event, &o, &r->server) < 0)
                abort();
}

/* How many sources of the loop had something to do, until none had. */
static int turns(Room *r) {
        int n = 0;

        while (sd_event_run(r->event, 0) > 0)
                n++;
        return n;
}

static int call(Room *r, const char *words) {
        int fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);

        if (connect(fd, (struct sockaddr *) &r->address, sizeof r->address) < 0 || send(fd, words, strlen(words), MSG_NOSIGNAL) < 0)
                abort();
        CHECK(turns(r) > 0);
        return fd;
}

static int later(Room *r, uint64_t usec) {
        clock_push(usec);
        return turns(r);
}

/* Whether the other side has ended it; what it said is passed over. */
static bool ended(int fd) {
        char text[512];
        ssize_t n;

        while ((n = recv(fd, text, sizeof text, 0)) > 0)
                ;
        return n == 0 || errno != EAGAIN;
}

TEST(nobody_is_there_and_nothing_wakes) {
        _cleanup_(room_done) Room r;

        room_open(&r);
        (void) turns(&r);
        for (int i = 0; i < 10; i++)
                CHECK_INT(later(&r, BEAT), 0);
}

TEST(whoever_is_slow_is_ended_and_then_nothing_wakes) {
        _cleanup_(room_done) Room r;
        int fd;

        room_open(&r);
        fd = call(&r, "G");
        CHECK(later(&r, BEAT) > 0);
        CHECK(!ended(fd));
        CHECK(later(&r, BEAT) > 0);
        CHECK(ended(fd));
        (void) close(fd);
        (void) turns(&r);
        CHECK_INT(later(&r, 10 * BEAT), 0);
}

TEST(one_of_two_leaves_and_the_other_is_still_watched) {
        _cleanup_(room_done) Room r;
        int first, second;

        room_open(&r);
        first = call(&r, "G");
        second = call(&r, "G");
        (void) close(first);
        (void) turns(&r);
        (void) later(&r, BEAT);
        CHECK(!ended(second));
        (void) later(&r, BEAT);
        CHECK(ended(second));
        (void) close(second);
}

TEST(a_reader_who_has_gone_is_found) {
        _cleanup_(room_done) Room r;
        int fd;

        room_open(&r);
        told = 0;
        fd = call(&r, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
        CHECK_INT(api_server_streams(r.server), 1);
        CHECK_INT(sources, 1);
        CHECK_INT(told, 1);
        (void) later(&r, BEAT);
        CHECK_INT(api_server_streams(r.server), 1);
        CHECK_INT(told, 2);
        CHECK(!ended(fd));
        (void) close(fd);
        (void) later(&r, BEAT);
        CHECK_INT(api_server_streams(r.server), 0);
        CHECK_INT(sources, 0);
        CHECK_INT(later(&r, 10 * BEAT), 0);
}

TEST(one_who_was_answered_and_one_who_asks_after_a_long_time) {
        _cleanup_(room_done) Room r;

        room_open(&r);
        for (int i = 0; i < 3; i++) {
                int fd = call(&r, "GET /short HTTP/1.0\r\nHost: x\r\n\r\n");

                CHECK(ended(fd));
                (void) close(fd);
                (void) turns(&r);
                CHECK_INT(later(&r, 100 * BEAT), 0);
        }
}

TEST(it_stops_while_somebody_is_there) {
        _cleanup_(room_done) Room r;
        int fd, other;

        room_open(&r);
        fd = call(&r, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
        other = call(&r, "G");
        r.server = api_server_stop(r.server);
        CHECK(ended(fd));
        CHECK(ended(other));
        CHECK_INT(sources, 0);
        (void) close(fd);
        (void) close(other);
}

TEST_MAIN
