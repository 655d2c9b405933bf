/* SPDX-License-Identifier: Apache-2.0 */

/* A root's rotation: the keys that the old one wraps are wrapped by the new one, one file after the other, each old or new at any instant. What they
 * seal in turn is not touched. Both roots open until the last is done, so it may be begun again wherever it ended. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/file.h"
#include "secrets/keys.h"

typedef struct Walk { const Keys *keys; Rewrapped *to; Fault fault; } Walk;

/* The context that the head names: an authentic file says the truth about itself, and wrapping it anew must not change that. */
static int wrap_anew(Walk *w, const SealContext *c, int dirfd, const char *name, const uint8_t *file, size_t size) {
        SealKeys keys = keys_for(w->keys, NULL);
        _cleanup_(secret_freep) Secret *key = NULL;
        _cleanup_free_ uint8_t *anew = NULL;
        uint32_t epoch = keys_epoch(w->keys);
        int r;

        r = seal_open(c, &keys, file, size, keys_arena(w->keys), &key, &w->to->first);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                w->to->unreadable++;
                return 0;
        }
        r = seal_make(c, epoch, keys_root(epoch, w->keys), key->data, key->size, keys_arena(w->keys), &anew, &size, &w->fault);
        if (r < 0)
                return r;
        r = file_write_atomic(dirfd, name, anew, size);
        if (r < 0)
                return fault(&w->fault, r, FAULT_STATE_DEGRADED, "Cannot wrap the key '%s' anew: %m", name);
        w->to->wrapped++;
        return 0;
}

static int rewrap_file(Walk *w, SealType type, const char *workspace, int dirfd, const char *name) {
        _cleanup_free_ char *file = NULL;
        char org[65] = {};
        SealContext c = { .type = type, .org = org, .workspace = workspace, .name = "" };
        uint32_t epoch;
        size_t size, n;
        int r;

        r = file_read(dirfd, name, SEAL_KEY_MAX, &file, &size);
        if (r == -ENOENT || r == -EFBIG)
                return 0;
        if (r < 0)
                return fault(&w->fault, r, FAULT_STATE_DEGRADED, "Cannot read the key '%s': %m", name);
        if (seal_epoch((const uint8_t *) file, size, &epoch) < 0 || epoch == keys_epoch(w->keys))
                return 0;
        n = (size_t) (uint8_t) file[48] | (size_t) (uint8_t) file[49] << 8;
        if (n >= sizeof org || 50 + n > size)
                return 0;                       /* damaged: whoever opens it says so */
        memcpy(org, file + 50, n);
        return wrap_anew(w, &c, dirfd, name, (const uint8_t *) file, size);
}

static int on_host_key(int dirfd, const char *name, void *userdata) {
        return keys_is_host_key(name) ? rewrap_file(userdata, SEAL_HOST_KEY, "host", dirfd, name) : 0;
}

static int on_workspace(int dirfd, const char *id, void *userdata) {
        _cleanup_close_ int fd = TEMP_FAILURE_RETRY(openat(dirfd, id, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));
        Walk *w = userdata;

        if (fd < 0)                             /* a key that was not looked at may be one that only the old root opens */
                return errno == ENOENT ? 0 : fault(&w->fault, -errno, FAULT_STATE_DEGRADED, "Cannot open '%s': %m", id);
        return rewrap_file(w, SEAL_WORKSPACE_KEY, id, fd, KEY_FILE);
}

/* -ENOENT: there is none, and so no key in it. */
static int open_part(int state_fd, const char *name) {
        int fd = TEMP_FAILURE_RETRY(openat(state_fd, name, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW));
        return fd < 0 ? -errno : fd;
}

int keys_rewrap(const Keys *k, int state_fd, RootChecks *checks, Rewrapped *ret, Fault *reterr) {
        _cleanup_close_ int keys_fd = open_part(state_fd, "keys"), sealed_fd = open_part(state_fd, "sealed");
        Walk w = { .keys = k, .to = ret };
        int r = 0;

        *ret = (Rewrapped) {};
        if (keys_fault(k) || checks->wrapped == keys_epoch(k))
                return 0;
        if (keys_fd != -ENOENT)
                r = keys_fd < 0 ? keys_fd : file_each(keys_fd, on_host_key, &w);
        if (r >= 0 && sealed_fd != -ENOENT)
                r = sealed_fd < 0 ? sealed_fd : file_each_dir(sealed_fd, on_workspace, &w);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "The keys are not all wrapped anew: %s", w.fault.set ? w.fault.text : strerror(-r));
        checks->wrapped = keys_epoch(k);
        return 0;
}
