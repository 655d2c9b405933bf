/* SPDX-License-Identifier: Apache-2.0 */

/* gc: images go that nothing needs, without waiting for the disk to fill up. Only those that the agent pulled or that were baked in. */

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/ctl/client.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/note.h"
#include "agent/ctl/term.h"
#include "base/text.h"

#define TRIES     600
#define STEP_USEC (200 * 1000)

typedef struct Given { bool dry_run, json; char *reason; } Given;

static bool read_options(int argc, char **argv, Given *g) {
        static const struct option options[] = {
                { "dry-run", no_argument, NULL, 'n' }, { "json", no_argument, NULL, 'j' }, { "reason", required_argument, NULL, 'r' }, {}
        };
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0)
                if (opt == 'r')
                        g->reason = optarg;
                else if (opt == 'n' || opt == 'j')
                        *(opt == 'n' ? &g->dry_run : &g->json) = true;
                else
                        return false;
        return optind == argc;
}

/* The images of the answer that nothing needs, as an array of references. */
static cJSON *unneeded(const cJSON *answer) {
        _cleanup_json_ cJSON *list = cJSON_CreateArray();
        const cJSON *image;

        cJSON_ArrayForEach(image, json_get(answer, "images"))
                if (!json_get_bool(image, "needed", true) &&
                    (!list || !cJSON_AddItemToArray(list, cJSON_CreateString(json_get_string(image, "image_ref")))))
                        return NULL;
        return TAKE_PTR(list);
}

static int64_t free_bytes(Client *c) {
        _cleanup_json_ cJSON *df = NULL;
        Fault why = {};

        return client_get(c, "/v1/df", &df, &why) == CTL_OK ? json_get_i64(df, "engine/free_bytes", 0) : 0;
}

/* Until the agent's round is over; *images then holds what is left. */
static int await(Client *c, cJSON **images) {
        for (unsigned i = 0; i < TRIES; i++) {
                Fault why = {};
                int code;

                (void) usleep(STEP_USEC);
                cJSON_Delete(*images);
                *images = NULL;
                code = client_get(c, "/v1/images", images, &why);
                if (code != CTL_OK)
                        return client_say(code, &why);
                if (!json_get_bool(*images, "collecting", false))
                        return CTL_OK;
        }
        fputs("The agent is still at it; `molecule-agentctl images` shows how far.\n", stderr);
        return CTL_TIMED_OUT;
}

static int report(const Given *g, const cJSON *before, const cJSON *left, int64_t freed) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        const cJSON *ref;
        char text[TERM_TEXT_SIZE];
        int gone = cJSON_GetArraySize(before) > cJSON_GetArraySize(left) ? cJSON_GetArraySize(before) - cJSON_GetArraySize(left) : 0;

        if (g->json)
                return json_add_i64(json, "removed", gone) && json_add_i64(json, "freed_bytes", freed > 0 ? freed : 0) &&
                                       json_add_item(json, "left", cJSON_Duplicate(left, true))
                               ? client_print(json)
                               : CTL_FAILED;
        printf("%d image%s removed, %s freed.\n", gone, gone == 1 ? "" : "s", term_bytes(freed > 0 ? (uint64_t) freed : 0, text));
        if (cJSON_GetArraySize(left) > 0)
                puts("The engine keeps these, mostly because a container still uses them; the agent's journal says why:");
        cJSON_ArrayForEach(ref, left)
                printf("  %s\n", ref->valuestring);
        return CTL_OK;
}

static int preview(const Given *g, const cJSON *list) {
        const cJSON *ref;

        if (g->json)
                return client_print(list);
        cJSON_ArrayForEach(ref, list)
                puts(ref->valuestring);
        printf("%d would be removed.\n", cJSON_GetArraySize(list));
        return CTL_OK;
}

static int run(Client *c, const Given *g) {
        _cleanup_json_ cJSON *images = NULL, *before = NULL, *left = NULL, *body = cJSON_CreateObject(), *marked = NULL;
        Fault why = {};
        int64_t had;
        int code = client_get(c, "/v1/images", &images, &why);

        if (code != CTL_OK)
                return client_say(code, &why);
        before = unneeded(images);
        if (g->dry_run)
                return preview(g, before);
        had = free_bytes(c);
        if (!body || (g->reason && !json_add_string(body, "reason", g->reason)))
                return CTL_FAILED;
        code = client_post_json(c, "/v1/gc", body, &marked, &why);
        if (code != CTL_OK)
                return client_say(code, &why);
        code = await(c, &images);
        left = code == CTL_OK ? unneeded(images) : NULL;
        return code == CTL_OK ? report(g, before, left, free_bytes(c) - had) : code;
}

int ctl_gc(int argc, char **argv) {
        _cleanup_client_ Client client = {};
        Given g = {};
        int code;

        if (!read_options(argc, argv, &g)) {
                fputs("Usage: molecule-agentctl gc [--dry-run] [--reason TEXT] [--json]\n", stderr);
                return CTL_USAGE;
        }
        if (!note_reason("gc", g.reason, !g.dry_run))
                return CTL_USAGE;
        code = client_open(&client);
        return code == CTL_OK ? run(&client, &g) : code;
}
