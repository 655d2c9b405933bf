/* SPDX-License-Identifier: Apache-2.0 */

/* What is measured of the agent, and where it goes: counters count themselves where things happen, gauges are read here whenever somebody looks. */

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>

#include "agent/api-routes.h"
#include "agent/host.h"
#include "base/file.h"
#include "base/log.h"
#include "base/metrics.h"
#include "engine/disk.h"

#define FILE_USEC (15 * USEC_PER_SEC)


static_assert((int) METRIC_LOOP_N == (int) _LOOP_MAX, "the loops, in their order");

static void gauge(Metric m, double value) { metric_set(m, 0, 0, value); }
static double age(uint64_t since, uint64_t now) { return now > since ? (double) (now - since) / USEC_PER_SEC : 0; }

/* ── the agent itself ────────────────────────────────────────────────────────────────────────────────────────── */

static double count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        int n = -3;                     /* "." and "..", and d's own */

        if (!d)
                return NAN;
        while (readdir(d))
                n++;
        (void) closedir(d);
        return n;
}

static void read_loops(const Loops *l) {
        uint64_t now = now_boottime();

        for (unsigned i = 0; i < _LOOP_MAX; i++) {
                metric_set(METRIC_LOOP_AGE, i, 0, l->loop[i].last ? age(l->loop[i].last, now) : (double) NAN);
                metric_set(METRIC_LOOP_OVERDUE, i, 0, l->loop[i].due && now > l->loop[i].due);
        }
}

static void read_degraded(const Agent *a) {
        _cleanup_json_ cJSON *list = agent_degraded_view(a);
        const cJSON *code;

        for (unsigned i = 0; i < METRIC_CODE_N; i++)
                metric_set(METRIC_DEGRADED, i, 0, 0);
        cJSON_ArrayForEach(code, list)
                metric_set(METRIC_DEGRADED, metric_find(METRIC_DEGRADED, cJSON_GetStringValue(code)), 0, 1);
}

static void read_agent(const Agent *a) {
        gauge(METRIC_START_TIME, (double) a->started_at / USEC_PER_SEC);
        gauge(METRIC_MEMORY, (double) host_agent_memory());
        gauge(METRIC_FDS, count_fds());
        gauge(METRIC_FOLLOWERS, api_followers(a->api));
        read_loops(&a->loops);
        read_degraded(a);
}

/* ── the control plane, the engine ───────────────────────────────────────────────────────────────────────────── */

static void read_control(const Agent *a) {
        const Fault *f = a->enrol_fault.set ? &a->enrol_fault : control_fault(a->control);
        uint64_t now = now_realtime(), oldest = outbox_oldest(a->outbox), pins = pins_fetched_at(a->pins);
        double skew = NAN;

        (void) cp_clock_skew(a->cp, &skew);
        gauge(METRIC_CP_UP, control_state(a->control) == CONTROL_POLLING && !(f && f->set));
        gauge(METRIC_AUTH_REJECTED, f && f->set && f->code == FAULT_AUTH_REJECTED);
        gauge(METRIC_CLOCK_SKEW, skew);
        gauge(METRIC_OUTBOX_DEPTH, (double) outbox_depth(a->outbox));
        gauge(METRIC_OUTBOX_OLDEST, oldest ? age(oldest, now) : 0);
        gauge(METRIC_REPORTS_REFUSED, reporter_refused(a->reporter));
        gauge(METRIC_PINS_AGE, pins ? age(pins, now) : (double) NAN);
}

static void read_engine(const Agent *a) {
        Disk disk;
        bool known = disk_look(engine_info(a->engine)->root_dir, &disk) == 0;

        gauge(METRIC_ENGINE_UP, engine_state(a->engine) == ENGINE_UP);
        gauge(METRIC_DISK_FREE, known ? (double) disk.free_bytes : (double) NAN);
        gauge(METRIC_DISK_USED, known ? disk.used_percent / 100.0 : (double) NAN);
}

