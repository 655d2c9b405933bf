/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* When to try again: pure arithmetic on microseconds; the caller brings clock and randomness. */

#include <stdbool.h>
#include <stdint.h>

/* Decorrelated jitter: next = min(cap, uniform(base, 3 x previous)); two successes in a row reset it. */
typedef struct Backoff {
        uint64_t base, cap;                             /* set by the owner, microseconds */
        uint64_t previous;
        unsigned successes;
} Backoff;

#define BACKOFF_DEFAULT { .base = 1000000, .cap = 60000000 }

uint64_t backoff_failure(Backoff *b, uint64_t random);  /* the wait before the next try */
void     backoff_success(Backoff *b);

/* A budget of 50 for retries: one costs 5, a success gives 1 back. */
typedef struct RetryBucket { int tokens; } RetryBucket;
#define RETRY_BUCKET_FULL { .tokens = 50 }
bool retry_bucket_take(RetryBucket *b);                 /* false: too many retries lately, wait for the cap instead */
void retry_bucket_success(RetryBucket *b);

uint64_t jitter_uniform(uint64_t low, uint64_t high, uint64_t random);          /* low..high, both included */
uint64_t jitter_around(uint64_t middle, unsigned percent, uint64_t random);     /* middle +- percent */

/* A Retry-After value: seconds, or an HTTP date judged against server_realtime (0: cannot judge). Clamped to 1 s..15 min, plus up to 20 %.
 * 0 when the value is neither. */
uint64_t retry_after_parse(const char *value, uint64_t server_realtime_usec, uint64_t random);

int http_date_parse(const char *value, uint64_t *ret_realtime_usec);    /* RFC 9110 IMF-fixdate; -EINVAL */

uint64_t random_u64(void);                              /* from the kernel; the one place that is not pure */
