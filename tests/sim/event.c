/* SPDX-License-Identifier: Apache-2.0 */

/* sd-event, the clocks, randomness and the disk's patience, as the agent sees them. Time stands still while something runs and jumps to what is due next: of the
 * agent's sources and the world's tasks the earliest, deferred ones first. A timer comes anywhere within its accuracy, as it may. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <systemd/sd-id128.h>
#include <time.h>

#include "tests/sim/sim.h"

#define AT_ONCE_MAX 20000                       /* turns of the loop within a second: more is a loop that spins */

uint64_t sim_now;
int64_t  sim_wall_off;
bool     sim_loud;
jmp_buf  sim_life;
unsigned sim_kill_in_writes, sim_disk_fails;

static uint64_t world_state, agent_state, boot_id;

/* ── chance ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t mix(uint64_t *state) {
        uint64_t v = *state += UINT64_C(0x9e3779b97f4a7c15);

        v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
        return v ^ v >> 31;
}

void sim_seed(uint64_t seed) {
        world_state = seed * 2 + 1;
        agent_state = seed * UINT64_C(0xd1342543de82ef95) + 7;
        sim_now = 1000 * USEC_PER_SEC;
        boot_id = 1;
}

uint64_t dice(uint64_t n) { return n ? mix(&world_state) % n : 0; }
uint64_t between(uint64_t low, uint64_t high) { return low + dice(high - low + 1); }
bool chance(unsigned permille) { return permille && dice(1000) < permille; }

/* libsodium's, OpenSSL's and our own. */
ssize_t getrandom(void *buffer, size_t size, unsigned flags) {
        unsigned char *to = buffer;

        (void) flags;
        for (size_t i = 0; i < size; i++)
                to[i] = (unsigned char) mix(&agent_state);
        return (ssize_t) size;
}

/* ── clocks and the machine ──────────────────────────────────────────────────────────────────────────────────── */

uint64_t sim_true_time(void) { return SIM_START * USEC_PER_SEC + sim_now; }

int clock_gettime(clockid_t id, struct timespec *t) {
        uint64_t usec = id == CLOCK_REALTIME ? (uint64_t) ((int64_t) sim_true_time() + sim_wall_off) : sim_now;

        *t = (struct timespec) { .tv_sec = (time_t) (usec / USEC_PER_SEC), .tv_nsec = (long) (usec % USEC_PER_SEC * 1000) };
        return 0;
}

void sim_boot(void) { boot_id++; }

int sd_id128_get_boot(sd_id128_t *ret) {
        *ret = (sd_id128_t) { .qwords = { boot_id, 0x4242 } };
        return 0;
}

int sd_id128_get_machine_app_specific(sd_id128_t app, sd_id128_t *ret) {
        (void) app;
        *ret = (sd_id128_t) { .qwords = { 17, 17 } };
        return 0;
}

/* Half of a disk of 100 GB is free. */
static int disk(struct statvfs *ret) {
        *ret = (struct statvfs) { .f_bsize = 4096, .f_frsize = 4096, .f_blocks = 24000000, .f_bfree = 12000000, .f_bavail = 12000000, .f_files = 1000000, .f_ffree = 900000,
                                  .f_favail = 900000 };
        return 0;
}
int statvfs(const char *restrict path, struct statvfs *restrict ret) {
        (void) path;
        return disk(ret);
}
int fstatvfs(int fd, struct statvfs *ret) {
        (void) fd;
        return disk(ret);
}

/* Every port is free here; nothing of the agent's listens (its local API stays out). */
int bind(int fd, const struct sockaddr *address, socklen_t size) {
        (void) fd;
        (void) size;
        if (address->sa_family == AF_INET)
                return 0;
        errno = EACCES;
        return -1;
}

/* ── the agent's end ─────────────────────────────────────────────────────────────────────────────────────────── */

_Noreturn void sim_kill(void) {
        sim_kill_in_writes = 0;
        trace("---- kill -9");
        longjmp(sim_life, 1);
}

static void before_write(void) {
        if (sim_kill_in_writes && --sim_kill_in_writes == 0)
                sim_kill();
}

