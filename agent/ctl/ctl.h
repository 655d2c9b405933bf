/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* molecule-agentctl: one table of verbs, one file a verb. */

/* Exit codes, the same for every verb (docs/molecule-agentctl.1). */
enum {
        CTL_OK = 0,
        CTL_FAILED = 1,
        CTL_USAGE = 2,
        CTL_NOT_RUNNING = 3,
        CTL_DEGRADED = 4,
        CTL_CONFIG = 78,
};

int ctl_explain(int argc, char **argv);
int ctl_config(int argc, char **argv);
int ctl_status(int argc, char **argv);
