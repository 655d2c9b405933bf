/* SPDX-License-Identifier: Apache-2.0 */

/* Recognising and writing the platform's words. Every recogniser takes exactly the form we write ourselves, so that two
 * texts that compare different are different things. */

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"

/* Not isdigit() and its kin: those ask the locale. */
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
static bool is_hex(char c)   { return is_digit(c) || (c >= 'a' && c <= 'f'); }

static bool is_uuid_dash(size_t i) {
        return i == 8 || i == 13 || i == 18 || i == 23;
}

bool uuid_is_valid(const char *s) {
        if (!s)
                return false;
        for (size_t i = 0; i < UUID_SIZE - 1; i++)
                if (is_uuid_dash(i) ? s[i] != '-' : !is_hex(s[i]))
                        return false;
        return s[UUID_SIZE - 1] == 0;
}

int uuid_make(char ret[static UUID_SIZE]) {
        unsigned char b[16];
        size_t at = 0;
        ssize_t n;

        do
                n = getrandom(b, sizeof b, 0);
        while (n < 0 && errno == EINTR);
        if (n != sizeof b)
                return -EIO;

        b[6] = (b[6] & 0x0f) | 0x40;                    /* version 4 */
        b[8] = (b[8] & 0x3f) | 0x80;                    /* the RFC's variant */
        for (size_t i = 0; i < sizeof b; i++) {
                if (is_uuid_dash(at))
                        ret[at++] = '-';
                ret[at++] = "0123456789abcdef"[b[i] >> 4];
                ret[at++] = "0123456789abcdef"[b[i] & 15];
        }
        ret[at] = 0;
        return 0;
}

int u64_parse(const char *s, uint64_t *ret) {
        uint64_t v = 0;

        if (!s || !is_digit(*s) || (s[0] == '0' && s[1]))
                return -EINVAL;
        for (const char *p = s; *p; p++)
                if (!is_digit(*p))
                        return -EINVAL;
        for (; *s; s++)
                if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t) (*s - '0'), &v))
                        return -ERANGE;
        *ret = v;
        return 0;
}

const char *u64_text(uint64_t v, char ret[static 21]) {
        (void) snprintf(ret, 21, "%ju", (uintmax_t) v);
        return ret;
}

const char *time_text(uint64_t realtime_usec, char ret[static TIME_TEXT_SIZE]) {
        time_t s = (time_t) (realtime_usec / USEC_PER_SEC);
        unsigned ms = (unsigned) (realtime_usec % USEC_PER_SEC / USEC_PER_MSEC);
        struct tm t = {};

        (void) gmtime_r(&s, &t);
        (void) snprintf(ret, TIME_TEXT_SIZE, "%04lld-%02u-%02uT%02u:%02u:%02u.%03uZ", t.tm_year + 1900LL, (t.tm_mon + 1U) % 100,
                        t.tm_mday % 100U, t.tm_hour % 100U, t.tm_min % 100U, t.tm_sec % 100U, ms);
        return ret;
}

/* Reads exactly n digits, at most max in value, and moves on. */
static bool take_number(const char **s, unsigned n, int max, int *ret) {
        int v = 0;

        for (; n > 0; n--, (*s)++) {
                if (!is_digit(**s))
                        return false;
                v = v * 10 + (**s - '0');
        }
        *ret = v;
        return v <= max;
}

static bool take_char(const char **s, char a, char b) {
        if (**s != a && **s != b)
                return false;
        (*s)++;
        return true;
}

/* Behind the point: at least one digit; what is finer than a microsecond is dropped. */
static bool take_fraction(const char **s, uint64_t *ret_usec) {
        uint64_t v = 0, scale = USEC_PER_SEC / 10;

        if (!is_digit(**s))
                return false;
        for (; is_digit(**s); (*s)++, scale /= 10)
                v += (uint64_t) (**s - '0') * scale;
        *ret_usec = v;
        return true;
}

static bool take_offset(const char **s, int *ret_seconds) {
        int sign = **s == '-' ? -1 : 1, hours, minutes;

        if (take_char(s, 'Z', 'z')) {
                *ret_seconds = 0;
                return true;
        }
        if (!take_char(s, '+', '-') || !take_number(s, 2, 23, &hours) || !take_char(s, ':', ':') || !take_number(s, 2, 59, &minutes))
                return false;
        *ret_seconds = sign * (hours * 3600 + minutes * 60);
        return true;
}

