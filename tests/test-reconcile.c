/* SPDX-License-Identifier: Apache-2.0 */

/* provision/reconcile: what is done for each pair of record and container. */

#include "provision/reconcile.h"
#include "tests/kit.h"

#define NOW UINT64_C(1000000000000)

/* One container, as little of it as a case needs. NULL host, org: ours. */
typedef struct Found {
        const char *id;
        bool        running, restarting, unmanaged;
        const char *workspace, *host, *org;
        uint64_t    generation;
} Found;

typedef struct Case {
        const char *name;
        ReconcileWorkspace w;           /* its id is KIT_WORKSPACE */
        bool  starting;
        Found found[3];
        const char *wanted;             /* "start A, remove B, make": in order */
} Case;

#define GRACE STOPPED_GRACE_USEC

static const Case cases[] = {
        { "runs", { .settled_container = "A" }, false, { { "A", true } }, "" },
        { "runs, at boot", { .settled_container = "A" }, true, { { "A", true } }, "" },
        { "stopped, at boot", { .settled_container = "A" }, true, { { "A" } }, "start A" },
        { "stopped a moment ago", { .settled_container = "A", .stopped_since = NOW }, false, { { "A" } }, "" },
        { "stopped, not noted yet", { .settled_container = "A" }, false, { { "A" } }, "" },
        { "stopped almost five minutes", { .settled_container = "A", .stopped_since = NOW - GRACE + 1 }, false, { { "A" } }, "" },
        { "stopped five minutes", { .settled_container = "A", .stopped_since = NOW - GRACE }, false, { { "A" } }, "start A" },
        { "restarting", { .settled_container = "A", .stopped_since = NOW - 2 * GRACE }, true, { { "A", .restarting = true } }, "" },
        { "stopped, not seen running since the start", { .settled_container = "A", .at_once = true }, false, { { "A" } }, "start A" },
        { "runs, not seen before", { .settled_container = "A", .at_once = true }, false, { { "A", true } }, "" },
        { "stopped, a job at work that has not touched it, at boot",
          { .settled_container = "A", .busy = true },
          true,
          { { "A" } },
          "start A" },
        { "stopped, a job at work that has not touched it",
          { .settled_container = "A", .busy = true, .stopped_since = NOW - GRACE },
          false,
          { { "A" } },
          "" },
        { "stopped by the job at work",
          { .settled_container = "A", .busy = true, .touched = true, .stopped_since = NOW - GRACE },
          true,
          { { "A" } },
          "" },

        { "held, stopped for long", { .settled_container = "A", .held = true, .stopped_since = NOW - 2 * GRACE }, false, { { "A" } }, "" },
        { "held, at boot", { .settled_container = "A", .held = true }, true, { { "A" } }, "start A" },
        { "held, at boot, stopped by someone", { .settled_container = "A", .held = true, .stopped = true }, true, { { "A" } }, "" },
        { "held, not seen running since the start",
          { .settled_container = "A", .held = true, .at_once = true },
          false,
          { { "A" } },
          "start A" },
        { "stopped by someone, held no more, at boot", { .settled_container = "A", .stopped = true }, true, { { "A" } }, "start A" },
        { "held, gone", { .settled_container = "A", .held = true }, false, {}, "" },
        { "held, with a leftover", { .settled_container = "A", .held = true }, false, { { "A", true }, { "B", true } }, "" },

        { "gone", { .settled_container = "A" }, false, {}, "make" },
        { "gone, at boot", { .settled_container = "A" }, true, {}, "make" },
        { "gone, but a job is at work", { .settled_container = "A", .busy = true }, false, {}, "" },
        { "nothing settled, nothing there", {}, true, {}, "" },

        { "a leftover beside it", { .settled_container = "A" }, false, { { "A", true }, { "B", true } }, "remove B" },
        { "a leftover before it", { .settled_container = "A" }, true, { { "B" }, { "A" } }, "remove B, start A" },
        { "one that runs in its place", { .settled_container = "A" }, false, { { "B", true } }, "make" },
        { "one that stands in its place", { .settled_container = "A" }, false, { { "B" } }, "remove B, make" },
        { "stopped, where nothing is settled", { .first_generation = 1 }, false, { { "B", true }, { "C" } }, "remove C" },
        { "running, where nothing is settled, from before the record was lost", { .floor = 5, .first_generation = 5 }, true, { { "B", true, .generation = 4 } }, "" },
        { "running, where nothing is settled, left by a job of this record",
          { .floor = 5, .first_generation = 4 },
          true,
          { { "B", true, .generation = 4 } },
          "remove B" },
        { "the same, held", { .floor = 5, .first_generation = 4, .held = true }, true, { { "B", true, .generation = 4 } }, "" },
        { "the same, of a generation this record never saw", { .floor = 5, .first_generation = 4 }, true, { { "B", true, .generation = 6 } }, "" },
        { "running, of a removed workspace", { .removed = true }, false, { { "B", true }, { "C" } }, "remove B, remove C" },
        { "of a removed workspace, a job is at work", { .removed = true, .busy = true }, false, { { "B", true } }, "" },
        { "the job's own", { .settled_container = "A", .busy = true }, false, { { "A", true }, { "B" } }, "" },
        { "the job's own, nothing settled", { .busy = true }, true, { { "B", true } }, "" },

        { "a leftover of the floor's own generation",
          { .settled_container = "A", .floor = 5 },
          false,
          { { "A", true }, { "B", .generation = 5 } },
          "remove B" },
        { "of a generation this record never saw",
          { .settled_container = "A", .floor = 5 },
          false,
          { { "A", true }, { "B", .generation = 6 } },
          "" },
        { "the same, of a removed workspace",
          { .removed = true, .floor = 5 },
          true,
          { { "B", true, .generation = 6 }, { "C", .generation = 4 } },
          "remove C" },

        { "another host's", { .settled_container = "A" }, false, { { "A", true }, { "B", .host = KIT_OTHER } }, "" },
        { "another organization's", {}, true, { { "B", .org = KIT_OTHER } }, "" },
        { "no host's", {}, true, { { "B", .host = "" } }, "" },
        { "not managed", {}, true, { { "B", .unmanaged = true } }, "" },
        { "of a workspace unknown here", { .settled_container = "A" }, true, { { "A", true }, { "B", .workspace = KIT_OTHER } }, "" },
        { "of no workspace", {}, true, { { "B", .workspace = "" } }, "" },
        { "ours by its id, whatever its labels",
          { .settled_container = "A" },
          true,
          { { "A", .host = KIT_OTHER, .org = KIT_OTHER } },
          "start A" },
        { "ours by its id, not made again", { .settled_container = "A" }, false, { { "A", true, .host = KIT_OTHER } }, "" },
};

