/* SPDX-License-Identifier: Apache-2.0 */

/* A workspace's key is random, wrapped by the root, and read for each use: it costs one small file, and nothing of it lingers. Whoever destroys a
 * workspace removes the key first. */

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "secrets/vault-internal.h"

#define SEALED_DIR "sealed"

/* fd: taken, a descriptor of sealed/ or why there is none. */
static int vault_of(int state_fd, int fd, const Keys *keys, const char *org, Vault **ret, Fault *reterr) {
        _cleanup_close_ int own = fd;
        Vault *v;

        if (fd < 0)
                return fault(reterr, fd, FAULT_STATE_DEGRADED, "Cannot open the directory of sealed files: %m");
        v = calloc(1, sizeof *v);
        if (!v)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        *v = (Vault) { .state_fd = state_fd, .keys = keys, .fd = TAKE_FD(own) };
        vault_set_org(v, org);
        *ret = v;
        return 0;
}

int vault_new(int state_fd, const Keys *keys, const char *org, Vault **ret, Fault *reterr) {
        return vault_of(state_fd, file_open_dir(state_fd, SEALED_DIR), keys, org, ret, reterr);
}

int vault_look(int state_fd, const Keys *keys, const char *org, Vault **ret, Fault *reterr) {
        int fd = TEMP_FAILURE_RETRY(openat(state_fd, SEALED_DIR, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));
        return vault_of(state_fd, fd < 0 ? -errno : fd, keys, org, ret, reterr);
}

Vault *vault_free(Vault *v) {
        if (!v)
                return NULL;
        (void) close(v->fd);
        free(v);
        return NULL;
}

void         vault_set_org(Vault *v, const char *org) { (void) snprintf(v->org, sizeof v->org, "%s", org); }
void vault_watch(Vault *v, VaultStored stored, void *userdata) {
        v->stored = stored;
        v->userdata = userdata;
}

const char  *vault_org(const Vault *v) { return v->org; }
const Fault *vault_fault(const Vault *v) { return keys_fault(v->keys); }
Arena       *vault_arena(const Vault *v) { return keys_arena(v->keys); }

int vault_usable(const Vault *v, Fault *reterr) {
        if (keys_fault(v->keys))
                return fault(reterr, -ENOKEY, FAULT_SECRET_UNDECRYPTABLE, "%s", keys_fault(v->keys)->text);
        if (!v->org[0])
                return fault(reterr, -ENOKEY, FAULT_NOT_ENROLLED, "Nothing can be sealed for a host without org_id.");
        return 0;
}

/* ── sets of values ──────────────────────────────────────────────────────────────────────────────────────────── */

void secret_set_done(SecretSet *s) {
        for (size_t i = 0; i < s->n; i++) {
                free(s->items[i].name);
                secret_free(s->items[i].value);
        }
        free(s->items);
        *s = (SecretSet) {};
}

int secret_set_add(SecretSet *s, const char *name, Secret *value) {
        SecretItem *bigger = value ? reallocarray(s->items, s->n + 1, sizeof *bigger) : NULL;
        char *copy = strdup(name);

        if (bigger)
                s->items = bigger;
        if (!bigger || !copy) {
                free(copy);
                secret_free(value);
                return -ENOMEM;
        }
        s->items[s->n++] = (SecretItem) { copy, value };
        return 0;
}

/* ── the key of one workspace ────────────────────────────────────────────────────────────────────────────────── */

int workspace_dir(const Vault *v, const char *workspace) {
        int fd = TEMP_FAILURE_RETRY(openat(v->fd, workspace, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));
        return fd < 0 ? -errno : fd;
}

int workspace_dir_make(const Vault *v, const char *workspace) {
        int fd = workspace_dir(v, workspace);
        return fd == -ENOENT ? file_open_dir(v->fd, workspace) : fd;
}

SealContext own_context(const Vault *v, SealType type, const char *workspace, uint64_t generation, const char *name) {
        return (SealContext) { .type = type, .org = v->org, .workspace = workspace, .name = name, .generation = generation };
}

