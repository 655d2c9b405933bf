/* SPDX-License-Identifier: Apache-2.0 */

/* engine/log-stream: frames taken out, plain text left alone, only the end kept. */

#include "engine/log-stream.h"
#include "tests/data.h"

/* The text that comes out when the bytes come in pieces of such a size. */
static char *through(const void *data, size_t size, size_t piece, size_t max) {
        LogStream l = { .max = max };
        char *text;

        for (size_t at = 0; at < size; at += piece)
                CHECK_INT(log_stream_feed(&l, (const char *) data + at, piece < size - at ? piece : size - at), 0);
        CHECK_INT(log_stream_end(&l), 0);
        text = strdup(l.text ?: "");
        CHECK_INT(strlen(text), l.size);
        log_stream_done(&l);
        return text;
}

#define CHECK_THROUGH(data, size, max, wanted) do { \
        for (size_t piece = 1; piece < 40; piece++) { \
                _cleanup_free_ char *came = through(data, size, piece, max); \
                CHECK_STR(came, wanted); \
        } } while (0)

TEST(recorded_frames) {
        size_t size;
        _cleanup_free_ char *data = data_read("engine/logs-frames.bin", &size);

        CHECK_THROUGH(data, size, 1000, "err\nout\n");
        CHECK_THROUGH(data, size, 6, "r\nout\n");
        CHECK_THROUGH(data, size, 0, "");
}

TEST(plain_text) {
        static const char text[] = "a terminal's output, without frames\n";

        CHECK_THROUGH(text, strlen(text), 1000, text);
        CHECK_THROUGH(text, strlen(text), 7, "frames\n");
        CHECK_THROUGH("short", 5, 1000, "short");
        CHECK_THROUGH("", 0, 1000, "");
        CHECK_THROUGH("\1\1a log of a terminal", 21, 1000, "\1\1a log of a terminal");      /* one byte makes no header */
}

TEST(a_frame_cut_short_and_an_empty_one) {
        static const char cut[] = "\1\0\0\0\0\0\0\12abc", empty[] = "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\2hi";

        CHECK_THROUGH(cut, sizeof cut - 1, 1000, "abc");
        CHECK_THROUGH(empty, sizeof empty - 1, 1000, "hi");
}

TEST(a_long_log_keeps_its_end_in_bounded_memory) {
        LogStream l = { .max = 1000 };

        for (unsigned i = 0; i < 100000; i++) {
                char frame[32] = "\1\0\0\0\0\0\0\7";

                (void) snprintf(frame + 8, sizeof frame - 8, "%06u\n", i);
                CHECK_INT(log_stream_feed(&l, frame, 15), 0);
                if (l.allocated > 4096)
                        break;
        }
        CHECK_INT(log_stream_end(&l), 0);
        CHECK(l.allocated <= 4096);
        CHECK_INT(l.size, 1000);
        CHECK_STR(l.text + 1000 - 14, "099998\n099999\n");
        log_stream_done(&l);
        CHECK(l.text == NULL);
}

TEST_MAIN
