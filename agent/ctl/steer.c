/* SPDX-License-Identifier: Apache-2.0 */

/* hold, release, drain, undrain, restart, cancel: one change each, a row of the table. */

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/round.h"
#include "base/text.h"

typedef enum Takes { TAKES_NOTHING,
                     MAY_TAKE_ID,
                     TAKES_ID } Takes;

typedef struct Steer {
        const char *verb, *usage, *path;
        const char *id; /* the field that the argument goes into */
        Takes takes;
        bool wants_reason, takes_time, may_wait;
        const char *done; /* what is said when the agent has done it */
} Steer;

static const Steer hold = { "hold", "[WORKSPACE] [--for 2h] --reason TEXT", "/v1/hold", "workspace_id", MAY_TAKE_ID, true, true, false,
                            "Held: jobs wait, and nothing is changed until it ends or is released." },
                   release = { "release", "[WORKSPACE] [--reason TEXT]", "/v1/release", "workspace_id", MAY_TAKE_ID, false, false, false,
                               "Released." },
                   drain = { "drain", "--reason TEXT", "/v1/drain", NULL, TAKES_NOTHING, true, false, false,
                             "Draining: no new workspaces come to this host; those that are here go on." },
                   undrain = { "undrain", "[--reason TEXT]", "/v1/undrain", NULL, TAKES_NOTHING, false, false, false, "New workspaces may come again." },
                   restart = { "restart", "WORKSPACE [--wait] [--timeout SECONDS] [--json]", "/v1/restart", "workspace_id", TAKES_ID, false, false, true,
                               "The workspace is being made anew; `molecule-agentctl status` shows how it ends." },
                   cancel = { "cancel", "JOB", "/v1/cancel", "job_id", TAKES_ID, false, false, false, "The job is being cancelled." };

typedef struct Given {
        const char *id, *reason;
        uint64_t seconds;
        RoundOptions round;
} Given;

static int usage(const Steer *s) {
        fprintf(stderr, "Usage: molecule-agentctl %s %s\n", s->verb, s->usage);
        return CTL_USAGE;
}

/* 90, 90s, 30m, 2h, 1d */
static bool parse_time(const char *text, uint64_t *ret) {
        static const struct {
                char unit;
                uint64_t seconds;
        } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
        size_t n = strspn(text, "0123456789");
        char digits[12] = {};
        uint64_t each = text[n] ? 0 : 1;

        if (n == 0 || n >= sizeof digits || (text[n] && text[n + 1]))
                return false;
        memcpy(digits, text, n);
        for (size_t i = 0; i < ELEMENTS(units); i++)
                if (units[i].unit == text[n])
                        each = units[i].seconds;
        if (!each || u64_parse(digits, ret) < 0)
                return false;
        *ret *= each;
        return *ret > 0;
}

static bool read_options(const Steer *s, int argc, char **argv, Given *g) {
        static const struct option options[] = { ROUND_LONG_OPTIONS, { "reason", required_argument, NULL, 'r' }, { "for", required_argument, NULL, 'f' }, {} };
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                if (opt == 'r')
                        g->reason = optarg;
                else if (opt == 'f') {
                        if (!s->takes_time || !parse_time(optarg, &g->seconds))
                                return false;
                } else if (!s->may_wait || !round_option(&g->round, opt, optarg))
                        return false;
        if (s->takes != TAKES_NOTHING && optind < argc)
                g->id = argv[optind++];
        return optind == argc && (s->takes != TAKES_ID || g->id) && (!s->wants_reason || g->reason);
}

static cJSON *body_of(const Steer *s, const Given *g) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        if (!json || (g->id && !json_add_string(json, s->id, g->id)) || (g->reason && !json_add_string(json, "reason", g->reason)) ||
            (g->seconds && !json_add_i64(json, "seconds", (int64_t) g->seconds)))
                return NULL;
        return TAKE_PTR(json);
}

static int run(const Steer *s, const Given *g, Client *client) {
        _cleanup_json_ cJSON *body = body_of(s, g), *answer = NULL;
        Fault why = {};
        int code = client_post_json(client, s->path, body, &answer, &why);
        Round r = { .client = client, .json = g->round.json, .timeout_seconds = g->round.timeout_seconds };

        if (code != CTL_OK)
                return client_say(code, &why);
        if (!g->round.wait) {
                puts(s->done);
                return CTL_OK;
        }
        r.mark = json_get_string(answer, "mark");
        return round_watch(&r);
}

static int steer(const Steer *s, int argc, char **argv) {
        Given g = { .round = ROUND_OPTIONS_INIT };
        _cleanup_client_ Client client = {};
        int code;

        if (!read_options(s, argc, argv, &g))
                return usage(s);
        if (g.id && !uuid_is_valid(g.id)) {
                fprintf(stderr, "%s is no id: 36 characters, such as 0e9f0c4c-5a7e-4d1b-8f0a-1b2c3d4e5f60.\n", g.id);
                return CTL_USAGE;
        }
        code = client_open(&client);
        return code == CTL_OK ? run(s, &g, &client) : code;
}

int ctl_hold(int argc, char **argv) { return steer(&hold, argc, argv); }
int ctl_release(int argc, char **argv) { return steer(&release, argc, argv); }
int ctl_drain(int argc, char **argv) { return steer(&drain, argc, argv); }
int ctl_undrain(int argc, char **argv) { return steer(&undrain, argc, argv); }
int ctl_restart(int argc, char **argv) { return steer(&restart, argc, argv); }
int ctl_cancel(int argc, char **argv) { return steer(&cancel, argc, argv); }
