/* SPDX-License-Identifier: Apache-2.0 */

/* logs: what a workspace's container says, by way of the agent, so that whoever may look need not be let at the engine. */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/ids.h"
#include "agent/ctl/span.h"

typedef struct Given {
        const char *workspace;
        uint64_t tail, since;           /* since: seconds since the epoch; 0: all */
        bool follow;
} Given;

static bool read_since(const char *text, uint64_t *ret) {
        uint64_t seconds, now = now_realtime() / USEC_PER_SEC;

        if (span_parse(text, &seconds))
                *ret = seconds < now ? now - seconds : 1;
        else if (time_parse(text, &seconds) == 0)
                *ret = seconds / USEC_PER_SEC;
        else
                return false;
        return true;
}

static bool read_options(int argc, char **argv, Given *g) {
        static const struct option options[] = {
                { "follow", no_argument, NULL, 'f' }, { "since", required_argument, NULL, 's' }, { "tail", required_argument, NULL, 't' }, {}
        };
        int opt;

        while ((opt = getopt_long(argc, argv, "f", options, NULL)) >= 0)
                if (opt == 'f')
                        g->follow = true;
                else if (opt == 's' ? !read_since(optarg, &g->since) : opt != 't' || u64_parse(optarg, &g->tail) < 0 || g->tail > 100000)
                        return false;
        if (optind + 1 != argc)
                return false;
        g->workspace = argv[optind];
        return true;
}

static int on_part(const char *data, size_t size, void *userdata) {
        *(bool *) userdata = true;
        return fwrite(data, 1, size, stdout) == size && fflush(stdout) == 0 ? 0 : -EPIPE;
}

int ctl_logs(int argc, char **argv) {
        _cleanup_client_ Client client = {};
        Given g = { .tail = 200 };
        char id[UUID_SIZE], path[160];
        bool some = false;
        Fault why = {};
        int code;

        if (!read_options(argc, argv, &g)) {
                fputs("Usage: molecule-agentctl logs WORKSPACE [-f | --follow] [--since 2h | --since TIME] [--tail N]\n", stderr);
                return CTL_USAGE;
        }
        code = client_open(&client);
        if (code == CTL_OK)
                code = id_find(&client, ID_WORKSPACE, g.workspace, id);
        if (code != CTL_OK)
                return code;
        (void) snprintf(path, sizeof path, "/v1/logs/%s?tail=%llu&since=%llu&follow=%s", id, (unsigned long long) g.tail, (unsigned long long) g.since,
                        g.follow ? "true" : "false");
        code = client_stream(&client, path, on_part, &some, &why);
        if (code == CTL_NOT_RUNNING && some)    /* the last line says why */
                return CTL_FAILED;
        return code == CTL_OK ? code : client_say(code, &why);
}
