/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/file.h"

static void wipe(char **s) {
        if (*s)
                explicit_bzero(*s, strlen(*s));
        free(*s);
        *s = NULL;
}

/* Without white space at its ends; NULL unless what remains can stand in a header line. */
static char *usable(const char *text) {
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
        return strndup(text, n);
}

static char *from_file(int dirfd, const char *name) {
        char *text = NULL, *value = NULL;
        size_t size;

        if ((dirfd == AT_FDCWD ? file_read_path(name, CREDENTIAL_MAX + 64, &text, &size) :
                                 file_read(dirfd, name, CREDENTIAL_MAX + 64, &text, &size)) < 0)
                return NULL;
        value = usable(text);
        explicit_bzero(text, size);
        free(text);
        return value;
}

static char *from_credentials_directory(const char *name) {
        const char *dir = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_close_ int fd = dir ? open(dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC) : -1;

        return fd < 0 ? NULL : from_file(fd, name);
}

static char *from_environment(const char *name) {
        const char *value = name ? getenv(name) : NULL;
        return value ? usable(value) : NULL;
}

static char *find(const char *credential, const char *file, const char *env, const char *env_too) {
        char *value = from_credentials_directory(credential);

        if (!value && file)
                value = from_file(AT_FDCWD, file);
        return value ?: from_environment(env) ?: from_environment(env_too);
}

int credentials_load(const Config *c, Credentials *ret, Fault *reterr) {
        Credentials found = {
                .provision_secret = find("provision-secret", c->provision_secret_file, "MOLECULE_CP_SHARED_SECRET",
                                         "PROVISION_SHARED_SECRET"),
                .admin_token = find("admin-token", c->admin_token_file, "ADMIN_TOKEN", NULL),
        };

        if (!found.provision_secret || !found.admin_token) {
                const char *missing = !found.provision_secret && !found.admin_token ? "provision secret and admin token"
                                      : found.provision_secret                      ? "admin token"
                                                                                    : "provision secret";
                credentials_done(&found);
                return fault(reterr, -ENOKEY, FAULT_NOT_ENROLLED, "There is no %s for the control plane.", missing);
        }
        credentials_done(ret);
        *ret = found;
        return 0;
}

int credentials_refresh(Credentials *c, const char *secret) {
        char *value = secret ? usable(secret) : NULL;

        if (!value)
                return -EINVAL;
        if (c->provision_secret && strcmp(c->provision_secret, value) == 0) {
                wipe(&value);
                return 1;
        }
        wipe(&c->provision_secret);
        c->provision_secret = value;
        return 0;
}

void credentials_done(Credentials *c) {
        wipe(&c->provision_secret);
        wipe(&c->admin_token);
}
