/* SPDX-License-Identifier: Apache-2.0 */

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/ctl/answer.h"
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
        { "version", "[--json]", "print the version", ctl_version },
        { "help", "[VERB] [--json]", "print this, or all that a verb takes", ctl_help },
};

/* Arguments of the two that take none but --json and, where there is a place for it, one word. */
static bool read_options(int argc, char **argv, const char *synopsis, const char **ret_word) {
        int json = 0, opt;
        const struct option options[] = { { "json", no_argument, &json, 1 }, {} };

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 0)
                ;
        if (opt != -1 || argc - optind > (ret_word ? 1 : 0)) {
                fprintf(stderr, "Usage: molecule-agentctl %s\n", synopsis);
                return false;
        }
        answer_as_json(json);
        if (ret_word)
                *ret_word = argv[optind];
        return true;
}

static int ctl_version(int argc, char **argv) {
        if (!read_options(argc, argv, "version [--json]", NULL))
                return CTL_USAGE;
        answer_words("molecule-agentctl " VERSION " (" GIT_SHA ")\n");
        answer_string("version", VERSION);
        answer_string("revision", GIT_SHA);
        return answer_end(CTL_OK);
}

static void usage(FILE *to) {
        fputs("molecule-agentctl - look at and steer the agent of this host\n\nUsage: molecule-agentctl VERB [ARGUMENTS]\n\n", to);
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                fprintf(to, "  %-11s %-38s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].what);
        fputs("\nWORKSPACE and JOB are ids, or beginnings of ids that only one has. Every verb takes --json; `molecule-agentctl help VERB` says\nwhat else. The daemon itself: systemctl status molecule-agentd; journalctl -u molecule-agentd.\n", to);
}

/* A verb says what it takes when it is used badly, on stderr. Asked for, that is the answer. */
static int help_on(const Verb *v) {
        char name[32], option[] = "--help", *argv[] = { name, option, NULL };

        (void) snprintf(name, sizeof name, "%s", v->name);
        opterr = 0;
        optind = 0; /* from the beginning again */
        return dup2(STDOUT_FILENO, STDERR_FILENO) >= 0 && v->run(2, argv) == CTL_USAGE ? CTL_OK : CTL_FAILED;
}

static const Verb *find(const char *name) {
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        fprintf(stderr, "molecule-agentctl has no verb '%s'; `molecule-agentctl help` lists them.\n", name);
        return NULL;
}

static int ctl_help(int argc, char **argv) {
        const char *name = NULL;
        const Verb *v;

        if (!read_options(argc, argv, "help [VERB] [--json]", &name))
                return CTL_USAGE;
        if (name)
                return (v = find(name)) ? help_on(v) : CTL_USAGE;
        for (size_t i = 0; i < ELEMENTS(verbs) && answer_is_json(); i++)
                answer_add("verbs", answer_item("verb", verbs[i].name, "arguments", verbs[i].arguments, "what", verbs[i].what));
        if (!answer_is_json())
                usage(stdout);
        return answer_end(CTL_OK);
}

int main(int argc, char **argv) {
        const char *verb = argc > 1 ? argv[1] : NULL;
        const Verb *v;

        if (!verb) {
                usage(stderr);
                return CTL_USAGE;
        }
        if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0)
                verb = "help";
        if (strcmp(verb, "--version") == 0)
                verb = "version";
        v = find(verb);
        if (!v)
                return CTL_USAGE;
        return argc == 3 && strcmp(argv[2], "--help") == 0 ? help_on(v) : v->run(argc - 1, argv + 1);
}
