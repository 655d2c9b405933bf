/* SPDX-License-Identifier: Apache-2.0 */

/* What comes from outside, at each question that a job asks the engine: it is called off, overtaken, held, past its deadline; the disk takes nothing, the
 * agent is stopped or killed and starts again. Whatever comes: no job is left, and just one container runs, the settled one, or none where the workspace
 * is gone; what was called off is told so, and what a withdrawn removal would have ended goes on. */

#include "tests/flow-kit.h"

#define FIRST  FLOW_SPEC("YQ==")
#define SECOND FLOW_SPEC("Yg==")

static int called_off;                          /* 0: somebody was told so */

static void call_off(void) { called_off = queue_cancel_local(k.q, entry()->w->work ? entry()->w->work->job_id : KIT_OTHER, &(Fault) {}); }
static void overtake(void) { say("workspace.provision", FIRST); }
static void remove_it(void) { say("workspace.deprovision", "{\"prune\":true}"); }
static void remove_and_order(void) { remove_it(); overtake(); }
static void remove_and_call_off(void) {
        remove_it();
        called_off = queue_cancel_local(k.q, entry()->w->next ? entry()->w->next->job_id : KIT_OTHER, &(Fault) {});
}
static void restart_it(void) { say("workspace.restart", "{}"); }
static void push_deadline(void) { clock_push((k.settings.job_deadline_seconds + 60) * USEC_PER_SEC); }

static void hold_and(void (*then)(void)) {
        test_dir_text(&k.k.d, "hold", "");
        queue_hold_changed(k.q);
        for (int i = 0; i < 30; i++) {
                if (i == 10)
                        then();
                (void) sd_event_run(k.event, 10000);
                clock_push(USEC_PER_SEC);
        }
        CHECK_INT(unlinkat(k.k.d.fd, "hold", 0), 0);
        queue_hold_changed(k.q);
}

static void hold_changed(void) { queue_hold_changed(k.q); }     /* it still is */
static void hold_a_while(void) { hold_and(hold_changed); }
static void hold_and_call_off(void) { hold_and(call_off); }

/* The question is asked again after a pause, and it is then that the job is called off. */
static void stumble_and_call_off(void) {
        world->wrong = WRONG_500;
        world->wrong_at = 1;
        for (int i = 0; i < 30 && world->wrongs == 0; i++)
                (void) sd_event_run(k.event, 10000);
        (void) sd_event_run(k.event, 10000);
        world->wrong_at = world->wrong_left = 0;        /* its undo is well */
        call_off();
}

static void fill_disk(void) {
        kit_disk_full(true);
        for (int i = 0; i < 30; i++) {
                (void) sd_event_run(k.event, 10000);
                clock_push(USEC_PER_SEC);
        }
        kit_disk_full(false);
}

static bool is_stopped(void) { return k.stopped > 0; }

/* What lies beside the record is damaged, and the process ends. */
static void spoil_and_start(void) {
        static const char *const kinds[] = { "undo", "payload" };

        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                char name[100];

                (void) snprintf(name, sizeof name, "ws/%s.g%llu.%s", KIT_WORKSPACE, (unsigned long long) generation, kinds[i]);
                if (test_dir_has(&k.k.d, name))
                        test_dir_text(&k.k.d, name, "nothing that opens");
        }
        start_again();
}

static void stop_well(void) {
        k.stopped = 0;
        queue_stop(k.q);
        CHECK(turn_until(is_stopped));
        start_again();
}

static void lose_image(void) { world->present = false; }

/* By a job that fails before it looks for containers. */
static void overtake_in_vain(void) {
        lose_image();
        overtake();
}

/* The word comes before the new process has looked at the engine. */
static void start_and(void (*then)(void)) {
        kit_restart(&k);
        then();
        queue_engine_state(k.q, engine_state(k.engine));
}

static void start_and_call_off(void) { start_and(call_off); }
static void start_and_overtake(void) { start_and(overtake); }
static void start_and_remove(void) { start_and(remove_it); }
static void start_and_fail(void) { start_and(lose_image); }

/* vain: not asked of a removal, which has destroyed the key: there is nothing to fall back on. */
typedef struct Turn { const char *name; void (*take)(void); bool removes, vain; } Turn;

static const Turn turns[] = {
        { "called off", call_off }, { "overtaken", overtake }, { "removed", remove_it, true }, { "restarted", restart_it },
        { "removed and ordered", remove_and_order }, { "removed, which is called off", remove_and_call_off },
        { "past its deadline", push_deadline }, { "held", hold_a_while }, { "held and called off", hold_and_call_off },
        { "called off in a pause", stumble_and_call_off }, { "a full disk", fill_disk },
        { "killed", start_again }, { "killed and called off", start_and_call_off }, { "killed and overtaken", start_and_overtake },
        { "killed and removed", start_and_remove, true }, { "killed, and its image is gone", start_and_fail },
        { "overtaken in vain", overtake_in_vain, .vain = true },
        { "stopped", stop_well }, { "damaged", spoil_and_start },
};

typedef struct Scene { const char *name, *first, *spec; bool crash, removal; } Scene;

static const Scene scenes[] = {
        { "a next version", FIRST, SECOND },
        { "a first version", NULL, SECOND },
        { "the same files", FIRST, FIRST },
        { "a way back", FIRST, SECOND, .crash = true },
        { "a removal", FIRST, "{\"prune\":true}", .removal = true },
};

static int turn_at;

static bool is_there(void) { return world->asked >= turn_at || is_at_rest(); }

/* False: the job had ended before that. */
static bool take_turn(const Turn *t, const Scene *scene) {
        bool reached;

        if (t->vain && scene->removal)
                return false;
        begin_anew();
        k.q->degraded = (Fault) {};
        if (scene->first)
                CHECK_STR(ended("workspace.provision", scene->first), "succeeded");
        fresh();
        (void) kit_told(&k);
        world->crash = scene->crash;
        say(scene->removal ? "workspace.deprovision" : "workspace.provision", scene->spec);
        CHECK(turn_until(is_there));
        reached = !is_at_rest();
        world->crash = false;
        called_off = -1;
        if (reached)
                t->take();
        if (!CHECK(turn_until(is_over)) || !CHECK(!t->removes || !reached || entry()->w->removed) ||
            !CHECK(called_off != 0 || (strstr(k.told, "cancelled") && !strstr(k.told, "superseded"))))
                printf("#   %s, %s, at question %d: %s\n", t->name, scene->name, turn_at, k.told);
        return reached;
}

/* A few of them, unless there is time for all. */
TEST(at_each_question) {
        int step = getenv("MOLECULE_LONG") ? 1 : 7;

        start();
        flow_second = 3000;
        for (size_t i = 0; i < ELEMENTS(turns); i++)
                for (size_t n = 0; n < ELEMENTS(scenes); n++)
                        for (turn_at = 1 + (int) (i + 2 * n) % step; turn_at < 60 && take_turn(&turns[i], &scenes[n]); turn_at += step)
                                ;
        CHECK(turn_at > 5);
        stop();
}

TEST_MAIN
