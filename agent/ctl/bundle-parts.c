/* SPDX-License-Identifier: Apache-2.0 */

/* What is in a bundle. Each source is of a kind that has no place for a value: answers of the local API, records without what programs said (and never what is
 * sealed beside them), settings, and of the engine's inspects only the members listed here: no environment, no command, no output of health checks. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/audit.h"
#include "agent/ctl/bundle.h"
#include "agent/ctl/ctl.h"
#include "base/file.h"
#include "base/record.h"
#include "base/text.h"

#define RECORD_MAX (8 * 1024 * 1024)
#define AUDIT_MAX  ((size_t) 4 * 1024 * 1024)

static const struct { const char *name, *path; } answers[] = {
        { "status.json", "/v1/status" },   { "workspaces.json", "/v1/workspaces" }, { "jobs.json", "/v1/jobs?tail=1000" },
        { "pins.json", "/v1/pins" },       { "images.json", "/v1/images" },         { "df.json", "/v1/df" },
};

static const char *const records[] = { "identity", "boot_epoch", "host", "outcomes", "pins", "images", "tombstones", "format" };

static const char *const inspected[] = {
        "Id", "Name", "Created", "RestartCount", "Image", "Driver", "Platform", "State/Status", "State/Running", "State/Restarting", "State/OOMKilled",
        "State/Dead", "State/ExitCode", "State/StartedAt", "State/FinishedAt", "State/Health/Status", "State/Health/FailingStreak", "Config/Image",
        "Config/User", "HostConfig/Memory", "HostConfig/CpuShares", "HostConfig/RestartPolicy", "HostConfig/Runtime", "HostConfig/Privileged",
        "HostConfig/NetworkMode", "HostConfig/CgroupParent", "HostConfig/PortBindings", "NetworkSettings/Ports",
};

/* ── of the agent ────────────────────────────────────────────────────────────────────────────────────────────── */

/* The answer is kept for those that come after; NULL where there is none. */
static int add_answer(Bundle *b, Client *client, const char *name, const char *path, cJSON **ret) {
        Fault why = {};

        if (client_get(client, path, ret, &why) == CTL_OK)
                return bundle_add_json(b, name, *ret);
        bundle_missing(b, name, why.text);
        return 0;
}

static int on_metrics(const char *data, size_t size, void *userdata) {
        FILE *to = userdata;
        return fwrite(data, 1, size, to) == size ? 0 : -EIO;
}

static int add_metrics(Bundle *b, Client *client) {
        char *text = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);
        Fault why = {};
        int code;

        if (!to)
                return -ENOMEM;
        code = client_stream(client, "/metrics", on_metrics, to, &why);
        (void) fclose(to);
        if (code == CTL_OK)
                return bundle_add(b, "metrics.txt", text, size);
        free(text);
        bundle_missing(b, "metrics.txt", why.text);
        return 0;
}

static int add_config(Bundle *b, const Config *c) {
        char *text = NULL;
        size_t size = 0;
        FILE *to = c ? open_memstream(&text, &size) : NULL;

        if (!to)
                return c ? -ENOMEM : 0;
        config_show(c, to);
        (void) fclose(to);
        return bundle_add(b, "config.txt", text, size);
}

/* ── of the disk ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* What a job brought back may be what a program said. */
static void drop_results(cJSON *json) {
        cJSON *item;

        cJSON_DeleteItemFromObjectCaseSensitive(json, "result");
        cJSON_ArrayForEach(item, json)
                drop_results(item);
}

static int add_record(Bundle *b, int dirfd, const char *file, const char *type, const char *name) {
        _cleanup_json_ cJSON *json = NULL;
        Fault why = {};
        int r = record_read(dirfd, file, type, RECORD_MAX, &json, &why);

        if (r == -ENOENT)
                return 0;
        if (r < 0) {
                bundle_missing(b, name, why.set ? why.text : strerror(-r));
                return 0;
        }
        drop_results(json);
        return bundle_add_json(b, name, json);
}

static int add_workspace_record(int dirfd, const char *file, void *userdata) {
        char name[80];

        if (!uuid_is_valid(file))               /* payloads and undo sets, which are sealed, have longer names */
                return 0;
        (void) snprintf(name, sizeof name, "records/ws/%s", file);
        return add_record(userdata, dirfd, file, "workspace", name);
}

