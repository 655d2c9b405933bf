/* SPDX-License-Identifier: Apache-2.0 */

/* engine/pull: the stream of a pull, cut anywhere, and what the engine's words about registries mean. */

#include "engine/engine-json.h"
#include "tests/data.h"

static PullProgress progress;           /* too large for a stack */

static void feed(const char *text) {
        pull_progress_feed(&progress, text, strlen(text));
}

TEST(a_recorded_pull_in_pieces_of_any_size) {
        size_t size;
        _cleanup_free_ char *text = data_read("engine/pull-ok.jsonl", &size);

        for (size_t piece = 1; piece < 400; piece += 13) {
                progress = (PullProgress) {};
                for (size_t at = 0; at < size; at += piece)
                        pull_progress_feed(&progress, text + at, piece < size - at ? piece : size - at);
                pull_progress_end(&progress);
                CHECK(!progress.failed);
                CHECK_INT(progress.n_layers, 2);
                CHECK_INT(progress.bytes, 1064337 + 1064334);
                CHECK_INT(progress.total, progress.bytes);
                CHECK(progress.steps >= 8 && progress.ticks > progress.steps);
        }
}

TEST(bytes_and_steps_are_told_apart) {
        uint64_t steps, ticks;

        progress = (PullProgress) {};
        feed("{\"status\":\"Downloading\",\"progressDetail\":{\"current\":10,\"total\":100},\"id\":\"a\"}\n");
        steps = progress.steps;
        ticks = progress.ticks;
        CHECK_INT(progress.bytes, 10);
        feed("{\"status\":\"Downloading\",\"progressDetail\":{\"current\":30,\"total\":100},\"id\":\"a\"}\r\n");
        CHECK_INT(progress.bytes, 30);
        CHECK(progress.ticks > ticks && progress.steps == steps);
        ticks = progress.ticks;
        feed("{\"status\":\"Downloading\",\"progressDetail\":{\"current\":30,\"total\":100},\"id\":\"a\"}\n");
        CHECK(progress.ticks == ticks);         /* the same again is no progress */
        feed("{\"status\":\"Waiting\",\"progressDetail\":{},\"id\":\"b\"}\n{\"status\":\"Retrying in 5 seconds\",\"id\":\"a\"}\n");
        CHECK(progress.ticks == ticks);
        feed("{\"status\":\"Extracting\",\"progressDetail\":{\"current\":1,\"total\":100},\"id\":\"a\"}\n");
        CHECK(progress.steps == steps + 1);
        CHECK_INT(progress.bytes, 100);         /* what is unpacked was downloaded */
        feed("{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"a\"}\n");
        CHECK(progress.steps == steps + 2);
        CHECK_INT(progress.bytes, 100);
}

TEST(incident_5_an_error_in_the_stream) {
        progress = (PullProgress) {};
        feed("{\"status\":\"Pulling\"}\n{\"errorDetail\":{\"message\":\"no space left on device\"},\"error\":\"x\"}\n");
        CHECK(progress.failed);
        CHECK_STR(progress.error, "no space left on device");
        feed("{\"error\":\"later words\"}\n");
        CHECK_STR(progress.error, "no space left on device");

        progress = (PullProgress) {};
        feed("{\"error\":\"only this\"}");       /* the last line, without its end */
        CHECK(!progress.failed);
        pull_progress_end(&progress);
        CHECK(progress.failed);
        CHECK_STR(progress.error, "only this");

        progress = (PullProgress) {};
        feed("{\"errorDetail\":{}}\n");
        CHECK(progress.failed && progress.error[0]);
}

TEST(lines_that_are_none) {
        progress = (PullProgress) {};
        feed("\n\r\n   \nnonsense\n[]\n7\n{\"status\":7,\"id\":[]}\n{\"status\":\"Downloading\"}\n{\"id\":\"x\"}\n");
        feed("{\"status\":\"Downloading\",\"id\":\"a\",\"progressDetail\":{\"current\":-5,\"total\":-9}}\n");
        CHECK(!progress.failed);
        CHECK_INT(progress.bytes, 0);
}

