/* SPDX-License-Identifier: Apache-2.0 */

/* jobs, events: what is at work, how the last ones ended, and both as they change. */

#include <getopt.h>
#include <stdio.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/follow.h"
#include "agent/ctl/ids.h"
#include "agent/ctl/term.h"

static const char *const titles[] = { "JOB", "TYPE", "WORKSPACE", "STATE", "STAGE", "AGE", "SAYS", NULL };

static void open_row(Table *t, const cJSON *j, bool whole) {
        char id[UUID_SIZE], workspace[UUID_SIZE], says[3 * TERM_TEXT_SIZE] = "", bytes[TERM_TEXT_SIZE], total[TERM_TEXT_SIZE];
        uint64_t all = (uint64_t) json_get_i64(j, "total_bytes", 0);

        if (all)
                (void) snprintf(says, sizeof says, "%s of %s", term_bytes((uint64_t) json_get_i64(j, "bytes", 0), bytes), term_bytes(all, total));
        table_row(t, (const char *const[]) { id_short(json_get_string(j, "job_id"), id, whole), json_get_string(j, "type"),
                                             id_short(json_get_string(j, "workspace_id"), workspace, whole), json_get_string(j, "state"),
                                             json_get_string(j, "stage"), NULL, says });
}

static void ended_row(Table *t, const cJSON *o, bool whole) {
        char id[UUID_SIZE], workspace[UUID_SIZE], age[TERM_TEXT_SIZE];

        (void) term_age_of(json_get_string(o, "at"), age);
        table_row(t, (const char *const[]) { id_short(json_get_string(o, "job_id"), id, whole), json_get_string(o, "type") ?: json_get_string(o, "source"),
                                             id_short(json_get_string(o, "workspace_id"), workspace, whole), json_get_string(o, "state"),
                                             json_get_string(o, "stage"), age, json_get_string(o, "error/code") });
}

static int show(const cJSON *answer) {
        const cJSON *open = json_get(answer, "jobs"), *ended = json_get(answer, "outcomes"), *j;
        bool whole = !id_short_will_do(open, "job_id") || !id_short_will_do(ended, "job_id");
        Table *t = table_new(titles, 3);

        cJSON_ArrayForEach(j, ended)
                ended_row(t, j, whole);
        cJSON_ArrayForEach(j, open)
                open_row(t, j, whole);
        if (table_print(t) < 0) {
                fputs("Out of memory.\n", stderr);
                return CTL_FAILED;
        }
        if (cJSON_GetArraySize(open) == 0)
                puts("Nothing is at work.");
        return CTL_OK;
}

typedef struct Given {
        bool json, follow, ids;
        unsigned tail;
} Given;

static bool read_options(int argc, char **argv, const struct option *options, unsigned tail_max, Given *g) {
        uint64_t n;
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'j':
                        g->json = true;
                        break;
                case 'f':
                        g->follow = true;
                        break;
                case 'i':
                        g->ids = true;
                        break;
                case 't':
                        if (u64_parse(optarg, &n) < 0 || n > tail_max)
                                return false;
                        g->tail = (unsigned) n;
                        break;
                default:
                        return false;
                }
        return optind == argc && !(g->ids && g->follow);
}

static int ask(Client *client, const Given *g) {
        _cleanup_json_ cJSON *answer = NULL;
        char path[40];
        Follow f = { .json = g->json, .jobs_only = true };
        Fault why = {};
        int code;

        (void) snprintf(path, sizeof path, "/v1/jobs?tail=%u", g->tail);
        code = client_get(client, path, &answer, &why);
        if (code != CTL_OK)
                return client_say(code, &why);
        if (g->ids) {
                id_print_all(json_get(answer, "jobs"), "job_id");
                id_print_all(json_get(answer, "outcomes"), "job_id");
                return CTL_OK;
        }
        if (!g->follow)
                return g->json ? client_print(answer) : show(answer);
        if (!g->json)
                (void) show(answer);
        (void) fflush(stdout);          /* what comes next may be long in coming */
        (void) snprintf(f.from, sizeof f.from, "%s", json_get_string(answer, "next_event") ?: "");    /* nothing between the table and what follows is missed */
        return follow(client, &f);
}

int ctl_jobs(int argc, char **argv) {
        static const struct option options[] = {
                { "json", no_argument, NULL, 'j' }, { "follow", no_argument, NULL, 'f' }, { "tail", required_argument, NULL, 't' },
                { "ids", no_argument, NULL, 'i' }, {}
        };
        _cleanup_client_ Client client = {};
        Given g = { .tail = 10 };
        int code;

        if (!read_options(argc, argv, options, 1000, &g)) {
                fputs("Usage: molecule-agentctl jobs [--follow] [--tail N] [--json] [--ids]\n", stderr);
                return CTL_USAGE;
        }
        code = client_open(&client);
        return code == CTL_OK ? ask(&client, &g) : code;
}

int ctl_events(int argc, char **argv) {
        static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { "tail", required_argument, NULL, 't' }, {} };
        _cleanup_client_ Client client = {};
        Given g = {};
        int code;

        if (!read_options(argc, argv, options, 256, &g)) {
                fputs("Usage: molecule-agentctl events [--tail N] [--json]\n", stderr);
                return CTL_USAGE;
        }
        code = client_open(&client);
        return code == CTL_OK ? follow(&client, &(Follow){ .json = g.json, .tail = g.tail }) : code;
}
