/* SPDX-License-Identifier: Apache-2.0 */

/* provision/flow in single stories: what went half way, was killed, called off or held, and how the workspace comes back from it. */

#include "tests/flow-kit.h"

#define SPEC        FLOW_SPEC
#define DEPROVISION "workspace.deprovision"
#define PRUNE       "{\"prune\":true}"

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

/* ── what made again what was gone, and was killed ───────────────────────────────────────────────────────────────── */

/* The record is as before the end of a repair that made what is there. */
static void lose_container(void) {
        free(entry()->w->settled->container_id);
        entry()->w->settled->container_id = strdup("gone");
}

TEST(a_repair_that_was_killed_before_its_end_is_taken_up) {
        WorldThing *made;

        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        made = world_find(world->containers, entry()->w->settled->container_id);
        lose_container();
        sweep_soon(k.q);
        CHECK(turn_until(is_settled_running) && made->there && made->running);
        CHECK_STR(entry()->w->settled->container_id, made->id);
        CHECK_INT(made->starts, 1);
        stop();
}

static void make_stopped(WorldThing *t) { t->running = false; }

static void make_of_another_generation(WorldThing *t) {
        char *generation_of = strstr(t->labels, "\"" LABEL_GENERATION "\":\"");

        if (CHECK(generation_of))
                generation_of[sizeof LABEL_GENERATION + 3] ^= 1;
}

static void make_of_another(WorldThing *t) {
        (void) t;
        world->other_listed = true;
}

static bool is_made_anew(void) { return is_settled_running() && strcmp(entry()->w->settled->container_id, "gone") != 0; }

/* What the repair before did not leave in that state is nobody's. */
TEST(what_a_killed_repair_did_not_make_is_not_taken_up) {
        static void (*const cases[])(WorldThing *t) = { make_stopped, make_of_another_generation, make_of_another };

        start();
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char id[16];
                WorldThing *made;

                begin_anew();
                CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
                made = world_find(world->containers, entry()->w->settled->container_id);
                (void) strcpy(id, made->id);
                lose_container();
                cases[i](made);
                sweep_soon(k.q);
                CHECK(turn_until(is_made_anew));
                CHECK(!str_equal(entry()->w->settled->container_id, id));
        }
        stop();
}

static bool repair_failed(void) { return entry()->repair_pause > 0; }

TEST(a_repair_that_fails_before_it_has_looked_leaves_what_runs) {
        const char *runtime;
        WorldThing *made;

        start();
        runtime = k.settings.runtime_path;
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        made = world_find(world->containers, entry()->w->settled->container_id);
        lose_container();
        k.settings.runtime_path = "/dev/null";
        sweep_soon(k.q);
        CHECK(turn_until(repair_failed) && made->there && made->running);
        k.settings.runtime_path = runtime;
        CHECK(turn_until(is_settled_running));
        CHECK_STR(entry()->w->settled->container_id, made->id);
        stop();
}

/* The image goes while the old container is stopped, and the agent is killed: nothing of the new one can be made, and the old one comes back. */
TEST(a_swap_that_cannot_be_taken_up_is_undone) {
        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        (void) kit_told(&k);
        say("workspace.provision", SPEC("Yg=="));
        CHECK(turn_until(is_swapping));
        world->present = false;
        start_again();
        CHECK(turn_until(is_final) && strstr(k.told, "failed:rolled_back"));
        CHECK(turn_until(is_settled_running));
        world->present = true;
        stop();
}

/* The old container's secrets cannot be handed over again: that is said, and it comes back by what the engine knows. */
TEST(an_undo_goes_on_without_the_old_secrets) {
        const char *runtime;

        start();
        runtime = k.settings.runtime_path;
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        (void) kit_told(&k);
        world->crash = true;
        say("workspace.provision", SPEC("Yg=="));
        CHECK(turn_until(is_swapping));
        k.settings.runtime_path = "/dev/null";
        CHECK(turn_until(is_final) && strstr(k.told, "failed:rolled_back"));
        k.settings.runtime_path = runtime;
        world->crash = false;
        CHECK(turn_until(is_settled_running));
        stop();
}

