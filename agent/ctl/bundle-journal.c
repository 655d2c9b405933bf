/* SPDX-License-Identifier: Apache-2.0 */

/* The journal of the agent's unit, and of each workspace one text in which everything that has a time stands in its order. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-journal.h>

#include "agent/ctl/bundle.h"
#include "base/log.h"
#include "base/text.h"

#define LINES_MAX 5000
#define LINE_SIZE 1024

typedef struct Line {
        uint64_t at;                    /* microseconds since the epoch */
        char     workspace_id[UUID_SIZE];       /* "": of none */
        char    *text;
} Line;

typedef struct Lines { Line *items; size_t n, room; } Lines;

static void lines_done(Lines *l) {
        for (size_t i = 0; i < l->n; i++)
                free(l->items[i].text);
        free(l->items);
}

static int add(Lines *l, uint64_t at, const char *workspace_id, const char *text) {
        Line *larger;

        if (l->n == l->room) {
                larger = realloc(l->items, (l->room * 2 + 64) * sizeof *larger);
                if (!larger)
                        return -ENOMEM;
                l->items = larger;
                l->room = l->room * 2 + 64;
        }
        larger = &l->items[l->n];
        *larger = (Line){ .at = at, .text = strdup(text) };
        if (!larger->text)
                return -ENOMEM;
        text_make_printable(larger->text);
        (void) snprintf(larger->workspace_id, sizeof larger->workspace_id, "%s", workspace_id ?: "");
        l->n++;
        return 0;
}

/* ── the journal ─────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *field(sd_journal *j, const char *name, char *ret, size_t size) {
        const char *data;
        size_t n, skip = strlen(name) + 1;

        ret[0] = 0;
        if (sd_journal_get_data(j, name, (const void **) &data, &n) >= 0 && n > skip)
                (void) snprintf(ret, size, "%.*s", (int) (n - skip), data + skip);
        return ret;
}

static int add_entry(Lines *l, sd_journal *j) {
        char message[LINE_SIZE], workspace[UUID_SIZE], job[UUID_SIZE], code[64], text[LINE_SIZE + 200];
        uint64_t at;

        if (sd_journal_get_realtime_usec(j, &at) < 0)
                return 0;
        (void) field(j, "MESSAGE", message, sizeof message);
        (void) field(j, "MOLECULE_WORKSPACE_ID", workspace, sizeof workspace);
        (void) field(j, "MOLECULE_JOB_ID", job, sizeof job);
        (void) field(j, "MOLECULE_ERROR_CODE", code, sizeof code);
        (void) snprintf(text, sizeof text, "%s%s%s%s%s%s%s", message, workspace[0] ? " ws=" : "", workspace, job[0] ? " job=" : "", job,
                        code[0] ? " error=" : "", code);
        return add(l, at, workspace, text);
}

/* The newest LINES_MAX of the unit, oldest first. */
static int read_journal(Lines *l) {
        sd_journal *j = NULL;
        int r = sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY);

        if (r >= 0)
                r = sd_journal_add_match(j, "_SYSTEMD_UNIT=molecule-agentd.service", 0);
        if (r >= 0)
                r = sd_journal_seek_tail(j);
        if (r >= 0)
                r = sd_journal_previous_skip(j, LINES_MAX);
        for (; r > 0; r = sd_journal_next(j))
                if (add_entry(l, j) < 0) {
                        r = -ENOMEM;
                        break;
                }
        sd_journal_close(j);
        return r;
}

/* ── texts ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static int by_time(const void *x, const void *y) {
        const Line *a = x, *b = y;
        return a->at < b->at ? -1 : a->at > b->at;
}

static int add_text(Bundle *b, const char *name, const Lines *l, const char *workspace_id) {
        char *text = NULL, at[TIME_TEXT_SIZE];
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);

        if (!to)
                return -ENOMEM;
        for (size_t i = 0; i < l->n; i++)
                if (!workspace_id || strcmp(l->items[i].workspace_id, workspace_id) == 0)
                        fprintf(to, "%s  %s\n", time_text(l->items[i].at, at), l->items[i].text);
        return fclose(to) == 0 ? bundle_add(b, name, text, size) : -ENOMEM;
}

static int add_outcome(Lines *l, const cJSON *o) {
        const char *code = json_get_string(o, "error/code");
        char text[LINE_SIZE];
        uint64_t at;

        if (!json_get_string(o, "at") || time_parse(json_get_string(o, "at"), &at) < 0)
                return 0;
        (void) snprintf(text, sizeof text, "job %s %s %s%s%s: %s", json_get_string(o, "job_id") ?: "(local)", json_get_string(o, "type") ?: "",
                        json_get_string(o, "state") ?: "", code ? " " : "", code ?: "", json_get_string(o, "message") ?: "");
        return add(l, at, json_get_string(o, "workspace_id"), text);
}

static int add_moment(Lines *l, const cJSON *inspect, const char *member, const char *what) {
        const char *when = json_get_string(inspect, member);
        uint64_t at;
        char text[LINE_SIZE];

        if (!when || strncmp(when, "0001-", 5) == 0 || time_parse(when, &at) < 0)
                return 0;
        (void) snprintf(text, sizeof text, "the container %s (exit %lld, restarts %lld%s)", what, (long long) json_get_i64(inspect, "State/ExitCode", 0),
                        (long long) json_get_i64(inspect, "RestartCount", 0), json_get_bool(inspect, "State/OOMKilled", false) ? ", out of memory" : "");
        return add(l, at, inspect->string, text);
}

int bundle_journal(Bundle *b, const cJSON *workspaces, const cJSON *outcomes, const cJSON *inspects) {
        _cleanup_(lines_done) Lines l = {};
        const cJSON *item;
        char name[80];
        int r = read_journal(&l);

        if (r == -ENOMEM)
                return r;
        if (r < 0)
                bundle_missing(b, "journal.txt", strerror(-r));
        r = add_text(b, "journal.txt", &l, NULL);
        cJSON_ArrayForEach(item, outcomes)
                if (r >= 0)
                        r = add_outcome(&l, item);
        cJSON_ArrayForEach(item, inspects) {
                if (r >= 0)
                        r = add_moment(&l, item, "State/StartedAt", "started");
                if (r >= 0)
                        r = add_moment(&l, item, "State/FinishedAt", "last ended");
        }
        if (l.n > 0)
                qsort(l.items, l.n, sizeof *l.items, by_time);
        cJSON_ArrayForEach(item, workspaces) {
                const char *id = json_get_string(item, "workspace_id");

                (void) snprintf(name, sizeof name, "timeline/%s.txt", id ?: "");
                if (r >= 0 && id)
                        r = add_text(b, name, &l, id);
        }
        return r;
}
