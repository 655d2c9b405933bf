/* SPDX-License-Identifier: Apache-2.0 */

/* A table in memory, written whole. An entry goes to disk before its pull begins, so that no image is forgotten to be ours by a crash; that one was
 * used again is written at most once an hour. */

#include "engine/image-own.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/record.h"
#include "base/text.h"
#include "engine/image.h"

#define OWN_FILE      "images"
#define OWN_FILE_MAX  (1024 * 1024)
#define PRELOADED_MAX (1024 * 1024)
#define WRITE_USEC    (3600 * USEC_PER_SEC)

typedef struct Own {
        char *ref;
        uint64_t used_at, written_at; /* microseconds since the epoch; 0: never, since it was baked in */
        bool tried;
} Own;

struct ImageOwn {
        int state_fd;
        Own items[IMAGE_OWN_MAX];
        size_t n;
};

static Own *find(ImageOwn *o, const char *ref) {
        for (size_t i = 0; i < o->n; i++)
                if (strcmp(o->items[i].ref, ref) == 0)
                        return &o->items[i];
        return NULL;
}

static void drop(ImageOwn *o, Own *w) {
        free(w->ref);
        *w = o->items[--o->n];
}

static Own *put(ImageOwn *o, const char *ref, uint64_t used_at) {
        Own *w = find(o, ref);

        if (w)
                return w;
        if (o->n == IMAGE_OWN_MAX) {
                Own *oldest = o->items;

                for (size_t i = 1; i < o->n; i++)
                        if (o->items[i].used_at < oldest->used_at)
                                oldest = &o->items[i];
                drop(o, oldest);
        }
        w = &o->items[o->n];
        *w = (Own){ .ref = strdup(ref), .used_at = used_at, .written_at = used_at };
        if (!w->ref)
                return NULL;
        o->n++;
        return w;
}

static int save(ImageOwn *o, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *list = cJSON_CreateArray();

        if (!json_add_item(json, "images", list))
                return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the list of images.");
        for (size_t i = 0; i < o->n; i++) {
                cJSON *item = cJSON_CreateObject();

                if (!cJSON_AddItemToArray(list, item) || !json_add_string(item, "ref", o->items[i].ref) ||
                    (o->items[i].used_at && !json_add_time(item, "used_at", o->items[i].used_at)))
                        return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the list of images.");
        }
        if (record_write(o->state_fd, OWN_FILE, "images", json, reterr) < 0)
                return -EIO;
        for (size_t i = 0; i < o->n; i++)
                o->items[i].written_at = o->items[i].used_at;
        return 0;
}

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int take(ImageOwn *o, const cJSON *item) {
        const char *ref = json_get_string(item, "ref"), *at = json_get_string(item, "used_at");
        uint64_t used_at = 0;

        if (!ref || !image_ref_is_pinned(ref) || (at && time_parse(at, &used_at) < 0))
                return -EBADMSG;
        return put(o, ref, used_at) ? 0 : -ENOMEM;
}

static int read_record(ImageOwn *o, Fault *damaged) {
        _cleanup_json_ cJSON *json = NULL;
        const cJSON *item;
        int r = record_read(o->state_fd, OWN_FILE, "images", OWN_FILE_MAX, &json, damaged);

        if (r < 0)
                return r == -ENOMEM ? r : 0;
        cJSON_ArrayForEach(item, json_get(json, "images")) {
                r = take(o, item);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        (void) fault(damaged, r, FAULT_BAD_JSON, "The record of images has an entry that makes no sense.");
        }
        return 0;
}

