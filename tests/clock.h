/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A CLOCK_BOOTTIME that a test may push on, so that an hour's pause can be seen to end. The C library's doors are taken over for the whole
 * program, libsystemd included: what reads the clock gets it pushed on, what arms a timer is brought back to the kernel's time. */

#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#include "base/text.h"
#include "tests/test.h"

static uint64_t clock_pushed;                   /* microseconds */
static bool clock_is_boottime[1024];            /* by descriptor of a timer */

int clock_gettime(clockid_t id, struct timespec *t) {
        int r = (int) syscall(SYS_clock_gettime, id, t);

        if (r == 0 && id == CLOCK_BOOTTIME) {
                uint64_t usec = (uint64_t) t->tv_nsec / 1000 + clock_pushed;

                t->tv_sec += (time_t) (usec / USEC_PER_SEC);
                t->tv_nsec = (long) (usec % USEC_PER_SEC * 1000);
        }
        return r;
}

int timerfd_create(clockid_t id, int flags) {
        int fd = (int) syscall(SYS_timerfd_create, id, flags);

        if (fd >= 0 && fd < (int) ELEMENTS(clock_is_boottime))
                clock_is_boottime[fd] = id == CLOCK_BOOTTIME;
        return fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old) {
        struct itimerspec t = *new;

        if (fd < (int) ELEMENTS(clock_is_boottime) && clock_is_boottime[fd] && flags & TFD_TIMER_ABSTIME &&
            (t.it_value.tv_sec || t.it_value.tv_nsec)) {
                uint64_t usec = (uint64_t) t.it_value.tv_sec * USEC_PER_SEC + (uint64_t) t.it_value.tv_nsec / 1000;

                usec = usec > clock_pushed + 1 ? usec - clock_pushed : 1;
                t.it_value = (struct timespec) { .tv_sec = (time_t) (usec / USEC_PER_SEC), .tv_nsec = (long) (usec % USEC_PER_SEC * 1000) };
        }
        return (int) syscall(SYS_timerfd_settime, fd, flags, &t, old);
}

/* What is due by then is begun at the loop's next turn; one that sleeps already does not wake for it. */
static inline void clock_push(uint64_t usec) { clock_pushed += usec; }
