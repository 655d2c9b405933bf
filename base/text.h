/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The shapes of the platform's words: ids, decimal strings, times. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UUID_SIZE 37                                    /* 36 characters and NUL */
#define TIME_TEXT_SIZE 32

#define USEC_PER_SEC  UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

bool uuid_is_valid(const char *s);                      /* 8-4-4-4-12, lower-case hexadecimal */
int  uuid_make(char ret[static UUID_SIZE]);             /* random, version 4; -EIO when the kernel gives no randomness */

/* A generation, floor, epoch or byte count as the wire has it: decimal digits, no sign, no leading zero but "0" itself.
 * -EINVAL for anything else, -ERANGE above UINT64_MAX. */
int u64_parse(const char *s, uint64_t *ret);
const char *u64_text(uint64_t v, char ret[static 21]);  /* returns ret */

/* RFC 3339 UTC, whole seconds and milliseconds ("2026-01-02T03:04:05.678Z"), from microseconds since the epoch. */
const char *time_text(uint64_t realtime_usec, char ret[static TIME_TEXT_SIZE]);
int time_parse(const char *s, uint64_t *ret_realtime_usec);     /* RFC 3339 with Z or an offset; -EINVAL */

uint64_t now_realtime(void);                            /* microseconds since the epoch */
uint64_t now_boottime(void);                            /* microseconds since boot, suspend included */

bool slug_is_valid(const char *s);                      /* ^[a-z][a-z0-9-]{2,31}$ */
bool runtime_is_valid(const char *s);                   /* ^[a-z0-9_-]{1,64}$ */
bool str_equal(const char *a, const char *b);           /* both may be NULL; NULL equals only NULL */

/* The length (1..4) of the well-formed UTF-8 character that begins at s; 0 when there is none within size bytes. */
size_t utf8_length(const char *s, size_t size);
void text_make_printable(char *s);                      /* in place: control characters and broken UTF-8 become '?' */

char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));  /* malloc'd; NULL when out of memory */
