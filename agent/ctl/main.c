/* SPDX-License-Identifier: Apache-2.0 */

#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"
#include "base/cleanup.h"

typedef struct Verb {
        const char *name, *arguments, *what;
        int (*run)(int argc, char **argv);
} Verb;

static int ctl_version(int argc, char **argv);
static int ctl_help(int argc, char **argv);

static const Verb verbs[] = {
        { "status", "[--all] [--json]", "the verdict, and what is not well; --all: what is, too", ctl_status },
        { "workspaces", "[--json]", "every workspace in a line", ctl_workspaces },
        { "inspect", "WORKSPACE [--json]", "one of them in full", ctl_inspect },
        { "jobs", "[--follow] [--tail N] [--json]", "what is at work, how the last ones ended; --follow: as they go on", ctl_jobs },
        { "explain", "CODE | WORKSPACE | JOB | --all", "what an error means and what to do", ctl_explain },
        { "logs", "WORKSPACE [-f] [--since 2h] [--tail N]", "what its container says", ctl_logs },
        { "events", "[--tail N] [--json]", "what changes, as it changes", ctl_events },
        { "pins", "[--json]", "which image each runtime is to run", ctl_pins },
        { "images", "[--json]", "the images that are the agent's own", ctl_images },
        { "df", "[--json]", "how full the disks are", ctl_df },
        { "gc", "[--dry-run] [--json]", "remove images that nothing needs", ctl_gc },
        { "sync", "[--wait] [--timeout S] [--json]", "ask the control plane now; --wait: until all is done", ctl_sync },
        { "apply", "FILE [--dry-run] [--wait]", "do the job in a file, without a control plane", ctl_apply },
        { "restart", "WORKSPACE [--wait]", "make a workspace anew, as it is wanted", ctl_restart },
        { "cancel", "JOB", "give a job up that is not past the point of return", ctl_cancel },
        { "hold", "[WORKSPACE] [--for 2h] --reason TEXT", "change nothing, here or on one workspace, for now", ctl_hold },
        { "release", "[WORKSPACE]", "end a hold", ctl_release },
        { "drain", "--reason TEXT", "take no new workspaces", ctl_drain },
        { "undrain", "", "take new workspaces again", ctl_undrain },
        { "doctor", "[--wait SECONDS] [--json]", "looks for what is wrong with this host", ctl_doctor },
        { "config", "show [FILE]", "each effective setting and where it came from", ctl_config },
        { "secrets", "verify | list | ...", "what is sealed here; `secrets` alone says more", ctl_secrets },
        { "audit", "verify | export", "the record of what was done here; `audit` alone says more", ctl_audit },
        { "bundle", "[--output FILE] [--without PART]", "one file for somebody who cannot come here, without secrets", ctl_bundle },
        { "enroll", "--cp-url URL --org-id UUID ...", "try the credentials of a control plane and keep them", ctl_enroll },
        { "credentials", "set NAME -", "replace one, once the new one was tried", ctl_credentials },
        { "identity", "show | adopt | reset | ...", "who this host is; `identity` alone says more", ctl_identity },
        { "seal-image", "[--root DIRECTORY] [--dry-run]", "before a disk becomes an image: identity, keys and state go", ctl_seal_image },
        { "setup", "", "at boot: credentials that do not decrypt here go aside", ctl_setup },
        { "version", "", "print the version", ctl_version },
        { "help", "", "print this", ctl_help },
};

static int ctl_version(int argc, char **argv) {
        (void) argc;
        (void) argv;
        puts("molecule-agentctl " VERSION " (" GIT_SHA ")");
        return CTL_OK;
}

static void usage(FILE *to) {
        fputs("molecule-agentctl - look at and steer the agent of this host\n\nUsage: molecule-agentctl VERB [ARGUMENTS]\n\n", to);
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                fprintf(to, "  %-11s %-38s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].what);
        fputs("\nWORKSPACE and JOB are ids, or beginnings of ids that only one has.\nThe daemon itself: systemctl status molecule-agentd; journalctl -u molecule-agentd.\n", to);
}

static int ctl_help(int argc, char **argv) {
        (void) argc;
        (void) argv;
        usage(stdout);
        return CTL_OK;
}

int main(int argc, char **argv) {
        const char *verb = argc > 1 ? argv[1] : NULL;

        if (!verb) {
                usage(stderr);
                return CTL_USAGE;
        }
        if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0)
                verb = "help";
        if (strcmp(verb, "--version") == 0)
                verb = "version";
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (strcmp(verbs[i].name, verb) == 0)
                        return verbs[i].run(argc - 1, argv + 1);
        fprintf(stderr, "molecule-agentctl has no verb '%s'; `molecule-agentctl help` lists them.\n", verb);
        return CTL_USAGE;
}
