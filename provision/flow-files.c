/* SPDX-License-Identifier: Apache-2.0 */

/* The delivered files: which of them differ from what the volume holds, the old bytes of those (for undo), writing them, and reading them
 * back, because an exit status is not evidence; so are the old bytes when they are put back. Only delivered names are ever written. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "engine/tar.h"
#include "provision/flow-internal.h"
#include "provision/path.h"

#define READ_MAX  (32 * 1024 * 1024)            /* of one file as it is found */
#define UNDO_MAX  (22 * 1024 * 1024)            /* of an undo set: as base64 in JSON it fits into a sealed blob */
#define TAR_EXTRA (64 * 1024)

static const WorkspaceSpec *spec(const Flow *f) { return f->job->spec; }
static const SpecFile *file_at(const Flow *f) { return &spec(f)->files[f->index]; }

static void fail_memory(Flow *f) { flow_fail(f, -ENOMEM, NULL); }

static int read_file(Flow *f, const char *container_id, const char *name, EngineDone done) {
        _cleanup_free_ char *path = str_printf("%s/%s", CONFIGS_PATH, name);

        if (!path)
                return -ENOMEM;
        return engine_archive_get(f->context->engine, container_id, path, READ_MAX + TAR_EXTRA, done, f, &f->call);
}

/* The one regular file of an answer; NULL data when it is none. */
static int one_file(const EngineAnswer *a, TarEntry *ret, Fault *reterr) {
        size_t offset = 0;
        int r;

        while ((r = tar_next(a->body, a->size, &offset, ret, reterr)) > 0)
                if (ret->type == '0')
                        return 1;
        return r;
}

static bool is_same(const TarEntry *e, const void *data, size_t size) {
        return e->size == size && (size == 0 || memcmp(e->data, data, size) == 0);
}

/* How a file was found: 1 with its bytes in *ret, 0 absent; negative: the answer was dealt with and the callback returns. */
static int file_read_as(Flow *f, const EngineAnswer *a, TarEntry *ret) {
        Fault why = {};
        int r;

        if (a->r == -ENOENT) {
                f->call = NULL;
                return 0;
        }
        if (!flow_answered(f, a))
                return -ECANCELED;
        r = one_file(a, ret, &why);
        if (r < 0)
                flow_fail(f, r, &why);
        return r;
}

/* ── compare and keep ────────────────────────────────────────────────────────────────────────────────────────── */

static bool keeps(const Flow *f) { return f->old_id && f->w->work->phase == WORK_BEGUN; }

static bool undo_add(Flow *f, const char *name, const void *data, size_t size) {
        _cleanup_free_ char *text = data ? base64_encode(data, size) : NULL;

        if (!f->undo) {
                f->undo = cJSON_CreateObject();
                if (!f->undo || !json_add_item(f->undo, "files", cJSON_CreateObject()) ||
                    !json_add_item(f->undo, "absent", cJSON_CreateArray()))
                        return false;
        }
        f->undo_bytes += size;
        if (!data)
                return cJSON_AddItemToArray((cJSON *) json_get(f->undo, "absent"), cJSON_CreateString(name));
        return text && json_add_string((cJSON *) json_get(f->undo, "files"), name, text);
}

static void compared(Flow *f, bool differs) {
        f->differs[f->index++] = differs;
        step_compare(f);
}

static void on_compare(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        const SpecFile *file = file_at(f);
        TarEntry e = {};
        Fault why = {};
        int r = file_read_as(f, a, &e);

        if (r < 0)
                return;
        if (r > 0 && is_same(&e, file->data, file->size)) {
                compared(f, false);
                return;
        }
        if (keeps(f) && !undo_add(f, file->name, r > 0 ? (e.data ?: "") : NULL, e.size)) {
                fail_memory(f);
                return;
        }
        if (f->undo_bytes > UNDO_MAX) {
                (void) fault(&why, -E2BIG, FAULT_TOO_LARGE, "The files that would be replaced are larger than %d bytes in sum.", UNDO_MAX);
                flow_fail(f, -E2BIG, &why);
                return;
        }
        compared(f, true);
}

