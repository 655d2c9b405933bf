/* SPDX-License-Identifier: Apache-2.0 */

/* Which root is the right one is decided by its check alone. A root of a higher epoch than any known is adopted: only root and this agent can put
 * one where it is looked for. A lower one that is unknown is never taken: it would let files of a former time open again. */

#include "secrets/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"

#define KEYS_DIR    "keys"
#define ROOT_FILE   "root.e"
#define CREDENTIAL  "seal-key.e"

typedef struct Root { uint32_t epoch; Secret *key; bool made_here; } Root;

struct Keys {
        Arena *arena;
        Root   roots[ROOTS_MAX];
        size_t n;
        bool   made;                            /* the root was made by this very call */
        Fault  fault;
};

/* ── the checks ──────────────────────────────────────────────────────────────────────────────────────────────── */

static const RootCheck *check_of(const RootChecks *checks, uint32_t epoch) {
        for (size_t i = 0; i < checks->n; i++)
                if (checks->items[i].epoch == epoch)
                        return &checks->items[i];
        return NULL;
}

static uint32_t highest(const RootChecks *checks) {
        uint32_t epoch = 0;

        for (size_t i = 0; i < checks->n; i++)
                if (checks->items[i].epoch > epoch)
                        epoch = checks->items[i].epoch;
        return epoch;
}

static void checks_add(RootChecks *checks, const Root *r) {
        RootCheck *c = &checks->items[checks->n++];

        c->epoch = r->epoch;
        seal_root_check(r->key->data, c->check);
}

static void checks_drop(RootChecks *checks, size_t i) { checks->items[i] = checks->items[--checks->n]; }

/* ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static const Root *find(const Keys *k, uint32_t epoch) {
        for (size_t i = 0; i < k->n; i++)
                if (k->roots[i].epoch == epoch)
                        return &k->roots[i];
        return NULL;
}

/* Fills *ret_epoch from "<prefix><decimal>"; false for any other name. */
static bool epoch_of(const char *name, const char *prefix, uint32_t *ret_epoch) {
        uint64_t v;

        if (strncmp(name, prefix, strlen(prefix)) != 0 || u64_parse(name + strlen(prefix), &v) < 0 || v < 1 || v > UINT32_MAX)
                return false;
        *ret_epoch = (uint32_t) v;
        return true;
}

typedef struct Search { Keys *keys; RootChecks *checks; const char *prefix; bool made_here; Fault wrong; } Search;

static bool is_wanted(const Search *s, const Root *found) {
        const RootCheck *c = check_of(s->checks, found->epoch);
        char check[ROOT_CHECK_SIZE];

        if (!c)
                return found->epoch > highest(s->checks);
        seal_root_check(found->key->data, check);
        return sodium_memcmp(c->check, check, ROOT_CHECK_SIZE) == 0;
}

static int look_at(int dirfd, const char *name, void *userdata) {
        Search *s = userdata;
        Root found = { .made_here = s->made_here };
        char *text = NULL;
        size_t size = 0;

        if (!epoch_of(name, s->prefix, &found.epoch) || find(s->keys, found.epoch) || s->keys->n == ROOTS_MAX)
                return 0;
        if (file_read(dirfd, name, KEY_SIZE, &text, &size) == 0 && size == KEY_SIZE)
                found.key = secret_new(s->keys->arena, text, size);
        free(text);
        if (found.key && is_wanted(s, &found)) {
                s->keys->roots[s->keys->n++] = found;
                return 0;
        }
        secret_free(found.key);
        (void) fault(&s->wrong, -EKEYREJECTED, FAULT_SECRET_UNDECRYPTABLE,
                     "%s '%s' is not the key that this host's secrets are sealed with.", s->made_here ? "The root key" : "The credential", name);
        return 0;
}

static const char *credentials_path(void) { return getenv("CREDENTIALS_DIRECTORY"); }

/* A file that was made here wins over a credential of its epoch. */
static int search(Keys *k, int keys_fd, RootChecks *checks, Fault *ret_wrong) {
        _cleanup_close_ int credentials = credentials_path() ? TEMP_FAILURE_RETRY(open(credentials_path(), O_RDONLY|O_DIRECTORY|O_CLOEXEC)) : -1;
        Search s = { .keys = k, .checks = checks, .prefix = ROOT_FILE, .made_here = true };
        int r = keys_fd < 0 ? 0 : file_each(keys_fd, look_at, &s);

        if (r >= 0 && credentials >= 0) {
                s.prefix = CREDENTIAL;
                s.made_here = false;
                r = file_each(credentials, look_at, &s);
        }
        *ret_wrong = s.wrong;
        return r;
}

/* ── the first one ───────────────────────────────────────────────────────────────────────────────────────────── */

static int make_first(Keys *k, int keys_fd, Fault *reterr) {
        Root *r = &k->roots[0];
        int e;

        *r = (Root) { .epoch = 1, .key = secret_alloc(k->arena, KEY_SIZE), .made_here = true };
        if (!r->key)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "The arena of secrets is full.");
        k->n = 1;
        randombytes_buf(r->key->data, KEY_SIZE);
        e = file_write_atomic(keys_fd, ROOT_FILE "1", r->key->data, KEY_SIZE);
        if (e < 0)
                return fault(reterr, e, FAULT_STATE_DEGRADED, "Cannot store the root key: %m");
        k->made = true;
        return 0;
}

/* Every root that something may still be sealed with must be there; one that a rotation has left behind may go. A new one is remembered only
 * where it can be used: else it would have to stay for nothing. */
