/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of provision/ and agent/ share: ids, a directory that goes when its scope does, JSON out of text, one member changed. */

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/json.h"
#include "base/text.h"
#include "tests/test.h"

#define KIT_ORG       "11111111-1111-4111-8111-111111111111"
#define KIT_HOST      "22222222-2222-4222-8222-222222222222"
#define KIT_WORKSPACE "33333333-3333-4333-8333-333333333333"
#define KIT_JOB       "44444444-4444-4444-8444-444444444444"
#define KIT_OTHER     "99999999-9999-4999-8999-999999999999"
#define KIT_DIGEST    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KIT_DIGEST_2  "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

/* The least that a workspace may be. */
#define KIT_SPEC "{\"runtime\":\"codex\",\"platform_url\":\"https://platform.example\"}"

typedef struct TestDir {
        char path[32];
        int  fd;
} TestDir;

/* In memory where there is room: thousands of fsyncs are of no use here. */
static inline TestDir test_dir(void) {
        TestDir d = { .path = "/dev/shm/test.XXXXXX" };
        struct statvfs st;

        if (statvfs("/dev/shm", &st) < 0 || st.f_bavail * st.f_bsize < UINT64_C(256) << 20 || !mkdtemp(d.path)) {
                strcpy(d.path, "/tmp/test.XXXXXX");
                if (!mkdtemp(d.path))
                        abort();
        }
        d.fd = open(d.path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        if (d.fd < 0)
                abort();
        return d;
}

static inline int test_dir_remove(const char *path, const struct stat *st, int type, struct FTW *at) {
        (void) st;
        (void) type;
        (void) at;
        return remove(path);
}

static inline void test_dir_done(TestDir *d) {
        (void) close(d->fd);
        (void) nftw(d->path, test_dir_remove, 8, FTW_DEPTH|FTW_PHYS);
}
#define _cleanup_dir_ _cleanup_(test_dir_done)

/* Writes below d; name may hold one '/', whose directory must be there. */
static inline void test_dir_write(const TestDir *d, const char *name, const void *data, size_t size) {
        int fd = openat(d->fd, name, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600);

        if (fd < 0 || write(fd, data, size) != (ssize_t) size)
                abort();
        (void) close(fd);
}

static inline void test_dir_text(const TestDir *d, const char *name, const char *text) { test_dir_write(d, name, text, strlen(text)); }
static inline bool test_dir_has(const TestDir *d, const char *name) { return faccessat(d->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

/* How many names there are below d/name, hidden ones too; -1 when there is no such directory. */
static inline int test_dir_count(const TestDir *d, const char *name) {
        int fd = openat(d->fd, name, O_RDONLY|O_DIRECTORY|O_CLOEXEC), n = 0;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);

        if (!dir)
                return -1;
        for (const struct dirent *e; (e = readdir(dir));)
                n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
        (void) closedir(dir);
        return n;
}

static inline cJSON *kit_json(const char *text) {
        cJSON *json = NULL;
        Fault f = {};

        if (json_parse(text, strlen(text), &json, &f) < 0) {
                printf("Bail out! %s in %.200s\n", f.text, text);
                exit(1);
        }
        return json;
}

/* Puts what `text` says in place of object's member, or takes the member out (NULL). */
static inline void kit_set(cJSON *object, const char *name, const char *text) {
        cJSON_DeleteItemFromObjectCaseSensitive(object, name);
        if (text && !json_add_item(object, name, kit_json(text)))
                abort();
}

/* The code's wire name; "" when nothing is wrong. */
static inline const char *kit_code(const Fault *f) { return f->set ? fault_code_name(f->code) : ""; }

static inline char *kit_fill(char c, size_t n) {
        char *s = malloc(n + 1);

        if (!s)
                abort();
        memset(s, c, n);
        s[n] = 0;
        return s;
}