/* ── workspaces ──────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Look { unsigned states[METRIC_STATE_N], crashing, skewed, held, replacing; } Look;

static void count(const WorkspaceGlance *g, void *userdata) {
        Look *k = userdata;

        k->states[metric_find(METRIC_WORKSPACES, g->status)]++;
        k->crashing += g->crashing;
        k->skewed += g->pin_skew;
        k->held += g->held;
        k->replacing += g->replacing;
}

static unsigned read_workspaces(const Agent *a) {
        Look k = {};

        queue_glance(a->queue, count, &k);
        for (unsigned i = 0; i < METRIC_STATE_N; i++)
                metric_set(METRIC_WORKSPACES, i, 0, k.states[i]);
        gauge(METRIC_CRASH_LOOPING, k.crashing);
        gauge(METRIC_PIN_SKEW, k.skewed);
        gauge(METRIC_HELD_WORKSPACES, k.held);
        gauge(METRIC_HELD, queue_is_held(a->queue));
        gauge(METRIC_DRAINING, queue_is_draining(a->queue));
        gauge(METRIC_JOBS_RUNNING, queue_jobs_running(a->queue));
        return k.replacing < METRIC_WORKSPACES_MAX ? k.replacing : METRIC_WORKSPACES_MAX;
}

typedef struct Printer { FILE *to; bool up; unsigned left; } Printer;

static void print_one(FILE *to, const char *name, const char *id, bool value) {
        fprintf(to, METRIC_PREFIX "%s{workspace_id=\"", name);
        metric_print_escaped(to, id);
        fprintf(to, "\"} %d\n", value);
}

/* One that was never ready is not down yet, unless it has failed. */
static void print_up(const WorkspaceGlance *g, void *userdata) {
        Printer *p = userdata;
        bool up = str_equal(g->status, "online");

        if (up != p->up || p->left == 0 || (!g->settled && !str_equal(g->status, "failed")))
                return;
        p->left--;
        print_one(p->to, "workspace_up", g->id, up);
}

static void print_replacing(const WorkspaceGlance *g, void *userdata) {
        Printer *p = userdata;

        if (!g->replacing || p->left == 0)
                return;
        p->left--;
        print_one(p->to, "workspace_replacing", g->id, true);
}

/* Those that are down first: if there are more than there is room for, it is healthy ones that have no series. */
static void print_workspaces(const Agent *a, unsigned replacing, FILE *to) {
        Printer p = { .to = to, .left = METRIC_WORKSPACES_MAX - replacing };

        metric_print_head(to, "workspace_up", "gauge", "1 while the workspace is online; absent until it was ready once or has failed.");
        queue_glance(a->queue, print_up, &p);
        p.up = true;
        queue_glance(a->queue, print_up, &p);
        p.left = replacing;
        metric_print_head(to, "workspace_replacing", "gauge",
                          "1 from the stop of a container that ran to the end of the new one's gate, unless held; absent otherwise.");
        queue_glance(a->queue, print_replacing, &p);
}

/* ── the text, and where it goes ─────────────────────────────────────────────────────────────────────────────── */

static char *text_of(void *userdata) {
        const Agent *a = userdata;
        char *text = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);
        unsigned replacing;

        if (!to)
                return NULL;
        read_agent(a);
        read_control(a);
        read_engine(a);
        replacing = read_workspaces(a);
        metric_print_head(to, "build_info", "gauge", "1; which program this is.");
        fputs(METRIC_PREFIX "build_info{version=\"" VERSION "\",git_sha=\"" GIT_SHA "\"} 1\n", to);
        metrics_print(to);
        print_workspaces(a, replacing, to);
        if (fclose(to) == 0)
                return text;
        free(text);
        return NULL;
}

int api_get_metrics(Agent *a, const ApiCall *c, ApiAnswer *ret, Fault *reterr) {
        (void) c;
        (void) reterr;
        ret->text = text_of(a);
        ret->type = METRICS_TYPE;
        return ret->text ? 0 : -ENOMEM;
}

static int write_file(Agent *a) {
        const char *path = a->config->textfile_path, *name = strrchr(path, '/') + 1;
        _cleanup_free_ char *dir = str_printf("%.*s", (int) (name - path), path), *text = text_of(a);
        _cleanup_close_ int fd = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

        if (!dir || !text)
                return -ENOMEM;
        return fd < 0 ? -errno : file_replace(fd, name, text, strlen(text), 0644);
}

static int on_file(sd_event_source *s, uint64_t usec, void *userdata) {
        Agent *a = userdata;
        int r = write_file(a);

        (void) usec;
        if (r < 0 && r != a->metering.failed)
                log_error("Metrics cannot be written to %s (textfile_path): %s", a->config->textfile_path, strerror(-r));
        else if (r == 0 && a->metering.failed)
                log_notice("Metrics are written to %s again.", a->config->textfile_path);
        a->metering.failed = r;
        (void) sd_event_source_set_time_relative(s, FILE_USEC);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

void agent_metrics_open(Agent *a) {
        Fault why = {};

        agent_metrics_close(a);
        if (a->config->metrics_listen &&
            api_metrics_start(a->event, a->config->metrics_listen, text_of, a, &a->metering.listener, &why) < 0)
                log_write(LOG_ERR, &(LogFields){ .fault = &why }, "%s", why.text);
        if (a->config->textfile_path &&
            sd_event_add_time_relative(a->event, &a->metering.file, CLOCK_BOOTTIME, 0, USEC_PER_SEC, on_file, a) < 0)
                log_error("Out of memory: no metrics are written to %s.", a->config->textfile_path);
}

void agent_metrics_close(Agent *a) {
        a->metering.listener = api_metrics_stop(a->metering.listener);
        a->metering.file = sd_event_source_disable_unref(a->metering.file);
        a->metering.failed = 0;
}
