/* SPDX-License-Identifier: Apache-2.0 */

/* What the records on disk say, read without the daemon: line 1 is the verdict, then a line per workspace. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl/ctl.h"
#include "base/file.h"
#include "base/hash.h"
#include "provision/workspace.h"

typedef struct Tally { unsigned workspaces, failed, busy; } Tally;

static const char *last_code(const Workspace *w) { return json_get_string(w->outcome, "error/code"); }

static void print_one(const Workspace *w, Tally *t) {
        const char *code = last_code(w), *image = w->settled ? w->settled->image_ref : NULL;
        char g[21];

        if (w->removed)
                return;
        t->workspaces++;
        t->busy += w->work != NULL;
        t->failed += !w->settled && !w->work;
        printf("%s  generation %s  %s%s%s%s%s\n", w->id, u64_text(workspace_generation(w), g),
               w->work    ? "job at work" :
               w->settled ? "settled" :
                            "failed",
               image ? "  " : "", image ?: "", code ? "  last: " : "", code ?: "");
}

static int each(int dirfd, const char *name, void *userdata) {
        _cleanup_(workspace_freep) Workspace *w = NULL;
        WorkspaceDir d = { .fd = dirfd };
        Fault why = {};

        if (!uuid_is_valid(name))
                return 0;
        if (workspace_load(&d, name, &w, &why) < 0)
                printf("%s  record unreadable: %s\n", name, why.text);
        else
                print_one(w, userdata);
        return 0;
}

int ctl_status(int argc, char **argv) {
        _cleanup_close_ int state = -1, ws = -1;
        bool running;
        Tally t = {};

        (void) argv;
        if (argc != 1) {
                fputs("Usage: molecule-agentctl status\n", stderr);
                return CTL_USAGE;
        }
        state = ctl_open_state();
        if (state < 0)
                return CTL_FAILED;
        ws = openat(state, "ws", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        running = ctl_agent_runs(state);
        printf("The agent %s.\n", running ? "runs" : "does not run; the records on disk say");
        if (hash_init() < 0 || (ws >= 0 && file_each(ws, each, &t) < 0))
                return CTL_FAILED;
        printf("%u workspaces, %u at work, %u failed.\n", t.workspaces, t.busy, t.failed);
        return !running ? CTL_NOT_RUNNING : t.failed ? CTL_DEGRADED : CTL_OK;
}
