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
static void prepare_other_image(void) { world->other_image = true; }
static void prepare_image(void) { world->present = false; }
static void prepare_runtime(void) { k.settings.runtime_path = "/dev/null"; }
static void prepare_stranger(void) { (void) strcpy(world_add(world->containers, "ws-" KIT_WORKSPACE ".next", "")->labels, "{}"); }

static void prepare_late(void) { world->late = 1; }
static void prepare_late_again(void) { world->late = 2; }
static void prepare_barred(void) { world->barred = 1; }
static void prepare_barred_again(void) { world->barred = 2; }
static void prepare_taken(void) { world->taken = 2; }
static void prepare_entrypoint(void) { world->entrypoint = true; }
static void prepare_lost_write(void) { world->lost_write = 1; }
static void prepare_bare(void) { world->bare = true; }
static void prepare_large(void) { world->large = true; }

static void label_volumes(const char *labels) {
        for (int i = 0; i < WORLD_THINGS; i++)
                (void) strcpy(world->volumes[i].labels, labels);
}

#define OF_HOST "{\"" LABEL_MANAGED "\":\"true\",\"" LABEL_HOST "\":\"" KIT_HOST "\""

static void prepare_volume(void) {
        label_volumes("{}");
        world->bytes = 1;
}
static void prepare_volume_used(void) {
        label_volumes("{}");
        world->users = 1;
}
static void prepare_volume_whose(void) { label_volumes("{\"whose\":\"not yours\"}"); }
static void prepare_volumes_plain(void) {
        (void) world_add(world->volumes, "ws-" KIT_WORKSPACE "-configs", "");
        (void) world_add(world->volumes, "ws-" KIT_WORKSPACE "-workspace", "");
}
static void prepare_no_labels(void) { world->no_labels = true; }
static void prepare_volume_of_host(void) { label_volumes("{\"" LABEL_MANAGED "\":\"true\",\"" LABEL_HOST "\":\"" KIT_OTHER "\"}"); }
static void prepare_volume_of_org(void) { label_volumes(OF_HOST ",\"" LABEL_ORG "\":\"" KIT_OTHER "\"}"); }
static void prepare_volume_of_another(void) { label_volumes(OF_HOST ",\"" LABEL_ORG "\":\"" KIT_ORG "\",\"" LABEL_WORKSPACE "\":\"" KIT_OTHER "\"}"); }
static void prepare_first_that_fails(void) {
        world->no_command = true;
        CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "failed:start_failed");
}

/* The container is there, and no record says that it is ours to bring back. */
static void prepare_lost_record(void) {
        queue_remove(k.q, entry());
        CHECK(queue_add(k.q, workspace_new(KIT_WORKSPACE, generation + 1)) != NULL);
}

static void prepare_stopped(void) {
        for (int i = 0; i < WORLD_THINGS; i++)
                world->containers[i].running = false;
}

static void prepare_crash_of_stopped(void) {
        prepare_stopped();
        prepare_crash();
}

/* It does, and ends, and is started by the engine, again and again: it is back, as it was. */
static void prepare_crash_and_restarting(void) {
        prepare_crash_for_good();
        world->restarting = true;
}

/* What brings it back is not handed over anew: it has no generation. */
static void prepare_crash_of_unlabelled(void) {
        prepare_crash();
        for (int i = 0; i < WORLD_THINGS; i++) {
                char *label = strstr(world->containers[i].labels, "\"" LABEL_GENERATION "\":");

                if (CHECK(label || !world->containers[i].there) && label)
                        label[1]++;
        }
}

static void bar_what_is_there(void) {
        for (int i = 0; i < WORLD_THINGS; i++)
                world->containers[i].barred = world->containers[i].there;
}

/* The old one does not come up again, for what an earlier start left in its way. */
static void prepare_crash_and_barred(void) {
        prepare_crash();
        bar_what_is_there();
}

/* The same where no record says that it is the settled one: it is left as it is. */
static void prepare_lost_and_barred(void) {
        prepare_lost_record();
        prepare_crash_and_barred();
}

