/* SPDX-License-Identifier: Apache-2.0 */

/* base/http: answers in pieces, and calls that are sent and cancelled inside callbacks. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/http-kit.h"

/* ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_stream_comes_in_pieces) {
        HttpRequest q = request("/chunks");
        Result r;

        q.chunk = on_chunk;
        r = run(&q);
        CHECK_INT(r.error, 0);
        CHECK_INT(r.size, 0);
        CHECK(r.chunks >= 2);
        CHECK_STR(r.stream, "part\npart\npart\n");
}

TEST(a_stream_is_not_counted_against_the_cap) {
        HttpRequest q = request("/big/200000");
        Result r;

        q.chunk = on_chunk;
        q.answer_max = 1000;
        r = run(&q);
        CHECK_INT(r.error, 0);
        CHECK_INT(r.streamed, 200000);
}

TEST(a_refusal_is_not_streamed) {
        HttpRequest q = request("/status/500");
        Result r;

        q.chunk = on_chunk;
        r = run(&q);
        CHECK_INT(r.chunks, 0);
        CHECK_STR(r.body, "");
        q.flags |= HTTP_KEEP_BODY;
        r = run(&q);
        CHECK_INT(r.chunks, 0);
        CHECK_STR(r.body, "{\"message\":\"words\"}");
}

TEST(a_chunk_callback_can_end_the_stream) {
        HttpRequest q = request("/stream");
        Result r = { .chunk_answer = -EPROTO };

        q.chunk = on_chunk;
        CHECK_INT(send_it(&q, &r, NULL), 0);
        CHECK(loop_until(event, &r.done, 1, 5000));
        CHECK_INT(r.error, -EPROTO);
        CHECK_INT(r.chunks, 1);
}

TEST(a_chunk_that_ends_a_paused_stream) {
        HttpRequest q = request("/stream");
        Result r = { .chunk_answer = HTTP_PAUSE };
        HttpCall *call;

        q.chunk = on_chunk;
        q.timeout_usec = 0;                     /* nothing else would end it */
        CHECK_INT(send_it(&q, &r, &call), 0);
        CHECK(loop_until(event, &r.chunks, 1, 5000));
        loop_for(event, 300);                   /* behind libcurl's own timer of each new connection, which would look at it again */
        CHECK_INT(r.chunks, 1);
        r.chunk_answer = -EPROTO;
        http_call_resume(call);
        CHECK(loop_until(event, &r.done, 1, 1000));
        CHECK_INT(r.done, 1);
        CHECK_INT(r.error, -EPROTO);
}

static bool is_to_server(int fd) {
        struct sockaddr_in peer = {};
        socklen_t size = sizeof peer;

        return getpeername(fd, (struct sockaddr *) &peer, &size) == 0 && peer.sin_family == AF_INET && ntohs(peer.sin_port) == server.port;
}

static int on_left(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        (void) s;
        (void) fd;
        (void) revents;
        (void) userdata;
        return 0;
}

/* Its socket is in the loop already, so that it cannot be watched. */
TEST(a_resume_that_the_loop_refuses) {
        HttpRequest q = request("/stream");
        Result r = { .chunk_answer = HTTP_PAUSE };
        sd_event_source *left = NULL;
        bool before[256];
        sd_event *loop = NULL;
        Http *h = NULL;
        HttpCall *call;
        int fd = 0, code = 0;

        if (!CHECK(sd_event_new(&loop) >= 0 && http_new(loop, &h) >= 0))
                return;
        for (int i = 0; i < (int) ELEMENTS(before); i++)
                before[i] = is_to_server(i);
        q.chunk = on_chunk;
        CHECK_INT(http_send(h, &q, on_done, &r, &call), 0);
        CHECK(loop_until(loop, &r.chunks, 1, 5000));
        while (fd < (int) ELEMENTS(before) && (before[fd] || !is_to_server(fd)))
                fd++;
        CHECK(sd_event_add_io(loop, &left, fd, 0, on_left, NULL) >= 0);
        r.chunk_answer = 0;
        http_call_resume(call);
        CHECK(sd_event_get_exit_code(loop, &code) >= 0 && code == 1);
        CHECK_INT(r.done, 0);
        sd_event_source_disable_unref(left);
        (void) http_free(h);
        (void) sd_event_unref(loop);
}

