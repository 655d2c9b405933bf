/* SPDX-License-Identifier: Apache-2.0 */

/* workspaces, inspect, pins, images, df: one question to the agent, and its answer as a person reads it, or with --json as it came. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ctl/ctl.h"
#include "agent/ctl/ids.h"
#include "agent/ctl/term.h"

typedef struct Look {
        const char *verb, *usage;
        const char *path;               /* an id is put behind it */
        bool takes_id;                  /* of a workspace */
        int (*show)(const cJSON *answer);       /* an exit code */
        bool lists_ids;                         /* --ids: ids alone, for other programs */
} Look;

static int printed(Table *t) {
        if (table_print(t) == 0)
                return CTL_OK;
        fputs("Out of memory.\n", stderr);
        return CTL_FAILED;
}

/* Enough of a digest to compare it by eye; "" where there is none. */
static const char *digest_of(const char *ref, char ret[static TERM_TEXT_SIZE]) {
        const char *hash = ref ? strstr(ref, "sha256:") : NULL;

        (void) snprintf(ret, TERM_TEXT_SIZE, "%.12s", hash ? hash + 7 : "");
        return ret;
}

/* ── workspaces ──────────────────────────────────────────────────────────────────────────────────────────────── */

static int show_workspaces(const cJSON *answer) {
        static const char *const titles[] = { "WORKSPACE", "STATUS", "RUNTIME", "IMAGE", "TARGET", "RESTARTS", "SINCE", "ERROR", NULL };
        const cJSON *list = json_get(answer, "workspaces"), *w;
        Table *t = table_new(titles, 1);
        bool whole = !id_short_will_do(list, "workspace_id");

        cJSON_ArrayForEach(w, list) {
                char id[UUID_SIZE], image[TERM_TEXT_SIZE], age[TERM_TEXT_SIZE], restarts[24] = "";
                const char *since = json_get_string(w, "since") ?: json_get_string(w, "started_at");

                if (json_get(w, "restart_count"))
                        (void) snprintf(restarts, sizeof restarts, "%lld", (long long) json_get_i64(w, "restart_count", 0));
                (void) term_age_of(since, age);
                table_row(t, (const char *const[]) { id_short(json_get_string(w, "workspace_id"), id, whole), json_get_string(w, "status"),
                                                     json_get_string(w, "runtime"), digest_of(json_get_string(w, "running_image"), image),
                                                     json_get_bool(w, "pin_skew", false) ? "other pin" : "ok", restarts, age,
                                                     json_get_string(w, "last_error/code") });
        }
        if (cJSON_GetArraySize(list) > 0)
                return printed(t);
        (void) table_print(t);
        puts("No workspaces.");
        return CTL_OK;
}

