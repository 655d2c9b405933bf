/* SPDX-License-Identifier: Apache-2.0 */

/* base/retry: what a server may make us wait. Whatever it says, the wait is none or between 1 second and 18 minutes; seconds and dates mean what a second reading
 * (strptime) says, and any time that we can write as a date is read back as itself. */

#include <time.h>

#include "base/retry.h"
#include "base/text.h"
#include "tests/fuzz/fuzz.h"

#define SERVER_TIME (UINT64_C(1767323045) * USEC_PER_SEC)
#define LONGEST     (15 * 60 * USEC_PER_SEC)
#define DATE        "%a, %d %b %Y %H:%M:%S GMT"

/* Read leniently, then written: only the day's name may differ, being no part of the time. */
static bool date_judge(const char *value, uint64_t *ret) {
        static const char names[] = "Sun,Mon,Tue,Wed,Thu,Fri,Sat,";
        char written[64], plain[64];
        struct tm t = {};
        bool leap;
        time_t at;

        if (strlen(value) != 29)
                return false;
        strcpy(plain, value);
        leap = memcmp(plain + 23, "60", 2) == 0;                /* the first second of the next minute */
        if (leap)
                memcpy(plain + 23, "59", 2);
        const char *end = strptime(plain, DATE, &t), *day = memmem(names, sizeof names - 1, value, 4);
        if (!end || *end || !day || (day - names) % 4 != 0)
                return false;
        at = timegm(&t);
        if (strftime(written, sizeof written, DATE, gmtime(&at)) != 29 || strcmp(written + 3, plain + 3) != 0 || at + leap < 0)
                return false;
        *ret = (uint64_t) (at + leap) * USEC_PER_SEC;
        return true;
}

/* Between 0 and LONGEST; false: it says nothing. */
static bool wait_judge(const char *value, uint64_t now, uint64_t *ret) {
        size_t n = strspn(value, "0123456789");
        uint64_t at;

        if (n > 0 && !value[n]) {
                value += strspn(value, "0");
                n = strlen(value);
                *ret = n > 6 ? LONGEST : strtoull(n ? value : "0", NULL, 10) * USEC_PER_SEC;
        } else if (now && date_judge(value, &at))
                *ret = at > now ? at - now : 0;
        else
                return false;
        *ret = *ret < LONGEST ? *ret : LONGEST;
        return true;
}

static void both(const char *value, const char *bare, uint64_t now, uint64_t random) {
        uint64_t wait = retry_after_parse(value, now, random), expected = 0;

        if (!wait_judge(bare, now, &expected)) {
                MUST(wait == 0);
                return;
        }
        expected = expected > USEC_PER_SEC ? expected : USEC_PER_SEC;
        MUST(wait >= expected && wait <= expected + expected / 5);
}

static void date_there_and_back(uint64_t random) {
        time_t at = (time_t) (random % UINT64_C(253402300800));          /* up to the year 9999 */
        uint64_t back = 0;
        char text[64];

        (void) strftime(text, sizeof text, DATE, gmtime(&at));
        MUST(http_date_parse(text, &back) == 0 && back == (uint64_t) at * USEC_PER_SEC);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *value = fuzz_text(data, size), *bare = strdup(value + strspn(value, " \t"));
        uint64_t random = fuzz_number(data, size), at = 0, expected = 0;
        size_t n;

        if (!bare)
                abort();
        for (n = strlen(bare); n > 0 && strchr(" \t", bare[n - 1]); n--)
                bare[n - 1] = 0;
        both(value, bare, 0, random);
        both(value, bare, SERVER_TIME, random);
        MUST((http_date_parse(value, &at) == 0) == date_judge(value, &expected) && at == expected);
        date_there_and_back(random);
        return 0;
}
