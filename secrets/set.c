/* SPDX-License-Identifier: Apache-2.0 */

/* A generation's set: a directory of sealed values with a sealed manifest of them. It is filled under a hidden name, made durable, and renamed: a crash
 * leaves no set or a whole one. It is never changed afterwards; whether it counts is the word of the workspace's record. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text.h"
#include "secrets/vault-internal.h"

#define TEMP_PREFIX ".new."

const char *set_name(uint64_t generation, char ret[static SET_NAME_SIZE]) {
        char g[21];

        (void) snprintf(ret, SET_NAME_SIZE, "g%s", u64_text(generation, g));
        return ret;
}

bool set_generation(const char *name, uint64_t *ret) { return name[0] == 'g' && u64_parse(name + 1, ret) == 0; }

/* One set at work: whose it is, and the key that opens it. */
typedef struct SetWork {
        const Vault *vault;
        const char  *workspace;
        uint64_t     generation;
        Secret      *key;
        int          fd;                        /* of the set's directory */
} SetWork;

static void set_work_done(SetWork *w) {
        secret_free(w->key);
        if (w->fd >= 0)
                (void) close(w->fd);
}

static SealContext context(const SetWork *w, SealType type, const char *name) {
        return own_context(w->vault, type, w->workspace, w->generation, name);
}

static int file_name(const char *name, char ret[static 160]) {
        int n = snprintf(ret, 160, "%s.seal", name);
        return n > 0 && n < 160 && strcmp(ret, MANIFEST_FILE) != 0 && !strchr(name, '/') && name[0] != '.' ? 0 : -EINVAL;
}

/* ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Written now, made durable with all the others at the end: one commit of the file system's journal serves most of them. */
static int put(int dirfd, const char *name, const uint8_t *data, size_t size, int *ret_fd) {
        _cleanup_close_ int fd = openat(dirfd, name, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC|O_NOFOLLOW, 0600);
        int r;

        if (fd < 0)
                return -errno;
        r = file_write_full(fd, data, size);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int seal_to(const SetWork *w, const SealContext *c, const char *file, const void *data, size_t size, char hash[static HASH_TEXT_SIZE],
                   int *ret_fd, Fault *reterr) {
        _cleanup_free_ uint8_t *sealed = NULL;
        size_t sealed_size;
        int r = seal_make(c, keys_epoch(w->vault->keys), w->key->data, data, size, keys_arena(w->vault->keys), &sealed, &sealed_size, reterr);

        if (r < 0)
                return r;
        hash_text(sealed, sealed_size, hash);
        r = put(w->fd, file, sealed, sealed_size, ret_fd);
        return r < 0 ? fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot write a sealed file: %m") : 0;
}

static int put_items(const SetWork *w, const SecretSet *set, cJSON *files, int *fds, Fault *reterr) {
        for (size_t i = 0; i < set->n; i++) {
                const SecretItem *item = &set->items[i];
                SealContext c = context(w, SEAL_SECRET, item->name);
                char hash[HASH_TEXT_SIZE], file[160];
                int r = file_name(item->name, file);

                if (r < 0)
                        return fault(reterr, r, FAULT_BAD_ENV, "A secret cannot be called '%s'.", item->name);
                r = seal_to(w, &c, file, item->value->data, item->value->size, hash, &fds[i], reterr);
                if (r < 0)
                        return r;
                if (!json_add_string(files, item->name, hash))
                        return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        }
        return 0;
}

static int put_manifest(const SetWork *w, cJSON *files, int *ret_fd, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject(), *owned = files;
        _cleanup_free_ char *text = NULL;
        SealContext c = context(w, SEAL_MANIFEST, "");
        char hash[HASH_TEXT_SIZE];

        if (!json || !json_add_u64_text(json, "generation", w->generation) || !json_add_item(json, "files", TAKE_PTR(owned)) ||
            !(text = json_print(json)))
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        return seal_to(w, &c, MANIFEST_FILE, text, strlen(text), hash, ret_fd, reterr);
}

static int sync_all(int *fds, size_t n, int dirfd) {
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                if (fds[i] < 0)
                        continue;
                if (r == 0 && fsync(fds[i]) < 0)
                        r = -errno;
                if (close(fds[i]) < 0 && r == 0)
                        r = -errno;
        }
        return r == 0 && fsync(dirfd) < 0 ? -errno : r;
}

