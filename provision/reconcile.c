/* SPDX-License-Identifier: Apache-2.0 */

#include "provision/reconcile.h"

#include <errno.h>
#include <stdlib.h>

#include "base/names.h"
#include "base/text.h"

static bool is_ours(const ReconcileRules *rules, const EngineLabels *l) {
        return l->managed && str_equal(l->host, rules->host_id) && str_equal(l->org, rules->org_id);
}

/* Who is who on both sides, in order: looked up for each of the other side. */
typedef struct Both {
        Name *workspaces, *containers;
} Both;

static void both_done(Both *b) {
        free(b->workspaces);
        free(b->containers);
}

static int both_make(const ReconcileWorkspace *workspaces, size_t n, const EngineContainers *found, Both *ret) {
        *ret = (Both) { calloc(n + 1, sizeof(Name)), calloc(found->n + 1, sizeof(Name)) };
        if (!ret->workspaces || !ret->containers)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                ret->workspaces[i] = (Name) { workspaces[i].id, i };
        for (size_t i = 0; i < found->n; i++)
                ret->containers[i] = (Name) { found->items[i].id, i };
        names_sort(ret->workspaces, n);
        names_sort(ret->containers, found->n);
        return 0;
}

static bool must_start(const ReconcileRules *rules, const ReconcileWorkspace *w, const EngineContainer *c) {
        if (c->running || c->restarting || w->touched || (w->busy && !rules->starting))
                return false;
        if (w->held)
                return (rules->starting || w->at_once) && !w->stopped;
        return rules->starting || w->at_once || (w->stopped_since && rules->now - w->stopped_since >= STOPPED_GRACE_USEC);
}

static bool is_leftover(const ReconcileWorkspace *w, const EngineContainer *c) {
        return c->labels.generation <= w->floor && (w->settled_container || w->removed || !c->running);
}

int reconcile(const ReconcileRules *rules, const ReconcileWorkspace *workspaces, size_t n, const EngineContainers *found,
              ReconcileAction *ret, size_t max) {
        _cleanup_(both_done) Both both = {};
        size_t used = 0;
        int r = both_make(workspaces, n, found, &both);

        if (r < 0)
                return r;
        for (size_t i = 0; i < found->n && used < max; i++) {
                const EngineContainer *c = &found->items[i];
                const Name *owner = names_find(both.workspaces, n, c->labels.workspace);
                const ReconcileWorkspace *w;

                if (!owner)
                        continue;
                w = &workspaces[owner->at];
                if (str_equal(c->id, w->settled_container)) { /* by its id it is ours, whatever the config says of org and host now */
                        if (must_start(rules, w, c))
                                ret[used++] = (ReconcileAction) { RECONCILE_START, owner->at, c->id };
                } else if (!w->busy && !w->held && is_ours(rules, &c->labels) && is_leftover(w, c))
                        ret[used++] = (ReconcileAction) { RECONCILE_REMOVE, owner->at, c->id };
        }
        for (size_t i = 0; i < n && used < max; i++)
                if (workspaces[i].settled_container && !workspaces[i].busy && !workspaces[i].held &&
                    !names_find(both.containers, found->n, workspaces[i].settled_container))
                        ret[used++] = (ReconcileAction) { RECONCILE_MAKE, i, NULL };
        return (int) used;
}