static char *text(const char *s) { return s ? strdup(s) : NULL; }

static void fill(const Found *found, EngineContainers *ret) {
        static EngineContainer items[3];
        size_t n = 0;

        for (; n < 3 && found[n].id; n++) {
                const Found *f = &found[n];

                items[n] = (EngineContainer) {
                        .id = text(f->id),
                        .running = f->running,
                        .restarting = f->restarting,
                        .labels = { .managed = !f->unmanaged,
                                    .workspace = text(f->workspace ?: KIT_WORKSPACE),
                                    .host = text(f->host ?: KIT_HOST),
                                    .org = text(f->org ?: KIT_ORG),
                                    .generation = f->generation },
                };
        }
        *ret = (EngineContainers) { items, n };
}

static int decide(const ReconcileRules *rules, const ReconcileWorkspace *w, size_t n, const EngineContainers *found, ReconcileAction *ret, size_t max) {
        Name ids[3];

        for (size_t i = 0; i < found->n; i++)
                ids[i] = (Name) { found->items[i].id, i };
        names_sort(ids, found->n);
        return reconcile(rules, w, n, found, ids, ret, max);
}

static void describe(const ReconcileAction *actions, size_t n, char *ret, size_t size) {
        static const char *const verbs[] = { [RECONCILE_START] = "start", [RECONCILE_MAKE] = "make", [RECONCILE_REMOVE] = "remove" };
        size_t used = 0;

        ret[0] = 0;
        for (size_t i = 0; i < n; i++)
                used += (size_t) snprintf(ret + used, size - used, "%s%s%s%s", i ? ", " : "", verbs[actions[i].verb],
                                          actions[i].container_id ? " " : "", actions[i].container_id ?: "");
}

TEST(every_case) {
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const ReconcileRules rules = { .host_id = KIT_HOST, .org_id = KIT_ORG, .now = NOW, .starting = cases[i].starting };
                ReconcileWorkspace w = cases[i].w;
                ReconcileAction actions[8];
                EngineContainers found;
                char what[200];
                size_t n;

                w.id = KIT_WORKSPACE;
                fill(cases[i].found, &found);
                n = decide(&rules, &w, 1, &found, actions, ELEMENTS(actions));
                describe(actions, n, what, sizeof what);
                if (!CHECK_STR(what, cases[i].wanted))
                        printf("#   in: %s\n", cases[i].name);
                for (size_t k = 0; k < found.n; k++)
                        engine_container_done(&found.items[k]);
        }
}

TEST(incident_48_each_action_names_its_workspace) {
        const ReconcileRules rules = { .host_id = KIT_HOST, .org_id = KIT_ORG, .now = NOW, .starting = true };
        const ReconcileWorkspace w[] = { { .id = KIT_JOB, .settled_container = "X" },
                                         { .id = KIT_OTHER, .settled_container = "Y" },
                                         { .id = KIT_WORKSPACE } };
        static const Found seen[3] = { { "Y", .workspace = KIT_OTHER }, { "B" } };
        ReconcileAction actions[8];
        EngineContainers found;

        fill(seen, &found);
        CHECK_INT(decide(&rules, w, 3, &found, actions, 8), 3);
        CHECK(actions[0].verb == RECONCILE_START && actions[0].workspace == 1);
        CHECK(actions[1].verb == RECONCILE_REMOVE && actions[1].workspace == 2);
        CHECK(actions[2].verb == RECONCILE_MAKE && actions[2].workspace == 0);
        CHECK_INT(decide(&rules, w, 3, &found, actions, 1), 1);
        CHECK_INT(decide(&rules, w, 3, &found, actions, 0), 0);
        CHECK_INT(decide(&rules, NULL, 0, &found, actions, 8), 0);
        for (size_t k = 0; k < found.n; k++)
                engine_container_done(&found.items[k]);
}

/* A container of one workspace that carries the id another has settled: neither is touched as the other's. */
TEST(incident_25_a_settled_id_under_another_workspace_s_label) {
        const ReconcileRules rules = { .host_id = KIT_HOST, .org_id = KIT_ORG, .now = NOW, .starting = true };
        const ReconcileWorkspace w[] = { { .id = KIT_WORKSPACE, .settled_container = "A" } };
        static const Found seen[3] = { { "A", true, .workspace = KIT_OTHER } };
        ReconcileAction actions[8];
        EngineContainers found;

        fill(seen, &found);
        CHECK_INT(decide(&rules, w, 1, &found, actions, 8), 0);
        for (size_t k = 0; k < found.n; k++)
                engine_container_done(&found.items[k]);
}

TEST_MAIN
