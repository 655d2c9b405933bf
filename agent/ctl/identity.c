/* SPDX-License-Identifier: Apache-2.0 */

/* identity: who this host is, and an operator's word where the agent must not decide: is this machine the one that the state was made on (adopt), is it a
 * new one (reset), and may what another host id left in the engine go (remove-foreign). */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/audit.h"
#include "agent/config.h"
#include "agent/ctl/answer.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/note.h"
#include "agent/ctl/stray.h"
#include "agent/identity.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"

typedef struct Words {
        const char *host_id;
        char       *reason;
        bool        force, volumes, dry_run;
} Words;

static int usage(void) {
        fputs("Usage: molecule-agentctl identity show [--json]\n"
              "       molecule-agentctl identity adopt HOST_ID [--reason TEXT] [--json]     this machine is that host: its state comes back, and its containers are ours\n"
              "       molecule-agentctl identity reset [--reason TEXT] [--force] [--json]   this machine is a new host; forced: though there are workspaces\n"
              "       molecule-agentctl identity remove-foreign [--reason TEXT] [--volumes] [--dry-run] [--json]\n", stderr);
        return CTL_USAGE;
}

/* ── show ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static int show_foreign(int quarantine, const char *name, void *userdata) {
        _cleanup_close_ int fd = -1;
        Identity id = {};
        bool known;

        (void) userdata;
        if (strncmp(name, "foreign-", 8) != 0)
                return 0;
        fd = openat(quarantine, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        known = fd >= 0 && identity_read(fd, &id, NULL) >= 0;
        answer_add("set_aside", answer_item("directory", name, "host_id", known ? id.host_id : NULL));
        if (!known)
                answer_words("set aside: quarantine/%s, without an identity that can be read\n", name);
        else
                answer_words("set aside: host %s of %s %s, in quarantine/%s\n", id.host_id, id.instance_id[0] ? "instance" : "machine",
                       id.instance_id[0] ? id.instance_id : id.machine_id, name);
        return 0;
}

static void show_json(const Identity *id, bool known, const Fault *why) {
        char when[TIME_TEXT_SIZE];

        answer_string("host_id", known ? id->host_id : NULL);
        if (!known) {
                answer_string("reason", why->set ? why->text : NULL);
                return;
        }
        answer_string(id->instance_id[0] ? "instance_id" : "machine_id", id->instance_id[0] ? id->instance_id : id->machine_id);
        answer_string("registered_at", id->registered_at ? time_text(id->registered_at, when) : NULL);
        answer_bool("contested", id->parked_boot_id[0]);
        answer_list("set_aside");
        answer_list("foreign");
}

static int show(int state, const Words *w) {
        _cleanup_close_ int quarantine = openat(state, "quarantine", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        Identity id = {};
        Fault why = {};
        char when[TIME_TEXT_SIZE];
        int r = identity_read(state, &id, &why);

        (void) w;
        if (r < 0)
                answer_words("no identity%s%s\n", why.set ? ": " : " yet", why.set ? why.text : "");
        else
                answer_words("host %s\nbound to %s %s\nregistered %s\n", id.host_id, id.instance_id[0] ? "instance" : "machine",
                       id.instance_id[0] ? id.instance_id : id.machine_id, id.registered_at ? time_text(id.registered_at, when) : "never");
        show_json(&id, r >= 0, &why);
        if (r >= 0 && id.parked_boot_id[0])
                answer_words("another machine has registered with this host id: adopt or reset one of the two\n");
        if (quarantine >= 0)
                (void) file_each_dir(quarantine, show_foreign, NULL);
        (void) stray_list(id.host_id);
        return answer_end(r < 0 ? CTL_DEGRADED : CTL_OK);
}

/* ── adopt, reset ────────────────────────────────────────────────────────────────────────────────────────────── */

/* Nothing may write there meanwhile, and what is written is to be the agent's: as its user from here on. */
static int locked(int state, int *ret) {
        struct stat st;

        if (fstat(state, &st) < 0 || setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0) {
                fprintf(stderr, "Cannot become the state's owner: %s\n", strerror(errno));
                return CTL_FAILED;
        }
        *ret = ctl_lock(state);
        if (*ret == -EWOULDBLOCK) {
                fputs("The agent runs. Stop it first: systemctl stop molecule-agentd.\n", stderr);
                return CTL_REFUSED;
        }
        if (*ret < 0 && *ret != -ENOENT) {
                fprintf(stderr, "Cannot lock the state: %s\n", strerror(-*ret));
                return CTL_FAILED;
        }
        return CTL_OK;
}

