/* SPDX-License-Identifier: Apache-2.0 */

/* base/http: what comes back, and the bad manners of servers that it is guaranteed against. */

#include "tests/http-kit.h"
#include "tests/oom.h"

/* ── the good ────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(answer_and_captured_headers) {
        Result r = get("/ok");

        CHECK_INT(r.error, 0);
        CHECK_INT(r.status, 200);
        CHECK_STR(r.body, "hello");
        CHECK_INT(r.size, 5);
        CHECK_STR(r.type, "text/plain; charset=utf-8");
        CHECK_STR(r.retry_after, "120");
        CHECK_STR(r.etag, "\"abc\"");
        CHECK_STR(r.deprecation, "@1");
        CHECK_STR(r.sunset, "later");
        CHECK_STR(r.api, "1.41");
        CHECK_INT(r.date_usec, UINT64_C(784111777) * USEC_PER_SEC);
}

TEST(headers_of_interim_answers_and_trailers_do_not_count) {
        Result r = get("/interim");

        CHECK_INT(r.status, 200);
        CHECK_STR(r.body, "late");
        CHECK_STR(r.etag, "");
        CHECK_STR(r.sunset, "now");
        r = get("/trailers");
        CHECK_INT(r.error, 0);
        CHECK_STR(r.body, "part\n");
        CHECK_STR(r.etag, "");
}

TEST(a_header_too_long_for_its_place_is_absent) {
        Result r = get("/long-etag");

        CHECK_INT(r.error, 0);
        CHECK_STR(r.etag, "");
}

TEST(over_a_unix_socket) {
        Result r = run(&(HttpRequest) { .url = "http://localhost/ok", .socket_path = server.socket });

        CHECK_INT(r.status, 200);
        CHECK_STR(r.body, "hello");
}

TEST(what_is_sent) {
        const char *const headers[] = { "X-One: 1", "X-Two: 2", NULL };
        HttpRequest q = request("/echo");
        Result r;

        q.method = "POST";
        q.content_type = "application/json";
        q.headers = headers;
        q.body = "{\"a\":\"\0b\"}";
        q.body_size = 10;
        r = run(&q);
        CHECK(strncmp(r.body, "POST /echo HTTP/1.1\r\n", 21) == 0);
        CHECK(strstr(r.body, "\r\nContent-Type: application/json"));
        CHECK(strstr(r.body, "\r\nX-One: 1") && strstr(r.body, "\r\nX-Two: 2"));
        CHECK(strstr(r.body, "\r\nContent-Length: 10"));
        CHECK(strstr(r.body, "\r\nUser-Agent: test/1"));
        CHECK(!strcasestr(r.body, "\r\nExpect:") && !strcasestr(r.body, "Accept-Encoding"));
        CHECK(strstr(r.body, "\n{\"a\":\""));
}

TEST(methods_without_a_body) {
        static const char *const methods[] = { "GET", "DELETE", "POST", "PUT" };

        for (size_t i = 0; i < ELEMENTS(methods); i++) {
                HttpRequest q = request("/echo");
                char line[64];
                Result r;

                q.method = methods[i];
                r = run(&q);
                (void) snprintf(line, sizeof line, "%s /echo HTTP/1.1\r\n", methods[i]);
                CHECK(strncmp(r.body, line, strlen(line)) == 0);
                CHECK((strstr(r.body, "Content-Length: 0") != NULL) == (i >= 2));
                CHECK(!strstr(r.body, "x-www-form-urlencoded"));
        }
}

TEST(a_large_body_goes_out_whole) {
        size_t size = 3 * 1024 * 1024;
        _cleanup_free_ char *body = malloc(size);
        HttpRequest q = request("/echo");
        Result r;

        memset(body, 'z', size);
        q.method = "PUT";
        q.body = body;
        q.body_size = size;
        q.answer_max = 4 * 1024 * 1024;
        r = run(&q);
        CHECK_INT(r.error, 0);
        CHECK(r.size > size);
}

TEST(connections_are_kept_unless_fresh) {
        HttpRequest q = request("/count");
        Result first = run(&q), second = run(&q), third;

        CHECK(atoi(second.body) == atoi(first.body) + 1);
        CHECK(second.reused);
        q.flags |= HTTP_FRESH;
        third = run(&q);
        CHECK_STR(third.body, "1");
        CHECK(!third.reused);
}

TEST(many_at_once) {
        HttpRequest q = request("/ok");
        Result r[20] = {};
        int all = 0;

        for (size_t i = 0; i < ELEMENTS(r); i++)
                CHECK_INT(send_it(&q, &r[i], NULL), 0);
        for (unsigned turn = 0; turn < 2000 && all < (int) ELEMENTS(r); turn++) {
                (void) sd_event_run(event, 1000000);
                all = 0;
                for (size_t i = 0; i < ELEMENTS(r); i++)
                        all += r[i].done;
        }
        for (size_t i = 0; i < ELEMENTS(r); i++) {
                CHECK_INT(r[i].done, 1);
                CHECK_STR(r[i].body, "hello");
        }
}

TEST(redirects_are_answers) {
        static const char *const paths[] = { "/status/301", "/status/302", "/status/303", "/status/307", "/status/308" };

        for (size_t i = 0; i < ELEMENTS(paths); i++) {
                Result r = get(paths[i]);

                CHECK_INT(r.error, 0);
                CHECK_INT(r.status, atoi(paths[i] + 8));
        }
}

TEST(statuses_are_answers) {
        Result r = get("/status/503");

        CHECK_INT(r.error, 0);
        CHECK_INT(r.status, 503);
        CHECK_STR(r.body, "{\"message\":\"words\"}");
}

/* ── the bad ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(an_answer_over_its_cap_ends_announced_or_not) {
        HttpRequest q = request("/big/5000");
        Result r;

        q.answer_max = 5000;
        r = run(&q);
        CHECK_INT(r.error, 0);
        CHECK_INT(r.size, 5000);
        q.answer_max = 4999;
        CHECK_INT(run(&q).error, -EFBIG);
        q = request("/unannounced/5000");
        q.answer_max = 4999;
        CHECK_INT(run(&q).error, -EFBIG);
        CHECK_INT(get("/big/65536").error, 0);
        CHECK_INT(get("/big/65537").error, -EFBIG);
}

TEST(headers_over_their_cap_end) {
        CHECK_INT(get("/headers/40").error, 0);
        CHECK_INT(get("/headers/100").error, -EFBIG);
        CHECK_INT(get("/header-line").error, -EFBIG);
}

TEST(timeout) {
        HttpRequest q = request("/stall");
        uint64_t begin = now_boottime();
        Result r;

        q.timeout_usec = 200 * USEC_PER_MSEC;
        r = run(&q);
        CHECK_INT(r.error, -ETIMEDOUT);
        CHECK(r.sent);
        CHECK(now_boottime() - begin >= 190 * USEC_PER_MSEC && now_boottime() - begin < 3 * USEC_PER_SEC);
}

TEST(nobody_there) {
        static const char *const gone = "/s-that-never-was";
        HttpRequest q = { .url = "http://127.0.0.1:1/", .flags = HTTP_PLAIN_LOOPBACK, .timeout_usec = USEC_PER_SEC };
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0);
        char path[128];
        Result r;

        r = run(&q);
        CHECK_INT(r.error, -ECONNREFUSED);
        CHECK(!r.sent);

        (void) snprintf(path, sizeof path, "%s%s", server.directory, gone);
        q = (HttpRequest) { .url = "http://localhost/", .socket_path = path };
        r = run(&q);
        CHECK_INT(r.error, -ENOENT);
        CHECK(!r.sent);

        (void) snprintf(a.sun_path, sizeof a.sun_path, "%s/deaf", server.directory);      /* bound, but nobody listens */
        CHECK_INT(bind(fd, (struct sockaddr *) &a, sizeof a), 0);
        q.socket_path = a.sun_path;
        r = run(&q);
        CHECK_INT(r.error, -ECONNREFUSED);
        CHECK(!r.sent);
        close(fd);
        (void) unlink(a.sun_path);

        q = (HttpRequest) { .url = "https://no-such-host.invalid/", .timeout_usec = 10 * USEC_PER_SEC };
        r = run(&q);
        CHECK_INT(r.error, -EHOSTUNREACH);
        CHECK(!r.sent);
}