/* The directory w->fd, filled and durable. */
static int fill(const SetWork *w, const SecretSet *set, Fault *reterr) {
        _cleanup_free_ int *fds = malloc((set->n + 1) * sizeof *fds);
        cJSON *files = cJSON_CreateObject();
        int r, s;

        if (!fds || !files) {
                cJSON_Delete(files);
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        }
        for (size_t i = 0; i <= set->n; i++)
                fds[i] = -1;
        r = put_items(w, set, files, fds, reterr);
        if (r >= 0)
                r = put_manifest(w, files, &fds[set->n], reterr);
        else
                cJSON_Delete(files);
        s = sync_all(fds, set->n + 1, w->fd);
        if (r >= 0 && s < 0)
                r = fault(reterr, s, FAULT_STATE_DEGRADED, "Cannot make a set of secrets durable: %m");
        return r;
}

static int on_left_over(int dirfd, const char *name, void *userdata) {
        (void) userdata;
        (void) file_remove_tree(dirfd, name);   /* ignoring: the next writing finds it again */
        return 0;
}

/* Hidden directories are of a crash: nothing else writes here. */
void sets_sweep(int workspace_fd) { (void) file_each_hidden_dir(workspace_fd, on_left_over, NULL); }

static int write_new(SetWork *w, int workspace_fd, const SecretSet *set, Fault *reterr) {
        char name[SET_NAME_SIZE], temp[SET_NAME_SIZE + sizeof TEMP_PREFIX];
        int r;

        (void) snprintf(temp, sizeof temp, TEMP_PREFIX "%s", set_name(w->generation, name));
        sets_sweep(workspace_fd);
        w->fd = mkdirat(workspace_fd, temp, 0700) < 0 ? -1 : openat(workspace_fd, temp, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW);
        if (w->fd < 0)
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot make a set of secrets: %m");
        r = fill(w, set, reterr);
        if (r >= 0 && (renameat(workspace_fd, temp, workspace_fd, name) < 0 || fsync(workspace_fd) < 0))
                r = fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot store a set of secrets: %m");
        if (r < 0)
                (void) file_remove_tree(workspace_fd, temp);
        return r;
}

static bool sets_equal(const SecretSet *a, const SecretSet *b) {
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++) {
                bool found = false;

                for (size_t k = 0; k < b->n && !found; k++)
                        found = strcmp(a->items[i].name, b->items[k].name) == 0 && secret_equal(a->items[i].value, b->items[k].value);
                if (!found)
                        return false;
        }
        return true;
}

int vault_set_write(Vault *v, const char *workspace, uint64_t generation, const SecretSet *set, Fault *reterr) {
        _cleanup_(set_work_done) SetWork w = { .vault = v, .workspace = workspace, .generation = generation, .fd = -1 };
        _cleanup_close_ int workspace_fd = -1;
        _cleanup_(secret_set_done) SecretSet there = {};
        Fault why = {};
        int r;

        r = vault_set_open(v, workspace, generation, &there, &why);
        if (r == 0 && sets_equal(set, &there))
                return 0;
        if (r == 0)
                (void) fault(&why, -EBADMSG, FAULT_INTERNAL, "The set was of another job.");
        if (r == 0 || r == -EBADMSG)
                r = vault_set_aside(v, workspace, generation, why.text);
        else if (r != -ENOENT) {
                if (reterr)
                        *reterr = why;
                return r;
        }
        if (r < 0 && r != -ENOENT)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot set a damaged set of secrets aside: %m");
        r = workspace_key(v, workspace, true, &w.key, reterr);
        if (r < 0)
                return r;
        workspace_fd = workspace_dir(v, workspace);
        if (workspace_fd < 0)
                return fault(reterr, workspace_fd, FAULT_STATE_DEGRADED, "Cannot open the sealed files of workspace %s: %m", workspace);
        r = write_new(&w, workspace_fd, set, reterr);
        if (r >= 0 && v->stored)
                v->stored(workspace, generation, set->n, v->userdata);
        return r;
}

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int begin(Vault *v, const char *workspace, uint64_t generation, SetWork *w, Fault *reterr) {
        _cleanup_close_ int fd = -1;
        char name[SET_NAME_SIZE];
        int r;

        *w = (SetWork) { .vault = v, .workspace = workspace, .generation = generation, .fd = -1 };
        r = vault_usable(v, reterr);
        if (r < 0)
                return r;
        fd = workspace_dir(v, workspace);
        w->fd = fd < 0 ? fd : openat(fd, set_name(generation, name), O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW);
        if (w->fd < 0) {
                r = fd < 0 ? fd : -errno;
                return r == -ENOENT ? r : fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot open a set of secrets: %m");
        }
        return key_for(v, workspace, &w->key, reterr);
}

