/* SPDX-License-Identifier: Apache-2.0 */

/* What is sealed on this disk: whether it all opens, which secrets there are, what belongs to no workspace any more. Names and sizes are shown, a value
 * never. */

#include "agent/ctl/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/credentials.h"
#include "agent/ctl/answer.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/note.h"
#include "agent/ctl/store.h"
#include "base/file.h"
#include "provision/workspace.h"

static bool only_json(int argc, char **argv) {
        int json = 0, opt;
        const struct option options[] = { { "json", no_argument, &json, 1 }, {} };

        while ((opt = getopt_long(argc, argv, "", options, NULL)) == 0)
                ;
        answer_as_json(json);
        return opt == -1 && optind == argc;
}

/* ── verify ──────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Count { Store *store; unsigned files, bad; } Count;

static void say_bad(const char *file, const char *reason, void *userdata) {
        ((Count *) userdata)->bad++;
        answer_words("%s: %s\n", file, reason);
        answer_add("bad", answer_item("file", file, "reason", reason));
}

static int verify_set(Vault *v, const char *workspace, uint64_t generation, void *userdata) {
        Count *c = userdata;
        unsigned files;

        (void) vault_verify_set(v, workspace, generation, say_bad, c, &files);
        c->files += files;
        return 0;
}

static int verify_workspace(Vault *v, const char *workspace, void *userdata) {
        Count *c = userdata;
        Fault why = {};
        char file[128];
        int r = vault_key_check(v, workspace, &why);

        (void) snprintf(file, sizeof file, "sealed/%.64s/key.seal", workspace);
        c->files += r != -ENOENT;
        if (r < 0)
                say_bad(file, why.set ? why.text : "missing: The workspace has no key.", c);
        return r < 0 ? 0 : vault_each_set(v, workspace, verify_set, c);         /* without the key every word would be the same */
}

/* "<workspace>.g<generation>.<what>" */
static bool side_name(const char *name, char workspace[static UUID_SIZE], uint64_t *ret_generation, const char **ret_what) {
        char digits[24] = {};
        const char *dot;

        if (strlen(name) < UUID_SIZE + 4 || strncmp(name + UUID_SIZE - 1, ".g", 2) != 0)
                return false;
        memcpy(workspace, name, UUID_SIZE - 1);
        workspace[UUID_SIZE - 1] = 0;
        dot = strchr(name + UUID_SIZE + 1, '.');
        if (!dot || (size_t) (dot - name) - UUID_SIZE - 1 >= sizeof digits || !uuid_is_valid(workspace))
                return false;
        memcpy(digits, name + UUID_SIZE + 1, (size_t) (dot - name) - UUID_SIZE - 1);
        *ret_what = dot + 1;
        return u64_parse(digits, ret_generation) == 0;
}

static int verify_side(int dirfd, const char *name, void *userdata) {
        Count *c = userdata;
        _cleanup_free_ char *sealed = NULL, *text = NULL;
        char workspace[UUID_SIZE], path[300];
        uint64_t generation;
        const char *what;
        Fault why = {};
        size_t size;
        int r;

        if (!side_name(name, workspace, &generation, &what))
                return 0;
        c->files++;
        r = file_read(dirfd, name, SEAL_FILE_MAX, &sealed, &size);
        if (r >= 0)
                r = vault_open(c->store->vault, workspace, generation, what, sealed, size, &text, &size, &why);
        (void) snprintf(path, sizeof path, "ws/%s", name);
        if (r < 0)
                say_bad(path, why.set ? why.text : strerror(-r), c);
        return 0;
}

static void verify_kept(Count *c) {
        Fault why = {};
        int r = credentials_check(c->store->state_fd, c->store->vault, &why);

        c->files += r != -ENOENT;
        if (r < 0 && r != -ENOENT)
                say_bad("credentials.seal", why.text, c);
}

