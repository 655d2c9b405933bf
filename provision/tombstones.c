/* SPDX-License-Identifier: Apache-2.0 */

/* One string a tombstone, since ten thousand objects would be more values than a record may hold:
 *
 *      <workspace> <spec floor> <its payload hash> <its job> <restart floor> <its payload hash> <its job>      ("-" where there is none)
 */

#include "provision/tombstones.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"

#define TOMBSTONES_FILE     "tombstones"
#define TOMBSTONES_FILE_MAX (8 * 1024 * 1024)
#define LINE_SIZE           512

struct Tombstones {
        int     state_fd;
        char  **lines;                          /* oldest first */
        size_t  n;
};

static bool is_of(const char *line, const char *workspace_id) { return strncmp(line, workspace_id, UUID_SIZE - 1) == 0; }
static const char *or_dash(const char *s) { return s[0] ? s : "-"; }

static char *line_make(const Workspace *w) {
        return str_printf("%s %llu %s %s %llu %s %s", w->id, (unsigned long long) w->spec_floor, or_dash(w->spec_hash), or_dash(w->spec_job_id),
                          (unsigned long long) w->restart_floor, or_dash(w->restart_hash), or_dash(w->restart_job_id));
}

static int word_take(char **rest, const char **ret, size_t max) {
        *ret = strsep(rest, " ");
        if (!*ret || !(*ret)[0] || strlen(*ret) > max)
                return -EBADMSG;
        if (strcmp(*ret, "-") == 0)
                *ret = "";
        return 0;
}

static int line_parse(const char *line, Workspace *ret) {
        char copy[LINE_SIZE], *rest = copy;
        const char *words[7];
        static const size_t sizes[7] = { UUID_SIZE, 21, HASH_TEXT_SIZE, UUID_SIZE, 21, HASH_TEXT_SIZE, UUID_SIZE };

        if (snprintf(copy, sizeof copy, "%s", line) >= (int) sizeof copy)
                return -EBADMSG;
        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (word_take(&rest, &words[i], sizes[i] - 1) < 0)
                        return -EBADMSG;
        if (rest || !uuid_is_valid(words[0]) || u64_parse(words[1], &ret->spec_floor) < 0 || u64_parse(words[4], &ret->restart_floor) < 0)
                return -EBADMSG;
        strcpy(ret->spec_hash, words[2]);
        strcpy(ret->spec_job_id, words[3]);
        strcpy(ret->restart_hash, words[5]);
        strcpy(ret->restart_job_id, words[6]);
        return 0;
}

static int append(Tombstones *t, char *line) {
        char **bigger = line ? reallocarray(t->lines, t->n + 1, sizeof *bigger) : NULL;

        if (!bigger) {
                free(line);
                return -ENOMEM;
        }
        t->lines = bigger;
        t->lines[t->n++] = line;
        return 0;
}

static void drop(Tombstones *t, size_t i) {
        free(t->lines[i]);
        memmove(&t->lines[i], &t->lines[i + 1], (--t->n - i) * sizeof *t->lines);
}

static int read_all(Tombstones *t, Fault *reterr) {
        _cleanup_json_ cJSON *json = NULL;
        const cJSON *item;
        Workspace ignored = {};
        int r = record_read(t->state_fd, TOMBSTONES_FILE, "tombstones", TOMBSTONES_FILE_MAX, &json, reterr);

        if (r < 0)
                return r;
        cJSON_ArrayForEach(item, json_get(json, "tombstones")) {
                if (!cJSON_IsString(item) || line_parse(item->valuestring, &ignored) < 0)
                        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "A tombstone is not what this program writes.");
                if (append(t, strdup(item->valuestring)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

int tombstones_open(int state_fd, Tombstones **ret, Fault *reterr) {
        _cleanup_(tombstones_freep) Tombstones *t = calloc(1, sizeof *t);
        int r;

        if (!t)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        t->state_fd = state_fd;
        r = record_start(state_fd, TOMBSTONES_FILE, read_all(t, reterr), reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

Tombstones *tombstones_free(Tombstones *t) {
        if (!t)
                return NULL;
        while (t->n > 0)
                free(t->lines[--t->n]);
        free(t->lines);
        free(t);
        return NULL;
}

/* The new one first: without memory the older one stays. */
int tombstones_add(Tombstones *t, const Workspace *w) {
        size_t older = 0;

        if (append(t, line_make(w)) < 0)
                return -ENOMEM;
        while (!is_of(t->lines[older], w->id))
                older++;
        if (older + 1 < t->n)
                drop(t, older);
        else if (t->n > TOMBSTONES_MAX)
                drop(t, 0);
        return 0;
}

size_t tombstones_count(const Tombstones *t) { return t->n; }

int tombstones_save(const Tombstones *t, Fault *reterr) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        cJSON *list = cJSON_CreateArray();

        if (!json_add_item(json, "tombstones", list))
                return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the tombstones.");
        for (size_t i = 0; i < t->n; i++)
                if (!cJSON_AddItemToArray(list, cJSON_CreateStringReference(t->lines[i])))
                        return fault(reterr, -ENOMEM, FAULT_STATE_DEGRADED, "Out of memory for the tombstones.");
        return record_write(t->state_fd, TOMBSTONES_FILE, "tombstones", json, reterr);
}

bool tombstones_look(const Tombstones *t, const char *workspace_id, Workspace *ret) {
        for (size_t i = 0; i < t->n; i++)
                if (is_of(t->lines[i], workspace_id))
                        return line_parse(t->lines[i], ret) == 0;
        return false;
}