static int read_manifest(const SetWork *w, cJSON **ret, Fault *reterr) {
        _cleanup_free_ char *file = NULL, *text = NULL;
        _cleanup_json_ cJSON *json = NULL;
        SealContext c = context(w, SEAL_MANIFEST, "");
        SealKeys keys = keys_for(w->vault->keys, w->key->data);
        size_t size;
        int r = file_read(w->fd, MANIFEST_FILE, SEAL_MANIFEST_MAX + 2048, &file, &size);

        if (r == -ENOENT || r == -EFBIG)
                return fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "missing: The set has no manifest.");
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read a manifest: %m");
        r = seal_open_plain(&c, &keys, (const uint8_t *) file, size, &text, &size, reterr);
        if (r < 0)
                return fault_prefix(reterr, r, MANIFEST_FILE ": ");
        r = json_parse(text, size, &json, reterr);
        if (r < 0 || json_get_u64_text(json, "generation", 0) != w->generation || !cJSON_IsObject(json_get(json, "files")) ||
            cJSON_GetArraySize(json_get(json, "files")) > SECRETS_MAX) {
                if (r == -ENOMEM)
                        return r;
                if (reterr)
                        *reterr = (Fault) {};
                return fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "bad_manifest: The manifest is authentic, but makes no sense.");
        }
        *ret = TAKE_PTR(json);
        return 0;
}

/* item: name and hash, as the manifest has them. */
static int read_item(const SetWork *w, const cJSON *item, Secret **ret, Fault *reterr) {
        _cleanup_free_ char *sealed = NULL;
        SealContext c = context(w, SEAL_SECRET, item->string);
        SealKeys keys = keys_for(w->vault->keys, w->key->data);
        char file[160], hash[HASH_TEXT_SIZE];
        size_t size = 0;
        int r = file_name(item->string, file);

        if (r == 0)
                r = file_read(w->fd, file, SEAL_SECRET_MAX + 2048, &sealed, &size);
        if (r == -ENOENT || r == -EINVAL || r == -EFBIG)
                return fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "%s: %s", item->string,
                             r == -EFBIG ? "too_large: The file is larger than its type allows." : "missing: The manifest names a file that is not there.");
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read a sealed file: %m");
        r = seal_open(&c, &keys, (const uint8_t *) sealed, size, keys_arena(w->vault->keys), ret, reterr);
        if (r < 0)
                return fault_prefix(reterr, r, "%s: ", item->string);
        hash_text(sealed, size, hash);
        if (cJSON_IsString(item) && strcmp(hash, item->valuestring) == 0)
                return 0;
        *ret = secret_free(*ret);
        return fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "%s: changed: The file is authentic, but not the one of this set.",
                     item->string);
}

int vault_set_open(Vault *v, const char *workspace, uint64_t generation, SecretSet *ret, Fault *reterr) {
        _cleanup_(set_work_done) SetWork w = { .fd = -1 };
        _cleanup_(secret_set_done) SecretSet set = {};
        _cleanup_json_ cJSON *manifest = NULL;
        const cJSON *item;
        int r = begin(v, workspace, generation, &w, reterr);

        if (r < 0 || (r = read_manifest(&w, &manifest, reterr)) < 0)
                return r;
        cJSON_ArrayForEach(item, json_get(manifest, "files")) {
                Secret *value = NULL;

                r = read_item(&w, item, &value, reterr);
                if (r < 0)
                        return r;
                r = secret_set_add(&set, item->string, value);
                if (r < 0)
                        return fault(reterr, r, FAULT_INTERNAL, "Out of memory.");
        }
        *ret = set;
        set = (SecretSet) {};
        return 0;
}

