/* SPDX-License-Identifier: Apache-2.0 */

/* doctor: what this host was given, by an operator and by its first start: settings, credentials, an identity. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ctl/creds.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/doctor.h"
#include "agent/identity.h"
#include "base/file.h"

#define AGAIN "Run molecule-agentctl enroll."

Verdict look_configuration(Doctor *d) {
        if (!d->config)
                return blame(d, BAD, fault_code_name(FAULT_CONFIG_INVALID), "%s The last good one is in force. Mend the line.", d->config_fault.text);
        if (!config_can_enrol(d->config))
                return blame(d, BAD, fault_code_name(FAULT_NOT_ENROLLED), "cp_url or org_id is not set. " AGAIN);
        return say(d, FINE, "%s, organization %s", d->config->cp_url, d->config->org_id);
}

/* ── credentials ─────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_private(const struct stat *st) { return st->st_uid == 0 && (st->st_mode & 077) == 0; }

/* A file in clear: the agent's user reads it, too. */
static Verdict look_clear(Doctor *d, const char *path) {
        struct stat st;

        if (stat(path, &st) < 0)
                return blame(d, BAD, fault_code_name(FAULT_NOT_ENROLLED), "%s cannot be read: %s. " AGAIN, path, strerror(errno));
        if (st.st_mode & 07)
                return say(d, BAD, "%s holds a credential in clear, for every user to read. chmod 600, then molecule-agentctl enroll, and remove it.", path);
        return say(d, WARNING, "They lie in files in clear. Run molecule-agentctl enroll, and remove the files.");
}

static Verdict look_credential(Doctor *d, const char *name) {
        char path[256], aside[sizeof path + 16];
        struct stat st;

        (void) snprintf(path, sizeof path, "%s/%s", d->store, name);
        (void) snprintf(aside, sizeof aside, "%s.foreign", path);
        if (lstat(path, &st) < 0) {
                if (access(aside, F_OK) == 0)
                        return blame(d, BAD, fault_code_name(FAULT_CREDENTIALS_FOREIGN), "%s was encrypted for another machine. " AGAIN, name);
                return blame(d, BAD, fault_code_name(FAULT_NOT_ENROLLED), "%s is not in %s. " AGAIN, name, d->store);
        }
        if (!creds_decrypts(d->store, name, name))
                return blame(d, BAD, fault_code_name(FAULT_CREDENTIALS_FOREIGN), "%s does not decrypt on this machine. " AGAIN, name);
        if (!is_private(&st))
                return say(d, WARNING, "%s is not root's alone (mode %03o). chown root: and chmod 600 it.", path, st.st_mode & 0777);
        return FINE;
}

static Verdict look_store(Doctor *d) {
        struct stat st;

        if (stat(d->store, &st) == 0 && (st.st_uid != 0 || st.st_mode & 022))
                return say(d, BAD, "Others than root may write to %s (mode %03o): chown root: and chmod 700 it.", d->store, st.st_mode & 0777);
        return FINE;
}

Verdict look_credentials(Doctor *d) {
        static const char *const names[] = { "provision-secret", "admin-token" };
        const char *const clear[] = { d->config ? d->config->provision_secret_file : NULL, d->config ? d->config->admin_token_file : NULL };
        Verdict worst = look_store(d), v;

        for (size_t i = 0; i < ELEMENTS(names) && worst != BAD; i++) {
                Doctor one = *d;                /* its words count only where they are worse */

                v = clear[i] ? look_clear(&one, clear[i]) : look_credential(&one, names[i]);
                if (v > worst) {
                        worst = v;
                        d->code = one.code;
                        memcpy(d->words, one.words, sizeof d->words);
                }
        }
        return worst != FINE ? worst : say(d, FINE, "both decrypt on this machine, and are root's alone");
}

/* ── identity ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int count_foreign(int dirfd, const char *name, void *userdata) {
        (void) dirfd;
        *(unsigned *) userdata += strncmp(name, "foreign-", 8) == 0;
        return 0;
}

Verdict look_identity(Doctor *d) {
        _cleanup_close_ int state = -1, quarantine = -1;
        Identity id = {};
        unsigned n = 0;

        if (access(doctor_state_directory(), R_OK | X_OK) < 0)
                return say(d, BAD, "%s: %s. Install the agent, and start it: systemctl start molecule-agentd.", doctor_state_directory(), strerror(errno));
        state = ctl_open_state();
        if (state < 0 || identity_read(state, &id, NULL) < 0)
                return say(d, BAD, "This host has no identity yet. Start the agent: systemctl start molecule-agentd.");
        quarantine = openat(state, "quarantine", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (quarantine >= 0)
                (void) file_each_dir(quarantine, count_foreign, &n);
        if (n > 0)
                return say(d, WARNING, "This is host %s. State of another one was set aside here. See molecule-agentctl identity show.", id.host_id);
        return say(d, FINE, "host %s", id.host_id);
}