static int key_read(const Vault *v, int fd, const char *workspace, Secret **ret, Fault *reterr) {
        _cleanup_free_ char *file = NULL;
        SealContext c = own_context(v, SEAL_WORKSPACE_KEY, workspace, 0, "");
        SealKeys keys = keys_for(v->keys, NULL);
        size_t size;
        int r = file_read(fd, KEY_FILE, SEAL_KEY_MAX, &file, &size);

        if (r == -ENOENT)
                return r;
        if (r < 0 && r != -EFBIG)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the key of workspace %s: %m", workspace);
        r = r < 0 ? fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "bad_size: The file is too large.") :
                    seal_open(&c, &keys, (const uint8_t *) file, size, keys_arena(v->keys), ret, reterr);
        if (r == -ENOKEY)
                r = -EBADMSG;                   /* every root that counts is here: it was wrapped by one that is gone */
        return r < 0 ? fault_prefix(reterr, r, "the workspace's key: ") : 0;
}

static int key_make(const Vault *v, int fd, const char *workspace, Secret **ret, Fault *reterr) {
        _cleanup_(secret_freep) Secret *key = secret_alloc(keys_arena(v->keys), KEY_SIZE);
        _cleanup_free_ uint8_t *file = NULL;
        SealContext c = own_context(v, SEAL_WORKSPACE_KEY, workspace, 0, "");
        uint32_t epoch = keys_epoch(v->keys);
        size_t size;
        int r;

        if (!key)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "The arena of secrets is full.");
        randombytes_buf(key->data, KEY_SIZE);
        r = seal_make(&c, epoch, keys_root(epoch, v->keys), key->data, KEY_SIZE, keys_arena(v->keys), &file, &size, reterr);
        if (r >= 0)
                r = file_write_atomic(fd, KEY_FILE, file, size);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot store the key of workspace %s: %m", workspace);
        *ret = TAKE_PTR(key);
        return 0;
}

int workspace_key(Vault *v, const char *workspace, bool make, Secret **ret, Fault *reterr) {
        _cleanup_close_ int fd = -1;
        Fault why = {};
        int r = vault_usable(v, reterr);

        if (r < 0)
                return r;
        fd = make ? workspace_dir_make(v, workspace) : workspace_dir(v, workspace);
        if (fd < 0)
                return fd == -ENOENT ? fd : fault(reterr, fd, FAULT_STATE_DEGRADED, "Cannot open the sealed files of workspace %s: %m", workspace);
        if (!make) {
                r = key_read(v, fd, workspace, ret, reterr);
                return r == -EXDEV ? -ENOKEY : r;
        }
        r = key_read(v, fd, workspace, ret, &why);
        if (r == -EBADMSG || r == -EXDEV) {     /* what it sealed is lost, or another organization's; what comes now must not be */
                r = vault_key_aside(v, workspace, why.text);
                if (r >= 0)
                        r = -ENOENT;
        }
        if (r == -ENOENT)
                return key_make(v, fd, workspace, ret, reterr);
        return r < 0 ? fault(reterr, r, why.set ? why.code : FAULT_STATE_DEGRADED, "%s", why.set ? why.text : strerror(-r)) : 0;
}

int vault_key_check(Vault *v, const char *workspace, Fault *reterr) {
        _cleanup_(secret_freep) Secret *key = NULL;
        return workspace_key(v, workspace, false, &key, reterr);
}

/* ── blobs and single secrets ───────────────────────────────────────────────────────────────────────────────── */

static int seal_own(Vault *v, const SealContext *c, const void *data, size_t size, uint8_t **ret, size_t *ret_size, Fault *reterr) {
        _cleanup_(secret_freep) Secret *key = NULL;
        int r = workspace_key(v, c->workspace, true, &key, reterr);

        return r < 0 ? r : seal_make(c, keys_epoch(v->keys), key->data, data, size, keys_arena(v->keys), ret, ret_size, reterr);
}

int key_for(Vault *v, const char *workspace, Secret **ret, Fault *reterr) {
        int r = workspace_key(v, workspace, false, ret, reterr);

        return r == -ENOENT ? fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "no_key: The workspace has no key any more.") : r;
}

static int keys_to_open(Vault *v, const char *workspace, Secret **ret_key, SealKeys *ret, Fault *reterr) {
        int r = key_for(v, workspace, ret_key, reterr);

        if (r < 0)
                return r;
        *ret = keys_for(v->keys, (*ret_key)->data);
        return 0;
}

