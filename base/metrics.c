/* SPDX-License-Identifier: Apache-2.0 */

/* Each metric has its place in one array of numbers: by its labels, and a histogram besides by its buckets, behind which lies the sum. */

#include "base/metrics.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/text.h"

#define BOUNDS_MAX 4

enum { BOUNDS_GAUGE = 0, BOUNDS_COUNTER = 0, BOUNDS_SLOW_HISTOGRAM = 4, BOUNDS_FAST_HISTOGRAM = 3 };
enum { CELLS_GAUGE = 1, CELLS_COUNTER = 1, CELLS_SLOW_HISTOGRAM = BOUNDS_SLOW_HISTOGRAM + 2, CELLS_FAST_HISTOGRAM = BOUNDS_FAST_HISTOGRAM + 2 };
enum { SERIES_GAUGE = 1, SERIES_COUNTER = 1, SERIES_SLOW_HISTOGRAM = BOUNDS_SLOW_HISTOGRAM + 3, SERIES_FAST_HISTOGRAM = BOUNDS_FAST_HISTOGRAM + 3 };

typedef enum Kind { KIND_GAUGE, KIND_COUNTER, KIND_SLOW_HISTOGRAM, KIND_FAST_HISTOGRAM } Kind;

/* Seconds, and as they are printed. */
static const struct { char type[12]; unsigned n; double bounds[BOUNDS_MAX]; } kinds[] = {
        [KIND_GAUGE] = { "gauge" },
        [KIND_COUNTER] = { "counter" },
        [KIND_SLOW_HISTOGRAM] = { "histogram", BOUNDS_SLOW_HISTOGRAM, { 1, 5, 30, 300 } },
        [KIND_FAST_HISTOGRAM] = { "histogram", BOUNDS_FAST_HISTOGRAM, { 0.05, 0.5, 5 } },
};

typedef enum Label { LABEL_NONE, LABEL_JOB, LABEL_OUTCOME, LABEL_STEP, LABEL_RESULT, LABEL_CALL, LABEL_STATUS, LABEL_STATE, LABEL_LOOP, LABEL_CODE } Label;

/* The name, then the values, each ended by NUL: a table of pointers would be several times as large in a program that is relocated. */
#define VALUE(symbol, value) value "\0"
static const struct { const char *text; unsigned n; } labels[] = {
        [LABEL_NONE] = { NULL, METRIC_NONE_N },
        [LABEL_JOB] = { "type\0" METRIC_JOB_TYPES(VALUE), METRIC_JOB_N },
        [LABEL_OUTCOME] = { "outcome\0" METRIC_OUTCOMES(VALUE), METRIC_OUTCOME_N },
        [LABEL_STEP] = { "step\0" METRIC_STEPS(VALUE), METRIC_STEP_N },
        [LABEL_RESULT] = { "outcome\0" METRIC_RESULTS(VALUE), METRIC_RESULT_N },
        [LABEL_CALL] = { "call\0" METRIC_CALLS(VALUE), METRIC_CALL_N },
        [LABEL_STATUS] = { "status\0" METRIC_STATUSES(VALUE), METRIC_STATUS_N },
        [LABEL_STATE] = { "status\0" METRIC_STATES(VALUE), METRIC_STATE_N },
        [LABEL_LOOP] = { "loop\0" METRIC_LOOPS(VALUE), METRIC_LOOP_N },
        [LABEL_CODE] = { "code\0" METRIC_CODES(VALUE), METRIC_CODE_N },
};

/* Where each one's numbers begin: the last of one, and the next one behind it. */
enum {
#define X(symbol, kind, name, a, b, help) AT_##symbol, LAST_##symbol = AT_##symbol + METRIC_##a##_N * METRIC_##b##_N * CELLS_##kind - 1,
        METRICS(X)
#undef X
        CELLS_ALL,
};

#define X(symbol, kind, name, a, b, help) + METRIC_##a##_N * METRIC_##b##_N * SERIES_##kind
static_assert(1 METRICS(X) + METRIC_WORKSPACES_MAX <= METRIC_SERIES_MAX, "too many series; the one is build_info");
#undef X

/* text: the name, NUL, the help. */
static const struct { const char *text; uint8_t kind, a, b; uint16_t at; } metrics[_METRIC_MAX] = {
#define X(symbol, kind, name, a, b, help) [METRIC_##symbol] = { name "\0" help, KIND_##kind, LABEL_##a, LABEL_##b, AT_##symbol },
        METRICS(X)
#undef X
};

static double cells[CELLS_ALL];

static_assert(CELLS_ALL <= UINT16_MAX, "at");

