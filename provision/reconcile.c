/* SPDX-License-Identifier: Apache-2.0 */

#include "provision/reconcile.h"

#include "base/text.h"

static bool is_ours(const ReconcileRules *rules, const EngineLabels *l) {
        return l->managed && str_equal(l->host, rules->host_id) && str_equal(l->org, rules->org_id);
}

static const ReconcileWorkspace *owner(const ReconcileWorkspace *workspaces, size_t n, const EngineLabels *l) {
        for (size_t i = 0; i < n; i++)
                if (str_equal(workspaces[i].id, l->workspace))
                        return &workspaces[i];
        return NULL;
}

static bool must_start(const ReconcileRules *rules, const ReconcileWorkspace *w, const EngineContainer *c) {
        if (c->running || c->restarting || w->touched || (w->busy && !rules->starting))
                return false;
        if (w->held)
                return (rules->starting || w->at_once) && !w->stopped;
        return rules->starting || w->at_once || (w->stopped_since && rules->now - w->stopped_since >= STOPPED_GRACE_USEC);
}

static bool is_found(const EngineContainers *found, const char *id) {
        for (size_t i = 0; i < found->n; i++)
                if (str_equal(found->items[i].id, id))
                        return true;
        return false;
}

static bool is_leftover(const ReconcileWorkspace *w, const EngineContainer *c) {
        return c->labels.generation <= w->floor && (w->settled_container || w->removed || !c->running);
}

size_t reconcile(const ReconcileRules *rules, const ReconcileWorkspace *workspaces, size_t n, const EngineContainers *found,
                 ReconcileAction *ret, size_t max) {
        size_t used = 0;

        for (size_t i = 0; i < found->n && used < max; i++) {
                const EngineContainer *c = &found->items[i];
                const ReconcileWorkspace *w = owner(workspaces, n, &c->labels);

                if (!w)
                        continue;
                if (str_equal(c->id, w->settled_container)) { /* by its id it is ours, whatever the config says of org and host now */
                        if (must_start(rules, w, c))
                                ret[used++] = (ReconcileAction) { RECONCILE_START, (size_t) (w - workspaces), c->id };
                } else if (!w->busy && !w->held && is_ours(rules, &c->labels) && is_leftover(w, c))
                        ret[used++] = (ReconcileAction) { RECONCILE_REMOVE, (size_t) (w - workspaces), c->id };
        }
        for (size_t i = 0; i < n && used < max; i++)
                if (workspaces[i].settled_container && !workspaces[i].busy && !workspaces[i].held && !is_found(found, workspaces[i].settled_container))
                        ret[used++] = (ReconcileAction) { RECONCILE_MAKE, i, NULL };
        return used;
}
