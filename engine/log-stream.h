/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The body of GET /containers/{id}/logs: with a terminal plain bytes, without one frames of 8 bytes of header (stream, three zeros, length
 * big-endian) and payload. Keeps the last `max` bytes of the text. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct LogStream {              /* start with { .max = … } */
        size_t        max;
        unsigned char header[8];
        size_t        header_used;
        uint32_t      left;             /* of the frame's payload */
        bool          begun, plain;
        char         *text;             /* NUL-terminated once log_stream_end() was called */
        size_t        size, allocated;
} LogStream;

int  log_stream_feed(LogStream *l, const void *data, size_t size);      /* 0, -ENOMEM */
int  log_stream_end(LogStream *l);      /* the rest of what came; cuts to the last max bytes. 0, -ENOMEM */
void log_stream_done(LogStream *l);