static const char *skip(const char *text, unsigned n) {
        while (n-- > 0)
                text += strlen(text) + 1;
        return text;
}

static unsigned cells_of(unsigned k) { return kinds[k].n ? kinds[k].n + 2 : 1; }

/* The first number of those labels; NULL where a label has no such value. */
static double *cell(Metric m, unsigned a, unsigned b) {
        unsigned n = labels[metrics[m].b].n;

        return a < labels[metrics[m].a].n && b < n ? &cells[metrics[m].at + (a * n + b) * cells_of(metrics[m].kind)] : NULL;
}

void metric_add(Metric m, unsigned a, unsigned b, double n) {
        double *c = cell(m, a, b);

        if (c)
                *c += n;
}

void metric_set(Metric m, unsigned a, unsigned b, double value) {
        double *c = cell(m, a, b);

        if (c)
                *c = value;
}

void metric_observe(Metric m, unsigned a, uint64_t usec) {
        unsigned k = metrics[m].kind;
        double *c = cell(m, a, 0), seconds = (double) usec / USEC_PER_SEC;
        unsigned i = 0;

        if (!c || !kinds[k].n)
                return;
        while (i < kinds[k].n && seconds > kinds[k].bounds[i])
                i++;
        c[i]++;
        c[kinds[k].n + 1] += seconds;
}

unsigned metric_find(Metric m, const char *value) {
        const char *text = labels[metrics[m].a].text;
        unsigned i = 0, n = labels[metrics[m].a].n;

        while (i + 1 < n && !str_equal(skip(text, i + 1), value))
                i++;
        return i;
}

double metric_get(Metric m, unsigned a, unsigned b) {
        const double *c = cell(m, a, b);
        double sum = 0;

        for (unsigned i = 0; c && i <= kinds[metrics[m].kind].n; i++)
                sum += c[i];
        return sum;
}

/* ── text ────────────────────────────────────────────────────────────────────────────────────────────────────── */

void metric_print_head(FILE *to, const char *name, const char *type, const char *help) {
        fprintf(to, "# HELP " METRIC_PREFIX "%s %s\n# TYPE " METRIC_PREFIX "%s %s\n", name, help, name, type);
}

void metric_print_escaped(FILE *to, const char *value) {
        for (; *value; value++) {
                if (*value == '\\' || *value == '"' || *value == '\n')
                        fputc('\\', to);
                fputc(*value == '\n' ? 'n' : *value, to);
        }
}

/* The label's place among the braces; what stands before the next one. */
static char print_label(FILE *to, Label l, unsigned value, char before) {
        if (!labels[l].text)
                return before;
        fprintf(to, "%c%s=\"", before, labels[l].text);
        metric_print_escaped(to, skip(labels[l].text, value + 1));
        fputc('"', to);
        return ',';
}

/* bound: of a bucket, INFINITY for the last; NAN where it is none. */
static void print_one(FILE *to, Metric m, const char *suffix, unsigned a, unsigned b, double bound, double value) {
        char before = '{';

        if (isnan(value))
                return;
        fprintf(to, METRIC_PREFIX "%s%s", metrics[m].text, suffix);
        before = print_label(to, metrics[m].a, a, before);
        before = print_label(to, metrics[m].b, b, before);
        if (isinf(bound))
                fprintf(to, "%cle=\"+Inf\"", before);
        else if (!isnan(bound))
                fprintf(to, "%cle=\"%g\"", before, bound);
        fprintf(to, "%s %.15g\n", before == ',' || !isnan(bound) ? "}" : "", value);
}

static void print_histogram(FILE *to, Metric m, unsigned a, const double *c) {
        unsigned n = kinds[metrics[m].kind].n;
        double count = 0;

        for (unsigned i = 0; i <= n; i++)
                print_one(to, m, "_bucket", a, 0, i < n ? kinds[metrics[m].kind].bounds[i] : (double) INFINITY, count += c[i]);
        print_one(to, m, "_sum", a, 0, NAN, c[n + 1]);
        print_one(to, m, "_count", a, 0, NAN, count);
}

void metrics_print(FILE *to) {
        for (int i = 0; i < _METRIC_MAX; i++) {
                Metric m = (Metric) i;

                metric_print_head(to, metrics[m].text, kinds[metrics[m].kind].type, skip(metrics[m].text, 1));
                for (unsigned a = 0; a < labels[metrics[m].a].n; a++)
                        for (unsigned b = 0; b < labels[metrics[m].b].n; b++) {
                                const double *c = cell(m, a, b);

                                if (kinds[metrics[m].kind].n)
                                        print_histogram(to, m, a, c);
                                else
                                        print_one(to, m, "", a, b, NAN, *c);
                        }
        }
}
