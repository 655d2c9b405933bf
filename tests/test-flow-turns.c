/* SPDX-License-Identifier: Apache-2.0 */

/* What comes from outside, at each question that a job asks the engine: it is called off, overtaken, held, past its deadline; the disk takes nothing, the
 * agent is stopped or killed and starts again. Whatever comes: each job that was accepted has one end, and then just
 * one container runs, the settled one, or none where the workspace is gone. */

#include "tests/flow-kit.h"

#define FIRST  FLOW_SPEC("YQ==")
#define SECOND FLOW_SPEC("Yg==")

static void call_off(void) { (void) queue_cancel_local(k.q, entry()->w->work ? entry()->w->work->job_id : KIT_OTHER, &(Fault) {}); }
static void overtake(void) { say("workspace.provision", FIRST); }
static void remove_it(void) { say("workspace.deprovision", "{\"prune\":true}"); }
static void restart_it(void) { say("workspace.restart", "{}"); }
static void push_deadline(void) { clock_push((k.settings.job_deadline_seconds + 60) * USEC_PER_SEC); }

static void hold_a_while(void) {
        test_dir_text(&k.k.d, "hold", "");
        queue_hold_changed(k.q);
        for (int i = 0; i < 30; i++) {
                (void) sd_event_run(k.event, 10000);
                clock_push(USEC_PER_SEC);
        }
        CHECK_INT(unlinkat(k.k.d.fd, "hold", 0), 0);
        queue_hold_changed(k.q);
}

static void fill_disk(void) {
        kit_disk_full(true);
        for (int i = 0; i < 30; i++) {
                (void) sd_event_run(k.event, 10000);
                clock_push(USEC_PER_SEC);
        }
        kit_disk_full(false);
}

static void start_again(void) {
        kit_restart(&k);
        queue_engine_state(k.q, engine_state(k.engine));
}

static bool is_stopped(void) { return k.stopped > 0; }

static void stop_well(void) {
        k.stopped = 0;
        queue_stop(k.q);
        CHECK(turn_until(is_stopped));
        start_again();
}

typedef struct Turn { const char *name; void (*take)(void); bool removes; } Turn;

static const Turn turns[] = {
        { "called off", call_off }, { "overtaken", overtake }, { "removed", remove_it, true }, { "restarted", restart_it },
        { "past its deadline", push_deadline }, { "held", hold_a_while }, { "a full disk", fill_disk },
        { "killed", start_again }, { "stopped", stop_well },
};

static int turn_at;

static bool is_there(void) { return world->asked >= turn_at || is_at_rest(); }

/* False: the job had ended before that. */
static bool take_turn(const Turn *t, bool first) {
        bool reached;

        begin_anew();
        k.q->degraded = (Fault) {};
        if (!first)
                CHECK_STR(ended("workspace.provision", FIRST), "succeeded");
        fresh();
        (void) kit_told(&k);
        say("workspace.provision", SECOND);
        CHECK(turn_until(is_there));
        reached = !is_at_rest();
        if (reached)
                t->take();
        if (!CHECK(turn_until(is_over)) || !CHECK(!t->removes || !reached || entry()->w->removed))
                printf("#   %s, %s, at question %d: %s\n", t->name, first ? "first" : "next", turn_at, k.told);
        return reached;
}

TEST(at_each_question) {
        start();
        for (size_t i = 0; i < ELEMENTS(turns); i++)
                for (int first = 0; first < 2; first++)
                        for (turn_at = 1 + (getenv("MOLECULE_LONG") ? 0 : (int) i % 3); turn_at < 60 && take_turn(&turns[i], first);
                             turn_at += getenv("MOLECULE_LONG") ? 1 : 3)
                                ;
        CHECK(turn_at > 5);
        stop();
}

TEST_MAIN