int vault_seal(Vault *v, const char *workspace, uint64_t generation, const char *what, const void *data, size_t size, uint8_t **ret,
               size_t *ret_size, Fault *reterr) {
        SealContext c = own_context(v, SEAL_BLOB, workspace, generation, what);
        return seal_own(v, &c, data, size, ret, ret_size, reterr);
}

int vault_open(Vault *v, const char *workspace, uint64_t generation, const char *what, const void *file, size_t size, char **ret,
               size_t *ret_size, Fault *reterr) {
        _cleanup_(secret_freep) Secret *key = NULL;
        SealContext c = own_context(v, SEAL_BLOB, workspace, generation, what);
        SealKeys keys;
        int r = keys_to_open(v, workspace, &key, &keys, reterr);

        return r < 0 ? r : seal_open_plain(&c, &keys, file, size, ret, ret_size, reterr);
}

int vault_secret_seal(Vault *v, const char *workspace, uint64_t generation, const char *name, const Secret *value, uint8_t **ret,
                      size_t *ret_size, Fault *reterr) {
        SealContext c = own_context(v, SEAL_SECRET, workspace, generation, name);
        return seal_own(v, &c, value->data, value->size, ret, ret_size, reterr);
}

int vault_secret_open(Vault *v, const char *workspace, uint64_t generation, const char *name, const void *file, size_t size, Secret **ret,
                      Fault *reterr) {
        _cleanup_(secret_freep) Secret *key = NULL;
        SealContext c = own_context(v, SEAL_SECRET, workspace, generation, name);
        SealKeys keys;
        int r = keys_to_open(v, workspace, &key, &keys, reterr);

        return r < 0 ? r : seal_open(&c, &keys, file, size, keys_arena(v->keys), ret, reterr);
}

/* ── what goes ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void aside_name(const char *workspace, char ret[static 64]) { (void) snprintf(ret, 64, "%.36s.key.seal", workspace); }

int vault_key_aside(Vault *v, const char *workspace, const char *reason) {
        _cleanup_close_ int fd = workspace_dir(v, workspace);
        char as[64];

        aside_name(workspace, as);
        return fd < 0 ? fd : file_set_aside(v->state_fd, fd, KEY_FILE, as, reason);
}

/* What was set aside as damaged may be all but a bit of it. */
static int destroy_aside(const Vault *v, const char *workspace) {
        _cleanup_close_ int fd = openat(v->state_fd, "quarantine", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW);
        char as[64], reason[80];

        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        aside_name(workspace, as);
        (void) snprintf(reason, sizeof reason, "%s.reason", as);
        (void) unlinkat(fd, reason, 0);         /* ignoring: it tells nothing of the key */
        return file_remove(fd, as);
}

int vault_destroy_key(Vault *v, const char *workspace) {
        _cleanup_close_ int fd = workspace_dir(v, workspace);
        int r = fd >= 0 ? file_remove(fd, KEY_FILE) : fd == -ENOENT ? 0 : fd, s = destroy_aside(v, workspace);

        return r < 0 ? r : s;
}

static bool has(int fd, const char *name) { return faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT; }

bool vault_has_key(const Vault *v, const char *workspace) {
        _cleanup_close_ int fd = workspace_dir(v, workspace);
        return fd < 0 ? fd != -ENOENT : has(fd, KEY_FILE);
}

typedef struct EachDir { Vault *vault; VaultEach fn; void *userdata; } EachDir;

static int on_workspace(int dirfd, const char *name, void *userdata) {
        EachDir *e = userdata;

        (void) dirfd;
        return e->fn(e->vault, name, e->userdata);
}

int vault_each(Vault *v, VaultEach fn, void *userdata) {
        EachDir e = { v, fn, userdata };
        return file_each_dir(v->fd, on_workspace, &e);
}

static int sweep_one(Vault *v, const char *workspace, void *userdata) {
        _cleanup_close_ int fd = workspace_dir(v, workspace);

        (void) userdata;
        if (fd >= 0) {
                (void) file_sweep_temp(fd);     /* ignoring: they do no harm, and the next start finds them again */
                sets_sweep(fd);
        }
        return 0;
}

void vault_sweep(Vault *v) { (void) vault_each(v, sweep_one, NULL); }
