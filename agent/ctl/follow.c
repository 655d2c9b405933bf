/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/follow.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/ids.h"
#include "agent/ctl/term.h"

#define LINE_MAX_BYTES (8 * 1024)
#define BARS_MAX       8
#define BAR_WIDTH      30
#define BAR_WORDS      60               /* columns of what stands beside it */

typedef struct Bar {
        char job_id[UUID_SIZE], what[ID_SHORT_SIZE];
        uint64_t bytes, total, seen;    /* seen: boottime */
        double rate;                    /* bytes per second, smoothed */
} Bar;

typedef struct Follower {
        const Follow *f;
        bool live;
        char line[LINE_MAX_BYTES], kind[32];
        size_t used;
        Bar bars[BARS_MAX];
        unsigned n_bars, painted;       /* lines of bars that stand on the terminal now */
} Follower;

/* ── bars ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void unpaint(Follower *w) {
        if (w->painted)
                printf("\033[%uA\r\033[J", w->painted);
        w->painted = 0;
}

/* Never wider than the terminal: a line that wraps could not be painted over. */
static void paint_bar(const Bar *b, unsigned columns) {
        unsigned percent = b->bytes >= b->total ? 99 : (unsigned) (b->bytes * 100 / b->total);
        unsigned width = columns > BAR_WIDTH + BAR_WORDS ? BAR_WIDTH : columns > BAR_WORDS ? columns - BAR_WORDS : 0, full = percent * width / 100;
        char bytes[TERM_TEXT_SIZE], total[TERM_TEXT_SIZE], rate[TERM_TEXT_SIZE], line[200];
        static const char dashes[] = "##############################", dots[] = "..............................";

        (void) snprintf(line, sizeof line, "pulling for %s [%.*s%.*s] %2u%%  %s of %s  %s/s", b->what, (int) full, dashes, (int) (width - full), dots,
                        percent, term_bytes(b->bytes, bytes), term_bytes(b->total, total), term_bytes((uint64_t) b->rate, rate));
        printf("%.*s\n", (int) columns - 1, line);
}

static void paint(Follower *w) {
        if (!w->live)
                return;
        for (unsigned i = 0; i < w->n_bars; i++)
                paint_bar(&w->bars[i], term_columns());
        w->painted = w->n_bars;
        (void) fflush(stdout);
}

static Bar *bar_of(Follower *w, const char *job_id) {
        for (unsigned i = 0; i < w->n_bars; i++)
                if (str_equal(w->bars[i].job_id, job_id))
                        return &w->bars[i];
        return NULL;
}

static void bar_drop(Follower *w, const char *job_id) {
        Bar *b = bar_of(w, job_id);

        if (b)
                *b = w->bars[--w->n_bars];
}

static void bar_move(Bar *b, uint64_t bytes, uint64_t total) {
        uint64_t now = now_boottime();
        double seconds = (double) (now - b->seen) / USEC_PER_SEC;

        if (b->seen && bytes > b->bytes && seconds > 0.1) {
                double rate = (double) (bytes - b->bytes) / seconds;

                b->rate = b->rate > 0 ? b->rate * 0.7 + rate * 0.3 : rate;
        }
        b->bytes = bytes;
        b->total = total;
        b->seen = now;
}

/* Without a terminal a pull is a line at each tenth of its way. */
static void show_pull(Follower *w, const cJSON *data) {
        const char *job_id = json_get_string(data, "job_id") ?: "", *who = json_get_string(data, "workspace_id") ?: "the host";
        uint64_t bytes = (uint64_t) json_get_i64(data, "bytes", 0), total = (uint64_t) json_get_i64(data, "total_bytes", 0), before;
        char text[TERM_TEXT_SIZE], whole[TERM_TEXT_SIZE], clock[TERM_TEXT_SIZE];
        Bar *b = bar_of(w, job_id);

        if (!total || (!b && w->n_bars == BARS_MAX))
                return;
        if (!b) {
                b = &w->bars[w->n_bars++];
                *b = (Bar){};
                (void) snprintf(b->job_id, sizeof b->job_id, "%s", job_id);
                (void) snprintf(b->what, sizeof b->what, "%s", who);
        }
        before = b->total ? b->bytes * 10 / b->total : 0;
        bar_move(b, bytes, total);
        if (!w->live && bytes * 10 / total != before)
                printf("%s  pull       %s  %llu%%  %s of %s\n", term_clock(json_get_string(data, "at"), clock), b->what, (unsigned long long) (bytes * 100 / total),
                       term_bytes(bytes, text), term_bytes(total, whole));
}

/* ── the other events ────────────────────────────────────────────────────────────────────────────────────────── */

static void begin_line(const char *at, const char *kind) {
        char clock[TERM_TEXT_SIZE];

        printf("%s%s%s  %-9s  ", term_on(TONE_FAINT), term_clock(at, clock), term_off(), kind);
}

static void print_state(const char *state) { printf("%s%s%s", term_on(term_tone(state)), state, term_off()); }