/* Nothing here outlives a power cut: that is tests/fault's business. */
int fsync(int fd) {
        char path[40], name[300] = "";

        before_write();
        if (!chance(sim_disk_fails))
                return 0;
        (void) snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        (void) !readlink(path, name, sizeof name - 1);
        model_stumbles(name);
        trace("  the disk fails at %s", name);
        errno = EIO;
        return -1;
}
int renameat(int from, const char *old, int to, const char *new) {
        before_write();
        return (int) syscall(SYS_renameat2, from, old, to, new, 0);
}
int unlinkat(int dirfd, const char *name, int flags) {
        before_write();
        return (int) syscall(SYS_unlinkat, dirfd, name, flags);
}

/* ── the world's tasks ───────────────────────────────────────────────────────────────────────────────────────── */

struct Task {
        TAILQ_ENTRY(Task) link;
        uint64_t at;
        void (*fn)(void *userdata);
        void *userdata;
};
static TAILQ_HEAD(TaskList, Task) tasks = TAILQ_HEAD_INITIALIZER(tasks);

/* Kept in order; of two for the same moment the first made comes first. */
Task *task_after(uint64_t usec, void (*fn)(void *userdata), void *userdata) {
        Task *t = calloc(1, sizeof *t), *before;

        if (!t)
                abort();
        *t = (Task) { .at = sim_now + usec, .fn = fn, .userdata = userdata };
        TAILQ_FOREACH_REVERSE(before, &tasks, TaskList, link)
                if (before->at <= t->at)
                        break;
        if (before)
                TAILQ_INSERT_AFTER(&tasks, before, t, link);
        else
                TAILQ_INSERT_HEAD(&tasks, t, link);
        return t;
}

/* Taken off before it is done: a kill may come out of it. */
static void task_run(Task *t) {
        Task copy = *t;

        TAILQ_REMOVE(&tasks, t, link);
        free(t);
        if (copy.at > sim_now)
                sim_now = copy.at;
        copy.fn(copy.userdata);
}

void world_run(uint64_t until) {
        Task *t;

        while ((t = TAILQ_FIRST(&tasks)) && t->at <= until)
                task_run(t);
        if (sim_now < until)
                sim_now = until;
}

/* ── sd-event ────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef enum SourceKind { SOURCE_DEFER, SOURCE_TIME, SOURCE_SIGNAL, SOURCE_DEAF } SourceKind;

struct sd_event_source {
        TAILQ_ENTRY(sd_event_source) link;
        sd_event  *event;
        SourceKind kind;
        int        enabled, signo;
        bool       running, dead;
        uint64_t   due, fire, accuracy, since;  /* since: in which order deferred ones were enabled */
        void      *fn, *userdata;
};

TAILQ_HEAD(SourceList, sd_event_source);
struct sd_event {
        struct SourceList sources;
        unsigned refs;
        bool     exiting;
        int      code;
};

static sd_event *the_loop;
static uint64_t  turns, turns_at, orders;

void loop_forget(void) { the_loop = NULL; }

int sd_event_new(sd_event **ret) {
        sd_event *e = calloc(1, sizeof *e);

        if (!e)
                return -ENOMEM;
        e->refs = 1;
        TAILQ_INIT(&e->sources);
        *ret = e;
        return 0;
}

int sd_event_default(sd_event **ret) {
        if (!the_loop)
                return sd_event_new(&the_loop) < 0 ? -ENOMEM : (*ret = the_loop, 1);
        *ret = sd_event_ref(the_loop);
        return 0;
}

sd_event *sd_event_ref(sd_event *e) {
        e->refs++;
        return e;
}

sd_event *sd_event_unref(sd_event *e) {
        sd_event_source *s;

        if (!e || --e->refs > 0)
                return NULL;
        while ((s = TAILQ_FIRST(&e->sources))) {
                TAILQ_REMOVE(&e->sources, s, link);
                free(s);
        }
        if (e == the_loop)
                the_loop = NULL;
        free(e);
        return NULL;
}

