/* SPDX-License-Identifier: Apache-2.0 */

#include "provision/rescue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "provision/flow-internal.h"
#include "provision/redact.h"

size_t rescue_cut(const char *text, size_t size, size_t max) {
        const char *line;

        if (size < max)
                return 0;
        line = memchr(text, '\n', size);
        return line ? (size_t) (line + 1 - text) : size;
}

char *rescue_text(const WorkspaceDir *d, const char *workspace, uint64_t generation, const EngineAnswer *logs, size_t max, Fault *reterr) {
        _cleanup_(secret_set_done) SecretSet set = {};
        _cleanup_free_ char *text = NULL;
        size_t cut, size;
        ptrdiff_t n;
        int r = vault_set_open(d->vault, workspace, generation, &set, reterr);

        if (r == -ENOENT && !reterr->set)
                (void) fault(reterr, r, FAULT_SECRET_UNDECRYPTABLE, "There is no set of secrets of generation %llu to redact by.",
                             (unsigned long long) generation);
        if (r < 0)
                return NULL;
        cut = rescue_cut(logs->body ?: "", logs->size, max);
        size = logs->size - cut;
        text = malloc(size + 1);
        if (!text) {
                (void) fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
                return NULL;
        }
        memcpy(text, (logs->body ?: "") + cut, size);
        text[size] = 0;
        n = redact(&set, text, size);
        if (n < 0) {
                (void) fault(reterr, (int) n, FAULT_INTERNAL, "Out of memory.");
                return NULL;
        }
        return strdup(text_tail(text, (size_t) n, max));
}

/* ── the files ───────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Oldest { size_t n; char name[80]; } Oldest;

static int count(int dirfd, const char *name, void *userdata) {
        Oldest *o = userdata;

        (void) dirfd;
        if (o->n++ == 0)                        /* in byte order, which is that of time */
                (void) snprintf(o->name, sizeof o->name, "%s", name);
        return 0;
}

static void drop_oldest(int dirfd) {
        for (int i = 0; i < RESCUE_FILES_MAX; i++) {
                Oldest o = {};

                if (file_each(dirfd, count, &o) < 0 || o.n <= RESCUE_FILES_MAX)
                        return;
                (void) file_remove(dirfd, o.name);
        }
}

void rescue_keep(const WorkspaceDir *d, const char *workspace, const char *text) {
        char at[TIME_TEXT_SIZE], name[TIME_TEXT_SIZE + UUID_SIZE + 1];
        int r;

        (void) snprintf(name, sizeof name, "%s.%s", time_text(now_realtime(), at), workspace);
        r = file_write_atomic(d->rescue_fd, name, text, strlen(text));
        if (r < 0)
                log_write(LOG_WARNING, &(LogFields) { .workspace_id = workspace }, "The last words of a container could not be kept: %s",
                          strerror(-r));
        else
                drop_oldest(d->rescue_fd);
}

/* ── the step ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_logs(const EngineAnswer *a, void *userdata) {
        Flow *f = userdata;
        Fault why = {};

        f->call = NULL;
        if (a->r == 0) {
                f->rescue = rescue_text(f->context->dir, f->w->id, f->w->work->spec_generation, a, RESCUE_BYTES, &why);
                if (f->rescue && f->rescue[0])
                        rescue_keep(f->context->dir, f->w->id, f->rescue);
                else if (!f->rescue)
                        log_write(LOG_WARNING, &(LogFields) { .workspace_id = f->w->id, .fault = &why },
                                  "What the container said is not kept: %s", why.text);
        }
        flow_next(f);
}

/* A failed try's container says why before it goes; of a removal, only where there is nothing that ran well. */
void step_rescue(Flow *f) {
        const char *id = flow_step(f) == STEP_UNDO_RESCUE ? f->new_id : f->w->settled || f->n_doomed == 0 ? NULL : f->doomed[0].id;

        if (!id || f->rescue || f->w->work->cancelled ||
            engine_container_logs(f->context->engine, id, RESCUE_LINES, RESCUE_BYTES, on_logs, f, &f->call) < 0)
                flow_next(f);
}
