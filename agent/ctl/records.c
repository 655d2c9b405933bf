/* SPDX-License-Identifier: Apache-2.0 */

/* What the records on disk say, read without the daemon. */

#include <fcntl.h>
#include <string.h>

#include "agent/ctl/answer.h"
#include "agent/ctl/creds.h"
#include "agent/ctl/ctl.h"
#include "base/file.h"
#include "base/hash.h"
#include "provision/workspace.h"

typedef struct Tally { unsigned workspaces, failed, busy; } Tally;

static const char *last_code(const Workspace *w) { return json_get_string(w->outcome, "error/code"); }

static void print_one(const Workspace *w, Tally *t) {
        const char *code = last_code(w), *image = w->settled ? w->settled->image_ref : NULL;
        const char *state = w->work ? "job at work" : w->settled ? "settled" : "failed";
        char g[21];

        if (w->removed)
                return;
        t->workspaces++;
        t->busy += w->work != NULL;
        t->failed += !w->settled && !w->work;
        answer_words("%s  generation %s  %s%s%s%s%s\n", w->id, u64_text(workspace_generation(w), g), state, image ? "  " : "", image ?: "",
                     code ? "  last: " : "", code ?: "");
        answer_add("workspaces", answer_item("workspace_id", w->id, "generation", g, "state", state, "image_ref", image, "code", code));
}

static void unreadable(const char *id, const Fault *why) {
        answer_words("%s  record unreadable: %s\n", id, why->text);
        answer_add("workspaces", answer_item("workspace_id", id, "state", "record unreadable", "message", why->text));
}

static int each(int dirfd, const char *name, void *userdata) {
        _cleanup_(workspace_freep) Workspace *w = NULL;
        WorkspaceDir d = { .fd = dirfd };
        Fault why = {};

        if (!uuid_is_valid(name))
                return 0;
        if (workspace_load(&d, name, &w, &why) < 0)
                unreadable(name, &why);
        else
                print_one(w, userdata);
        return 0;
}

int records_show(void) {
        _cleanup_close_ int state = ctl_open_state(), ws = -1;
        Tally t = {};

        if (state < 0)
                return CTL_NOT_RUNNING;
        ws = openat(state, "ws", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        answer_words("DOWN: the agent does not run.\n");
        answer_bool("running", false);
        answer_list("workspaces");
        unit_say_last_end();
        if (hash_init() < 0 || (ws >= 0 && file_each(ws, each, &t) < 0))
                return CTL_FAILED;
        answer_words("By the records on disk: %u workspaces, %u at work, %u failed. Next: journalctl -u molecule-agentd -n 50\n", t.workspaces, t.busy,
                     t.failed);
        return answer_end(CTL_NOT_RUNNING);
}