static int source_new(sd_event *e, SourceKind kind, int enabled, void *fn, void *userdata, sd_event_source **ret) {
        sd_event_source *s = calloc(1, sizeof *s);

        if (!s)
                return -ENOMEM;
        *s = (sd_event_source) { .event = e, .kind = kind, .enabled = enabled, .due = UINT64_MAX, .fire = UINT64_MAX, .since = ++orders, .fn = fn, .userdata = userdata };
        TAILQ_INSERT_TAIL(&e->sources, s, link);
        if (ret)
                *ret = s;
        return 0;
}

/* Anywhere between when it is due and when it may be late; 0 stands for a quarter of a second. */
static void source_arm(sd_event_source *s, uint64_t due) {
        uint64_t late = s->accuracy ?: 250 * USEC_PER_MSEC;

        s->due = due;
        s->fire = due > UINT64_MAX - late ? UINT64_MAX : due + dice(late + 1);
}

int sd_event_add_time(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy, sd_event_time_handler_t fn, void *userdata) {
        sd_event_source *s;

        if (clock != CLOCK_BOOTTIME || source_new(e, SOURCE_TIME, SD_EVENT_ONESHOT, (void *) fn, userdata, &s) < 0)
                return -EOPNOTSUPP;
        s->accuracy = accuracy;
        source_arm(s, usec);
        if (ret)
                *ret = s;
        return 0;
}

int sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec, uint64_t accuracy, sd_event_time_handler_t fn, void *userdata) {
        return sd_event_add_time(e, ret, clock, sim_now + usec, accuracy, fn, userdata);
}

int sd_event_add_defer(sd_event *e, sd_event_source **ret, sd_event_handler_t fn, void *userdata) {
        return source_new(e, SOURCE_DEFER, SD_EVENT_ONESHOT, (void *) fn, userdata, ret);
}

int sd_event_add_signal(sd_event *e, sd_event_source **ret, int signo, sd_event_signal_handler_t fn, void *userdata) {
        sd_event_source *s;

        if (source_new(e, SOURCE_SIGNAL, SD_EVENT_ON, (void *) fn, userdata, &s) < 0)
                return -ENOMEM;
        s->signo = signo;
        if (ret)
                *ret = s;
        return 0;
}

int sd_event_add_inotify(sd_event *e, sd_event_source **ret, const char *path, uint32_t mask, sd_event_inotify_handler_t fn, void *userdata) {
        (void) path;
        (void) mask;
        return source_new(e, SOURCE_DEAF, SD_EVENT_ON, (void *) fn, userdata, ret);
}

int sd_event_add_io(sd_event *e, sd_event_source **ret, int fd, uint32_t events, sd_event_io_handler_t fn, void *userdata) {
        (void) e;
        (void) ret;
        (void) fd;
        (void) events;
        (void) fn;
        (void) userdata;
        return -EPERM;                          /* there are no descriptors to wait for in this world */
}

int sd_event_source_set_io_events(sd_event_source *s, uint32_t events) {
        (void) s;
        (void) events;
        return -EDOM;
}

sd_event_source *sd_event_source_disable_unref(sd_event_source *s) {
        if (!s)
                return NULL;
        s->enabled = SD_EVENT_OFF;
        s->dead = true;
        if (s->running)
                return NULL;
        TAILQ_REMOVE(&s->event->sources, s, link);
        free(s);
        return NULL;
}

int sd_event_source_get_enabled(sd_event_source *s, int *ret) {
        if (!s)
                return -EINVAL;
        if (ret)
                *ret = s->enabled;
        return s->enabled != SD_EVENT_OFF;
}

int sd_event_source_set_enabled(sd_event_source *s, int enabled) {
        if (!s)
                return enabled == SD_EVENT_OFF ? 0 : -EINVAL;
        if (s->enabled == SD_EVENT_OFF && enabled != SD_EVENT_OFF)
                s->since = ++orders;
        s->enabled = enabled;
        return 0;
}

int sd_event_source_get_time(sd_event_source *s, uint64_t *ret) {
        if (!s || s->kind != SOURCE_TIME)
                return -EINVAL;
        *ret = s->due;
        return 0;
}

int sd_event_source_set_time(sd_event_source *s, uint64_t usec) {
        if (!s || s->kind != SOURCE_TIME)
                return -EINVAL;
        source_arm(s, usec);
        return 0;
}