/* ── inspect ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void line(const char *name, const char *value) {
        if (value && value[0])
                printf("  %-12s %s\n", name, value);
}

static void number_line(const cJSON *json, const char *member, const char *name) {
        char text[24];

        if (!json_get(json, member))
                return;
        (void) snprintf(text, sizeof text, "%lld", (long long) json_get_i64(json, member, 0));
        line(name, text);
}

static void show_version(const char *title, const cJSON *v) {
        if (!cJSON_IsObject(v))
                return;
        printf("%s: generation %s, %s, tier %lld%s\n", title, json_get_string(v, "generation") ?: "?", json_get_string(v, "runtime") ?: "?",
               (long long) json_get_i64(v, "tier", 0), json_get_bool(v, "failed", false) ? " (came to nothing)" : "");
        line("job", json_get_string(v, "job_id"));
        line("image", json_get_string(v, "image_ref"));
        line("container", json_get_string(v, "container_id"));
}

static void show_outcome(const cJSON *o) {
        char age[TERM_TEXT_SIZE];
        const char *state = json_get_string(o, "state");

        if (!state)
                return;
        (void) term_age_of(json_get_string(o, "at"), age);
        printf("last job: %s %s%s%s, %s ago\n", json_get_string(o, "type") ?: "", term_on(term_tone(state)), state, term_off(), age);
        line("job", json_get_string(o, "job_id"));
        line("code", json_get_string(o, "error/code"));
        line("said", json_get_string(o, "message"));
}

static int show_workspace(const cJSON *w) {
        const char *status = json_get_string(w, "status") ?: "", *id = json_get_string(w, "workspace_id") ?: "";
        char age[TERM_TEXT_SIZE];
        const cJSON *job;

        printf("workspace %s: %s%s%s%s\n", id, term_on(term_tone(status)), status, term_off(), json_get_bool(w, "held", false) ? ", held" : "");
        if (term_age_of(json_get_string(w, "since"), age))
                printf("  %-12s %s ago\n", "since", age);
        line("code", json_get_string(w, "last_error/code"));
        line("why", json_get_string(w, "last_error/message"));
        number_line(w, "next_try_seconds", "next try (s)");
        line("url", json_get_string(w, "url"));
        line("started", json_get_string(w, "started_at"));
        number_line(w, "restart_count", "restarts");
        number_line(w, "exit_code", "last exit");
        if (json_get_bool(w, "oom_killed", false))
                line("memory", "it was killed for using more than its limit");
        show_version("wanted", json_get(w, "wanted"));
        show_version("settled", json_get(w, "settled"));
        cJSON_ArrayForEach(job, json_get(w, "jobs"))
                printf("job at work: %s %s %s %s\n", json_get_string(job, "type") ?: "", json_get_string(job, "job_id") ?: "",
                       json_get_string(job, "state") ?: "", json_get_string(job, "stage") ?: "");
        show_outcome(json_get(w, "last_outcome"));
        if (json_get_string(w, "last_error/code"))
                printf("next: molecule-agentctl explain %s; molecule-agentctl logs %.8s\n", json_get_string(w, "last_error/code"), id);
        return CTL_OK;
}

/* ── images ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static int show_pins(const cJSON *answer) {
        static const char *const titles[] = { "RUNTIME", "REGION", "DIGEST", "SIZE", "PROMOTED", "IMAGE", NULL };
        const cJSON *list = json_get(answer, "pins"), *pin;
        Table *t = table_new(titles, -1);
        char age[TERM_TEXT_SIZE];

        cJSON_ArrayForEach(pin, list) {
                char digest[TERM_TEXT_SIZE], size[TERM_TEXT_SIZE] = "", promoted[TERM_TEXT_SIZE];
                uint64_t bytes = json_get_u64_text(pin, "image_size_bytes", 0);

                if (bytes)
                        (void) term_bytes(bytes, size);
                (void) term_age_of(json_get_string(pin, "promoted_at"), promoted);
                table_row(t, (const char *const[]) { json_get_string(pin, "runtime"), json_get_string(pin, "region"),
                                                     digest_of(json_get_string(pin, "image_digest"), digest), size, promoted,
                                                     json_get_string(pin, "image_ref") });
        }
        if (!cJSON_IsNumber(json_get(answer, "age_seconds"))) {
                (void) table_print(t);
                puts("No pin table was taken from a control plane yet.");
                return CTL_OK;
        }
        printf("Taken %s ago.\n", term_age((uint64_t) json_get_i64(answer, "age_seconds", 0), age));
        return printed(t);
}

static int show_images(const cJSON *answer) {
        static const char *const titles[] = { "DIGEST", "NEEDED", "USED", "IMAGE", NULL };
        const cJSON *image;
        Table *t = table_new(titles, -1);

        cJSON_ArrayForEach(image, json_get(answer, "images")) {
                char digest[TERM_TEXT_SIZE], used[TERM_TEXT_SIZE];

                if (!term_age_of(json_get_string(image, "used_at"), used))
                        (void) snprintf(used, sizeof used, "never");
                table_row(t, (const char *const[]) { digest_of(json_get_string(image, "image_ref"), digest),
                                                     json_get_bool(image, "needed", false) ? "yes" : "no", used, json_get_string(image, "image_ref") });
        }
        if (json_get_bool(answer, "collecting", false))
                puts("Those that nothing needs are being removed.");
        return printed(t);
}

static void disk_row(Table *t, const char *what, const cJSON *disk) {
        char free_text[TERM_TEXT_SIZE] = "", used[16] = "";

        if (json_get(disk, "free_bytes")) {
                (void) term_bytes((uint64_t) json_get_i64(disk, "free_bytes", 0), free_text);
                (void) snprintf(used, sizeof used, "%lld%%", (long long) json_get_i64(disk, "used_percent", 0));
        }
        table_row(t, (const char *const[]) { what, free_text, used, json_get_string(disk, "path") });
}

static int show_df(const cJSON *answer) {
        static const char *const titles[] = { "DISK", "FREE", "USED", "PATH", NULL };
        Table *t = table_new(titles, -1);
        char reserve[TERM_TEXT_SIZE];
        int code;

        disk_row(t, "engine", json_get(answer, "engine"));
        disk_row(t, "state", json_get(answer, "state"));
        code = printed(t);
        printf("%s are kept free on the engine's; images that nothing needs go above %lld%%, down to %lld%%.\n",
               term_bytes((uint64_t) json_get_i64(answer, "min_free_bytes", 0), reserve), (long long) json_get_i64(answer, "gc_high_percent", 0),
               (long long) json_get_i64(answer, "gc_low_percent", 0));
        return code;
}

/* ── the question ────────────────────────────────────────────────────────────────────────────────────────────── */