TEST(connections_that_break) {
        static const struct { const char *path; int error; } cases[] = {
                { "/reset", -ECONNRESET }, { "/close", -ECONNRESET }, { "/truncated", -ECONNRESET }, { "/cut-chunks", -ECONNRESET },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                HttpRequest q = request(cases[i].path);
                Result r;

                q.flags |= HTTP_FRESH;
                r = run(&q);
                CHECK_INT(r.error, cases[i].error);
                CHECK(r.sent);
        }
        CHECK(get("/garbage").error < 0);
}

TEST(a_connection_that_died_while_idle_is_not_seen) {
        HttpRequest q = { .url = "http://localhost/count", .socket_path = server.socket };
        Result r = run(&q);

        CHECK_INT(r.error, 0);
        server_kill(&server);           /* as an engine's restart */
        server_start(&server, serve);
        r = run(&q);
        CHECK_INT(r.error, 0);
        CHECK_STR(r.body, "1");
}

/* Else every hanging poll of a fleet would be there again in the moment in which its server has ended. */
TEST(a_request_whose_connection_breaks_late_is_not_made_again) {
        Result r = get("/count");

        CHECK_INT(r.error, 0);
        r = get("/break-late");
        CHECK_INT(r.error, -ECONNRESET);
        CHECK(r.sent);
        CHECK_STR(r.body, "");
        CHECK_STR(r.words, "the connection broke before an answer came");
}