int sd_event_source_set_time_relative(sd_event_source *s, uint64_t usec) { return sd_event_source_set_time(s, sim_now + usec); }

int sd_event_source_set_time_accuracy(sd_event_source *s, uint64_t usec) {
        if (!s || s->kind != SOURCE_TIME)
                return -EINVAL;
        s->accuracy = usec;
        source_arm(s, s->due);
        return 0;
}

int sd_event_source_set_description(sd_event_source *s, const char *words) {
        (void) s;
        (void) words;
        return 0;
}

static void dispatch(sd_event_source *s) {
        int r;

        if (s->enabled == SD_EVENT_ONESHOT)
                s->enabled = SD_EVENT_OFF;
        s->running = true;
        if (s->kind == SOURCE_TIME)
                r = ((sd_event_time_handler_t) s->fn)(s, s->due, s->userdata);
        else if (s->kind == SOURCE_DEFER)
                r = ((sd_event_handler_t) s->fn)(s, s->userdata);
        else
                r = ((sd_event_signal_handler_t) s->fn)(s, NULL, s->userdata);
        s->running = false;
        if (r < 0)
                s->enabled = SD_EVENT_OFF;
        if (s->dead)
                (void) sd_event_source_disable_unref(s);
}

void loop_signal(int signo) {
        sd_event_source *s, *next;

        for (s = the_loop ? TAILQ_FIRST(&the_loop->sources) : NULL; s; s = next) {
                next = TAILQ_NEXT(s, link);
                if (s->kind == SOURCE_SIGNAL && s->signo == signo && s->enabled != SD_EVENT_OFF)
                        dispatch(s);
        }
}

static sd_event_source *next_source(const sd_event *e) {
        sd_event_source *s, *deferred = NULL, *timer = NULL;

        TAILQ_FOREACH(s, &e->sources, link) {
                if (s->enabled == SD_EVENT_OFF)
                        continue;
                if (s->kind == SOURCE_DEFER && (!deferred || s->since < deferred->since))
                        deferred = s;
                if (s->kind == SOURCE_TIME && (!timer || s->fire < timer->fire))
                        timer = s;
        }
        return deferred ?: timer;
}

static void count_turn(void) {
        if (sim_now - turns_at > USEC_PER_SEC) {
                turns_at = sim_now;
                turns = 0;
        }
        if (++turns > AT_ONCE_MAX)
                wrong("the loop spins: %u turns within a second", AT_ONCE_MAX);
}

int sd_event_run(sd_event *e, uint64_t usec) {
        sd_event_source *s = next_source(e);
        Task *t = TAILQ_FIRST(&tasks);

        (void) usec;
        count_turn();
        sim_now += 1 + dice(20);                /* nothing is for nothing */
        if (s && s->kind == SOURCE_TIME && s->fire == UINT64_MAX)
                s = NULL;
        if (!s && !t)
                wrong("nothing will ever happen any more");
        if (!s || (t && s->kind == SOURCE_TIME && t->at <= s->fire)) {
                task_run(t);
                return 1;
        }
        if (s->kind == SOURCE_TIME && s->fire > sim_now)
                sim_now = s->fire;
        dispatch(s);
        return 1;
}

int sd_event_loop(sd_event *e) {
        while (!e->exiting)
                (void) sd_event_run(e, UINT64_MAX);
        return e->code;
}

int sd_event_exit(sd_event *e, int code) {
        e->exiting = true;
        e->code = code;
        return 0;
}

/* ── words ───────────────────────────────────────────────────────────────────────────────────────────────────── */

_printf_(2, 0)
static void say(const char *prefix, const char *fmt, va_list ap) {
        printf("%s[%9.3f] ", prefix, (double) sim_now / 1e6);
        vprintf(fmt, ap);
        putchar('\n');
}

void trace(const char *fmt, ...) {
        va_list ap;

        if (!sim_loud)
                return;
        va_start(ap, fmt);
        say("# ", fmt, ap);
        va_end(ap);
        fflush(stdout);
}

void wrong(const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        say("# WRONG ", fmt, ap);
        va_end(ap);
        fflush(stdout);
        _exit(1);
}
