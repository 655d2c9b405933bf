/* SPDX-License-Identifier: Apache-2.0 */

/* One seed: a plan of what goes wrong and when, the agent's lives one after the other, and at the end fair weather, in which all must come right. Many seeds: a
 * process each, two at a time. Usage: sim [--loud] [--first] [--jobs N] FIRST [LAST]; --first: not beyond the first that fails. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/hash.h"
#include "tests/sign-kit.h"
#include "tests/sim/sim.h"

#define POLL_USEC (65 * USEC_PER_SEC)           /* its wait, and until it is given up */
#define PACE_USEC MINUTE                        /* the longest pause after trouble */
#define WORK_USEC MINUTE                        /* what the poll brought, and a sweep */
#define CALM_USEC (2 * POLL_USEC + PACE_USEC + WORK_USEC)      /* I7: so long after the last fault everything must have come right */
#define FAIR_USEC (30 * MINUTE)                 /* and so long after it be right still */

#define SEED_SECONDS 120                        /* by the real clock; a history takes a tenth of one */
#define FILES_MAX 24                            /* descriptors of an agent at rest, and the few of this program */

enum { LIFE_KILLED = 1, LIFE_OVER };

static char     base[64];                       /* of this seed, in memory */
static bool     alive, over, reboots;
static uint64_t down_for, calm_since;
static unsigned kills;