void step_compare(Flow *f) {
        if (f->index == 0) {
                cJSON_Delete(f->undo);
                f->undo = NULL;
                f->undo_bytes = 0;
        }
        if (f->index >= spec(f)->n_files) {
                flow_next(f);
                return;
        }
        if (f->fresh[0]) {              /* nothing can be there that we did not write */
                compared(f, true);
                return;
        }
        flow_sent(f, read_file(f, f->new_id, file_at(f)->name, on_compare));
}

void step_keep(Flow *f) {
        Fault why = {};
        int r = 0;

        if (f->undo) {
                r = undo_save(f->context->dir, f->w->id, f->w->work->generation, f->undo, &why);
                f->context->events.wrote(r, &why, f->context->userdata);
                cJSON_Delete(f->undo);
                f->undo = NULL;
        }
        if (r < 0)
                flow_fail(f, r, &why);
        else
                flow_next(f);
}

/* ── write ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool any_differs(const Flow *f) {
        for (size_t i = 0; i < spec(f)->n_files; i++)
                if (f->differs[i])
                        return true;
        return false;
}

/* Each parent once: names come in the order they were delivered, so look back for one that shares it. */
static int add_parents(Tar *t, const WorkspaceSpec *s, size_t i, const char *base) {
        const char *name = s->files[i].name;

        for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
                size_t n = (size_t) (slash - name) + 1;
                char parent[512];
                bool done = false;
                int r;

                for (size_t k = 0; k < i && !done; k++)
                        done = strncmp(s->files[k].name, name, n) == 0;
                if (done)
                        continue;
                (void) snprintf(parent, sizeof parent, "%s%s%.*s", base, base[0] ? "/" : "", (int) n - 1, name);
                r = tar_add_dir(t, parent, 0755, WORKSPACE_UID, WORKSPACE_GID);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Names below the root of the archive: with one volume that root is its own, and an entry "/" is the volume's top. */
static int add_top(Tar *t, const char *base) { return tar_add_dir(t, base[0] ? base : "/", 0755, WORKSPACE_UID, WORKSPACE_GID); }

static int add_files(const Flow *f, Tar *t, const char *base) {
        const WorkspaceSpec *s = spec(f);
        char name[512];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < s->n_files; i++) {
                if (!f->differs[i])
                        continue;
                (void) snprintf(name, sizeof name, "%s%s%s", base, base[0] ? "/" : "", s->files[i].name);
                r = add_parents(t, s, i, base);
                if (r >= 0)
                        r = tar_add_file(t, name, s->files[i].mode, WORKSPACE_UID, WORKSPACE_GID, s->files[i].data, s->files[i].size);
        }
        return r;
}

/* One archive for all volumes, since each costs the engine a process of its own. Below a read-only root the engine takes none, but there /configs
 * is the only volume. A volume that belongs to root still is given to the workspace's user. */
static int seed_tar(const Flow *f, const Volume *volumes, size_t n, bool whole, Tar *t) {
        const char *configs = whole ? volumes[0].target + 1 : "";
        int r = 0;

        if (f->give[0])
                r = add_top(t, configs);
        if (r >= 0)
                r = add_files(f, t, configs);
        for (size_t i = 1; r >= 0 && i < n; i++)
                if (f->give[i])
                        r = add_top(t, volumes[i].target + 1);
        return r < 0 ? r : tar_end(t);
}

static bool any_to_seed(const Flow *f, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (f->give[i])
                        return true;
        return any_differs(f);
}

static void on_seeded(const EngineAnswer *a, void *userdata) {
        if (flow_answered(userdata, a))
                flow_next(userdata);
}

void step_seed(Flow *f) {
        _cleanup_(tar_done) Tar t = {};
        Volume volumes[VOLUMES_MAX];
        size_t n = container_volumes(f->w->id, spec(f), volumes);
        bool whole = n > 1;
        int r;

        if (!any_to_seed(f, n)) {
                flow_next(f);
                return;
        }
        r = seed_tar(f, volumes, n, whole, &t);
        if (r >= 0)
                r = engine_archive_put(f->context->engine, f->new_id, whole ? "/" : volumes[0].target, t.data, t.size, on_seeded, f,
                                       &f->call);
        flow_sent(f, r);
}

