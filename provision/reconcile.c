/* SPDX-License-Identifier: Apache-2.0 */

#include "provision/reconcile.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"

static bool is_ours(const ReconcileRules *rules, const EngineLabels *l) {
        return l->managed && str_equal(l->host, rules->host_id) && str_equal(l->org, rules->org_id);
}

static bool must_start(const ReconcileRules *rules, const ReconcileWorkspace *w, const EngineContainer *c) {
        if (c->running || c->restarting || w->touched || (w->busy && !rules->starting))
                return false;
        if (w->held)
                return (rules->starting || w->at_once) && !w->stopped;
        return rules->starting || w->at_once || (w->stopped_since && rules->now - w->stopped_since >= STOPPED_GRACE_USEC);
}

/* One that runs where the settled one is gone may be what a repair made, and was killed before it could say so: the next repair judges it. Where nothing
 * is settled no repair comes: a job that failed, or was overtaken by one that failed, left it behind. */
static bool is_leftover(const ReconcileWorkspace *w, const EngineContainer *c, bool settled_is_there) {
        bool of_no_use = settled_is_there || w->removed || !c->running || (!w->settled_container && c->labels.generation >= w->first_generation);

        return c->labels.generation <= w->floor && of_no_use;
}

static bool is_there(const ReconcileWorkspace *w, const Name *ids, size_t n) {
        return w->settled_container && names_find(ids, n, w->settled_container);
}

int reconcile(const ReconcileRules *rules, const ReconcileWorkspace *workspaces, size_t n, const EngineContainers *found,
              const Name *ids, ReconcileAction *ret, size_t max) {
        _cleanup_free_ Name *names = calloc(n + 1, sizeof *names);
        size_t used = 0;

        if (!names)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                names[i] = (Name) { workspaces[i].id, i };
        names_sort(names, n);
        for (size_t i = 0; i < found->n && used < max; i++) {
                const EngineContainer *c = &found->items[i];
                const Name *owner = names_find(names, n, c->labels.workspace);
                const ReconcileWorkspace *w;

                if (!owner)
                        continue;
                w = &workspaces[owner->at];
                if (str_equal(c->id, w->settled_container)) { /* by its id it is ours, whatever the config says of org and host now */
                        if (must_start(rules, w, c))
                                ret[used++] = (ReconcileAction) { RECONCILE_START, owner->at, c->id };
                } else if (!w->busy && !w->held && is_ours(rules, &c->labels) && is_leftover(w, c, is_there(w, ids, found->n)))
                        ret[used++] = (ReconcileAction) { RECONCILE_REMOVE, owner->at, c->id };
        }
        for (size_t i = 0; i < n && used < max; i++)
                if (workspaces[i].settled_container && !workspaces[i].busy && !workspaces[i].held && !is_there(&workspaces[i], ids, found->n))
                        ret[used++] = (ReconcileAction) { RECONCILE_MAKE, i, NULL };
        return (int) used;
}
