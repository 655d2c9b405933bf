/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define KEPT_FILE "credentials.seal"
#define KEPT_NAME "provision-secret"
#define HOST      "host"                        /* whose key seals it: sealed/host/key.seal */

Secret *credential_from_text(Arena *arena, const char *text) {
        size_t n;

        text += strspn(text, " \t\r\n");
        n = strlen(text);
        while (n > 0 && strchr(" \t\r\n", text[n - 1]))
                n--;
        if (n == 0 || n > CREDENTIAL_MAX)
                return NULL;
        for (size_t i = 0; i < n; i++)
                if (text[i] <= 0x20 || text[i] == 0x7f)
                        return NULL;
        return secret_new(arena, text, n);
}

static Secret *from_file(Arena *arena, int dirfd, const char *name) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        if ((dirfd == AT_FDCWD ? file_read_path(name, CREDENTIAL_MAX + 64, &text, &size) :
                                 file_read(dirfd, name, CREDENTIAL_MAX + 64, &text, &size)) < 0)
                return NULL;
        return credential_from_text(arena, text);
}

static Secret *from_credentials_directory(Arena *arena, const char *name) {
        const char *dir = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_close_ int fd = dir ? TEMP_FAILURE_RETRY(open(dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC)) : -1;

        return fd < 0 ? NULL : from_file(arena, fd, name);
}

/* ── environment ─────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct { const char *name; size_t offset; } variables[] = {        /* the first of a kind wins */
        { "MOLECULE_CP_SHARED_SECRET", offsetof(CredentialsEnv, provision_secret) },
        { "PROVISION_SHARED_SECRET",   offsetof(CredentialsEnv, provision_secret) },
        { "ADMIN_TOKEN",               offsetof(CredentialsEnv, admin_token) },
};

void credentials_take_environment(Arena *arena, CredentialsEnv *ret) {
        *ret = (CredentialsEnv) {};
        for (size_t i = 0; i < ELEMENTS(variables); i++) {
                char *value = getenv(variables[i].name);
                Secret **place = (Secret **) (void *) ((char *) ret + variables[i].offset);

                if (!value)
                        continue;
                if (!*place)
                        *place = credential_from_text(arena, value);
                explicit_bzero(value, strlen(value));   /* what /proc shows of us, too */
                (void) unsetenv(variables[i].name);
        }
}

void credentials_env_done(CredentialsEnv *e) {
        e->provision_secret = secret_free(e->provision_secret);
        e->admin_token = secret_free(e->admin_token);
}

/* ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static Secret *find(Arena *arena, const char *credential, const char *file, const Secret *env) {
        Secret *value = from_credentials_directory(arena, credential);

        if (!value && file)
                value = from_file(arena, AT_FDCWD, file);
        return value ?: env ? secret_new(arena, env->data, env->size) : NULL;
}

int credentials_load(const Config *c, Arena *arena, const CredentialsEnv *env, Credentials *ret, Fault *reterr) {
        Credentials found = {
                .provision_secret = find(arena, "provision-secret", c->provision_secret_file, env->provision_secret),
                .admin_token = find(arena, "admin-token", c->admin_token_file, env->admin_token),
        };

        if (!found.provision_secret || !found.admin_token) {
                const char *missing = !found.provision_secret && !found.admin_token ? "provision secret and admin token"
                                      : found.provision_secret                      ? "admin token"
                                                                                    : "provision secret";
                credentials_done(&found);
                return access(CREDENTIALS_FOREIGN_MARK, F_OK) == 0 ?
                               fault(reterr, -ENOKEY, FAULT_CREDENTIALS_FOREIGN, "The credentials in /etc/credstore.encrypted were made for another machine: there is no %s for the control plane.", missing) :
                               fault(reterr, -ENOKEY, FAULT_NOT_ENROLLED, "There is no %s for the control plane.", missing);
        }
        hash_text(found.provision_secret->data, found.provision_secret->size, found.configured);
        credentials_done(ret);
        *ret = found;
        return 0;
}

int credentials_refresh(Credentials *c, const char *secret) {
        Secret *value = secret && c->provision_secret ? credential_from_text(c->provision_secret->arena, secret) : NULL;

        if (!value)
                return -EINVAL;
        if (secret_equal(c->provision_secret, value)) {
                secret_free(value);
                return 1;
        }
        secret_free(c->provision_secret);
        c->provision_secret = value;
        return 0;
}

void credentials_done(Credentials *c) {
        c->provision_secret = secret_free(c->provision_secret);
        c->admin_token = secret_free(c->admin_token);
}

/* ── over a restart ──────────────────────────────────────────────────────────────────────────────────────────── */

