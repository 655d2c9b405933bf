/* SPDX-License-Identifier: Apache-2.0 */

/* A wall clock that is off by $LAB_CLOCK seconds, for a process that this library is preloaded into. Only the wall clock: a machine's uptime and its timers
 * do not lie (libfaketime moves a timerfd of CLOCK_BOOTTIME, too). */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
        const char *text = getenv("LAB_CLOCK");
        return text ? atol(text) : 0;
}

int clock_gettime(clockid_t id, struct timespec *ret) {
        int r = (int) syscall(SYS_clock_gettime, id, ret);

        if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
                ret->tv_sec += offset();
        return r;
}

time_t time(time_t *ret) {
        struct timespec now = { 0 };

        (void) clock_gettime(CLOCK_REALTIME, &now);
        if (ret)
                *ret = now.tv_sec;
        return now.tv_sec;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone) {
        struct timespec now = { 0 };
        int r = clock_gettime(CLOCK_REALTIME, &now);

        (void) zone;
        ret->tv_sec = now.tv_sec;
        ret->tv_usec = now.tv_nsec / 1000;
        return r;
}