static int verify(int argc, char **argv) {
        _cleanup_(store_done) Store s = { .state_fd = -1 };
        Count c = { .store = &s };
        _cleanup_close_ int ws = -1;
        unsigned files;
        int r = only_json(argc, argv) ? store_open(&s) : CTL_USAGE;

        if (r != CTL_OK)
                return r;
        (void) host_keys_verify(s.state_fd, s.keys, s.org, say_bad, &c, &files);
        c.files += files;
        r = vault_each(s.vault, verify_workspace, &c);
        ws = openat(s.state_fd, "ws", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        if (r >= 0 && ws >= 0)
                r = file_each(ws, verify_side, &c);
        verify_kept(&c);
        if (r < 0) {
                fprintf(stderr, "The state directory cannot be read: %s\n", strerror(-r));
                return CTL_FAILED;
        }
        if (c.bad > 0)
                answer_words("%u files, %u bad.\n", c.files, c.bad);
        else
                answer_words("%u files, all good.\n", c.files);
        answer_number("files", c.files);
        answer_list("bad");
        return answer_end(c.bad > 0 ? CTL_FAILED : CTL_OK);
}

/* ── list ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What the workspace's record says of a generation. */
static const char *standing(const Workspace *w, uint64_t generation) {
        if (!w)
                return "orphan";
        if (w->settled && w->settled->generation == generation)
                return w->wanted && w->wanted->generation == generation ? "settled" : "settled (old)";
        return workspace_names_generation(w, generation) ? "wanted" : "unused";
}

typedef struct Listing { const Store *store; const Workspace *w; unsigned n; } Listing;

static cJSON *secret_item(const char *workspace, const char *generation, const char *stands, const SecretItem *secret) {
        cJSON *item = answer_item("workspace_id", workspace, "generation", generation, "standing", stands, "name", secret->name);

        (void) json_add_i64(item, "bytes", (int64_t) secret->value->size); /* ignoring: then the item is one without it */
        return item;
}

static int list_set(Vault *v, const char *workspace, uint64_t generation, void *userdata) {
        Listing *l = userdata;
        _cleanup_(secret_set_done) SecretSet set = {};
        Fault why = {};
        char g[21];

        (void) u64_text(generation, g);
        if (vault_set_open(v, workspace, generation, &set, &why) < 0) {
                answer_words("%-36s  %10s  %-14s  %s\n", workspace, g, standing(l->w, generation), why.text);
                answer_add("bad", answer_item("workspace_id", workspace, "generation", g, "standing", standing(l->w, generation), "reason", why.text));
        }
        for (size_t i = 0; i < set.n; i++) {
                answer_words("%-36s  %10s  %-14s  %7zu  %s\n", workspace, g, standing(l->w, generation), set.items[i].value->size, set.items[i].name);
                answer_add("secrets", secret_item(workspace, g, standing(l->w, generation), &set.items[i]));
        }
        l->n += (unsigned) set.n;
        return 0;
}

static int list_workspace(Vault *v, const char *workspace, void *userdata) {
        Listing *l = userdata;
        _cleanup_close_ int ws = openat(l->store->state_fd, "ws", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        _cleanup_(workspace_freep) Workspace *w = NULL;

        if (!uuid_is_valid(workspace))
                return 0;
        if (ws >= 0)
                (void) workspace_load(&(WorkspaceDir) { .fd = ws }, workspace, &w, NULL);       /* ignoring: then it is nobody's */
        l->w = w;
        return vault_each_set(v, workspace, list_set, l);
}

static int list(int argc, char **argv) {
        _cleanup_(store_done) Store s = { .state_fd = -1 };
        Listing l = { .store = &s };
        int r = only_json(argc, argv) ? store_open(&s) : CTL_USAGE;

        if (r != CTL_OK)
                return r;
        answer_list("secrets");
        answer_list("bad");
        answer_words("%-36s  %10s  %-14s  %7s  %s\n", "WORKSPACE", "GENERATION", "STANDING", "BYTES", "NAME");
        if (vault_each(s.vault, list_workspace, &l) < 0)
                return CTL_FAILED;
        answer_words("%u secrets.\n", l.n);
        return answer_end(CTL_OK);
}

/* ── what belongs to nobody ──────────────────────────────────────────────────────────────────────────────────── */

typedef struct Orphans { const Store *store; int ws; bool dry; unsigned n; int r; } Orphans;

static bool has_record(const Orphans *o, const char *workspace) {
        return o->ws >= 0 && (faccessat(o->ws, workspace, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT);
}

static void orphan(Orphans *o, const char *what, int r) {
        o->n++;
        answer_add("orphans", answer_item("path", what, "error", r < 0 ? strerror(-r) : NULL));
        answer_words("%s%s%s%s\n", what, o->dry ? " would go" : r < 0 ? " cannot be removed: " : " is removed", !o->dry && r < 0 ? strerror(-r) : "", ".");
        if (r < 0)
                o->r = r;
}

static int on_sealed(Vault *v, const char *workspace, void *userdata) {
        Orphans *o = userdata;
        char what[80];
        int r = 0;

        if (!uuid_is_valid(workspace) || has_record(o, workspace))
                return 0;
        if (!o->dry && (r = vault_destroy_key(v, workspace)) >= 0)
                r = vault_destroy_sets(v, workspace);
        (void) snprintf(what, sizeof what, "sealed/%s", workspace);
        orphan(o, what, r);
        return 0;
}

static int on_side(int dirfd, const char *name, void *userdata) {
        Orphans *o = userdata;
        char workspace[UUID_SIZE], path[300];
        uint64_t generation;
        const char *what;

        if (!side_name(name, workspace, &generation, &what) || has_record(o, workspace))
                return 0;
        (void) snprintf(path, sizeof path, "ws/%s", name);
        orphan(o, path, o->dry ? 0 : file_remove(dirfd, name));
        return 0;
}

static bool read_orphan_options(int argc, char **argv, bool *ret_dry_run, char **ret_reason) {
        static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { "dry-run", no_argument, NULL, 'd' }, { "reason", required_argument, NULL, 'r' }, {} };
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (opt) {
                case 'j': answer_as_json(true); break;
                case 'd': *ret_dry_run = true; break;
                case 'r': *ret_reason = optarg; break;
                default: return false;
                }
        return optind == argc && note_reason("secrets rm-orphans", *ret_reason, !*ret_dry_run);
}

/* Only while no daemon can be about to write the record of what has none yet. */
static int rm_orphans(int argc, char **argv) {
        _cleanup_(store_done) Store s = { .state_fd = -1 };
        _cleanup_close_ int lock = -1;
        Orphans o = { .store = &s, .ws = -1 };
        char *reason = NULL;
        int r = read_orphan_options(argc, argv, &o.dry, &reason) ? store_open(&s) : CTL_USAGE;

        if (r != CTL_OK)
                return r;
        lock = ctl_lock(s.state_fd);
        if (!o.dry && lock < 0) {
                if (lock == -EWOULDBLOCK)
                        fputs("The agent runs: systemctl stop molecule-agentd first (workspaces run on), or use --dry-run.\n", stderr);
                else
                        fprintf(stderr, "The state directory cannot be locked, so nothing is removed: %s\n", strerror(-lock));
                return lock == -EWOULDBLOCK ? CTL_REFUSED : CTL_FAILED;
        }
        o.ws = openat(s.state_fd, "ws", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW);
        if (o.ws < 0) {
                fprintf(stderr, "The records cannot be looked at, so nothing is removed: %s\n", strerror(errno));
                return CTL_FAILED;
        }
        if (!o.dry)
                ctl_note_locked(s.state_fd, "secrets rm-orphans", reason);
        answer_list("orphans");
        answer_bool("dry_run", o.dry);
        r = vault_each(s.vault, on_sealed, &o);
        if (r >= 0)
                r = file_each(o.ws, on_side, &o);
        (void) close(o.ws);
        answer_words("%u orphans.\n", o.n);
        r = r < 0 || o.r < 0 ? CTL_FAILED : CTL_OK;
        return o.dry ? answer_end(r) : answer_done(r);
}

/* ── the words ───────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct { const char *name, *arguments, *what; int (*run)(int argc, char **argv); } words[] = {
        { "verify",          "[--json]",             "open everything that is sealed here; exit 1 names each bad file", verify },
        { "list",            "[--json]",             "names, generations and sizes; never a value",                     list },
        { "rm-orphans",      "[--reason TEXT] [--dry-run] [--json]", "remove what belongs to no workspace's record",                    rm_orphans },
        { "rotate-root",     "[--reason TEXT] [--no-restart] [--credstore DIRECTORY] [--json]", "another root key: run again wherever it ended", secrets_rotate_root },
        { "rotate-host-key", "[--reason TEXT] [--no-reload] [--json]", "another key for the control plane to seal to",                  secrets_rotate_host_key },
};

static int usage(void) {
        for (size_t i = 0; i < ELEMENTS(words); i++)
                fprintf(stderr, "%s molecule-agentctl secrets %s %s\n         %s\n", i == 0 ? "Usage:" : "      ", words[i].name, words[i].arguments, words[i].what);
        return CTL_USAGE;
}

int ctl_secrets(int argc, char **argv) {
        for (size_t i = 0; argc > 1 && i < ELEMENTS(words); i++)
                if (strcmp(words[i].name, argv[1]) == 0) {
                        int r = words[i].run(argc - 1, argv + 1);

                        return r == CTL_USAGE ? usage() : r;
                }
        return usage();
}