static bool settle_checks(Keys *k, RootChecks *checks, const Fault *wrong) {
        bool changed = false;

        for (size_t i = checks->n; i-- > 0;) {
                const RootCheck *c = &checks->items[i];

                if (find(k, c->epoch))
                        continue;
                if (c->epoch < checks->wrapped) {
                        checks_drop(checks, i);
                        changed = true;
                } else if (wrong->set)
                        k->fault = *wrong;
                else
                        (void) fault(&k->fault, -ENOKEY, FAULT_SECRET_UNDECRYPTABLE, "The root key of epoch %u is missing: "
                                     "neither the credential seal-key.e%u nor the file root.e%u is there.", c->epoch, c->epoch, c->epoch);
        }
        for (size_t i = 0; !k->fault.set && i < k->n; i++)
                if (!check_of(checks, k->roots[i].epoch) && checks->n < ROOTS_MAX) {
                        checks_add(checks, &k->roots[i]);
                        changed = true;
                }
        return changed;
}

static int keys_find(int keys_fd, Keys *k, RootChecks *checks, bool make, bool *ret_changed, Fault *reterr) {
        Fault wrong = {};
        int r = search(k, keys_fd, checks, &wrong);

        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the root keys: %m");
        if (k->n == 0 && checks->n == 0) {
                if (wrong.set || !make)
                        (void) fault(&k->fault, -ENOKEY, FAULT_SECRET_UNDECRYPTABLE, "%s", wrong.set ? wrong.text : "There is no root key.");
                else if ((r = make_first(k, keys_fd, reterr)) < 0)
                        return r;
        }
        *ret_changed = settle_checks(k, checks, &wrong);
        return 0;
}

static int keys_new(int state_fd, Arena *arena, RootChecks *checks, bool make, bool *ret_changed, Keys **ret, Fault *reterr) {
        _cleanup_(keys_freep) Keys *k = calloc(1, sizeof *k);
        _cleanup_close_ int fd = make ? file_open_dir(state_fd, KEYS_DIR) :
                                        TEMP_FAILURE_RETRY(openat(state_fd, KEYS_DIR, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));
        int r = fd < 0 && !make ? -errno : fd;

        if (!k)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        if (r < 0 && (make || r != -ENOENT))
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot open the directory of keys: %m");
        k->arena = arena;
        r = keys_find(fd, k, checks, make, ret_changed, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(k);
        return 0;
}

int keys_open(int state_fd, Arena *arena, RootChecks *checks, bool *ret_changed, Keys **ret, Fault *reterr) {
        return keys_new(state_fd, arena, checks, true, ret_changed, ret, reterr);
}

int keys_look(int state_fd, Arena *arena, const RootChecks *checks, Keys **ret, Fault *reterr) {
        RootChecks copy = *checks;
        bool changed;

        return keys_new(state_fd, arena, &copy, false, &changed, ret, reterr);
}

Keys *keys_free(Keys *k) {
        if (!k)
                return NULL;
        for (size_t i = 0; i < k->n; i++)
                secret_free(k->roots[i].key);
        free(k);
        return NULL;
}

static const Root *current(const Keys *k) {
        const Root *best = NULL;

        for (size_t i = 0; i < k->n; i++)
                if (!best || k->roots[i].epoch > best->epoch)
                        best = &k->roots[i];
        return k->fault.set ? NULL : best;
}

const Fault *keys_fault(const Keys *k) { return k->fault.set ? &k->fault : NULL; }
uint32_t     keys_epoch(const Keys *k) { return current(k) ? current(k)->epoch : 0; }
bool         keys_are_made_here(const Keys *k) { return current(k) && current(k)->made_here; }
bool         keys_were_made_now(const Keys *k) { return k->made; }
Arena       *keys_arena(const Keys *k) { return k->arena; }

const uint8_t *keys_root(uint32_t epoch, const void *keys) {
        const Root *r = find(keys, epoch);
        return r ? r->key->data : NULL;
}

SealKeys keys_for(const Keys *k, const uint8_t *workspace_key) {
        return (SealKeys) { .root = keys_root, .userdata = k, .workspace = workspace_key };
}

/* ── what a root seals ───────────────────────────────────────────────────────────────────────────────────────── */

bool keys_is_host_key(const char *name) {
        size_t n = strlen(name);
        return strncmp(name, "host.", 5) == 0 && n > 10 && strcmp(name + n - 5, ".seal") == 0;
}

static int seen(int dirfd, const char *name, void *userdata) {
        (void) dirfd;
        *(bool *) userdata |= keys_is_host_key(name);
        return 0;
}

static int seen_workspace(int dirfd, const char *name, void *userdata) {
        _cleanup_close_ int fd = TEMP_FAILURE_RETRY(openat(dirfd, name, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));

        *(bool *) userdata |= fd < 0 || faccessat(fd, KEY_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
        return 0;
}

/* Unknown is not absent: true where it cannot be looked at. */
bool keys_any_wrapped(int state_fd) {
        _cleanup_close_ int keys_fd = TEMP_FAILURE_RETRY(openat(state_fd, KEYS_DIR, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));
        _cleanup_close_ int sealed_fd = -1;
        bool found = keys_fd < 0 && errno != ENOENT;

        sealed_fd = TEMP_FAILURE_RETRY(openat(state_fd, "sealed", O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));
        found |= sealed_fd < 0 && errno != ENOENT;
        if (keys_fd >= 0 && file_each(keys_fd, seen, &found) < 0)
                return true;
        return (sealed_fd >= 0 && file_each_dir(sealed_fd, seen_workspace, &found) < 0) || found;
}
