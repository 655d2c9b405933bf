/* SPDX-License-Identifier: Apache-2.0 */

/* Another key. The daemon cannot make systemd credentials, and does not start itself anew: the tool makes the new root, has the daemon wrap everything
 * with it at its next start, and takes the old one away once the record says that nothing needs it. Where it was interrupted is read from
 * what is there, so running it again goes on. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/ctl/answer.h"
#include "agent/ctl/creds.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/note.h"
#include "agent/ctl/secrets.h"
#include "agent/ctl/store.h"
#include "base/file.h"
#include "base/hash.h"

#define DROPIN_DIR  "/etc/systemd/system/molecule-agentd.service.d"
#define DROPIN       DROPIN_DIR "/seal-key.conf"
#define UNIT_EPOCHS 4                           /* seal-key.e1 to e4 are in the unit itself */
#define WAIT_SECONDS 60

typedef struct Rotation {
        int         state_fd, keys_fd;
        const char *credstore;
        bool        no_restart;
        RootChecks  roots;
        uint32_t    current, newest;            /* what everything is wrapped by; the newest root that there is */
} Rotation;

static void rotation_done(Rotation *r) {
        if (r->state_fd >= 0)
                (void) close(r->state_fd);
        if (r->keys_fd >= 0)
                (void) close(r->keys_fd);
}

static int say(const char *what, int e) {
        fprintf(stderr, "%s: %s\n", what, strerror(-e));
        return CTL_FAILED;
}

/* ── what there is ───────────────────────────────────────────────────────────────────────────────────────────── */

static void file_name(uint32_t epoch, char ret[static 32]) { (void) snprintf(ret, 32, "root.e%u", epoch); }
static void credential_path(const Rotation *r, uint32_t epoch, char ret[static 256]) {
        (void) snprintf(ret, 256, "%s/seal-key.e%u", r->credstore, epoch);
}

