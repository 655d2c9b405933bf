/* SPDX-License-Identifier: Apache-2.0 */

/* No part of the way is trusted: each directory is opened below the one before, without links and without leaving the file system, and must be
 * memory and ours. Files are replaced within their directory, never the directory itself: a container has it mounted. */

#include "secrets/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/file.h"
#include "base/text.h"

#define ENV_FILE    "env"
#define SECRETS_DIR "secrets"
#define TEMP_FILE   ".new"
#define ENV_MAX     (1024 * 1024)

const char *handover_path(const char *runtime, const char *workspace, uint64_t generation, char ret[static HANDOVER_PATH_MAX]) {
        char g[21];

        (void) snprintf(ret, HANDOVER_PATH_MAX, "%s/ws/%.36s/%s", runtime, workspace, u64_text(generation, g));
        return ret;
}

/* ── the place ───────────────────────────────────────────────────────────────────────────────────────────────── */

static int refuse(Fault *reterr, const char *name, const char *why) {
        return fault(reterr, -EPERM, FAULT_STATE_DEGRADED, "Secrets are not written to '%s': %s.", name, why);
}

/* Not openat2(), which would say all this in one call: RestrictSUIDSGID= of the agent's unit takes it away, since its mode cannot be filtered. */
static int open_step(int at, const char *name, int flags) {
        int fd = openat(at, name, O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW|flags);
        struct stat st;

        if (fd < 0 && errno == ENOTDIR && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
                return -ELOOP;
        return fd < 0 ? -errno : fd;
}

/* A path none of whose parts is a link. */
static int open_top(const char *path) {
        _cleanup_free_ char *parts = strdup(path);
        _cleanup_close_ int fd = parts ? open_step(AT_FDCWD, path[0] == '/' ? "/" : ".", O_PATH) : -ENOMEM;
        char *rest = NULL;

        for (char *part = parts ? strtok_r(parts, "/", &rest) : NULL; part && fd >= 0; part = strtok_r(NULL, "/", &rest)) {
                int next = open_step(fd, part, O_PATH);

                (void) close(fd);
                fd = next;
        }
        return fd < 0 ? fd : open_step(fd, ".", O_RDONLY);
}

/* A directory of one's own below another, on the same file system: -ELOOP a link, -EXDEV something else is mounted there. */
static int open_below(int at, const char *name) {
        _cleanup_close_ int fd = open_step(at, name, O_RDONLY);
        struct stat here, there;

        if (fd >= 0 && (fstat(at, &here) < 0 || fstat(fd, &there) < 0))
                return -errno;
        if (fd >= 0 && here.st_dev != there.st_dev)
                return -EXDEV;
        return TAKE_FD(fd);
}

/* Memory, ours, and writable by nobody else. */
static int check_dir(int fd, const char *name, Fault *reterr) {
        struct statfs fs;
        struct stat st;

        if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot look at '%s': %m", name);
        if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
                return refuse(reterr, name, "it is neither tmpfs nor ramfs");
        if (st.st_uid != geteuid())
                return refuse(reterr, name, "it is another user's");
        if (st.st_mode & 022)
                return refuse(reterr, name, "others may write there");
        return 0;
}

static int open_runtime(const char *runtime, Fault *reterr) {
        _cleanup_close_ int fd = open_top(runtime);
        int r;

        if (fd == -ELOOP)
                return refuse(reterr, runtime, "a link leads there");
        if (fd < 0)
                return fault(reterr, fd, FAULT_STATE_DEGRADED, "Cannot open the runtime directory '%s': %m", runtime);
        r = check_dir(fd, runtime, reterr);
        return r < 0 ? r : TAKE_FD(fd);
}

/* One step down; made with the mode where it is absent. */
static int step_down(int at, const char *name, mode_t mode, Fault *reterr) {
        _cleanup_close_ int fd = -1;
        struct stat st;
        int r;

        if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot make the directory '%s' of secrets: %m", name);
        fd = open_below(at, name);
        if (fd == -ELOOP || fd == -ENOTDIR)
                return refuse(reterr, name, "it is no directory");
        if (fd == -EXDEV)
                return refuse(reterr, name, "something else is mounted there");
        if (fd < 0)
                return fault(reterr, fd, FAULT_STATE_DEGRADED, "Cannot open the directory '%s' of secrets: %m", name);
        r = check_dir(fd, name, reterr);
        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0 || ((st.st_mode & 07777) != mode && fchmod(fd, mode) < 0))
                return fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot set the mode of '%s': %m", name);
        return TAKE_FD(fd);
}

static int open_generation(const char *runtime, const char *workspace, uint64_t generation, Fault *reterr) {
        _cleanup_close_ int top = open_runtime(runtime, reterr), ws = -1, id = -1;
        char g[21];

        ws = top < 0 ? top : step_down(top, "ws", 0700, reterr);
        id = ws < 0 ? ws : step_down(ws, workspace, 0755, reterr);
        return id < 0 ? id : step_down(id, u64_text(generation, g), 0755, reterr);
}

