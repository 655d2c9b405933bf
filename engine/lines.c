/* SPDX-License-Identifier: Apache-2.0 */

/* Whole lines out of pieces; engine/lines.h says it all. */

#include <string.h>

#include "engine/lines.h"

void lines_end(const LineCut *c) {
        size_t n = *c->used;
        bool skipped = *c->skipping;

        *c->used = 0;
        *c->skipping = false;
        while (n > 0 && c->line[n - 1] == '\r')
                n--;
        if (n > 0 && !skipped)
                c->fn(c->line, n, c->userdata);
}

void lines_feed(const LineCut *c, const void *data, size_t size) {
        const char *at = data, *end = at + size;

        while (at < end) {
                const char *newline = memchr(at, '\n', (size_t) (end - at));
                size_t n = (size_t) ((newline ?: end) - at);

                if (n > c->max - *c->used)
                        *c->skipping = true;
                if (!*c->skipping) {
                        memcpy(c->line + *c->used, at, n);
                        *c->used += n;
                }
                if (newline)
                        lines_end(c);
                at += n + (newline != NULL);
        }
}