/* ── file by file ────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Verify { const cJSON *files; const char *place; SealedBad bad; void *userdata; unsigned n, n_bad; } Verify;

static void say_bad(Verify *y, const char *file, const char *reason) {
        char path[320];

        (void) snprintf(path, sizeof path, "%s/%s", y->place, file);
        y->bad(path, reason, y->userdata);
        y->n_bad++;
}

static int on_file(int dirfd, const char *name, void *userdata) {
        Verify *y = userdata;
        char secret[160] = {};
        size_t n = strlen(name);

        (void) dirfd;
        y->n++;
        if (strcmp(name, MANIFEST_FILE) == 0)
                return 0;
        if (n > 5 && n < sizeof secret && strcmp(name + n - 5, ".seal") == 0)
                memcpy(secret, name, n - 5);
        if (!y->files || !secret[0] || !json_get(y->files, secret))
                say_bad(y, name, y->files ? "unlisted: The manifest does not name it." : "unlisted: Without a manifest nothing is known of it.");
        return 0;
}

int vault_verify_set(Vault *v, const char *workspace, uint64_t generation, SealedBad bad, void *userdata, unsigned *ret_files) {
        _cleanup_(set_work_done) SetWork w = { .fd = -1 };
        _cleanup_json_ cJSON *manifest = NULL;
        char place[128], name[SET_NAME_SIZE];
        Verify y = { .place = place, .bad = bad, .userdata = userdata };
        const cJSON *item;
        Fault why = {};
        int r = begin(v, workspace, generation, &w, &why);

        (void) snprintf(place, sizeof place, "sealed/%.64s/%s", workspace, set_name(generation, name));
        *ret_files = 0;
        if (r == 0)
                r = read_manifest(&w, &manifest, &why);
        if (r < 0)
                say_bad(&y, MANIFEST_FILE, why.set ? why.text : strerror(-r));
        y.files = json_get(manifest, "files");
        if (w.fd >= 0)
                (void) file_each(w.fd, on_file, &y);
        cJSON_ArrayForEach(item, y.files) {
                Secret *value = NULL;
                char file[160];

                why = (Fault) {};
                r = read_item(&w, item, &value, &why);
                secret_free(value);
                if (r < 0)
                        say_bad(&y, file_name(item->string, file) == 0 ? file : "?", why.set ? why.text : strerror(-r));
        }
        *ret_files = y.n;
        return (int) y.n_bad;
}

/* ── which there are, and what goes ──────────────────────────────────────────────────────────────────────────── */

typedef struct EachSet { Vault *vault; const char *workspace; VaultEachSet fn; void *userdata; } EachSet;

static int on_set(int dirfd, const char *name, void *userdata) {
        EachSet *e = userdata;
        uint64_t generation;

        (void) dirfd;
        return set_generation(name, &generation) ? e->fn(e->vault, e->workspace, generation, e->userdata) : 0;
}

int vault_each_set(Vault *v, const char *workspace, VaultEachSet fn, void *userdata) {
        _cleanup_close_ int fd = workspace_dir(v, workspace);
        EachSet e = { v, workspace, fn, userdata };

        return fd < 0 ? (fd == -ENOENT ? 0 : fd) : file_each_dir(fd, on_set, &e);
}

int vault_set_aside(Vault *v, const char *workspace, uint64_t generation, const char *reason) {
        _cleanup_close_ int fd = workspace_dir(v, workspace);
        char name[SET_NAME_SIZE], as[80];

        (void) snprintf(as, sizeof as, "%.36s.%s", workspace, set_name(generation, name));
        return fd < 0 ? fd : file_set_aside(v->state_fd, fd, name, as, reason);
}

int vault_destroy_set(Vault *v, const char *workspace, uint64_t generation) {
        _cleanup_close_ int fd = workspace_dir(v, workspace);
        char name[SET_NAME_SIZE];

        return fd < 0 ? (fd == -ENOENT ? 0 : fd) : file_remove_tree(fd, set_name(generation, name));
}

static int destroy_one(Vault *v, const char *workspace, uint64_t generation, void *userdata) {
        (void) userdata;
        return vault_destroy_set(v, workspace, generation);
}

int vault_destroy_sets(Vault *v, const char *workspace) {
        _cleanup_close_ int fd = workspace_dir(v, workspace);
        int r;

        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        sets_sweep(fd);
        r = vault_each_set(v, workspace, destroy_one, NULL);
        if (r < 0)
                return r;
        if (unlinkat(v->fd, workspace, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT)
                return -errno;
        return fsync(v->fd) < 0 ? -errno : 0;
}

static int one_is_there(Vault *v, const char *workspace, uint64_t generation, void *userdata) {
        (void) v;
        (void) workspace;
        (void) generation;
        *(bool *) userdata = true;
        return 0;
}

bool vault_has_sets(const Vault *v, const char *workspace) {
        bool there = false;
        return vault_each_set((Vault *) v, workspace, one_is_there, &there) < 0 || there;
}
