/* SPDX-License-Identifier: Apache-2.0 */

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/config.h"
#include "agent/ctl/client.h"
#include "agent/ctl/ctl.h"

static int print_list(const Config *c) {
        _cleanup_json_ cJSON *list = config_list(c);
        return client_print(list);
}

int ctl_config(int argc, char **argv) {
        int json = 0, opt;
        const struct option options[] = { { "json", no_argument, &json, 1 }, {} };
        _cleanup_(config_freep) Config *c = NULL;
        Fault why = {};

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 0)
                ;
        if (opt != -1 || argc - optind < 1 || argc - optind > 2 || strcmp(argv[optind], "show") != 0) {
                fputs("Usage: molecule-agentctl config show [FILE] [--json]\n", stderr);
                return CTL_USAGE;
        }
        if (config_load(argv[optind + 1], true, &c, &why) < 0) {
                fprintf(stderr, "%s\n", why.text);
                return CTL_CONFIG;
        }
        if (json)
                return print_list(c);
        config_show(c, stdout);
        return CTL_OK;
}
