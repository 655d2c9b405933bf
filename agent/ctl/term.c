/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/term.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"

bool term_is_live(void) {
        const char *term = getenv("TERM");
        return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

unsigned term_columns(void) {
        struct winsize w = {};

        return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static bool has_colour(void) {
        const char *no = getenv("NO_COLOR");
        return term_is_live() && !(no && no[0]);
}

const char *term_on(TermTone t) {
        static const char *const escapes[_TONE_MAX] = {
                [TONE_PLAIN] = "", [TONE_GOOD] = "\033[32m", [TONE_WARN] = "\033[33m", [TONE_BAD] = "\033[31m", [TONE_FAINT] = "\033[2m",
        };

        return has_colour() ? escapes[t] : "";
}

const char *term_off(void) { return has_colour() ? "\033[0m" : ""; }

TermTone term_tone(const char *state) {
        static const struct { const char *state; TermTone tone; } table[] = {
                { "online",    TONE_GOOD }, { "succeeded",    TONE_GOOD }, { "ok",        TONE_GOOD },
                { "degraded",  TONE_WARN }, { "provisioning", TONE_WARN }, { "running",   TONE_WARN }, { "held",    TONE_WARN }, { "warning", TONE_WARN },
                { "failed",    TONE_BAD  }, { "refused",      TONE_BAD  }, { "conflict",  TONE_BAD  }, { "expired", TONE_BAD  },
                { "cancelled", TONE_FAINT }, { "superseded",  TONE_FAINT }, { "removed",  TONE_FAINT },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++)
                if (str_equal(table[i].state, state))
                        return table[i].tone;
        return TONE_PLAIN;
}

const char *term_age(uint64_t seconds, char ret[static TERM_TEXT_SIZE]) {
        static const struct { uint64_t below, unit; const char *name; } units[] = {
                { 120,        1,     "s"   },
                { 7200,       60,    "min" },
                { 172800,     3600,  "h"   },
                { UINT64_MAX, 86400, "d"   },
        };
        size_t i = 0;

        while (seconds >= units[i].below)
                i++;
        (void) snprintf(ret, TERM_TEXT_SIZE, "%llu %s", (unsigned long long) (seconds / units[i].unit), units[i].name);
        return ret;
}

const char *term_bytes(uint64_t bytes, char ret[static TERM_TEXT_SIZE]) {
        static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
        double n = (double) bytes;
        size_t i = 0;

        for (; n >= 1000 && i + 1 < ELEMENTS(units); i++)
                n /= 1000;
        (void) snprintf(ret, TERM_TEXT_SIZE, n < 10 && i > 0 ? "%.1f %s" : "%.0f %s", n, units[i]);
        return ret;
}

bool term_age_of(const char *rfc3339, char ret[static TERM_TEXT_SIZE]) {
        uint64_t at, now = now_realtime();

        ret[0] = 0;
        if (!rfc3339 || time_parse(rfc3339, &at) < 0)
                return false;
        (void) term_age(now > at ? (now - at) / USEC_PER_SEC : 0, ret);
        return true;
}

const char *term_clock(const char *rfc3339, char ret[static TERM_TEXT_SIZE]) {
        uint64_t at;
        time_t seconds;
        struct tm tm;

        if (!rfc3339 || time_parse(rfc3339, &at) < 0)
                at = now_realtime();
        seconds = (time_t) (at / USEC_PER_SEC);
        ret[0] = 0;
        if (localtime_r(&seconds, &tm))
                (void) strftime(ret, TERM_TEXT_SIZE, "%H:%M:%S", &tm);
        return ret;
}

/* ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────── */

struct Table {
        const char *const *titles;
        size_t columns, n, room;
        int    tone;
        bool   failed;
        char **cells;                   /* row after row */
};

Table *table_new(const char *const *titles, int tone) {
        Table *t = calloc(1, sizeof *t);

        if (!t)
                return NULL;
        t->titles = titles;
        t->tone = tone;
        while (titles[t->columns])
                t->columns++;
        return t;
}

void table_row(Table *t, const char *const *cells) {
        if (!t || t->failed)
                return;
        if (t->n + t->columns > t->room) {
                char **larger = realloc(t->cells, (t->room * 2 + 16 * t->columns) * sizeof *larger);

                if (!larger) {
                        t->failed = true;
                        return;
                }
                t->cells = larger;
                t->room = t->room * 2 + 16 * t->columns;
        }
        for (size_t i = 0; i < t->columns; i++) {
                t->cells[t->n] = strdup(cells[i] && cells[i][0] ? cells[i] : "-");
                if (!t->cells[t->n++])
                        t->failed = true;
        }
}

static void print_row(const Table *t, const char *const *cells, const size_t *width, bool title) {
        for (size_t i = 0; i < t->columns; i++) {
                TermTone tone = title ? TONE_FAINT : (int) i == t->tone ? term_tone(cells[i]) : TONE_PLAIN;
                int pad = i + 1 < t->columns ? (int) (width[i] - strlen(cells[i]) + 2) : 0;

                printf("%s%s%s%*s", term_on(tone), cells[i], tone == TONE_PLAIN ? "" : term_off(), pad, "");
        }
        putchar('\n');
}

int table_print(Table *t) {
        size_t width[TABLE_COLUMNS_MAX] = {};
        int r = !t || t->failed ? -ENOMEM : 0;

        if (!t)
                return r;
        for (size_t i = 0; r == 0 && i < t->columns; i++) {
                width[i] = strlen(t->titles[i]);
                for (size_t k = i; k < t->n; k += t->columns)
                        width[i] = strlen(t->cells[k]) > width[i] ? strlen(t->cells[k]) : width[i];
        }
        if (r == 0)
                print_row(t, t->titles, width, true);
        for (size_t k = 0; r == 0 && k < t->n; k += t->columns)
                print_row(t, (const char *const *) t->cells + k, width, false);
        for (size_t k = 0; k < t->n; k++)
                free(t->cells[k]);
        free(t->cells);
        free(t);
        return r;
}
