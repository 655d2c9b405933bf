/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A stream of lines that arrives cut anywhere. Lines over the limit are passed over, so memory stays bounded whatever the other side
 * sends. */

#include <stdbool.h>
#include <stddef.h>

typedef struct LineCut {
        char   *line;                   /* place for one line */
        size_t  max, *used;
        bool   *skipping;
        void  (*fn)(const char *line, size_t size, void *userdata);     /* without line end; not called for empty lines */
        void   *userdata;
} LineCut;

void lines_feed(const LineCut *c, const void *data, size_t size);
void lines_end(const LineCut *c);       /* the stream ended: what stands there is the last line */