/* ── wake-ups ────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_request_costs_few_turns_of_the_loop) {
        HttpRequest q = { .url = "http://localhost/ok", .socket_path = server.socket, .timeout_usec = 5 * USEC_PER_SEC };
        Result r = run(&q);
        int turns = 0;

        r = (Result) {};
        CHECK_INT(send_it(&q, &r, NULL), 0);
        while (r.done == 0 && turns < 20 && sd_event_run(event, 2000000) >= 0)
                turns++;
        CHECK_INT(r.done, 1);
        CHECK(turns <= 3);
        printf("# turns for one request on a kept connection: %d\n", turns);
        CHECK_INT(sd_event_run(event, 300000), 0);              /* and afterwards the loop sleeps */
}

/* ── the end of libcurl ──────────────────────────────────────────────────────────────────────────────────────── */

static bool is_ending(sd_event *e) { return sd_event_get_exit_code(e, &(int) { 0 }) >= 0; }

/* Two requests, since what one may not do to the half made thing the other's end might. */
TEST(once_libcurl_cannot_go_on_nothing_is_begun_or_told) {
        int ended = 0, told = 0;

        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        for (Oom o = {}; oom_next(&o) && CHECK(o.n < 3000);) {
                HttpRequest q = request("/ok");
                Result r[2] = {};
                sd_event *loop = NULL;
                Http *h = NULL;
                int before = 0, sent = 0;

                if (!CHECK(sd_event_new(&loop) >= 0 && http_new(loop, &h) >= 0))
                        return;
                oom_begin(&o);
                for (size_t i = 0; i < ELEMENTS(r); i++)
                        sent += http_send(h, &q, on_done, &r[i], NULL) >= 0;
                while (!is_ending(loop) && r[0].done + r[1].done < sent) {
                        before = r[0].done + r[1].done;
                        (void) sd_event_run(loop, UINT64_MAX);
                }
                oom_end();
                if (is_ending(loop)) {
                        ended++;
                        CHECK_INT(r[0].done + r[1].done, before);
                        CHECK_INT(http_send(h, &q, on_done, &r[0], NULL), 0);   /* a failure would be taken for one of the job's */
                        CHECK_INT(r[0].done + r[1].done, before);
                } else
                        told++;
                CHECK(r[0].error != -EFBIG && r[1].error != -EFBIG);            /* whose words in libcurl are those of no memory */
                (void) http_free(h);
                (void) sd_event_unref(loop);
        }
        printf("# ended %d times, told %d times\n", ended, told);
        CHECK(ended > 0 && told > 0);
}

int main(void) {
        return http_kit_main();
}
