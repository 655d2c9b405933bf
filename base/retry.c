/* SPDX-License-Identifier: Apache-2.0 */

/* Waits. Randomness comes in as one number, so that a test can go through all of it. */

#include "base/retry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/text.h"

#define BUCKET_SIZE     50
#define RETRY_COST      5
#define RETRY_AFTER_MIN (1 * USEC_PER_SEC)
#define RETRY_AFTER_MAX (15 * 60 * USEC_PER_SEC)

uint64_t jitter_uniform(uint64_t low, uint64_t high, uint64_t random) {
        uint64_t span = high - low;

        if (high <= low)
                return low;
        return low + (span == UINT64_MAX ? random : random % (span + 1));
}

uint64_t jitter_around(uint64_t middle, unsigned percent, uint64_t random) {
        uint64_t part, high;

        percent = percent < 100 ? percent : 100;
        part = middle / 100 * percent + middle % 100 * percent / 100;
        if (__builtin_add_overflow(middle, part, &high))
                high = UINT64_MAX;
        return jitter_uniform(middle - part, high, random);
}

uint64_t backoff_failure(Backoff *b, uint64_t random) {
        uint64_t high;

        if (__builtin_mul_overflow(b->previous > b->base ? b->previous : b->base, 3, &high))
                high = UINT64_MAX;
        b->previous = jitter_uniform(b->base, high, random);
        if (b->previous > b->cap)
                b->previous = b->cap;
        b->successes = 0;
        return b->previous;
}

void backoff_success(Backoff *b) {
        if (++b->successes < 2)
                return;
        b->successes = 0;
        b->previous = 0;
}

bool retry_bucket_take(RetryBucket *b) {
        if (b->tokens < RETRY_COST)
                return false;
        b->tokens -= RETRY_COST;
        return true;
}

void retry_bucket_success(RetryBucket *b) {
        if (b->tokens < BUCKET_SIZE)
                b->tokens++;
}

/* Where a name of three letters stands in a row of such names, from 0; -1 for none. */
static int three_find(const char *names, const char *name) {
        const char *p = strlen(name) == 3 ? strstr(names, name) : NULL;

        return p && (p - names) % 3 == 0 ? (int) (p - names) / 3 : -1;
}

int http_date_parse(const char *value, uint64_t *ret_realtime_usec) {
        char day_name[4], month_name[4], text[64];
        unsigned d, y, h, m, s;
        int month;

        if (!value || sscanf(value, "%3[A-Za-z], %2u %3[A-Za-z] %4u %2u:%2u:%2u", day_name, &d, month_name, &y, &h, &m, &s) != 7)
                return -EINVAL;

        /* sscanf() forgives signs and white space: comparing with what we would write does not. */
        (void) snprintf(text, sizeof text, "%s, %02u %s %04u %02u:%02u:%02u GMT", day_name, d, month_name, y, h, m, s);
        month = three_find("JanFebMarAprMayJunJulAugSepOctNovDec", month_name);
        if (!str_equal(text, value) || month < 0 || three_find("SunMonTueWedThuFriSat", day_name) < 0)
                return -EINVAL;

        (void) snprintf(text, sizeof text, "%04u-%02i-%02uT%02u:%02u:%02uZ", y, month + 1, d, h, m, s);
        return time_parse(text, ret_realtime_usec);
}

/* Any number of digits; what does not fit is as long as can be. */
static bool seconds_parse(const char *s, size_t size, uint64_t *ret_usec) {
        uint64_t v = 0;

        if (size == 0)
                return false;
        for (size_t i = 0; i < size; i++) {
                if (s[i] < '0' || s[i] > '9')
                        return false;
                v = v * 10 + (uint64_t) (s[i] - '0');
                if (v > RETRY_AFTER_MAX / USEC_PER_SEC)
                        v = RETRY_AFTER_MAX / USEC_PER_SEC;
        }
        *ret_usec = v * USEC_PER_SEC;
        return true;
}

uint64_t retry_after_parse(const char *value, uint64_t server_realtime_usec, uint64_t random) {
        char date[32];
        uint64_t wait, at;
        size_t n;

        if (!value)
                return 0;
        value += strspn(value, " \t");
        n = strlen(value);
        while (n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'))
                n--;

        if (!seconds_parse(value, n, &wait)) {
                if (n >= sizeof date || server_realtime_usec == 0)
                        return 0;
                memcpy(date, value, n);
                date[n] = 0;
                if (http_date_parse(date, &at) < 0)
                        return 0;
                wait = at > server_realtime_usec ? at - server_realtime_usec : 0;
        }
        if (wait < RETRY_AFTER_MIN)
                wait = RETRY_AFTER_MIN;
        if (wait > RETRY_AFTER_MAX)
                wait = RETRY_AFTER_MAX;
        return jitter_uniform(wait, wait + wait / 5, random);
}

/* Where the kernel has no randomness yet, the clock has to do: this spreads waits and hashes, it keeps no secret. */
uint64_t random_u64(void) {
        uint64_t v;

        if (getrandom(&v, sizeof v, GRND_NONBLOCK) == sizeof v)
                return v;
        v = now_boottime() + (uint64_t) getpid() * UINT64_C(0x9e3779b97f4a7c15);
        v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
        return v ^ v >> 31;
}
