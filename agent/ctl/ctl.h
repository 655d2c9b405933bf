/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* molecule-agentctl: one table of verbs, one file a verb. */

#include <stdbool.h>

/* Exit codes, the same for every verb (docs/molecule-agentctl.8). */
enum {
        CTL_OK = 0,
        CTL_FAILED = 1,
        CTL_USAGE = 2,
        CTL_NOT_RUNNING = 3,
        CTL_DEGRADED = 4,
        CTL_TIMED_OUT = 5,
        CTL_REFUSED = 6,
        CTL_TRY_AGAIN = 75,
        CTL_CONFIG = 78,
};

int ctl_explain(int argc, char **argv);
int ctl_config(int argc, char **argv);
int ctl_status(int argc, char **argv);
int ctl_secrets(int argc, char **argv);
int ctl_seal_image(int argc, char **argv);
int ctl_setup(int argc, char **argv);
int ctl_identity(int argc, char **argv);
int ctl_doctor(int argc, char **argv);
int ctl_enroll(int argc, char **argv);
int ctl_credentials(int argc, char **argv);
int ctl_workspaces(int argc, char **argv);
int ctl_inspect(int argc, char **argv);
int ctl_jobs(int argc, char **argv);
int ctl_events(int argc, char **argv);
int ctl_logs(int argc, char **argv);
int ctl_pins(int argc, char **argv);
int ctl_images(int argc, char **argv);
int ctl_df(int argc, char **argv);
int ctl_gc(int argc, char **argv);
int ctl_bundle(int argc, char **argv);
int ctl_sync(int argc, char **argv);
int ctl_apply(int argc, char **argv);
int ctl_restart(int argc, char **argv);
int ctl_audit(int argc, char **argv);
int ctl_cancel(int argc, char **argv);
int ctl_hold(int argc, char **argv);
int ctl_release(int argc, char **argv);
int ctl_drain(int argc, char **argv);
int ctl_undrain(int argc, char **argv);

/* records.c: what the disk says where the daemon cannot be asked; prints it, or answers with it, and returns CTL_NOT_RUNNING, or what went wrong */
int  records_show(void);

/* store.c */
const char *ctl_state_path(void);
int  ctl_open_state(void);                      /* a descriptor, or negative when it was said why not */
bool ctl_agent_runs(int state_fd);
int  ctl_lock(int state_fd);                    /* keeps the daemon out for as long as the descriptor lives; -EWOULDBLOCK: it runs */