/* ── cancelling ──────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(cancelled_before_anything_happened) {
        HttpRequest q = request("/ok");
        HttpCall *call = NULL;
        Result r = {};

        CHECK_INT(send_it(&q, &r, &call), 0);
        CHECK(http_call_cancel(call) == NULL);
        CHECK(http_call_cancel(NULL) == NULL);
        loop_for(event, 100);
        CHECK_INT(r.done, 0);
}

TEST(cancelled_in_flight) {
        HttpRequest q = request("/stream");
        HttpCall *call = NULL;
        Result r = {};

        q.chunk = on_chunk;
        CHECK_INT(send_it(&q, &r, &call), 0);
        CHECK(loop_until(event, &r.chunks, 2, 5000));
        (void) http_call_cancel(call);
        r.chunks = 0;
        loop_for(event, 60);
        CHECK_INT(r.done, 0);
        CHECK_INT(r.chunks, 0);
}

TEST(a_call_cancelled_by_its_own_chunk) {
        HttpRequest q = request("/stream");
        HttpCall *call = NULL;
        Result r = { .cancel = &call };

        q.chunk = on_chunk;
        CHECK_INT(send_it(&q, &r, &call), 0);
        loop_for(event, 100);
        CHECK_INT(r.chunks, 1);
        CHECK_INT(r.done, 0);
        CHECK(call == NULL);
}

TEST(a_chunk_sends_and_cancels_another) {
        HttpRequest stream = request("/stream"), stall = request("/stall"), ok = request("/ok");
        HttpCall *victim = NULL, *streaming = NULL;
        Result r_victim = {}, r_again = {}, r = { .cancel = &victim, .again = &ok, .again_result = &r_again };

        stream.chunk = on_chunk;
        CHECK_INT(send_it(&stall, &r_victim, &victim), 0);
        CHECK_INT(send_it(&stream, &r, &streaming), 0);
        CHECK(loop_until(event, &r_again.done, 1, 5000));
        CHECK_STR(r_again.body, "hello");
        CHECK_INT(r_victim.done, 0);
        CHECK(victim == NULL);
        (void) http_call_cancel(streaming);
        loop_for(event, 30);
        CHECK_INT(r.done, 0);
}

TEST(done_sends_and_cancels) {
        HttpRequest ok = request("/ok"), stall = request("/stall"), count = request("/count");
        HttpCall *victim = NULL;
        Result r_victim = {}, r_again = {}, r = { .cancel = &victim, .again = &count, .again_result = &r_again };

        CHECK_INT(send_it(&stall, &r_victim, &victim), 0);
        CHECK_INT(send_it(&ok, &r, NULL), 0);
        CHECK(loop_until(event, &r_again.done, 1, 5000));
        CHECK_INT(r.done, 1);
        CHECK_INT(r_victim.done, 0);
        CHECK_INT(r_again.status, 200);
}

TEST(done_cancels_itself_and_one_that_is_over) {
        HttpRequest ok = request("/ok");
        HttpCall *own = NULL, *a = NULL, *b = NULL;
        Result r_own = { .cancel = &own }, r_a = { .cancel = &b }, r_b = { .cancel = &a };

        CHECK_INT(send_it(&ok, &r_own, &own), 0);
        CHECK(loop_until(event, &r_own.done, 1, 5000));

        CHECK_INT(send_it(&ok, &r_a, &a), 0);          /* each ends the other: exactly one is told */
        CHECK_INT(send_it(&ok, &r_b, &b), 0);
        loop_for(event, 100);
        CHECK_INT(r_a.done + r_b.done, 1);
}

TEST(a_client_freed_with_calls_in_flight) {
        HttpRequest stall = request("/stall"), stream = request("/stream");
        Http *mine = NULL, *saved = http;
        Result a = {}, b = {};

        CHECK_INT(http_new(event, &mine), 0);
        http = mine;
        stream.chunk = on_chunk;
        CHECK_INT(send_it(&stall, &a, NULL), 0);
        CHECK_INT(send_it(&stream, &b, NULL), 0);
        CHECK(loop_until(event, &b.chunks, 1, 5000));
        http = saved;
        CHECK(http_free(mine) == NULL);
        loop_for(event, 30);
        CHECK_INT(a.done + b.done, 0);
}

int main(void) {
        return http_kit_main();
}
