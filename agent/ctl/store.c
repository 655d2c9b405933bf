/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/config.h"
#include "agent/ctl/ctl.h"
#include "agent/format.h"
#include "base/hash.h"

#define STATE_DEFAULT "/var/lib/molecule-agent"
#define UNIT_CREDENTIALS "/run/credentials/molecule-agentd.service"     /* while the unit runs, root can read them there */

const char *ctl_state_path(void) { return getenv("STATE_DIRECTORY") ?: STATE_DEFAULT; }

int ctl_open_state(void) {
        const char *path = ctl_state_path();
        int fd = open(path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

        if (fd < 0)
                fprintf(stderr, "Cannot read %s: %s. Is the agent installed, and are you root?\n", path, strerror(errno));
        else
                (void) format_open(fd, NULL);           /* ignoring: each record says it again */
        return fd;
}

int ctl_lock(int state_fd) {
        _cleanup_close_ int lock = openat(state_fd, "lock", O_RDWR|O_CLOEXEC|O_NOFOLLOW);

        if (lock < 0)
                return -errno;
        return flock(lock, LOCK_EX|LOCK_NB) < 0 ? -errno : TAKE_FD(lock);
}

bool ctl_agent_runs(int state_fd) {
        _cleanup_close_ int lock = ctl_lock(state_fd);
        return lock == -EWOULDBLOCK;
}

static char *org_of(int state_fd) {
        _cleanup_(config_freep) Config *c = NULL;

        if (config_load_good(state_fd, &c, NULL) < 0 && config_load(NULL, false, &c, NULL) < 0)
                return NULL;
        return c->org_id ? strdup(c->org_id) : NULL;
}

static int open_keys(Store *s, Fault *reterr) {
        int r;

        if (!getenv("CREDENTIALS_DIRECTORY") && access(UNIT_CREDENTIALS, R_OK) == 0)
                (void) setenv("CREDENTIALS_DIRECTORY", UNIT_CREDENTIALS, 1);
        r = arena_new(ARENA_SIZE, true, &s->arena, reterr);     /* a moment's work of a tool */
        if (r >= 0)
                r = keys_look(s->state_fd, s->arena, &s->identity.roots, &s->keys, reterr);
        if (r >= 0 && keys_fault(s->keys))
                r = fault(reterr, -ENOKEY, FAULT_SECRET_UNDECRYPTABLE, "%s", keys_fault(s->keys)->text);
        return r < 0 ? r : vault_look(s->state_fd, s->keys, s->org, &s->vault, reterr);
}

int store_open(Store *s) {
        Fault why = {};
        int r;

        *s = (Store) { .state_fd = ctl_open_state() };
        if (s->state_fd < 0)
                return CTL_FAILED;
        if (hash_init() < 0)
                return CTL_FAILED;
        process_seal_off();
        r = identity_read(s->state_fd, &s->identity, &why);
        if (r < 0 || s->identity.roots.n == 0) {
                fprintf(stderr, "Nothing is sealed here yet%s%s\n", why.set ? ": " : ".", why.set ? why.text : "");
                return CTL_FAILED;
        }
        s->org = org_of(s->state_fd);
        if (!s->org) {
                fputs("org_id is not set, and there is no last good configuration: whose secrets these are is not known.\n", stderr);
                return CTL_CONFIG;
        }
        if (open_keys(s, &why) < 0) {
                fprintf(stderr, "%s\n", why.text);
                return CTL_FAILED;
        }
        return CTL_OK;
}

void store_done(Store *s) {
        vault_free(s->vault);
        keys_free(s->keys);
        arena_free(s->arena);
        free(s->org);
        if (s->state_fd >= 0)
                (void) close(s->state_fd);
}