static void raise_dead(void) {
        for (int i = 0; i < WORLD_THINGS; i++)
                world->containers[i].dead = false;
}

static bool is_begun(void) { return entry()->flow != NULL; }

/* The next job finds the workspace down; when it fails, too, the old container comes up all the same. */
TEST(what_a_failed_undo_left_down_is_brought_back_by_the_next) {
        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        prepare_crash_for_good();
        (void) kit_told(&k);
        say("workspace.provision", SPEC("Yg=="));
        CHECK(turn_until(is_final) && strstr(k.told, "failed:rollback_failed"));
        (void) kit_told(&k);
        say("workspace.provision", SPEC("Yw=="));
        CHECK(turn_until(is_swapping));
        raise_dead();
        CHECK(turn_until(is_final) && strstr(k.told, "failed:rolled_back"));
        CHECK(is_settled_running());
        stop();
}

static bool is_left_undone(void) { return entry()->w->work && entry()->w->work->reported && !entry()->flow; }

/* An operator's own restart is undone by each sweep until it is, as a job of the control plane is. */
TEST(a_local_restart_whose_undo_fails_is_undone_later) {
        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        prepare_crash_for_good();
        (void) kit_told(&k);
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), 0);
        entry()->repair_pause = 30 * USEC_PER_SEC;      /* a start of the sweep had failed meanwhile: the end is told all the same */
        CHECK(turn_until(is_final) && strstr(kit_told(&k), "failed:rollback_failed"));
        CHECK(turn_until(is_left_undone));
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), -EALREADY);
        start_again();
        raise_dead();
        pass(120);                              /* sooner than what somebody stopped is started */
        CHECK(is_over() && is_settled_running());
        CHECK_INT(queue_restart_local(k.q, KIT_WORKSPACE, &(Fault) {}), 0);
        world->crash = false;
        CHECK(turn_until(is_over));
        stop();
}

/* It was told that it is called off, and the process ended before it was. */
TEST(what_is_called_off_stays_so_behind_a_restart) {
        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        (void) kit_told(&k);
        say("workspace.provision", SPEC("Yg=="));
        CHECK(turn_until(is_begun));
        CHECK_INT(queue_cancel_local(k.q, entry()->w->work->job_id, &(Fault) {}), 0);
        start_again();
        CHECK(turn_until(is_final) && strstr(k.told, "cancelled") && is_settled_running());
        stop();
}

static bool is_at_its_gate(void) { return entry()->flow && running() == 1; }

static unsigned volumes(void) {
        unsigned n = 0;

        for (int i = 0; i < WORLD_THINGS; i++)
                n += world->volumes[i].there;
        return n;
}

/* The same for a first version: where it runs already, its container goes and its volumes have their time; where it has made nothing yet, what an earlier
 * removal had kept stays for good. */
TEST(a_first_version_that_is_called_off_leaves_nothing_behind_a_restart) {
        static bool (*const moments[])(void) = { is_at_its_gate, is_begun };

        start();
        for (size_t i = 0; i < ELEMENTS(moments); i++) {
                begin_anew();
                if (moments[i] == is_begun) {
                        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
                        CHECK_STR(ended(DEPROVISION, "{\"prune\":false}"), "succeeded");
                }
                (void) kit_told(&k);
                say("workspace.provision", SPEC("Yg=="));
                CHECK(turn_until(moments[i]));
                CHECK_INT(queue_cancel_local(k.q, entry()->w->work->job_id, &(Fault) {}), 0);
                start_again();
                CHECK(turn_until(is_final) && strstr(k.told, "cancelled"));
                CHECK(turn_until(is_over) && running() == 0 && volumes() > 0);
                CHECK_INT(entry()->w->erase_at != 0, moments[i] == is_at_its_gate);
        }
        stop();
}

/* The same, where the word comes between the start and the first look at the engine. */
TEST(a_first_version_that_is_called_off_before_the_engine_is_seen) {
        start();
        say("workspace.provision", SPEC("YQ=="));
        CHECK(turn_until(is_at_its_gate));
        kit_restart(&k);
        (void) kit_told(&k);
        CHECK_INT(queue_cancel_local(k.q, entry()->w->work->job_id, &(Fault) {}), 0);
        CHECK(is_final() && strstr(k.told, "cancelled") && running() == 1);
        queue_engine_state(k.q, engine_state(k.engine));
        CHECK(turn_until(is_over) && running() == 0);
        stop();
}

