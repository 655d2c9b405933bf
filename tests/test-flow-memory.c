/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that ends on a job's way: an allocation fails, one in many, from the first question to the engine to the report, and on the way back of one that
 * failed. Whatever failed: at most one end is told, of the two that there are, and then just one container of the workspace runs, the settled one. */

#include "provision/flow-internal.h"
#include "tests/oom.h"
#include "tests/flow-kit.h"

#define MOST   20000            /* a way has fewer */
#define REMOVE "workspace.deprovision"
#define PRUNE  "{\"prune\":true}"

typedef struct Way { const char *name, *told, *first, *type, *spec; bool crash, removes; Step from; } Way;     /* from: memory ends in that step */

static const Way ways[] = {
        { "a first version", "succeeded",          NULL,              "workspace.provision", FLOW_SPEC("YQ==") },
        { "a next version",  "succeeded",          FLOW_SPEC("YQ=="), "workspace.provision", FLOW_SPEC("Yg==") },
        { "a way back",      "failed:rolled_back", FLOW_SPEC("YQ=="), "workspace.provision", FLOW_SPEC("Yg=="), .crash = true },
        { "a removal",       "succeeded",          FLOW_SPEC("YQ=="), REMOVE,                PRUNE, .removes = true },
};

#define BACK "failed:rolled_back", FLOW_SPEC("YQ=="), "workspace.provision", FLOW_SPEC("Yg=="), .crash = true

static const Way deep[] = {
        { "what is kept",    BACK, .from = STEP_COMPARE },
        { "what is put in",  BACK, .from = STEP_SEED },
        { "what is looked for", BACK, .from = STEP_UNDO_FIND },
        { "what is put back", BACK, .from = STEP_UNDO_FILES },
};

static Step from;

static bool is_there(void) { return entry() && entry()->flow && flow_step(entry()->flow) == from; }

/* What is lost to memory has all told anew that the control plane may not have: let it have the job before. */
static void acknowledge(void) { queue_report_acked(k.q, json_get_string(entry()->w->outcome, "report_id")); }

static void prepare(const Way *w) {
        begin_anew();
        k.q->degraded = (Fault) {};
        k.q->write_failures = 0;
        if (w->first) {
                CHECK_STR(ended("workspace.provision", w->first), "succeeded");
                acknowledge();
        }
        fresh();
        (void) kit_told(&k);
        world->crash = w->crash;
}

/* An end may be told twice, as one that is undone at last is; but not two of them. */
static bool is_one_end(const char *told) {
        _cleanup_free_ char *copy = strdup(told);
        char *rest = copy, *end = NULL;

        for (char *word; (word = strsep(&rest, " "));) {
                if (strcmp(word, "succeeded") != 0 && strncmp(word, "failed:", 7) != 0)
                        continue;
                if (end && strcmp(end, word) != 0)
                        return false;
                end = word;
        }
        return true;
}

static bool is_idle(void) { return is_over() || (!entry()->flow && !entry()->w->work && is_final()); }

static void walk(const Way *w, const Oom *o) {
        char told[sizeof k.told];

        prepare(w);
        say(w->type, w->spec);
        from = w->from;
        oom_when = from ? is_there : NULL;
        oom_begin(o);
        if (!turn_until(is_idle) && CHECK_INT(sd_event_get_state(k.event), SD_EVENT_FINISHED)) {
                oom_end();
                start_anew();           /* libcurl cannot go on: the process ends by itself */
        }
        oom_end();
        fresh();
        (void) strcpy(told, k.told);
        if (!CHECK(is_one_end(told)) || !CHECK(oom_failed || strstr(told, w->told)))
                printf("#   %s, allocation %ld: %s\n", w->name, o->n, told);
        if (w->removes && !entry()->w->removed)
                CHECK_STR(ended(w->type, w->spec), "succeeded");
        if (!CHECK(turn_until(is_over)))
                printf("#   %s, allocation %ld: %s\n", w->name, o->n, told);
}

/* Every step-th allocation, of so many at most. */
static void walk_each_way(const Way *all, size_t n, int step, long most) {
        start();
        oom_ours_only = true;
        flow_second = 1000;
        for (size_t i = 0; i < n; i++) {
                Oom o = {};

                for (; oom_next(&o) && o.n < most; o.n += step - 1)
                        walk(&all[i], &o);
                printf("# %s: %ld allocations\n", all[i].name, o.n);
                CHECK(o.n > 50 && o.n < MOST);
        }
        stop();
}

TEST(some_of_all_allocations) {
        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        oom_not_json = false;
        walk_each_way(ways, ELEMENTS(ways), getenv("MOLECULE_LONG") ? 29 : 83, MOST);
}

TEST(more_of_those_that_are_no_tree_s) {
        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        oom_not_json = true;
        walk_each_way(ways, ELEMENTS(ways), getenv("MOLECULE_LONG") ? 2 : 41, MOST);
}

/* Where bytes are held that are nowhere else. */
TEST(each_of_those_on_the_way_to_the_files_and_back) {
        if (!oom_is_here())
                SKIP("the allocator is a sanitizer's");
        oom_not_json = false;
        walk_each_way(deep, ELEMENTS(deep), getenv("MOLECULE_LONG") ? 1 : 13, 250);
}

TEST_MAIN