int time_parse(const char *s, uint64_t *ret_realtime_usec) {
        struct tm t = {};
        int year, month, day, seconds, offset;
        uint64_t fraction = 0;
        int64_t at;

        if (!s || !take_number(&s, 4, 9999, &year) || !take_char(&s, '-', '-') || !take_number(&s, 2, 12, &month) ||
            !take_char(&s, '-', '-') || !take_number(&s, 2, 31, &day) || !take_char(&s, 'T', 't'))
                return -EINVAL;
        if (!take_number(&s, 2, 23, &t.tm_hour) || !take_char(&s, ':', ':') || !take_number(&s, 2, 59, &t.tm_min) ||
            !take_char(&s, ':', ':') || !take_number(&s, 2, 60, &seconds))
                return -EINVAL;
        if (take_char(&s, '.', '.') && !take_fraction(&s, &fraction))
                return -EINVAL;
        if (!take_offset(&s, &offset) || *s)
                return -EINVAL;

        /* timegm() turns the 31st of February into a day of March: such a date comes back changed. */
        t.tm_year = year - 1900;
        t.tm_mon = month - 1;
        t.tm_mday = day;
        at = timegm(&t);
        if (month < 1 || day < 1 || t.tm_mon != month - 1)
                return -EINVAL;

        at += seconds - offset;                         /* a leap second is the first of the next minute */
        if (at < 0)
                return -EINVAL;
        *ret_realtime_usec = (uint64_t) at * USEC_PER_SEC + fraction;
        return 0;
}

static uint64_t now(clockid_t clock) {
        struct timespec t = {};

        (void) clock_gettime(clock, &t);
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
}

uint64_t now_realtime(void) {
        return now(CLOCK_REALTIME);
}

uint64_t now_boottime(void) {
        return now(CLOCK_BOOTTIME);
}

bool slug_is_valid(const char *s) {
        size_t n = 0;

        if (!s || !is_lower(*s))
                return false;
        for (; s[n]; n++)
                if (n >= 32 || (!is_lower(s[n]) && !is_digit(s[n]) && s[n] != '-'))
                        return false;
        return n >= 3;
}

bool runtime_is_valid(const char *s) {
        size_t n = 0;

        if (!s)
                return false;
        for (; s[n]; n++)
                if (n >= 64 || (!is_lower(s[n]) && !is_digit(s[n]) && s[n] != '-' && s[n] != '_'))
                        return false;
        return n >= 1;
}

bool str_equal(const char *a, const char *b) {
        return a && b ? strcmp(a, b) == 0 : a == b;
}

char *str_printf(const char *fmt, ...) {
        va_list ap;
        char *s;
        int r;

        va_start(ap, fmt);
        r = vasprintf(&s, fmt, ap);
        va_end(ap);
        return r < 0 ? NULL : s;
}

/* The well-formed sequences of the Unicode standard, by their first byte: how many bytes follow, and the bounds of the second, which
 * is where overlong forms, surrogates and what lies beyond U+10FFFF show. */
static const struct { unsigned char first, last, more, low, high; } utf8_rows[] = {
        { 0x00, 0x7f, 0, 0x00, 0x00 },
        { 0xc2, 0xdf, 1, 0x80, 0xbf },
        { 0xe0, 0xe0, 2, 0xa0, 0xbf },
        { 0xe1, 0xec, 2, 0x80, 0xbf },
        { 0xed, 0xed, 2, 0x80, 0x9f },
        { 0xee, 0xef, 2, 0x80, 0xbf },
        { 0xf0, 0xf0, 3, 0x90, 0xbf },
        { 0xf1, 0xf3, 3, 0x80, 0xbf },
        { 0xf4, 0xf4, 3, 0x80, 0x8f },
};

size_t utf8_length(const char *s, size_t size) {
        const unsigned char *p = (const unsigned char *) s;

        if (size == 0)
                return 0;
        for (size_t i = 0; i < ELEMENTS(utf8_rows); i++) {
                if (p[0] < utf8_rows[i].first || p[0] > utf8_rows[i].last)
                        continue;
                if (utf8_rows[i].more >= size)
                        return 0;
                for (size_t k = 1; k <= utf8_rows[i].more; k++)
                        if (p[k] < (k == 1 ? utf8_rows[i].low : 0x80) || p[k] > (k == 1 ? utf8_rows[i].high : 0xbf))
                                return 0;
                return utf8_rows[i].more + 1U;
        }
        return 0;
}

void text_make_printable(char *s) {
        size_t left = strlen(s), n;

        for (; left > 0; s += n, left -= n) {
                unsigned char c = (unsigned char) s[0];

                n = utf8_length(s, left);
                if (n == 0 || c < 0x20 || c == 0x7f) {
                        s[0] = '?';
                        n = 1;
                } else if (n == 2 && c == 0xc2 && (unsigned char) s[1] < 0xa0)  /* U+0080..U+009F */
                        s[0] = s[1] = '?';
        }
}
