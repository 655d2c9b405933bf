/* SPDX-License-Identifier: Apache-2.0 */

#include <stdio.h>
#include <string.h>

#include "agent/config.h"
#include "agent/ctl/ctl.h"

int ctl_config(int argc, char **argv) {
        _cleanup_(config_freep) Config *c = NULL;
        Fault why = {};

        if (argc < 2 || argc > 3 || strcmp(argv[1], "show") != 0) {
                fputs("Usage: molecule-agentctl config show [FILE]\n", stderr);
                return CTL_USAGE;
        }
        if (config_load(argc == 3 ? argv[2] : NULL, true, &c, &why) < 0) {
                fprintf(stderr, "%s\n", why.text);
                return CTL_CONFIG;
        }
        config_show(c, stdout);
        return CTL_OK;
}