/* Sealed: the hash, a newline, the secret. */
int credentials_keep(int state_fd, Vault *v, const Credentials *c, Fault *reterr) {
        _cleanup_(secret_freep) Secret *both = secret_alloc(c->provision_secret->arena, HASH_TEXT_SIZE + c->provision_secret->size);
        _cleanup_free_ uint8_t *sealed = NULL;
        size_t size;
        int r;

        if (!both)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "The arena of secrets is full.");
        memcpy(both->data, c->configured, HASH_TEXT_SIZE - 1);
        both->data[HASH_TEXT_SIZE - 1] = '\n';
        memcpy(both->data + HASH_TEXT_SIZE, c->provision_secret->data, c->provision_secret->size);
        r = vault_secret_seal(v, HOST, 0, KEPT_NAME, both, &sealed, &size, reterr);
        if (r < 0)
                return r;
        r = file_write_atomic(state_fd, KEPT_FILE, sealed, size);
        return r < 0 ? fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot store the refreshed provision secret: %m") : 0;
}

/* The kept one, if it took the place of the very secret that is configured now; NULL otherwise. */
static Secret *kept_for(const Credentials *c, const Secret *both) {
        if (both->size <= HASH_TEXT_SIZE || both->data[HASH_TEXT_SIZE - 1] != '\n' ||
            memcmp(both->data, c->configured, HASH_TEXT_SIZE - 1) != 0)
                return NULL;
        return credential_from_text(both->arena, secret_text(both) + HASH_TEXT_SIZE);
}

static int kept_open(int state_fd, Vault *v, Secret **ret, Fault *reterr) {
        _cleanup_free_ char *sealed = NULL;
        size_t size;
        int r = file_read(state_fd, KEPT_FILE, SEAL_HEADER_MAX + CREDENTIAL_MAX + 256, &sealed, &size);

        if (r < 0)
                return r == -ENOENT ? r : fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the refreshed provision secret: %m");
        r = vault_secret_open(v, HOST, 0, KEPT_NAME, sealed, size, ret, reterr);
        return r < 0 ? fault_prefix(reterr, r, "the refreshed provision secret: ") : 0;
}

int credentials_check(int state_fd, Vault *v, Fault *reterr) {
        _cleanup_(secret_freep) Secret *both = NULL;
        return kept_open(state_fd, v, &both, reterr);
}

int credentials_restore(int state_fd, Vault *v, Credentials *c, Fault *reterr) {
        _cleanup_(secret_freep) Secret *both = NULL;
        Secret *kept;
        int r = kept_open(state_fd, v, &both, reterr);

        if (r == -ENOENT)
                return 0;
        if (r == -EBADMSG)
                (void) file_set_aside(state_fd, state_fd, KEPT_FILE, KEPT_FILE, "it does not open");     /* ignoring: said below */
        if (r < 0)
                return r;
        kept = kept_for(c, both);
        if (!kept) {
                (void) file_remove(state_fd, KEPT_FILE);        /* ignoring: it is judged anew at the next start */
                return 0;
        }
        secret_free(c->provision_secret);
        c->provision_secret = kept;
        return 1;
}
