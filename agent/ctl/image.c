/* SPDX-License-Identifier: Apache-2.0 */

/* seal-image: what makes this machine itself goes, so that each machine which boots from its disk is one of its own. Refused while there is anything here that
 * someone would miss. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ctl/answer.h"
#include "agent/ctl/ctl.h"
#include "base/file.h"
#include "base/text.h"

typedef enum Way { REMOVE,
                   EMPTY } Way; /* EMPTY: the file has to be there for the next boot */

/* Patterns below the root of the image. */
static const struct {
        const char *pattern;
        Way way;
        const char *what;
} parts[] = {
        { "/var/lib/molecule-agent/*", REMOVE, "state" },
        { "/var/lib/molecule-agent/.[!.]*", REMOVE, "state" },
        { "/etc/molecule-agent/agent.conf.d/10-enroll.conf", REMOVE, "enrolment" },
        { "/etc/credstore.encrypted/provision-secret*", REMOVE, "credential" },
        { "/etc/credstore.encrypted/admin-token*", REMOVE, "credential" },
        { "/etc/credstore.encrypted/seal-key.e*", REMOVE, "credential" },
        { "/var/lib/systemd/credential.secret", REMOVE, "systemd's key of credentials" },
        { "/var/lib/systemd/random-seed", REMOVE, "random seed" },
        { "/etc/ssh/ssh_host_*", REMOVE, "ssh host key" },
        { "/var/lib/dbus/machine-id", REMOVE, "machine id" },
        { "/etc/machine-id", EMPTY, "machine id" },
};

typedef struct Sealing {
        const char *root;
        bool dry_run;
        unsigned gone, failed;
} Sealing;

static int remove_path(const char *path) {
        _cleanup_free_ char *copy = strdup(path);
        char *slash = copy ? strrchr(copy, '/') : NULL;
        _cleanup_close_ int dir = -1;

        if (!slash)
                return -ENOMEM;
        *slash = 0;
        dir = open(copy[0] ? copy : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return dir < 0 ? -errno : file_remove_tree(dir, slash + 1);
}

static int empty_path(const char *path) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static void wipe(Sealing *s, const char *path, Way way, const char *what) {
        int r = s->dry_run ? 0 : way == EMPTY ? empty_path(path)
                                              : remove_path(path);

        if (r < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(-r));
                s->failed++;
        } else {
                answer_add("paths", answer_item("path", path, "what", what));
                answer_words("%s %s (%s)\n", s->dry_run ? "would go:" : way == EMPTY ? "emptied:"
                                                                               : "removed:",
                       path, what);
                s->gone++;
        }
}

static int wipe_all(Sealing *s) {
        for (size_t i = 0; i < ELEMENTS(parts); i++) {
                _cleanup_free_ char *pattern = str_printf("%s%s", s->root, parts[i].pattern);
                glob_t found = {};

                if (!pattern)
                        return CTL_FAILED;
                if (glob(pattern, 0, NULL, &found) == 0)
                        for (size_t k = 0; k < found.gl_pathc; k++)
                                wipe(s, found.gl_pathv[k], parts[i].way, parts[i].what);
                globfree(&found);
        }
        return s->failed ? CTL_FAILED : CTL_OK;
}

static int count(int dirfd, const char *name, void *userdata) {
        (void) dirfd;
        *(unsigned *) userdata += uuid_is_valid(name);
        return 0;
}

/* The agent at work, or a workspace's record: not an image yet. */
static int refuse(const Sealing *s) {
        _cleanup_free_ char *path = str_printf("%s/var/lib/molecule-agent", s->root);
        _cleanup_close_ int state = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, ws = -1;
        unsigned workspaces = 0;

        if (state < 0)
                return CTL_OK;
        if (ctl_agent_runs(state)) {
                fputs("The agent runs. Stop it first: systemctl stop molecule-agentd.\n", stderr);
                return CTL_REFUSED;
        }
        ws = openat(state, "ws", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (ws >= 0 && file_each(ws, count, &workspaces) < 0)
                return CTL_FAILED;
        if (workspaces > 0)
                fprintf(stderr, "There are %u workspaces here. This is a host at work and no image: deprovision them, or tear the host down.\n", workspaces);
        return workspaces > 0 ? CTL_REFUSED : CTL_OK;
}

static int usage(void) {
        fputs("Usage: molecule-agentctl seal-image [--root DIRECTORY] [--dry-run] [--json]\n", stderr);
        return CTL_USAGE;
}

int ctl_seal_image(int argc, char **argv) {
        static const struct option options[] = { { "root", required_argument, NULL, 'r' }, { "dry-run", no_argument, NULL, 'd' }, { "json", no_argument, NULL, 'j' }, {} };
        Sealing s = { .root = "" };
        int opt, code;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                if (opt == 'r')
                        s.root = optarg;
                else if (opt == 'd')
                        s.dry_run = true;
                else if (opt == 'j')
                        answer_as_json(true);
                else
                        return usage();
        if (optind != argc)
                return usage();
        code = refuse(&s);
        if (code != CTL_OK)
                return code;
        answer_list("paths");
        answer_bool("dry_run", s.dry_run);
        code = wipe_all(&s);
        if (code == CTL_OK)
                answer_words("%u things %s. %s\n", s.gone, s.dry_run ? "would go" : "are gone", s.dry_run ? "" : "Shut down now, and do not boot this disk again before it was copied.");
        return s.dry_run ? answer_end(code) : answer_done(code);
}
