/* SPDX-License-Identifier: Apache-2.0 */

/* Taking the engine's frames out of a log. Whether there are frames is seen in the first header, because older engines do not say so in
 * the content type: a first byte of 0..2 and three zeros is no text that a terminal would show. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/log-stream.h"

/* Keeps at least the last max bytes, and moves memory only once in max bytes. */
static int append(LogStream *l, const char *p, size_t n) {
        if (l->max == 0)
                return 0;
        if (n > l->max) {
                p += n - l->max;
                n = l->max;
        }
        if (l->size + n > 2 * l->max) {
                memmove(l->text, l->text + l->size - l->max, l->max);
                l->size = l->max;
        }
        if (l->size + n + 1 > l->allocated) {
                size_t want = l->allocated ? l->allocated * 2 : 1024;
                char *text;

                while (want < l->size + n + 1)
                        want *= 2;
                text = realloc(l->text, want);
                if (!text)
                        return -ENOMEM;
                l->text = text;
                l->allocated = want;
        }
        memcpy(l->text + l->size, p, n);
        l->size += n;
        l->text[l->size] = 0;
        return 0;
}

static bool is_frame(const unsigned char h[static 8]) {
        return h[0] <= 2 && h[1] == 0 && h[2] == 0 && h[3] == 0;
}

/* A header is whole. One that makes no sense turns the rest into plain bytes. */
static int header_judge(LogStream *l) {
        const unsigned char *h = l->header;

        l->begun = true;
        if (!is_frame(h)) {
                l->plain = true;
                return append(l, (const char *) h, l->header_used);
        }
        l->left = (uint32_t) h[4] << 24 | (uint32_t) h[5] << 16 | (uint32_t) h[6] << 8 | h[7];
        l->header_used = 0;
        return 0;
}

int log_stream_feed(LogStream *l, const void *data, size_t size) {
        const char *at = data;
        int r = 0;

        while (size > 0 && r == 0) {
                size_t n;

                if (l->plain || l->left > 0) {
                        n = l->plain || l->left > size ? size : l->left;
                        r = append(l, at, n);
                        l->left -= l->plain ? 0 : (uint32_t) n;
                } else {
                        n = sizeof l->header - l->header_used;
                        n = n < size ? n : size;
                        memcpy(l->header + l->header_used, at, n);
                        l->header_used += n;
                        if (l->header_used == sizeof l->header)
                                r = header_judge(l);
                }
                at += n;
                size -= n;
        }
        return r;
}

int log_stream_end(LogStream *l) {
        int r = 0;

        if (!l->begun && l->header_used > 0)            /* shorter than a header, so plain */
                r = append(l, (const char *) l->header, l->header_used);
        if (r == 0 && l->size > l->max) {
                memmove(l->text, l->text + l->size - l->max, l->max);
                l->size = l->max;
                l->text[l->size] = 0;
        }
        return r;
}

void log_stream_done(LogStream *l) {
        free(l->text);
        *l = (LogStream) { .max = l->max };
}