/* ── one file ────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_there(int dirfd, const char *name, const void *data, size_t size) {
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t n;

        return file_read(dirfd, name, ENV_MAX, &text, &n) == 0 && n == size && memcmp(text, data, size) == 0 &&
               fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 07777) == 0444;
}

/* Readable by any user of an image once it is whole: only the mount shows it to anyone. */
static int put(int dirfd, const char *name, const void *data, size_t size) {
        _cleanup_close_ int fd = -1;
        int r;

        if (is_there(dirfd, name, data, size))
                return 0;
        (void) unlinkat(dirfd, TEMP_FILE, 0);
        fd = openat(dirfd, TEMP_FILE, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC|O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        r = file_write_full(fd, data, size);
        if (r == 0 && (fchmod(fd, 0444) < 0 || renameat(dirfd, TEMP_FILE, dirfd, name) < 0))
                r = -errno;
        if (r < 0)
                (void) unlinkat(dirfd, TEMP_FILE, 0);
        return r;
}

/* ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* "MOLECULE-ENV/1 <count>", then each NAME=VALUE, all ended by NUL. */
static Secret *env_text(Arena *arena, const SecretSet *set) {
        char head[32];
        size_t total = (size_t) snprintf(head, sizeof head, "MOLECULE-ENV/1 %zu", set->n) + 1;
        Secret *s;
        char *p;

        for (size_t i = 0; i < set->n; i++)
                total += strlen(set->items[i].name) + 1 + set->items[i].value->size + 1;
        s = secret_alloc(arena, total);
        if (!s)
                return NULL;
        p = stpcpy((char *) s->data, head) + 1;
        for (size_t i = 0; i < set->n; i++) {
                p = stpcpy(stpcpy(p, set->items[i].name), "=");
                memcpy(p, set->items[i].value->data, set->items[i].value->size);
                p += set->items[i].value->size + 1;
        }
        return s;
}

typedef struct Extra { const SecretSet *set; } Extra;

static int remove_extra(int dirfd, const char *name, void *userdata) {
        const Extra *x = userdata;

        for (size_t i = 0; i < x->set->n; i++)
                if (strcmp(x->set->items[i].name, name) == 0)
                        return 0;
        return unlinkat(dirfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* env comes last: a launcher that finds it finds all. */
int handover_write(const char *runtime, const char *workspace, uint64_t generation, const SecretSet *set, Fault *reterr) {
        _cleanup_close_ int fd = open_generation(runtime, workspace, generation, reterr), secrets = -1;
        _cleanup_(secret_freep) Secret *env = NULL;
        Extra extra = { set };
        int r;

        if (fd < 0)
                return fd;
        secrets = step_down(fd, SECRETS_DIR, 0755, reterr);
        if (secrets < 0)
                return secrets;
        r = file_each(secrets, remove_extra, &extra);
        for (size_t i = 0; r >= 0 && i < set->n; i++)
                r = put(secrets, set->items[i].name, set->items[i].value->data, set->items[i].value->size);
        if (r >= 0 && set->n > 0)
                env = env_text(set->items[0].value->arena, set);
        if (r >= 0 && set->n > 0 && !env)
                r = -ENOMEM;
        if (r >= 0)
                r = env ? put(fd, ENV_FILE, env->data, env->size) : put(fd, ENV_FILE, "MOLECULE-ENV/1 0", sizeof "MOLECULE-ENV/1 0");
        return r < 0 ? fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot write the secrets of workspace %s to memory: %m", workspace) : 0;
}

/* ── which there are, and what goes ──────────────────────────────────────────────────────────────────────────── */

/* <runtime>/ws; nothing there is -ENOENT. */
static int open_ws(const char *runtime) {
        _cleanup_close_ int top = open_top(runtime);
        return top < 0 ? top : open_below(top, "ws");
}

static int open_workspace(const char *runtime, const char *workspace) {
        _cleanup_close_ int ws = open_ws(runtime);
        return ws < 0 ? ws : open_below(ws, workspace);
}

bool handover_is_whole(const char *runtime, const char *workspace, uint64_t generation) {
        _cleanup_close_ int ws = open_ws(runtime), id = -1, fd = -1;
        char g[21];

        id = ws < 0 ? ws : open_below(ws, workspace);
        fd = id < 0 ? id : open_below(id, u64_text(generation, g));
        return fd >= 0 && check_dir(ws, "ws", NULL) == 0 && check_dir(id, workspace, NULL) == 0 && check_dir(fd, g, NULL) == 0 &&
               faccessat(fd, ENV_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int handover_remove(const char *runtime, const char *workspace, uint64_t generation) {
        _cleanup_close_ int fd = open_workspace(runtime, workspace);
        char g[21];

        return fd < 0 ? (fd == -ENOENT ? 0 : fd) : file_remove_tree(fd, u64_text(generation, g));
}

int handover_remove_all(const char *runtime, const char *workspace) {
        _cleanup_close_ int fd = open_ws(runtime);
        return fd < 0 ? (fd == -ENOENT ? 0 : fd) : file_remove_tree(fd, workspace);
}

bool handover_any(const char *runtime, const char *workspace) {
        _cleanup_close_ int fd = open_workspace(runtime, workspace);
        return fd != -ENOENT;
}

typedef struct Each { HandoverEach fn; void *userdata; } Each;

static int on_dir(int dirfd, const char *name, void *userdata) {
        const Each *e = userdata;
        uint64_t generation;

        (void) dirfd;
        return u64_parse(name, &generation) == 0 ? e->fn(generation, e->userdata) : 0;
}

int handover_each(const char *runtime, const char *workspace, HandoverEach fn, void *userdata) {
        _cleanup_close_ int fd = open_workspace(runtime, workspace);
        Each e = { fn, userdata };

        return fd < 0 ? (fd == -ENOENT ? 0 : fd) : file_each_dir(fd, on_dir, &e);
}
