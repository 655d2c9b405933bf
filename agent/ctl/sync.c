/* SPDX-License-Identifier: Apache-2.0 */

/* sync: what a fleet's tool triggers on the host. The control plane is asked now, what it orders is done, and it is told; with --wait we are there. */

#include <getopt.h>
#include <stdio.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/round.h"

static int usage(void) {
        fputs("Usage: molecule-agentctl sync [--wait] [--timeout SECONDS] [--json]\n", stderr);
        return CTL_USAGE;
}

static int run(Client *client, const RoundOptions *o) {
        _cleanup_json_ cJSON *answer = NULL;
        Fault why = {};
        int code = client_post(client, "/v1/sync", "{}", 2, &answer, &why);
        Round r = { .client = client, .sync = true, .json = o->json, .timeout_seconds = o->timeout_seconds };

        if (code != CTL_OK)
                return round_refused(code, &why);
        if (!o->wait) {
                puts(o->json ? "{\"result\":\"asked\",\"exit\":0}" : "The control plane is asked now; `molecule-agentctl sync --wait` waits for the end.");
                return CTL_OK;
        }
        r.mark = json_get_string(answer, "mark");
        return round_watch(&r);
}

int ctl_sync(int argc, char **argv) {
        static const struct option options[] = { ROUND_LONG_OPTIONS, {} };
        RoundOptions o = ROUND_OPTIONS_INIT;
        _cleanup_client_ Client client = {};
        int opt, code;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                if (!round_option(&o, opt, optarg))
                        return usage();
        if (optind != argc)
                return usage();
        code = client_open(&client);
        return code == CTL_OK ? run(&client, &o) : code;
}