/* The end of the audit record, from the beginning of a line. */
static int add_audit(Bundle *b, int state_fd) {
        _cleanup_close_ int fd = openat(state_fd, AUDIT_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END), from = end > (off_t) AUDIT_MAX ? end - (off_t) AUDIT_MAX : 0;
        char *text, *line;
        ssize_t n;

        if (end < 0)
                return 0;
        text = malloc((size_t) (end - from) + 1);
        if (!text)
                return -ENOMEM;
        n = pread(fd, text, (size_t) (end - from), from);
        if (n < 0) {
                bundle_missing(b, "audit.jsonl", strerror(errno));
                free(text);
                return 0;
        }
        text[n] = 0;
        line = from ? strchr(text, '\n') : NULL;
        if (line)
                memmove(text, line + 1, (size_t) (n -= line + 1 - text));
        return bundle_add(b, "audit.jsonl", text, (size_t) n);
}

static int add_records(Bundle *b, int state_fd) {
        _cleanup_close_ int ws = openat(state_fd, "ws", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char name[80];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTS(records); i++) {
                (void) snprintf(name, sizeof name, "records/%s", records[i]);
                r = add_record(b, state_fd, records[i], records[i], name);
        }
        if (r >= 0 && ws >= 0)
                r = file_each(ws, add_workspace_record, b);
        return r < 0 ? r : add_audit(b, state_fd);
}

/* ── of the engine ───────────────────────────────────────────────────────────────────────────────────────────── */

/* The member at the path goes to the same place in `to`. */
static bool copy_member(cJSON *to, const cJSON *from, const char *path) {
        const char *slash = strchr(path, '/');
        char name[64];
        cJSON *next;

        (void) snprintf(name, sizeof name, "%.*s", slash ? (int) (slash - path) : (int) strlen(path), path);
        from = json_get(from, name);
        if (!from)
                return true;
        if (!slash)
                return json_add_item(to, name, cJSON_Duplicate(from, true));
        next = (cJSON *) json_get(to, name);
        if (!next && !json_add_item(to, name, next = cJSON_CreateObject()))
                return false;
        return copy_member(next, from, slash + 1);
}

static int inspect_one(Client *engine, const char *id, cJSON *list, Bundle *b) {
        _cleanup_json_ cJSON *full = NULL;
        cJSON *kept = cJSON_CreateObject();
        char path[100];
        Fault why = {};

        if (!cJSON_AddItemToObject(list, id, kept))
                return -ENOMEM;
        (void) snprintf(path, sizeof path, "/containers/ws-%s/json", id);
        if (client_get(engine, path, &full, &why) != CTL_OK) {
                bundle_missing(b, path, "the engine has no such container, or does not answer");
                return 0;
        }
        for (size_t i = 0; i < ELEMENTS(inspected); i++)
                if (!copy_member(kept, full, inspected[i]))
                        return -ENOMEM;
        return 0;
}

static int inspect_all(Bundle *b, const Config *c, const cJSON *workspaces, cJSON **ret) {
        _cleanup_client_ Client engine = {};
        cJSON *list = *ret = cJSON_CreateObject();
        const cJSON *w;
        int r = 0;

        if (!c || !list || client_open_at(&engine, c->engine_socket) != CTL_OK)
                return list ? 0 : -ENOMEM;
        cJSON_ArrayForEach(w, workspaces)
                if (r >= 0)
                        r = inspect_one(&engine, json_get_string(w, "workspace_id"), list, b);
        return r < 0 ? r : bundle_add_json(b, "engine.json", list);
}

/* ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────── */

int bundle_collect(Bundle *b, Client *client, const Config *c, int state_fd) {
        cJSON *got[ELEMENTS(answers)] = {}, *inspects = NULL;
        const cJSON *workspaces, *outcomes;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTS(answers); i++)
                r = add_answer(b, client, answers[i].name, answers[i].path, &got[i]);
        workspaces = json_get(got[1], "workspaces");
        outcomes = json_get(got[2], "outcomes");
        if (r >= 0)
                r = add_metrics(b, client);
        if (r >= 0)
                r = add_config(b, c);
        if (r >= 0)
                r = add_records(b, state_fd);
        if (r >= 0)
                r = inspect_all(b, c, workspaces, &inspects);
        if (r >= 0)
                r = bundle_journal(b, workspaces, outcomes, inspects);
        for (size_t i = 0; i < ELEMENTS(got); i++)
                cJSON_Delete(got[i]);
        cJSON_Delete(inspects);
        return r;
}