/* ── the host ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
        (void) st;
        (void) type;
        (void) at;
        return remove(path);
}

static const char *place(const char *name) {
        static char path[128];

        (void) snprintf(path, sizeof path, "%s/%s", base, name);
        return path;
}

static void write_file(const char *name, const char *text) {
        FILE *f = fopen(place(name), "we");

        if (!f || fputs(text, f) < 0 || fclose(f) != 0)
                abort();
}

/* The seed's process is gone: what it left in memory goes. */
static void host_remove(pid_t pid, uint64_t seed) {
        (void) snprintf(base, sizeof base, "/dev/shm/sim-%d-%llu", (int) pid, (unsigned long long) seed);
        (void) nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void host_make(uint64_t seed) {
        static const char *const dirs[] = { "", "state", "run", "creds" };
        Signer s = signer(1);
        _cleanup_free_ char *key = base64_encode(s.public, sizeof s.public);
        char config[1000];

        (void) snprintf(base, sizeof base, "/dev/shm/sim-%d-%llu", (int) getpid(), (unsigned long long) seed);
        for (size_t i = 0; i < ELEMENTS(dirs); i++)
                if (mkdir(place(dirs[i]), 0700) < 0)
                        abort();
        (void) snprintf(config, sizeof config, "[agent]\ncp_url=" SIM_CP "\norg_id=" SIM_ORG "\nengine_socket=" SIM_SOCKET "\nimds=off\nlauncher=/bin/true\nsigning_keys=%s\n"
                        "allow_unlocked_memory=yes\nlog_level=%s\npreloaded_file=/nonexistent\n", key, sim_loud ? "info" : "error");
        write_file("agent.conf", config);
        write_file("creds/provision-secret", "provision");
        write_file("creds/admin-token", "admin");
        (void) setenv("STATE_DIRECTORY", place("state"), 1);
        (void) setenv("RUNTIME_DIRECTORY", place("run"), 1);
        (void) setenv("CREDENTIALS_DIRECTORY", place("creds"), 1);
        (void) unsetenv("NOTIFY_SOCKET");
        (void) unsetenv("WATCHDOG_USEC");
        (void) unsetenv("JOURNAL_STREAM");
}

/* ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────── */

static void on_kill(void *userdata) {
        (void) userdata;
        if (!alive || over)
                return;
        down_for = chance(500) ? between(1, 3000) * USEC_PER_MSEC : between(1, 600) * USEC_PER_SEC;
        if (chance(600))
                sim_kill_in_writes = (unsigned) between(1, 40);
        else
                sim_kill();
}

static void on_terminate(void *userdata) {
        (void) userdata;
        if (!alive || over)
                return;
        down_for = between(1, 60) * USEC_PER_SEC;
        trace("---- SIGTERM");
        loop_signal(SIGTERM);
}

static void on_reboot(void *userdata) {
        (void) userdata;
        if (!alive || over)
                return;
        down_for = between(10, 120) * USEC_PER_SEC;
        reboots = true;
        trace("---- the host reboots");
        engine_down(true);
        sim_kill();
}

static void on_engine_up(void *userdata) {
        (void) userdata;
        if (!engine_is_up)
                engine_up();
}

static void on_engine_down(void *userdata) {
        (void) userdata;
        if (!engine_is_up || over)
                return;
        engine_down(chance(500));
        (void) task_after(between(1, 120) * USEC_PER_SEC, on_engine_up, NULL);
}

static void on_cp_up(void *userdata) {
        (void) userdata;
        if (!cp_is_up)
                cp_outage(false);
}

static void on_cp_down(void *userdata) {
        (void) userdata;
        if (!cp_is_up || over)
                return;
        cp_outage(true);
        (void) task_after(between(1, 1800) * USEC_PER_SEC, on_cp_up, NULL);
}

static void on_hit(void *userdata) {
        (void) userdata;
        if (!over && engine_is_up)
                engine_hit();
}

static void on_forget(void *userdata) {
        (void) userdata;
        if (!over)
                cp_forget();
}

static void on_disk_well(void *userdata) {
        (void) userdata;
        sim_disk_fails = 0;
}

static void on_disk_sick(void *userdata) {
        (void) userdata;
        if (over)
                return;
        sim_disk_fails = (unsigned) between(10, 300);
        (void) task_after(between(1, 300) * USEC_PER_SEC, on_disk_well, NULL);
}

static void on_reload(void *userdata) {
        (void) userdata;
        if (!alive || over)
                return;
        trace("---- SIGHUP");
        loop_signal(SIGHUP);
}

static void on_clock(void *userdata) {
        (void) userdata;
        sim_wall_off = chance(300) ? 0 : (int64_t) between(0, 4 * HOUR) - (int64_t) (2 * HOUR);
        trace("---- the wall clock is off by %lld s", (long long) sim_wall_off / 1000000);
}

/* permille: of the seeds that know this fault at all; then one to max times. */
static bool plan(unsigned permille, unsigned max, uint64_t span, void (*fn)(void *userdata)) {
        bool any = chance(permille);

        for (uint64_t n = any ? between(1, max) : 0; n > 0; n--)
                (void) task_after(dice(span), fn, NULL);
        return any;
}

static void plan_weather(void) {
        static const Weather fair = { .delay = 2000 };
        Weather *e = &weather[SIDE_ENGINE], *c = &weather[SIDE_CP];

        *e = *c = weather[SIDE_PROBE] = fair;
        e->delay = c->delay = between(200, 300000);
        if (chance(500))
                *c = (Weather) { .refuse = (unsigned) dice(60), .lose_request = (unsigned) dice(60), .lose_answer = (unsigned) dice(150), .fail = (unsigned) dice(100), .late = (unsigned) dice(20), .delay = c->delay };
        if (chance(500))
                *e = (Weather) { .lose_request = (unsigned) dice(20), .lose_answer = (unsigned) dice(60), .late = (unsigned) dice(10), .delay = e->delay };
        if (chance(150))
                e->lie = (unsigned) dice(200);
        if (chance(200))
                e->fail = (unsigned) dice(60);
}

static unsigned count_names(const char *path) {
        DIR *d = opendir(path);
        unsigned n = 0;

        for (const struct dirent *e; d && (e = readdir(d));)
                n += e->d_name[0] != '.';
        if (d)
                (void) closedir(d);
        return n;
}

static void must_be_settled(void) {
        char why[300] = "";

        if (!model_is_settled(why, sizeof why))
                wrong("I7: %s, %llu seconds after the last fault", why, (unsigned long long) ((sim_now - calm_since) / USEC_PER_SEC));
}

/* The last fault may be a kill, whose pause ends later. */
static void on_calm(void *userdata) {
        uint64_t due = (alive ? calm_since : sim_now) + CALM_USEC;

        if (due > sim_now)
                (void) task_after(due - sim_now, on_calm, userdata);
        else
                must_be_settled();
}

/* At rest a record names the payloads of what is wanted and of what has settled, and no other file lies beside it. */
static void judge_files(void) {
        DIR *d = opendir(place("state/ws"));
        char id[37] = "";
        unsigned same = 0;
        struct dirent **names;
        int n = d ? scandirat(dirfd(d), ".", &names, NULL, alphasort) : -1;

        for (int i = 0; i < n; i++) {
                const char *name = names[i]->d_name;

                if (strlen(name) > 36) {
                        same = strncmp(name, id, 36) == 0 ? same + 1 : 1;
                        memcpy(id, name, 36);
                        if (faccessat(dirfd(d), id, F_OK, 0) < 0 || same > 2)
                                wrong("I8: nothing names the file %s any more", name);
                }
                free(names[i]);
        }
        if (n < 0)
                abort();
        free(names);
        (void) closedir(d);
}

static void on_end(void *userdata) {
        (void) userdata;
        must_be_settled();
        if (count_names(place("state/outbox")) > 0)
                wrong("I8: every report was taken, but the outbox is not empty");
        judge_files();
        if (count_names("/proc/self/fd") > FILES_MAX)
                wrong("I8: %u descriptors are open", count_names("/proc/self/fd"));
        trace("all is as it should be");
        longjmp(sim_life, LIFE_OVER);
}

static void on_fair(void *userdata) {
        (void) userdata;
        trace("---- fair weather from now on");
        over = true;
        sim_kill_in_writes = sim_disk_fails = 0;
        for (unsigned s = 0; s < _SIDE_MAX; s++)
                weather[s] = (Weather) { .delay = 2000 };
        if (!engine_is_up)
                engine_up();
        if (!cp_is_up)
                cp_outage(false);
        calm_since = sim_now;
        (void) task_after(CALM_USEC, on_calm, NULL);
        (void) task_after(FAIR_USEC, on_end, NULL);
}

static void make_plan(void) {
        uint64_t span = between(20, 180) * MINUTE;

        plan_weather();
        jobs_make(span);
        (void) plan(600, 5, span, on_kill);
        (void) plan(200, 2, span, on_terminate);
        (void) plan(150, 2, span, on_reboot);
        (void) plan(300, 3, span, on_engine_down);
        (void) plan(400, 3, span, on_cp_down);
        (void) plan(300, 4, span, on_hit);
        (void) plan(200, 4, span, on_clock);
        (void) plan(100, 3, span, on_disk_sick);
        (void) plan(150, 2, span, on_forget);
        (void) plan(150, 3, span, on_reload);
        (void) task_after(span + 5 * MINUTE, on_fair, NULL);
}

/* ── the agent's lives ───────────────────────────────────────────────────────────────────────────────────────── */

/* What a process leaves behind when it is gone: nothing. Its memory stays, since nobody looks at it any more. */
static void bury(void) {
        alive = false;
        sim_kill_in_writes = 0;
        (void) close_range(3, ~0U, 0);
        loop_forget();
        door_forget();
}

static void live(void) {
        const AgentOptions options = { .config_path = strdup(place("agent.conf")) };
        Agent *a = NULL;
        Fault why = {};

        alive = true;
        calm_since = sim_now;
        trace("---- the agent starts");
        if (agent_new(&options, &a, &why) < 0) {
                if (!sim_disk_fails)
                        wrong("the agent does not start: %s", why.text);
                trace("it does not start: %s", why.text);
                down_for = 2 * USEC_PER_SEC;    /* as systemd does */
                return;
        }
        (void) agent_run(a);
        alive = false;
        agent_free(a);
}

static void after_life(void) {
        uint64_t pause = down_for ?: 100 * USEC_PER_MSEC;

        kills++;
        down_for = 0;
        bury();
        if (reboots)
                sim_boot();
        if (reboots && nftw(place("run"), remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0 && mkdir(place("run"), 0700) < 0)
                abort();
        world_run(sim_now + pause);
        if (reboots && !engine_is_up)
                engine_up();
        reboots = false;
}

static int seed_run(uint64_t seed) {
        int how;

        (void) umask(0077);
        sim_seed(seed);
        host_make(seed);
        make_plan();
        while ((how = setjmp(sim_life)) != LIFE_OVER) {
                if (how == LIFE_KILLED)
                        after_life();
                live();
                after_life();
        }
        return 0;
}

/* ── many seeds ──────────────────────────────────────────────────────────────────────────────────────────────── */

static double seconds(void) {
        struct timespec t;

        (void) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

extern void __gcov_dump(void) __attribute__((weak));    /* there in a build that measures what is covered */

static pid_t begin(uint64_t seed) {
        pid_t pid;
        int status;

        (void) fflush(stdout);
        pid = fork();
        if (pid != 0)
                return pid;
        if (!sim_loud) {
                int null = open("/dev/null", O_WRONLY);

                (void) dup2(null, STDERR_FILENO);
                (void) close(null);
        }
        if (sim_loud)
                printf("# seed %llu\n", (unsigned long long) seed);
        (void) alarm(SEED_SECONDS);             /* ended by it, the seed is named as failed */
        status = seed_run(seed);
        if (__gcov_dump)
                __gcov_dump();
        _exit(status);
}

int main(int argc, char **argv) {
        uint64_t first, last, n, bad = 0, seeds[64];
        unsigned width = 2, running = 0;
        pid_t pids[64];
        double began = seconds();
        bool only_first = false;
        int i = 1, status;

        for (; i < argc && argv[i][0] == '-'; i++)
                if (strcmp(argv[i], "--loud") == 0)
                        sim_loud = true;
                else if (strcmp(argv[i], "--first") == 0)
                        only_first = true;
                else if (strcmp(argv[i], "--jobs") == 0 && i + 1 < argc)
                        width = (unsigned) strtoul(argv[++i], NULL, 10);
        first = i < argc ? strtoull(argv[i], NULL, 10) : 1;
        last = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : first;
        if (first < 1 || last < first || width < 1 || width > 64) {
                (void) fprintf(stderr, "sim: seeds are numbers from 1, as in 1 1000; jobs are 1 to 64.\n");
                return 2;
        }
        if (hash_init() < 0)
                return 2;
        for (uint64_t seed = first; seed <= last || running > 0;) {
                if (only_first && bad)
                        last = seed - 1;
                while (running < width && seed <= last) {
                        seeds[running] = seed;
                        pids[running++] = begin(seed++);
                }
                if (!running)
                        break;
                pid_t pid = wait(&status);
                for (unsigned k = 0; k < running; k++)
                        if (pids[k] == pid) {
                                host_remove(pid, seeds[k]);
                                if (status != 0) {
                                        printf("not ok %llu - seed %llu: make check-sim SEED=%llu\n", (unsigned long long) ++bad, (unsigned long long) seeds[k], (unsigned long long) seeds[k]);
                                }
                                running--;
                                pids[k] = pids[running];
                                seeds[k] = seeds[running];
                                break;
                        }
        }
        n = last - first + 1;
        printf("# %llu seeds in %.1f s\n", (unsigned long long) n, seconds() - began);
        if (!bad)
                printf("ok 1 - seeds %llu to %llu\n", (unsigned long long) first, (unsigned long long) last);
        printf("1..%llu\n", (unsigned long long) (bad ?: 1));
        return bad > 0;
}