static void prepare_lost_and_renamed(void) {
        prepare_lost_record();
        for (int i = 0; i < WORLD_THINGS; i++)
                if (world->containers[i].there)
                        (void) strcpy(world->containers[i].name, "ws-" KIT_WORKSPACE ".prev");
}

static void prepare_key(void) {
        CHECK_INT(renameat(k.k.d.fd, "sealed/" KIT_WORKSPACE, k.k.d.fd, "away"), 0);
        test_dir_text(&k.k.d, "sealed/" KIT_WORKSPACE, "no directory");
}

static void mend_key(void) {
        if (test_dir_has(&k.k.d, "away")) {
                CHECK_INT(unlinkat(k.k.d.fd, "sealed/" KIT_WORKSPACE, 0), 0);
                CHECK_INT(renameat(k.k.d.fd, "away", k.k.d.fd, "sealed/" KIT_WORKSPACE), 0);
        }
}

#define PLAIN(more)  "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\"" more "}"
#define DEPROVISION  "workspace.deprovision"
#define PRUNE        "{\"prune\":true}"
#define KEEP         "{\"prune\":false}"
#define EPHEMERAL    PLAIN(",\"data_persistence\":\"ephemeral\"")
#define LARGE        PLAIN(",\"disk_gb\":1048576")
#define EMPTY        PLAIN(",\"config_files\":{\"a.md\":\"\"}")
#define NOT_EMPTY    PLAIN(",\"config_files\":{\"a.md\":\"Yg==\"}")
#define ONE_MORE     PLAIN(",\"config_files\":{\"new.md\":\"Yg==\"}")

typedef struct Trouble { const char *name, *told; void (*prepare)(void); const char *first, *type, *spec; bool not_settled, undone_later; } Trouble;

static const Trouble troubles[] = {
        { "a page that is not well",        "failed:rolled_back",    prepare_page },
        { "a process that ends",            "failed:rolled_back",    prepare_crash },
        { "it ends, and no file was there", "failed:rolled_back",    prepare_crash, .spec = ONE_MORE },
        { "it ends, and none was changed",  "failed:rolled_back",    prepare_crash, .spec = SPEC("YQ==") },
        { "an image that runs nothing",     "failed:start_failed",   prepare_command },
        { "one that has an entrypoint",     "succeeded",             prepare_entrypoint },
        { "files that were not kept",       "failed:engine_error",   prepare_lost_write, .first = "" },
        { "no launcher",                    "failed:start_failed",   prepare_launcher },
        { "a stranger who has its name",    "failed:name_conflict",  prepare_stranger },
        { "one of ours that came late",     "succeeded",             prepare_late },
        { "two of them",                    "failed:name_conflict",  prepare_late_again },
        { "a task left in its way",         "succeeded",             prepare_barred },
        { "the same for the first one",     "succeeded",             prepare_barred, .first = "" },
        { "a task in the next one's way",   "failed:rolled_back",    prepare_barred_again },
        { "an engine of few words",         "succeeded",             prepare_bare },
        { "a stranger's volume",            "failed:name_conflict",  prepare_volume },
        { "one that is used",               "failed:name_conflict",  prepare_volume_used },
        { "one with labels of its own",     "failed:name_conflict",  prepare_volume_whose },
        { "what a power cut left of one",   "succeeded",             prepare_volumes_plain, .first = "" },
        { "an engine that forgets labels",  "failed:name_conflict",  prepare_no_labels, .first = "" },
        { "a volume of another host",       "failed:name_conflict",  prepare_volume_of_host },
        { "a volume of another org",        "failed:name_conflict",  prepare_volume_of_org },
        { "a volume of another workspace",  "failed:name_conflict",  prepare_volume_of_another },
        { "files that are too large",       "failed:too_large",      prepare_large },
        { "what was empty",                 "failed:rolled_back",    prepare_crash, .first = EMPTY, .spec = NOT_EMPTY },
        { "an old one that stays down",     "failed:rollback_failed", prepare_crash_for_good, .undone_later = true },
        { "an old one that is restarting",  "failed:rolled_back",    prepare_crash_and_restarting, .undone_later = true },
        { "an old one that is barred",      "failed:crash_loop",     prepare_crash_and_barred },
        { "an old one of no generation",    "failed:rolled_back",    prepare_crash_of_unlabelled },
        { "one that no record knows",       "failed:rollback_failed", prepare_lost_and_barred, .not_settled = true, .undone_later = true },
        { "lost, and renamed",              "succeeded",             prepare_lost_and_renamed },
        { "a removal beside a stranger's",  "succeeded",             prepare_volume, .type = DEPROVISION, .spec = PRUNE },
        { "a removal of nothing",           "succeeded",             NULL, .first = "", .type = DEPROVISION, .spec = KEEP },
        { "a removal of what had failed",   "succeeded",             prepare_first_that_fails, .first = "", .type = DEPROVISION, .spec = KEEP },
        { "another image",                  "failed:rolled_back",    prepare_other_image },
        { "nowhere for secrets",            "failed:state_degraded", prepare_runtime },
        { "no such image",                  "failed:image_not_found", prepare_image },
        { "no room",                        "failed:no_space", NULL, .first = "", .spec = LARGE },
        { "a record that is lost",          "succeeded",             prepare_lost_record },
        { "one that was stopped",           "succeeded",             prepare_stopped },
        { "a way back to what was stopped", "failed:rolled_back",    prepare_crash_of_stopped },
        { "a way of its own to be well",    "succeeded",             NULL, .spec = PLAIN(",\"probe\":{\"path\":\"/own\",\"timeout_seconds\":60}") },
        { "a smaller tier",                 "succeeded",             NULL, .spec = PLAIN(",\"tier\":1,\"template_assets\":{\"prompts/deep/a.md\":\"Yg==\"}") },
        { "a removal",                      "succeeded",             NULL, .type = DEPROVISION, .spec = KEEP },
        { "a removal of what is ephemeral", "succeeded",             NULL, .first = EPHEMERAL, .type = DEPROVISION, .spec = KEEP },
        { "a key that stays",               "failed:state_degraded", prepare_key, .type = DEPROVISION, .spec = PRUNE },
        { "secrets that stay",              "failed:state_degraded", prepare_runtime, .type = DEPROVISION, .spec = PRUNE, .not_settled = true },
};

