/* SPDX-License-Identifier: Apache-2.0 */

/* provision/flow under a queue, against a world behind the engine's socket: a job's way from its first step to its report; then the same with each
 * question to the engine going wrong in each way. Whatever goes wrong: one final is told, and then just one container of the workspace runs, the one
 * that the record calls settled. */

#include "tests/flow-kit.h"

#define SPEC FLOW_SPEC

/* ── good ways ───────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(the_whole_life) {
        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        CHECK(is_settled_running());
        CHECK_STR(ended("workspace.provision", SPEC("Yg==")), "succeeded");
        CHECK(is_settled_running());
        CHECK_STR(ended("workspace.provision", SPEC("Yg==")), "succeeded");     /* no file differs */
        CHECK_STR(ended("workspace.restart", "{}"), "succeeded");
        CHECK(is_settled_running());
        CHECK_STR(ended("workspace.provision", "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"restart\":false}"), "succeeded");
        CHECK(is_settled_running());
        CHECK_STR(ended("workspace.deprovision", "{\"prune\":true}"), "succeeded");
        CHECK_INT(running(), 0);
        for (int i = 0; i < WORLD_THINGS; i++)
                CHECK(!world->volumes[i].there && !world->containers[i].there);
        stop();
}

/* ── one thing is wrong ──────────────────────────────────────────────────────────────────────────────────────── */

static void prepare_page(void) {
        world->page_status = 503;
        k.settings.probe_timeout_seconds = 30;
}

static void prepare_command(void) { world->no_command = true; }

static void prepare_crash(void) { world->crash = true; }
static void prepare_launcher(void) { k.settings.launcher = "/nowhere/launch"; }
static void prepare_stranger(void) {
        (void) strcpy(world_add(world->containers, "ws-" KIT_WORKSPACE ".next", "")->labels, "{}");
}

static const struct { const char *name, *told; void (*prepare)(void); } troubles[] = {
        { "a page that is not well",     "failed:rolled_back",   prepare_page },
        { "a process that ends",         "failed:rolled_back",   prepare_crash },
        { "an image that runs nothing",  "failed:start_failed",  prepare_command },
        { "no launcher",                 "failed:start_failed",  prepare_launcher },
        { "a stranger who has its name", "failed:name_conflict", prepare_stranger },
};

TEST(what_goes_back) {
        start();
        for (size_t i = 0; i < ELEMENTS(troubles); i++) {
                const char *told;

                begin_anew();
                CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
                troubles[i].prepare();
                told = ended("workspace.provision", SPEC("Yg=="));
                if (!CHECK_STR(told, troubles[i].told) || !CHECK(is_settled_running()))
                        printf("#   %s\n", troubles[i].name);
                k.settings.launcher = "/bin/true";
                k.settings.probe_timeout_seconds = 7200;
        }
        stop();
}

/* ── every question goes wrong ───────────────────────────────────────────────────────────────────────────────── */

typedef struct Way { const char *type, *spec; bool first; } Way;

static const Way ways[] = {
        { "workspace.provision", SPEC("YQ=="), true },
        { "workspace.provision", SPEC("Yg=="), false },
        { "workspace.deprovision", "{\"prune\":true}", false },
};

static void go_wrong(const Way *w, Wrong wrong, int at) {
        const char *told;
        bool removes = strstr(w->type, "deprovision") != NULL;

        begin_anew();
        if (!w->first)
                CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        fresh();
        world->wrong = wrong;
        world->wrong_at = at;
        told = ended(w->type, w->spec);
        world->wrong_at = 0;
        if (!CHECK(strcmp(told, "succeeded") == 0 || strncmp(told, "failed:", 7) == 0) ||
            !CHECK(removes && strcmp(told, "succeeded") == 0 ? running() == 0 : !entry()->w->settled ? running() == 0 : turn_until(is_settled_running)))
                printf("#   %s, wrong %d at question %d (%s): %s\n", w->type, (int) wrong, at, world->last_wrong, told);
}

/* A third of them, unless there is time for all. */
static bool is_chosen(Wrong wrong, int at) { return getenv("MOLECULE_LONG") || ((int) wrong + at) % 3 == 0; }

TEST(every_question_in_every_way) {
        start();
        for (size_t i = 0; i < ELEMENTS(ways); i++)
                for (Wrong wrong = 0; wrong < _WRONG_MAX; wrong++)
                        for (int at = 1; at < 40; at++) {
                                if (!is_chosen(wrong, at))
                                        continue;
                                go_wrong(&ways[i], wrong, at);
                                if (world->wrongs == 0) {
                                        CHECK(at > 3);
                                        break;
                                }
                        }
        stop();
}

/* ── half gone ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* Ten seconds of it in each turn that finds nothing to do. */
static void pass(unsigned seconds) {
        for (unsigned i = 0; i < seconds / 10; i++) {
                while (sd_event_run(k.event, 3000) > 0)
                        ;
                clock_push(10 * USEC_PER_SEC);
        }
}

/* Its key and its container went, and its volumes would not: it is not made again. They go as after any removal, once they can. */
TEST(a_removal_that_failed_behind_the_key) {
        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        world->volumes_held = true;
        CHECK_STR(ended("workspace.deprovision", "{\"prune\":true}"), "failed:engine_error");
        CHECK(entry()->w->removed && !entry()->w->settled && !entry()->w->wanted && running() == 0);
        (void) kit_told(&k);
        pass(1200);
        CHECK(entry()->w->erase_at && entry()->last_error.code == FAULT_ENGINE_ERROR && running() == 0);
        CHECK_STR(kit_told(&k), "");
        k.time += (k.settings.volume_grace_seconds + 1) * USEC_PER_SEC;
        pass(1200);
        CHECK_STR(kit_told(&k), "running failed:engine_error running");         /* told once, and tried again since */
        world->volumes_held = false;
        pass(1200);
        CHECK_STR(kit_told(&k), "succeeded");
        CHECK(entry()->w->erase_at == 0);
        for (int i = 0; i < WORLD_THINGS; i++)
                CHECK(!world->volumes[i].there && !world->containers[i].there);
        stop();
}

/* ── what is put back ────────────────────────────────────────────────────────────────────────────────────────── */

static char last_file(void) {
        size_t offset = 0;
        TarEntry e;
        char c = 0;

        while (tar_next(world->tar, world->tar_size, &offset, &e, NULL) > 0)
                if (e.type == '0' && strstr(e.name, "config.yaml") && e.size == 1)
                        c = ((const char *) e.data)[0];
        return c;
}

/* "Rolled back" is not said of old bytes that are not there: the undo is tried again until they are. */
TEST(an_undo_reads_back_what_it_puts_back) {
        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        CHECK_INT(last_file(), 'a');
        prepare_page();
        world->lost_write = 2;                  /* the first are the new ones */
        (void) kit_told(&k);
        say("workspace.provision", SPEC("Yg=="));
        CHECK(turn_until(is_final));
        CHECK(strstr(kit_told(&k), "failed:rollback_failed"));
        CHECK(turn_until(is_settled_running));
        CHECK_INT(last_file(), 'a');
        stop();
}

TEST_MAIN
