/* SPDX-License-Identifier: Apache-2.0 */

/* hold, release, drain, undrain, restart, cancel: one change each, a row of the table. */

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/answer.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/ids.h"
#include "agent/ctl/note.h"
#include "agent/ctl/round.h"
#include "agent/ctl/span.h"
#include "base/text.h"

typedef enum Takes { TAKES_NOTHING,
                     MAY_TAKE_ID,
                     TAKES_ID } Takes;

typedef struct Steer {
        const char *verb, *usage, *path;
        const char *id; /* the field that the argument goes into */
        IdKind kind;
        Takes takes;
        bool takes_time, may_wait;
        enum { REASON_MAY, REASON_UNATTENDED, REASON_ALWAYS } reason;   /* when one must be given; unattended: stdin is no terminal */
        const char *done; /* what is said when the agent has done it */
} Steer;

static const Steer hold = { "hold", "[WORKSPACE] [--for 2h] --reason TEXT [--json]", "/v1/hold", "workspace_id", ID_WORKSPACE, MAY_TAKE_ID, true, false,
                            REASON_ALWAYS, "Held: jobs wait, and nothing is changed until it ends or is released." },
                   release = { "release", "[WORKSPACE] [--reason TEXT] [--json]", "/v1/release", "workspace_id", ID_WORKSPACE, MAY_TAKE_ID, false, false,
                               REASON_MAY, "Released." },
                   drain = { "drain", "--reason TEXT [--json]", "/v1/drain", NULL, ID_WORKSPACE, TAKES_NOTHING, false, false, REASON_ALWAYS,
                             "Draining: no new workspaces come to this host; those that are here go on." },
                   undrain = { "undrain", "[--reason TEXT] [--json]", "/v1/undrain", NULL, ID_WORKSPACE, TAKES_NOTHING, false, false, REASON_MAY,
                               "New workspaces may come again." },
                   restart = { "restart", "WORKSPACE [--reason TEXT] [--wait] [--timeout SECONDS] [--json]", "/v1/restart", "workspace_id", ID_WORKSPACE,
                               TAKES_ID, false, true, REASON_UNATTENDED,
                               "The workspace is being made anew; `molecule-agentctl jobs --follow` shows how it goes." },
                   cancel = { "cancel", "JOB [--reason TEXT] [--json]", "/v1/cancel", "job_id", ID_JOB, TAKES_ID, false, false, REASON_UNATTENDED,
                              "The job is being cancelled." };

typedef struct Given {
        const char *id, *reason;
        uint64_t seconds;
        RoundOptions round;
} Given;

static int usage(const Steer *s) {
        fprintf(stderr, "Usage: molecule-agentctl %s %s\n", s->verb, s->usage);
        return CTL_USAGE;
}

static bool read_options(const Steer *s, int argc, char **argv, Given *g) {
        static const struct option options[] = { ROUND_LONG_OPTIONS, { "reason", required_argument, NULL, 'r' }, { "for", required_argument, NULL, 'f' }, {} };
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                if (opt == 'r')
                        g->reason = optarg;
                else if (opt == 'f') {
                        if (!s->takes_time || !span_parse(optarg, &g->seconds))
                                return false;
                } else if ((!s->may_wait && opt != 'j') || !round_option(&g->round, opt, optarg))
                        return false;
        if (s->takes != TAKES_NOTHING && optind < argc)
                g->id = argv[optind++];
        return optind == argc && (s->takes != TAKES_ID || g->id) && (s->reason != REASON_ALWAYS || g->reason);
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
                answer_as_json(g->round.json);
                answer_words("%s\n", s->done);
                answer_string("mark", json_get_string(answer, "mark"));
                return answer_done(CTL_OK);
        }
        r.mark = json_get_string(answer, "mark");
        return round_watch(&r);
}

static int steer(const Steer *s, int argc, char **argv) {
        Given g = { .round = ROUND_OPTIONS_INIT };
        _cleanup_client_ Client client = {};
        char id[UUID_SIZE];
        int code;

        if (!read_options(s, argc, argv, &g))
                return usage(s);
        if (!note_reason(s->verb, NULL, s->reason == REASON_UNATTENDED && !g.reason))
                return CTL_USAGE;
        code = client_open(&client);
        if (code == CTL_OK && g.id) {
                code = id_find(&client, s->kind, g.id, id);
                g.id = id;
        }
        return code == CTL_OK ? run(s, &g, &client) : code;
}

int ctl_hold(int argc, char **argv) { return steer(&hold, argc, argv); }
int ctl_release(int argc, char **argv) { return steer(&release, argc, argv); }
int ctl_drain(int argc, char **argv) { return steer(&drain, argc, argv); }
int ctl_undrain(int argc, char **argv) { return steer(&undrain, argc, argv); }
int ctl_restart(int argc, char **argv) { return steer(&restart, argc, argv); }
int ctl_cancel(int argc, char **argv) { return steer(&cancel, argc, argv); }