static int read_preloaded(ImageOwn *o, const char *path, Fault *damaged) {
        _cleanup_json_ cJSON *json = NULL;
        _cleanup_free_ char *text = NULL;
        const cJSON *item;
        size_t size;
        Fault why = {};
        int r = file_read_path(path, PRELOADED_MAX, &text, &size);

        if (r == -ENOENT)
                return 0; /* no image was baked in */
        if (r == 0)
                r = json_parse(text, size, &json, &why);
        if (r == -ENOMEM)
                return r;
        cJSON_ArrayForEach(item, json_get(json, "images")) {
                if (!cJSON_IsString(item) || !image_ref_is_pinned(item->valuestring))
                        r = -EBADMSG;
                else if (!put(o, item->valuestring, 0))
                        return -ENOMEM;
        }
        if (r < 0)
                (void) fault(damaged, r, FAULT_BAD_JSON, "%s is not a list of images by digest: %s", path, why.set ? why.text : strerror(-r));
        return 0;
}

int image_own_open(int state_fd, const char *preloaded_path, ImageOwn **ret, Fault *damaged) {
        _cleanup_(image_own_freep) ImageOwn *o = calloc(1, sizeof *o);
        int r;

        if (!o)
                return -ENOMEM;
        o->state_fd = state_fd;
        r = read_record(o, damaged);
        if (r >= 0 && preloaded_path)
                r = read_preloaded(o, preloaded_path, damaged);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

ImageOwn *image_own_free(ImageOwn *o) {
        if (!o)
                return NULL;
        while (o->n > 0)
                drop(o, &o->items[o->n - 1]);
        free(o);
        return NULL;
}

/* ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────── */

int image_own_add(ImageOwn *o, const char *ref, uint64_t now, Fault *reterr) {
        bool known = find(o, ref) != NULL;
        Own *w = put(o, ref, now);

        if (!w)
                return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the list of images.");
        w->used_at = now;
        return known ? 0 : save(o, reterr);
}

void image_own_used(ImageOwn *o, const char *digest, uint64_t now) {
        bool write = false;

        for (size_t i = 0; i < o->n; i++) {
                if (!str_equal(image_ref_digest(o->items[i].ref), digest))
                        continue;
                o->items[i].used_at = now;
                write |= now - o->items[i].written_at > WRITE_USEC;
        }
        if (write)
                (void) save(o, NULL); /* ignoring: it looks less used than it is, and is only removed when nothing needs it */
}

void image_own_forget(ImageOwn *o, const char *ref) {
        Own *w = find(o, ref);

        if (!w)
                return;
        drop(o, w);
        (void) save(o, NULL); /* ignoring: removing what is not there finds that out again */
}

void image_own_tried(ImageOwn *o, const char *ref) {
        Own *w = find(o, ref);

        if (w)
                w->tried = true;
}

void image_own_begin_round(ImageOwn *o, ImageKeeps keeps, uint64_t now, void *userdata) {
        for (size_t i = 0; i < o->n; i++) {
                o->items[i].tried = false;
                if (keeps(image_ref_digest(o->items[i].ref), userdata))
                        o->items[i].used_at = now;
        }
}

cJSON *image_own_view(const ImageOwn *o, ImageKeeps keeps, void *userdata) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();

        for (size_t i = 0; list && i < o->n; i++) {
                const Own *w = &o->items[i];
                cJSON *json = cJSON_CreateObject();

                if (!cJSON_AddItemToArray(list, json) || !json_add_string(json, "image_ref", w->ref) ||
                    (w->used_at && !json_add_time(json, "used_at", w->used_at)) ||
                    !json_add_bool(json, "needed", keeps(image_ref_digest(w->ref), userdata)))
                        return NULL;
        }
        return TAKE_PTR(list);
}

const char *image_own_oldest(const ImageOwn *o, ImageKeeps keeps, void *userdata) {
        const Own *oldest = NULL;

        for (size_t i = 0; i < o->n; i++) {
                const Own *w = &o->items[i];

                if (!w->tried && (!oldest || w->used_at < oldest->used_at) && !keeps(image_ref_digest(w->ref), userdata))
                        oldest = w;
        }
        return oldest ? oldest->ref : NULL;
}