TEST(a_line_beyond_the_limit_is_passed_over) {
        size_t size = 3 * sizeof progress.line;
        _cleanup_free_ char *text = malloc(size);

        progress = (PullProgress) {};
        memset(text, 'x', size);
        pull_progress_feed(&progress, text, size);
        CHECK(progress.skipping);
        feed("\n{\"error\":\"seen\"}\n");
        CHECK(!progress.skipping);
        CHECK_STR(progress.error, "seen");

        progress = (PullProgress) {};
        memset(text, ' ', sizeof progress.line);
        memcpy(text, "{\"error\":\"whole\"}", 17);
        pull_progress_feed(&progress, text, sizeof progress.line);      /* just fits */
        feed("\n");
        CHECK_STR(progress.error, "whole");
}

TEST(more_layers_than_places) {
        char line[160];

        progress = (PullProgress) {};
        for (unsigned i = 0; i < 200; i++) {
                uint64_t before = progress.ticks;

                (void) snprintf(line, sizeof line, "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":5},"
                                "\"id\":\"%012x\"}\n", i);
                feed(line);
                CHECK(progress.ticks > before);
        }
        CHECK_INT(progress.n_layers, ELEMENTS(progress.layers));
        CHECK_INT(progress.bytes, 5 * ELEMENTS(progress.layers));
}

TEST(incident_12_what_the_engine_says_of_registries) {
        static const struct { long status; const char *words; FaultCode code; } cases[] = {
                /* as docker 20.10 says it */
                { 404, "manifest for 127.0.0.1:5000/x@sha256:00 not found: manifest unknown: manifest unknown", FAULT_IMAGE_NOT_FOUND },
                { 500, "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", FAULT_IMAGE_UNREACHABLE },
                { 500, "Get \"http://127.0.0.1:5000/v2/x/manifests/sha256:0\": no basic auth credentials", FAULT_IMAGE_AUTH },
                { 404, "pull access denied for x/y, repository does not exist or may require 'docker login': "
                  "denied: requested access to the resource is denied", FAULT_IMAGE_AUTH },
                { 500, "unauthorized: authentication required", FAULT_IMAGE_AUTH },
                { 500, "toomanyrequests: You have reached your pull rate limit.", FAULT_IMAGE_RATE_LIMITED },
                { 500, "received unexpected HTTP status: 429 Too Many Requests", FAULT_IMAGE_RATE_LIMITED },
                { 500, "received unexpected HTTP status: 503 Service Unavailable", FAULT_IMAGE_UNREACHABLE },
                { 500, "Get \"https://registry.example.com/v2/\": dial tcp: lookup registry.example.com: no such host",
                  FAULT_IMAGE_UNREACHABLE },
                { 500, "Get \"https://registry.example.com/v2/\": net/http: request canceled while waiting for connection",
                  FAULT_IMAGE_UNREACHABLE },
                { 200, "unexpected EOF", FAULT_IMAGE_UNREACHABLE },
                { 200, "failed to register layer: write /x: no space left on device", FAULT_NO_SPACE },
                { 200, "filesystem layer verification failed for digest sha256:0", FAULT_IMAGE_DIGEST_MISMATCH },
                { 200, "manifest verification failed for digest sha256:0", FAULT_IMAGE_DIGEST_MISMATCH },
                /* digits of a digest mean nothing */
                { 500, "something odd about sha256:4294290012345401403", FAULT_ENGINE_ERROR },
                /* without words the status decides */
                { 404, "it answered with status 404", FAULT_IMAGE_NOT_FOUND },
                { 401, NULL, FAULT_IMAGE_AUTH },
                { 403, "", FAULT_IMAGE_AUTH },
                { 429, NULL, FAULT_IMAGE_RATE_LIMITED },
                { 500, NULL, FAULT_ENGINE_ERROR },
                { 500, "a thing never heard of", FAULT_ENGINE_ERROR },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                if (!CHECK_STR(fault_code_name(pull_error_classify(cases[i].status, cases[i].words)), fault_code_name(cases[i].code)))
                        printf("#   %s\n", cases[i].words ?: "(none)");
}

TEST_MAIN