static bool has_file(const Rotation *r, uint32_t epoch) {
        char name[32];

        file_name(epoch, name);
        return faccessat(r->keys_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool has_credential(const Rotation *r, uint32_t epoch) {
        char path[256];

        credential_path(r, epoch, path);
        return access(path, F_OK) == 0;
}

static int look(Rotation *r) {
        Identity id = {};
        Fault why = {};

        if (identity_read(r->state_fd, &id, &why) < 0 || id.roots.n == 0) {
                fprintf(stderr, "There is no root key here yet%s%s\n", why.set ? ": " : ".", why.set ? why.text : "");
                return CTL_FAILED;
        }
        r->roots = id.roots;
        r->current = id.roots.wrapped;
        r->newest = r->current;
        for (size_t i = 0; i < id.roots.n; i++)
                if (id.roots.items[i].epoch > r->newest)
                        r->newest = id.roots.items[i].epoch;
        while (has_file(r, r->newest + 1) || has_credential(r, r->newest + 1))
                r->newest++;
        return CTL_OK;
}

/* ── the new one ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* The daemon reads it as its own user, whoever runs the tool. Also for one that an interrupted run has left. */
static int give_file(const Rotation *r, uint32_t epoch) {
        struct stat st;
        char name[32];

        file_name(epoch, name);
        if (fstat(r->state_fd, &st) < 0 || fchownat(r->keys_fd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
                return say("Cannot give the new root key to the agent's user", -errno);
        return CTL_OK;
}

static int make_file(Rotation *r, uint32_t epoch) {
        uint8_t key[KEY_SIZE];
        char name[32];
        int e;

        file_name(epoch, name);
        randombytes_buf(key, sizeof key);
        e = file_write_atomic(r->keys_fd, name, key, sizeof key);
        sodium_memzero(key, sizeof key);
        return e < 0 ? say("Cannot store the new root key", e) : give_file(r, epoch);
}

static int make_credential(Rotation *r, uint32_t epoch) {
        uint8_t key[KEY_SIZE];
        char name[32];
        int e;

        (void) snprintf(name, sizeof name, "seal-key.e%u", epoch);
        randombytes_buf(key, sizeof key);
        e = creds_store(r->credstore, name, key, sizeof key);
        sodium_memzero(key, sizeof key);
        return e < 0 ? say("systemd-creds could not encrypt the new root key", e) : CTL_OK;
}

/* ── the unit ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Epochs beyond those in the unit are named in a drop-in. True: it changed. */
static bool write_dropin(const Rotation *r) {
        char text[512] = "# Written by molecule-agentctl secrets rotate-root.\n[Service]\n";
        size_t n = strlen(text);
        bool any = false;
        FILE *f;

        for (uint32_t e = UNIT_EPOCHS + 1; e <= r->newest; e++)
                if (has_credential(r, e) && n < sizeof text - 64) {
                        n += (size_t) snprintf(text + n, sizeof text - n, "LoadCredentialEncrypted=seal-key.e%u\n", e);
                        any = true;
                }
        if (!any)
                return unlink(DROPIN) == 0;
        (void) mkdir(DROPIN_DIR, 0755);
        f = fopen(DROPIN, "we");
        if (!f || fputs(text, f) < 0 || fflush(f) != 0 || fsync(fileno(f)) < 0 || fclose(f) != 0) {
                fprintf(stderr, "Cannot write %s: %s\n", DROPIN, strerror(errno));
                return false;
        }
        (void) creds_sync(DROPIN_DIR); /* ignoring: run again, it is written again */
        return true;
}

/* ── the steps ───────────────────────────────────────────────────────────────────────────────────────────────── */

static int step_make(Rotation *r) {
        uint32_t epoch = r->newest + 1;
        int e = has_credential(r, r->current) && !has_file(r, r->current) ? make_credential(r, epoch) : make_file(r, epoch);

        if (e != CTL_OK)
                return e;
        r->newest = epoch;
        answer_words("The root key of epoch %u is made.\n", epoch);
        answer_number("made_epoch", epoch);
        return CTL_OK;
}

static int step_wrap(Rotation *r) {
        bool changed = strcmp(r->credstore, CREDSTORE) == 0 && write_dropin(r);

        if (has_file(r, r->newest) && give_file(r, r->newest) != CTL_OK)
                return CTL_FAILED;
        if (r->no_restart || unit_do("RestartUnit", changed) < 0) {
                answer_words("Restart the agent, so that it wraps its keys with epoch %u, and run this again.\n", r->newest);
                answer_string("next", "restart the agent, and run this again");
                return CTL_TRY_AGAIN;
        }
        for (unsigned i = 0; i < WAIT_SECONDS * 4; i++) {
                Rotation now = *r;

                if (look(&now) == CTL_OK && now.current == r->newest) {
                        *r = now;
                        return CTL_OK;
                }
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec) { .tv_nsec = 250000000 }, NULL);
        }
        fputs("The agent has not wrapped its keys yet; see its log, and run this again.\n", stderr);
        return CTL_TIMED_OUT;
}

static int step_drop(Rotation *r) {
        char path[256], name[32];
        int e = 0;

        for (uint32_t epoch = 1; epoch < r->current; epoch++) {
                file_name(epoch, name);
                if (has_file(r, epoch) && (e = file_remove(r->keys_fd, name)) < 0)
                        return say("Cannot remove the old root key", e);
                credential_path(r, epoch, path);
                if (has_credential(r, epoch) && unlink(path) < 0)
                        return say("Cannot remove the old credential", -errno);
        }
        if (strcmp(r->credstore, CREDSTORE) == 0)
                (void) write_dropin(r);
        answer_words("Everything is sealed below the root key of epoch %u; older ones are gone.\n", r->current);
        answer_number("epoch", r->current);
        return CTL_OK;
}

static bool has_older(const Rotation *r) {
        for (uint32_t epoch = 1; epoch < r->current; epoch++)
                if (has_file(r, epoch) || has_credential(r, epoch))
                        return true;
        return false;
}

int secrets_rotate_root(int argc, char **argv) {
        static const struct option options[] = {
                { "no-restart", no_argument, NULL, 'n' }, { "credstore", required_argument, NULL, 'c' }, { "json", no_argument, NULL, 'j' },
                { "reason", required_argument, NULL, 'r' }, {}
        };
        char *reason = NULL;
        _cleanup_(rotation_done) Rotation r = { .state_fd = -1, .keys_fd = -1, .credstore = CREDSTORE };
        int opt, e;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'n': r.no_restart = true; break;
                case 'c': r.credstore = optarg; break;
                case 'j': answer_as_json(true); break;
                case 'r': reason = optarg; break;
                default: return CTL_USAGE;
                }
        if (optind != argc || !note_reason("secrets rotate-root", reason, true))
                return CTL_USAGE;
        r.state_fd = ctl_open_state();
        if (r.state_fd < 0 || hash_init() < 0)
                return CTL_FAILED;
        r.keys_fd = openat(r.state_fd, "keys", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW);
        if (r.keys_fd < 0)
                return say("Cannot open the directory of keys", -errno);
        e = look(&r);
        if (e == CTL_OK)
                ctl_note("secrets rotate-root", reason);
        if (e == CTL_OK && r.newest == r.current && !has_older(&r))
                e = step_make(&r);
        if (e == CTL_OK && r.newest != r.current)
                e = step_wrap(&r);
        return answer_done(e == CTL_OK ? step_drop(&r) : e);
}

/* ── the host's pair ─────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Newest { char id[HOST_KEY_ID_SIZE]; uint64_t number; } Newest;

static int on_key(int dirfd, const char *name, void *userdata) {
        Newest *n = userdata;
        unsigned long long number;
        char hex[17];

        (void) dirfd;
        if (sscanf(name, "host.h%20llu-%16[0-9a-f].seal", &number, hex) == 2 && number > n->number) {
                n->number = number;
                (void) snprintf(n->id, sizeof n->id, "h%llu-%s", number, hex);
        }
        return 0;
}

/* The daemon makes the pair: it does so only once the control plane knows the one before, which has to prove the new one. */
int secrets_rotate_host_key(int argc, char **argv) {
        int json = 0, no_reload = 0, opt, e;
        const struct option options[] = { { "no-reload", no_argument, &no_reload, 1 }, { "json", no_argument, &json, 1 }, { "reason", required_argument, NULL, 'r' }, {} };
        char *reason = NULL;
        _cleanup_close_ int state = -1, keys = -1;
        Newest newest = {};
        struct stat st;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 0 || opt == 'r')
                reason = opt == 'r' ? optarg : reason;
        if (opt != -1 || optind != argc || !note_reason("secrets rotate-host-key", reason, false))
                return CTL_USAGE;
        answer_as_json(json);
        state = ctl_open_state();
        if (state < 0)
                return CTL_FAILED;
        keys = openat(state, "keys", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW);
        if (keys < 0 || file_each(keys, on_key, &newest) < 0 || !newest.number) {
                fputs("This host has no key for the control plane yet.\n", stderr);
                return CTL_FAILED;
        }
        ctl_note("secrets rotate-host-key", reason);
        e = file_write_atomic(keys, "rotate-host-key", newest.id, strlen(newest.id));
        if (e >= 0 && (fstat(state, &st) < 0 || fchownat(keys, "rotate-host-key", st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0))
                e = -errno;
        if (e < 0)
                return say("Cannot ask for another key", e);
        if (no_reload || unit_do("ReloadUnit", false) < 0)
                answer_words("Asked for a key in place of %s: reload the agent (SIGHUP), or start it.\n", newest.id);
        else
                answer_words("Asked for a key in place of %s; the agent makes it as soon as the control plane has answered.\n", newest.id);
        answer_string("in_place_of", newest.id);
        return answer_done(CTL_OK);
}