/* What overtook it comes to nothing before it has looked for containers. */
TEST(a_first_version_that_was_overtaken_goes_with_what_overtook_it) {
        start();
        say("workspace.provision", SPEC("YQ=="));
        CHECK(turn_until(is_at_its_gate));
        world->present = false;
        CHECK_STR(ended("workspace.provision", SPEC("Yg==")), "failed:image_not_found");
        CHECK(strstr(k.told, "superseded"));
        CHECK(turn_until(is_over) && running() == 0);
        stop();
}

/* Nothing is left to go back to: it is not told that it is called off. */
TEST(a_removal_whose_key_is_gone_is_not_called_off_behind_a_restart) {
        static const bool gone[] = { false, true };

        start();
        for (size_t i = 0; i < ELEMENTS(gone); i++) {
                begin_anew();
                CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
                say(DEPROVISION, "{\"prune\":true}");
                CHECK(turn_until(is_begun));
                if (gone[i])
                        CHECK_INT(vault_destroy_key(k.k.vault, KIT_WORKSPACE), 0);
                kit_restart(&k);
                (void) kit_told(&k);
                CHECK_INT(queue_cancel_local(k.q, entry()->w->work->job_id, &(Fault) {}), gone[i] ? -EALREADY : 0);
                queue_engine_state(k.q, engine_state(k.engine));
                CHECK(turn_until(is_over));
                CHECK_INT(entry()->w->removed, gone[i]);
                CHECK_INT(running(), !gone[i]);
        }
        stop();
}

/* What cannot be made in its place, for a hold forbids it, is not removed. */
TEST(an_undo_under_a_hold_removes_nothing_that_was_settled) {
        WorldThing *old;
        char id[16];

        start();
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        old = world_find(world->containers, entry()->w->settled->container_id);
        (void) strcpy(id, old->id);
        world->crash = true;
        (void) kit_told(&k);
        say("workspace.provision", SPEC("Yg=="));
        CHECK(turn_until(is_swapping));
        CHECK_INT(queue_hold_local(k.q, KIT_WORKSPACE, 0, "x", &(Fault) {}), 0);
        old->netless = true;
        CHECK(turn_until(is_final) && strstr(k.told, "failed:rollback_failed"));
        pass(60);
        CHECK(world_find(world->containers, id) == old);
        world->crash = false;
        CHECK_INT(queue_release_local(k.q, KIT_WORKSPACE, "x", &(Fault) {}), 0);
        CHECK(turn_until(is_over) && !world_find(world->containers, id));
        stop();
}

/* ── a hold ──────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_hold_that_comes_on_the_way) {
        static const struct { const char *type, *spec; bool ends; } cases[] = {
                { "workspace.provision", SPEC("YQ==") }, { "workspace.provision", SPEC("Yg==") }, { "workspace.restart", "{}" }, { DEPROVISION, PRUNE, .ends = true },
        };

        start();
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                (void) kit_told(&k);
                say(cases[i].type, cases[i].spec);
                CHECK(turn_until(is_begun));
                CHECK_INT(queue_hold_local(k.q, KIT_WORKSPACE, 0, "x", &(Fault) {}), 0);
                CHECK_INT(queue_hold_local(k.q, NULL, 0, "x", &(Fault) {}), 0);
                pass(60);
                CHECK_INT(queue_release_local(k.q, KIT_WORKSPACE, "x", &(Fault) {}), 0);        /* the other is left */
                pass(60);
                CHECK(cases[i].ends ? turn_until(is_final) : !is_final());
                CHECK_INT(queue_release_local(k.q, NULL, "x", &(Fault) {}), 0);
                CHECK(turn_until(is_at_rest) && strstr(k.told, "succeeded"));
        }
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
        world->page_status = 503;
        k.settings.probe_timeout_seconds = 30;
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