TEST(what_is_wrong) {
        start();
        flow_second = 3000;
        for (size_t i = 0; i < ELEMENTS(troubles); i++) {
                const Trouble *t = &troubles[i];
                const char *runtime = k.settings.runtime_path, *first = t->first ?: SPEC("YQ==");

                printf("# %s\n", t->name);
                begin_anew();
                if (first[0])
                        CHECK_STR(ended("workspace.provision", first), "succeeded");
                if (t->prepare)
                        t->prepare();
                (void) kit_told(&k);
                say(t->type ?: "workspace.provision", t->spec ?: SPEC("Yg=="));
                CHECK(turn_until(t->undone_later ? is_final : is_at_rest));
                if (!CHECK(strstr(k.told, t->told)))
                        printf("#   '%s' says no '%s'\n", k.told, t->told);
                fresh();
                mend_key();
                k.settings.launcher = "/bin/true";
                k.settings.runtime_path = runtime;
                k.settings.probe_timeout_seconds = 7200;
                CHECK(t->not_settled || turn_until(is_over));
                CHECK_STR(ended(DEPROVISION, PRUNE), "succeeded");      /* whatever it left can be removed */
                CHECK_INT(running(), 0);
        }
        stop();
}

static void take_network(void) {
        for (int i = 0; i < WORLD_THINGS; i++)
                world->containers[i].netless = world->containers[i].there;
}

TEST(what_is_settled_and_does_not_start_again_is_made_anew) {
        static void (*const cases[])(void) = { bar_what_is_there, take_network };

        start();
        flow_second = 3000;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char id[16] = "";

                begin_anew();
                CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
                (void) snprintf(id, sizeof id, "%s", entry()->w->settled->container_id);
                prepare_stopped();
                cases[i]();
                CHECK(turn_until(is_over));
                CHECK(strcmp(id, entry()->w->settled->container_id) != 0);
                CHECK_STR(ended(DEPROVISION, PRUNE), "succeeded");
        }
        stop();
}

