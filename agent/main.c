/* SPDX-License-Identifier: Apache-2.0 */

/* molecule-agentd: arguments and exit codes. What it does is agent.c's business. */

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/agent.h"
#include "agent/config.h"
#include "base/log.h"
#include "secrets/arena.h"

#define EXIT_USAGE  2
#define EXIT_CONFIG 78

static const char usage[] =
        "molecule-agentd - keeps this host's workspaces as the control plane wants them\n"
        "\n"
        "Usage: molecule-agentd [--config FILE] [--check | --once]\n"
        "\n"
        "  --config FILE  read FILE instead of /etc/molecule-agent/agent.conf and its agent.conf.d\n"
        "  --check        say whether the configuration is valid, and exit\n"
        "  --once         one full round: register, take jobs, do them, report; then exit\n"
        "  --version      print the version\n"
        "  --help         print this\n"
        "\n"
        "State lies in $STATE_DIRECTORY (/var/lib/molecule-agent), credentials in $CREDENTIALS_DIRECTORY.\n"
        "Normally started by systemd: systemctl status molecule-agentd. See molecule-agentd(8), molecule-agent.conf(5).\n";

static int check(const char *path) {
        _cleanup_(config_freep) Config *c = NULL;
        Fault why = {};

        if (config_load(path, true, &c, &why) < 0) {
                fprintf(stderr, "%s\n", why.text);
                return EXIT_CONFIG;
        }
        puts(config_can_enrol(c) ? "The configuration is valid." :
                                   "The configuration is valid, but cp_url or org_id is missing: not enrolled.");
        return 0;
}

static int run(const AgentOptions *options) {
        _cleanup_(agent_freep) Agent *a = NULL;
        Fault why = {};
        int r = agent_new(options, &a, &why);

        if (r < 0) {
                log_write(LOG_ERR, &(LogFields) { .fault = &why }, "Cannot start: %s", why.set ? why.text : strerror(-r));
                return why.set && why.code == FAULT_CONFIG_INVALID ? EXIT_CONFIG : 1;
        }
        return agent_run(a);
}

/* The agent sleeps most of its life, on a host whose memory is for workspaces: what a burst took goes back at once, large blocks and the heap's
 * end alike. */
static void small_heap(void) {
        (void) mallopt(M_ARENA_MAX, 1);
        (void) mallopt(M_TOP_PAD, 0);
        (void) mallopt(M_TRIM_THRESHOLD, 16 * 1024);
        (void) mallopt(M_MMAP_THRESHOLD, 32 * 1024);
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "config", required_argument, NULL, 'c' }, { "check", no_argument, NULL, 'k' },   { "once", no_argument, NULL, 'o' },
                { "version", no_argument, NULL, 'v' },      { "help", no_argument, NULL, 'h' },    {},
        };
        AgentOptions o = {};
        bool only_check = false;
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'c': o.config_path = optarg; break;
                case 'k': only_check = true; break;
                case 'o': o.once = true; break;
                case 'v': puts("molecule-agentd " VERSION " (" GIT_SHA ")"); return 0;
                case 'h': fputs(usage, stdout); return 0;
                default:  return EXIT_USAGE;
                }
        if (optind < argc) {
                fprintf(stderr, "molecule-agentd takes no argument '%s'; see --help.\n", argv[optind]);
                return EXIT_USAGE;
        }
        (void) umask(0077);
        process_seal_off();
        small_heap();
        log_open("molecule-agentd");
        return only_check ? check(o.config_path) : run(&o);
}