static int done(int r, const Fault *why, const char *host_id) {
        if (r < 0) {
                fprintf(stderr, "%s\n", why->set ? why->text : strerror(-r));
                return CTL_FAILED;
        }
        answer_words("This machine is host %s. Start the agent: systemctl start molecule-agentd.\n", host_id);
        answer_string("host_id", host_id);
        return answer_done(CTL_OK);
}

/* The record goes with the identity: what is done to it is noted in the one that goes and in the one that comes. */
static void note_going(int state, const char *verb, const Words *w) {
        if (faccessat(state, AUDIT_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                ctl_note_locked(state, verb, w->reason);
}

static int adopt(int state, const Words *w) {
        _cleanup_close_ int lock = -1;
        Fault why = {};
        int code = locked(state, &lock);

        if (code != CTL_OK)
                return code;
        note_going(state, "identity adopt", w);
        code = identity_adopt(state, w->host_id, &why);
        if (code >= 0)
                ctl_note_locked(state, "identity adopt", w->reason);
        return done(code, &why, w->host_id);
}

static int count(int dirfd, const char *name, void *userdata) {
        (void) dirfd;
        *(unsigned *) userdata += uuid_is_valid(name);
        return 0;
}

static int reset(int state, const Words *w) {
        _cleanup_close_ int lock = -1, ws = openat(state, "ws", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        unsigned workspaces = 0;
        Identity id = {};
        Fault why = {};
        int code = locked(state, &lock), r;

        if (code != CTL_OK)
                return code;
        if (ws >= 0 && file_each(ws, count, &workspaces) < 0)
                return CTL_FAILED;
        if (workspaces > 0 && !w->force) {
                fprintf(stderr, "There are %u workspaces here that would be another host's, and left alone. If that is meant, --force.\n", workspaces);
                return CTL_REFUSED;
        }
        note_going(state, "identity reset", w);
        r = identity_reset(state, &id, &why);
        if (r >= 0)
                ctl_note_locked(state, "identity reset", w->reason);
        return done(r, &why, id.host_id);
}

/* ── remove-foreign ──────────────────────────────────────────────────────────────────────────────────────────── */

static int remove_foreign(int state, const Words *w) {
        Identity id = {};
        Fault why = {};
        int code;

        if (identity_read(state, &id, &why) < 0) {
                fprintf(stderr, "Without an identity of its own, nothing is foreign to this host%s%s\n", why.set ? ": " : ".", why.set ? why.text : "");
                return CTL_FAILED;
        }
        if (!w->dry_run)
                ctl_note("identity remove-foreign", w->reason);
        code = stray_remove(id.host_id, w->volumes, w->dry_run);
        return w->dry_run ? answer_end(code) : answer_done(code);
}

static const struct { const char *name; int arguments; bool root, reason; int (*run)(int state, const Words *w); } verbs[] = {
        { "show",           0, false, false, show },
        { "adopt",          1, true,  false, adopt },
        { "reset",          0, true,  true,  reset },
        { "remove-foreign", 0, true,  true,  remove_foreign },
};

int ctl_identity(int argc, char **argv) {
        static const struct option options[] = { { "force", no_argument, NULL, 'f' }, { "volumes", no_argument, NULL, 'v' }, { "dry-run", no_argument, NULL, 'd' },
                                                 { "json", no_argument, NULL, 'j' }, { "reason", required_argument, NULL, 'r' }, {} };
        _cleanup_close_ int state = -1;
        Words w = {};
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'f': w.force = true; break;
                case 'v': w.volumes = true; break;
                case 'd': w.dry_run = true; break;
                case 'j': answer_as_json(true); break;
                case 'r': w.reason = optarg; break;
                default: return usage();
                }
        for (size_t i = 0; optind < argc && i < ELEMENTS(verbs); i++)
                if (strcmp(verbs[i].name, argv[optind]) == 0 && argc - optind - 1 == verbs[i].arguments) {
                        w.host_id = argv[optind + 1];
                        if (w.host_id && !uuid_is_valid(w.host_id))
                                return usage();
                        if (!note_reason(argv[optind], w.reason, verbs[i].reason && !w.dry_run))
                                return CTL_USAGE;
                        if (verbs[i].root && geteuid() != 0) {
                                fputs("Who this host is, is root's to say.\n", stderr);
                                return CTL_REFUSED;
                        }
                        state = ctl_open_state();
                        return state < 0 || hash_init() < 0 ? CTL_FAILED : verbs[i].run(state, &w);
                }
        return usage();
}
