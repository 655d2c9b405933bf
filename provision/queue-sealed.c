/* SPDX-License-Identifier: Apache-2.0 */

/* What lies sealed beside the records. At start everything is opened once, so that damage is known, set aside and told before it is needed; one
 * workspace's never touches another's. A set is removed only when neither its record nor a container names its generation. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "provision/queue-internal.h"
#include "secrets/handover.h"

/* ── at start ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void set_payload_aside(Queue *q, const Entry *e, uint64_t generation, const Fault *why) {
        char name[80], g[21];
        int r;

        (void) snprintf(name, sizeof name, "%.36s.g%s.payload", e->w->id, u64_text(generation, g));
        r = file_set_aside(q->o.state_fd, q->dir.fd, name, name, why->text);
        if (r < 0 && r != -ENOENT)
                log_error("Cannot move %s to quarantine: %s", name, strerror(-r));
}

/* Whether it can be read, or cannot be judged now. What is damaged goes to quarantine; what the disk does not give, or what is whole but no
 * payload that this host takes any more, stays where it is. */
static bool is_readable(Queue *q, Entry *e, uint64_t generation, Fault *ret_why) {
        _cleanup_(job_freep) Job *job = NULL;
        int r = queue_load_payload(q, e->w, generation, &job, ret_why);

        if (r == -EBADMSG)
                set_payload_aside(q, e, generation, ret_why);
        if (r != -EIO && !queue_is_ours(r))     /* unknown is not lost: the workspace serves, and the next start looks again */
                return r == 0 || r == -ENOKEY;
        log_error("The payload of workspace %s is not looked at now: %s", e->w->id, ret_why->text);
        return true;
}

static void say_lost(Entry *e, const Fault *why) {
        e->last_error = (Fault) {};
        (void) fault(&e->last_error, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "%s The control plane has to order the workspace anew.",
                     why->set ? why->text : "A payload is lost.");
        log_write(LOG_ERR, &(LogFields) { .workspace_id = e->w->id, .fault = &e->last_error }, "%s", e->last_error.text);
}

static int check_key(Queue *q, Entry *e) {
        Fault why = {};
        int r = vault_key_check(q->o.vault, e->w->id, &why);

        if (r != -EBADMSG)
                return r == -ENOENT || r == -ENOKEY ? 0 : r;
        say_lost(e, &why);
        return vault_key_aside(q->o.vault, e->w->id, why.text);
}

/* Its key may be gone already, and with it everything that a removal does not need. */
static bool is_leaving(const Workspace *w) { return w->removed || (w->work && w->work->type == JOB_DEPROVISION && !w->next); }

void queue_check_sealed(Queue *q, Entry *e) {
        const Workspace *w = e->w;
        const Version *versions[] = { w->wanted, w->settled };
        int r;

        e->untidy = true;
        if (vault_fault(q->o.vault) || !vault_org(q->o.vault)[0] || is_leaving(w))
                return;
        r = check_key(q, e);
        if (r < 0)
                log_error("Cannot look at the key of workspace %s: %s", w->id, strerror(-r));
        for (size_t i = 0; i < ELEMENTS(versions); i++) {
                Fault why = {};

                if (!versions[i] || (i == 1 && w->wanted && w->wanted->generation == w->settled->generation) ||
                    is_readable(q, e, versions[i]->generation, &why))
                        continue;
                if (versions[i] == w->wanted || !w->wanted)
                        e->unreadable = true;
                if (!e->last_error.set)
                        say_lost(e, &why);
        }
}

/* ── what nobody names any more ──────────────────────────────────────────────────────────────────────────────── */

typedef struct Tidy {
        Queue                  *queue;
        const Entry            *entry;
        const EngineContainers *found;
        bool                    kept;           /* something stays only because a container names it */
} Tidy;

static bool goes(Tidy *t, uint64_t generation) {
        if (workspace_names_generation(t->entry->w, generation))
                return false;
        for (size_t i = 0; i < t->found->n; i++)
                if (t->found->items[i].labels.generation == generation && str_equal(t->found->items[i].labels.workspace, t->entry->w->id)) {
                        t->kept = true;
                        return false;
                }
        return true;
}

static int on_set(Vault *v, const char *workspace, uint64_t generation, void *userdata) {
        if (goes(userdata, generation) && vault_destroy_set(v, workspace, generation) < 0)
                ((Tidy *) userdata)->kept = true;
        return 0;
}

static int on_handover(uint64_t generation, void *userdata) {
        Tidy *t = userdata;

        if (goes(t, generation) && handover_remove(t->queue->o.settings->runtime_path, t->entry->w->id, generation) < 0)
                t->kept = true;
        return 0;
}

void queue_tidy_sealed(Queue *q, const EngineContainers *found) {
        for (size_t i = 0; i < q->n_entries; i++) {
                Entry *e = q->entries[i];
                Tidy t = { .queue = q, .entry = e, .found = found };

                if (!e->untidy || e->flow || e->w->work || e->changed_at >= q->sweep.began)
                        continue;
                (void) vault_each_set(q->o.vault, e->w->id, on_set, &t);        /* ignoring: the next sweep comes by again */
                (void) handover_each(q->o.settings->runtime_path, e->w->id, on_handover, &t);
                e->untidy = t.kept;
        }
}