/* ── read back ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void fail_read_back(Flow *f, const char *name, bool there) {
        Fault why = {};

        (void) fault(&why, -EIO, FAULT_ENGINE_ERROR, "The file '%s' was written but reads back %s.", name, there ? "different" : "absent");
        flow_fail(f, -EIO, &why);
}

static void on_read_back(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        const SpecFile *file = file_at(f);
        TarEntry e = {};
        int r = file_read_as(f, a, &e);

        if (r < 0)
                return;
        if (r > 0 && is_same(&e, file->data, file->size)) {
                f->index++;
                step_read_back(f);
        } else
                fail_read_back(f, file->name, r > 0);
}

void step_read_back(Flow *f) {
        while (f->index < spec(f)->n_files && !f->differs[f->index])
                f->index++;
        if (f->index >= spec(f)->n_files)
                flow_next(f);
        else
                flow_sent(f, read_file(f, f->new_id, file_at(f)->name, on_read_back));
}

/* ── undo ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static int undo_tar(const cJSON *undo, Tar *t) {
        const cJSON *item;
        int r = 0;

        cJSON_ArrayForEach(item, json_get(undo, "files")) {
                _cleanup_free_ uint8_t *data = NULL;
                size_t size = 0;

                r = base64_decode(item->valuestring, READ_MAX, &data, &size);
                if (r >= 0)
                        r = tar_add_file(t, item->string, path_mode(item->string), WORKSPACE_UID, WORKSPACE_GID, data, size);
                if (r < 0)
                        return r;
        }
        return tar_end(t);
}

static const cJSON *undone_at(const Flow *f) { return cJSON_GetArrayItem(json_get(f->undo, "files"), (int) f->index); }

static void undo_read_back(Flow *f);

static void on_undo_read_back(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        const cJSON *item = undone_at(f);
        _cleanup_free_ uint8_t *data = NULL;
        size_t size = 0;
        TarEntry e = {};
        int there = file_read_as(f, a, &e), r;

        if (there < 0)
                return;
        r = base64_decode(item->valuestring, READ_MAX, &data, &size);
        if (r < 0)
                flow_fail(f, r, NULL);
        else if (there && is_same(&e, data, size)) {
                f->index++;
                undo_read_back(f);
        } else
                fail_read_back(f, item->string, there > 0);
}

static void undo_read_back(Flow *f) {
        const cJSON *item = undone_at(f);

        if (item)
                flow_sent(f, read_file(f, f->old_id, item->string, on_undo_read_back));
        else
                flow_next(f);
}

static void on_undone(const EngineAnswer *a, void *userdata) {
        if (flow_answered(userdata, a))
                undo_read_back(userdata);
}

/* A file that was not there before stays: the engine has no way to remove one from a container that does not run. */
void step_undo_files(Flow *f) {
        _cleanup_(tar_done) Tar t = {};
        Fault why = {};
        int r;

        if (!f->w->work->old_container_id || !f->old_id) {
                flow_next(f);
                return;
        }
        f->index = 0;
        f->undo = (cJSON_Delete(f->undo), NULL);
        r = undo_load(f->context->dir, f->w->id, f->w->work->generation, &f->undo, &why);
        if (r < 0 && r != -ENOENT && r != -ENOMEM) {
                /* One bad file must not keep the old version down. */
                log_write(LOG_ERR, &(LogFields) { .workspace_id = f->w->id, .fault = &why },
                          "The kept files cannot be put back, the new version's stay: %s", why.text);
                r = -ENOENT;
        }
        if (r == -ENOENT || (r == 0 && cJSON_GetArraySize(json_get(f->undo, "files")) == 0)) {
                flow_next(f);
                return;
        }
        if (r >= 0)
                r = undo_tar(f->undo, &t);
        if (r >= 0)
                r = engine_archive_put(f->context->engine, f->old_id, CONFIGS_PATH, t.data, t.size, on_undone, f, &f->call);
        if (r < 0)
                flow_fail(f, r, &why);
}
