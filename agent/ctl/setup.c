/* SPDX-License-Identifier: Apache-2.0 */

/* setup: run by root at every boot, before the agent, by molecule-agent-setup.service. A credential that does not decrypt on this machine (a cloned disk, a
 * new TPM) would keep the unit from starting at all, so it is moved aside, and the agent can say what is missing. One that was set aside is tried again:
 * what was wrong may have been the machine's for a while only. And before the agent makes its root key in a file, it is given one that is encrypted. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent/ctl/answer.h"
#include "agent/ctl/creds.h"
#include "agent/ctl/ctl.h"
#include "base/file.h"
#include "base/text.h"

#define ASIDE ".foreign"
#define FIRST_KEY "seal-key.e1"

typedef struct Setup {
        const char *store;
        unsigned aside, back, left, failed;     /* left: set aside, now or earlier, and not back */
        bool any_key;
} Setup;

static bool is_ours(const char *name) {
        return strcmp(name, "provision-secret") == 0 || strcmp(name, "admin-token") == 0 || strncmp(name, "seal-key.e", 10) == 0;
}

static void move(Setup *s, int dirfd, const char *from, const char *to, const char *what, unsigned *count) {
        if (renameat(dirfd, from, dirfd, to) < 0) {
                fprintf(stderr, "%s could not be renamed to %s: %s\n", from, to, strerror(errno));
                s->failed++;
                return;
        }
        answer_words("%s: %s\n", from, what);
        answer_add("renamed", answer_item("from", from, "to", to));
        ++*count;
}

static int one(int dirfd, const char *name, void *userdata) {
        Setup *s = userdata;
        size_t n = strlen(name), suffix = strlen(ASIDE);
        bool aside = n > suffix && strcmp(name + n - suffix, ASIDE) == 0;
        char own[128], other[128 + sizeof ASIDE];

        if (n >= sizeof own)
                return 0;
        (void) snprintf(own, sizeof own, "%.*s", (int) (aside ? n - suffix : n), name);
        (void) snprintf(other, sizeof other, "%s" ASIDE, own);
        if (!is_ours(own))
                return 0;
        s->any_key |= own[0] == 's';
        if (!aside && !creds_decrypts(s->store, own, own))
                move(s, dirfd, own, other, "does not decrypt on this machine, and is set aside", &s->aside);
        else if (aside && faccessat(dirfd, own, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && creds_decrypts(s->store, other, own))
                move(s, dirfd, other, own, "decrypts again, and is back", &s->back);
        s->left += faccessat(dirfd, other, F_OK, AT_SYMLINK_NOFOLLOW) == 0 && own[0] != 's';
        return 0;
}

static int count_root(int dirfd, const char *name, void *userdata) {
        (void) dirfd;
        *(bool *) userdata |= strncmp(name, "root.", 5) == 0;
        return 0;
}

/* Only where nothing was ever sealed: a key beside one that is set aside, or beside a file, would be a second key of the same epoch. */
static void first_key(Setup *s) {
        _cleanup_free_ char *path = str_printf("%s/keys", getenv("STATE_DIRECTORY") ?: "/var/lib/molecule-agent");
        _cleanup_close_ int keys = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        uint8_t key[32];
        int r;

        if (keys >= 0 && file_each(keys, count_root, &s->any_key) < 0)
                return;
        if (s->any_key)
                return;
        r = getrandom(key, sizeof key, 0) == sizeof key ? creds_store(s->store, FIRST_KEY, key, sizeof key) : -EIO;
        explicit_bzero(key, sizeof key);
        if (r < 0) {
                fprintf(stderr, FIRST_KEY " could not be made: %s. The agent will make its root key in a file.\n", strerror(-r));
                s->failed++;
        } else {
                answer_words(FIRST_KEY ": made for this machine\n");
                answer_string("made", FIRST_KEY);
        }
}

/* The agent may not look into the store: that something lies there which is not for this machine, it learns by this file. */
static void tell(Setup *s) {
        const char *runtime = getenv("RUNTIME_DIRECTORY");
        _cleanup_close_ int fd = runtime ? open(runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        int r = 0;

        if (fd < 0)
                return;
        if (s->left == 0)
                (void) unlinkat(fd, "foreign", 0);
        else
                r = file_write_atomic(fd, "foreign", "", 0);
        s->failed += r < 0;
}

int ctl_setup(int argc, char **argv) {
        int json = 0, opt;
        const struct option options[] = { { "json", no_argument, &json, 1 }, {} };
        Setup s = { .store = CREDSTORE };
        _cleanup_close_ int fd = -1;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 0)
                ;
        if (opt != -1 || argc - optind > 1) {
                fputs("Usage: molecule-agentctl setup [DIRECTORY] [--json]\n", stderr);
                return CTL_USAGE;
        }
        answer_as_json(json);
        if (optind < argc)
                s.store = argv[optind];
        fd = open(s.store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return answer_done(CTL_OK); /* nothing was ever enrolled here */
        if (fd < 0 || file_each(fd, one, &s) < 0) {
                fprintf(stderr, "Cannot look into %s: %s\n", s.store, strerror(errno));
                return CTL_FAILED;
        }
        first_key(&s);
        tell(&s);
        if (s.aside + s.back > 0 && fsync(fd) < 0)
                s.failed++;
        return answer_done(s.failed ? CTL_FAILED : CTL_OK);
}