static int usage(const Look *l) {
        fprintf(stderr, "Usage: molecule-agentctl %s %s\n", l->verb, l->usage);
        return CTL_USAGE;
}

static int ask(const Look *l, Client *client, const char *given, bool json, bool ids) {
        _cleanup_json_ cJSON *answer = NULL;
        char id[UUID_SIZE] = "", path[120];
        Fault why = {};
        int code = l->takes_id ? id_find(client, ID_WORKSPACE, given, id) : CTL_OK;

        if (code != CTL_OK)
                return code;
        (void) snprintf(path, sizeof path, "%s%s", l->path, id);
        code = client_get(client, path, &answer, &why);
        if (code != CTL_OK)
                return client_say(code, &why);
        if (ids)
                id_print_all(json_get(answer, "workspaces"), "workspace_id");
        return ids ? CTL_OK : json ? client_print(answer) : l->show(answer);
}

static int look(const Look *l, int argc, char **argv) {
        static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { "ids", no_argument, NULL, 'i' }, {} };
        _cleanup_client_ Client client = {};
        bool json = false, ids = false;
        int opt, code;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                json |= opt == 'j';
                ids |= opt == 'i';
                if (opt == '?' || (ids && !l->lists_ids))
                        return usage(l);
        }
        if (argc - optind != l->takes_id)
                return usage(l);
        code = client_open(&client);
        return code == CTL_OK ? ask(l, &client, argv[optind], json, ids) : code;
}

static const Look workspaces = { "workspaces", "[--json] [--ids]", "/v1/workspaces", false, show_workspaces, true },
                  inspect = { "inspect", "WORKSPACE [--json]", "/v1/workspaces/", true, show_workspace },
                  pins = { "pins", "[--json]", "/v1/pins", false, show_pins },
                  images = { "images", "[--json]", "/v1/images", false, show_images },
                  df = { "df", "[--json]", "/v1/df", false, show_df };

int ctl_workspaces(int argc, char **argv) { return look(&workspaces, argc, argv); }
int ctl_inspect(int argc, char **argv) { return look(&inspect, argc, argv); }
int ctl_pins(int argc, char **argv) { return look(&pins, argc, argv); }
int ctl_images(int argc, char **argv) { return look(&images, argc, argv); }
int ctl_df(int argc, char **argv) { return look(&df, argc, argv); }