/* ── every question goes wrong ───────────────────────────────────────────────────────────────────────────────── */

/* elsewhere: it may come to a port at which there is no page; killed: they go wrong behind a restart in the midst of the swap. */
typedef struct Way { const char *type, *spec; void (*prepare)(void); bool first, removes, elsewhere, killed; } Way;

static const Way ways[] = {
        { "workspace.provision", SPEC("YQ=="), .first = true },
        { "workspace.provision", SPEC("Yg==") },
        { DEPROVISION, PRUNE, .removes = true },
        { "workspace.provision", SPEC("Yg=="), prepare_crash },                 /* … and its way back */
        { "workspace.provision", SPEC("YQ=="), prepare_crash, .first = true },
        { "workspace.provision", SPEC("Yg=="), prepare_crash_and_barred },
        { "workspace.provision", SPEC("Yg=="), prepare_stranger },
        { "workspace.provision", SPEC("YQ=="), prepare_volumes_plain, .first = true },
        { "workspace.provision", SPEC("Yg=="), prepare_barred, .elsewhere = true },
        { "workspace.provision", SPEC("Yg=="), prepare_taken, .elsewhere = true },
        { "workspace.provision", SPEC("Yg=="), .elsewhere = true, .killed = true },
};

/* Time enough for a host that is busy; none to wait for what cannot come. */
static uint64_t probe_timeout(const Way *w, Wrong wrong) { return wrong == WRONG_PORT || w->elsewhere ? 10 : 7200; }

static void set_wrong(const Way *w, Wrong wrong, int at) {
        if (wrong == WRONG_PORT && at % 2)
                k.settings.port_low = k.settings.port_high = (uint16_t) server.port;    /* no other is left */
        k.settings.engine_wait_seconds = wrong == WRONG_AWAY ? 4 : 30;
        k.settings.probe_timeout_seconds = probe_timeout(w, wrong);
        world->wrong = wrong;
        world->wrong_at = at;
}

static void calm_down(void) {
        k.settings.port_low = 21000;
        k.settings.port_high = 21200;
        k.settings.engine_wait_seconds = 30;
        k.settings.probe_timeout_seconds = 7200;
}

static void go_wrong(const Way *w, Wrong wrong, int at) {
        char told[80];

        begin_anew();
        if (!w->first)
                CHECK_STR(ended("workspace.provision", SPEC("YQ==")), "succeeded");
        fresh();
        if (w->prepare)
                w->prepare();
        (void) kit_told(&k);
        if (!w->killed)
                set_wrong(w, wrong, at);
        say(w->type, w->spec);
        if (w->killed) {
                CHECK(turn_until(is_swapping));
                start_again();
                set_wrong(w, wrong, at);
        }
        CHECK(turn_until(is_at_rest));
        (void) snprintf(told, sizeof told, "%.79s", last_told());
        world->wrong_at = world->wrong_left = world->taken = 0;
        world->crash = false;
        calm_down();
        if (w->removes && strcmp(told, "succeeded") != 0)
                CHECK_STR(ended(w->type, w->spec), "succeeded");        /* what was erased is not made again; what is left can be removed */
        if (!CHECK(strcmp(told, "succeeded") == 0 || strncmp(told, "failed:", 7) == 0) ||
            !CHECK(turn_until(is_over)) || !CHECK(!w->removes || entry()->w->removed) ||
            !CHECK(!entry()->w->settled || entry()->w->port == server.port))
                printf("#   %s, wrong %d at question %d (%s): %s\n", w->type, (int) wrong, at, world->last_wrong, told);
}

/* A few of them, unless there is time for all. */
static bool is_chosen(Wrong wrong, int at) { return getenv("MOLECULE_LONG") || (5 * (int) wrong + at) % 13 == 0; }

TEST(every_question_in_every_way) {
        start();
        flow_second = getenv("MOLECULE_LONG") ? 1000 : 3000;    /* whole, it would take minutes */
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

TEST_MAIN