static void show_job(Follower *w, const cJSON *data) {
        const char *state = json_get_string(data, "state") ?: "", *stage = json_get_string(data, "stage"), *code = json_get_string(data, "error/code");
        const char *workspace = json_get_string(data, "workspace_id");
        bool running = str_equal(state, "running");

        if (running && json_get(data, "progress") && json_get_i64(data, "progress", 0) > 0)
                return;                         /* the pull's own events say it better */
        if (!running || !str_equal(stage, "installing"))
                bar_drop(w, json_get_string(data, "job_id"));
        begin_line(json_get_string(data, "at"), "job");
        print_state(state);
        printf(" %s %.8s", json_get_string(data, "type") ?: json_get_string(data, "source") ?: "", json_get_string(data, "job_id") ?: "");
        if (workspace)
                printf(" on %.8s", workspace);
        if (running)
                printf(": %s", stage ?: "at work");
        else if (code)
                printf(": %s: %s", code, json_get_string(data, "message") ?: "");
        putchar('\n');
}

static void show_workspace(Follower *w, const cJSON *data) {
        const char *code = json_get_string(data, "last_error/code");

        (void) w;
        begin_line(json_get_string(data, "at"), "workspace");
        printf("%.8s ", json_get_string(data, "workspace_id") ?: "");
        print_state(json_get_string(data, "status") ?: "");
        printf("%s%s\n", code ? ": " : "", code ?: "");
}

static void show_hold(Follower *w, const cJSON *data) {
        const cJSON *hold;

        (void) w;
        begin_line(json_get_string(data, "at"), "hold");
        fputs(json_get_bool(data, "held", false) ? "the host is held" : "the host is not held", stdout);
        cJSON_ArrayForEach(hold, json_get(data, "holds"))
                printf("; %.8s: %s", json_get_string(hold, "workspace_id") ?: "host", json_get_string(hold, "reason") ?: "");
        puts(json_get_bool(data, "draining", false) ? "; draining" : "");
}

static void show_control(Follower *w, const cJSON *data) {
        const char *code = json_get_string(data, "error/code");

        (void) w;
        begin_line(json_get_string(data, "at"), "control");
        printf("%s%s%s%s%s\n", json_get_string(data, "state") ?: "", code ? ": " : "", code ?: "", code ? ": " : "",
               json_get_string(data, "error/message") ?: "");
}

static void show_lost(Follower *w, const cJSON *data) {
        (void) w;
        begin_line(json_get_string(data, "at"), "lost");
        printf("%lld events came faster than they were read\n", (long long) json_get_i64(data, "events", 0));
}

static const struct {
        const char *kind;
        bool of_jobs;
        void (*show)(Follower *w, const cJSON *data);
} kinds[] = {
        { "job", true, show_job },   { "pull", true, show_pull },          { "workspace", false, show_workspace },
        { "hold", false, show_hold }, { "control", false, show_control }, { "lost", true, show_lost },
};

static void show(Follower *w, cJSON *data, const char *text) {
        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                if (!str_equal(kinds[i].kind, w->kind) || (w->f->jobs_only && !kinds[i].of_jobs))
                        continue;
                if (w->f->json)
                        printf("{\"event\":\"%s\",\"data\":%s}\n", w->kind, text);
                else {
                        client_tame(data);
                        unpaint(w);
                        kinds[i].show(w, data);
                        paint(w);
                }
        }
        (void) fflush(stdout);
}

/* ── the stream ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void take_line(Follower *w) {
        _cleanup_json_ cJSON *data = NULL;

        w->line[w->used] = 0;
        if (strncmp(w->line, "event: ", 7) == 0)
                (void) snprintf(w->kind, sizeof w->kind, "%s", w->line + 7);
        else if (strncmp(w->line, "data: ", 6) == 0 && json_parse(w->line + 6, w->used - 6, &data, NULL) == 0)
                show(w, data, w->line + 6);
        w->used = 0;
}

static int on_part(const char *data, size_t size, void *userdata) {
        Follower *w = userdata;

        for (size_t i = 0; i < size; i++)
                if (data[i] == '\n')
                        take_line(w);
                else if (w->used + 1 < sizeof w->line)
                        w->line[w->used++] = data[i];
        return ferror(stdout) ? -EPIPE : 0;
}

int follow(Client *c, const Follow *f) {
        Follower w = { .f = f, .live = !f->json && term_is_live() };
        char path[64];
        Fault why = {};
        int code;

        if (f->from[0])
                (void) snprintf(path, sizeof path, "/v1/events?from=%s", f->from);
        else
                (void) snprintf(path, sizeof path, "/v1/events?tail=%u", f->tail);
        code = client_stream(c, path, on_part, &w, &why);
        if (code == CTL_OK || code == CTL_NOT_RUNNING) {
                fputs("The agent has ended, or does not run.\n", stderr);
                return CTL_NOT_RUNNING;
        }
        return client_say(code, &why);
}
