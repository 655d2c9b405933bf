/* SPDX-License-Identifier: Apache-2.0 */

/* agent/health: when the host is told of, towards a control plane by script. */

#include "agent/health.h"
#include "tests/cp-kit.h"

#define HEALTH "POST " CP_HOST "/health"
#define BEAT   30

typedef struct Site {
        TestDir     d;
        Credentials credentials;
        Cp         *cp;
        Engine     *engine;
        Health     *health;
        Loops       loops;
        const char *word;               /* what there is to tell */
} Site;

static cJSON *on_agent(void *userdata) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();

        CHECK(json_add_string(json, "word", ((Site *) userdata)->word));
        return TAKE_PTR(json);
}
static cJSON *on_nothing(void *userdata) {
        (void) userdata;
        return cJSON_CreateObject();
}
static void on_answered(const CpAnswer *answer, void *userdata) {
        (void) answer;
        (void) userdata;
}
static void on_state(EngineState state, const Fault *why, void *userdata) {
        (void) state;
        (void) why;
        (void) userdata;
}
static void on_event(const EngineEvent *e, void *userdata) {
        (void) e;
        (void) userdata;
}

static void site_done(Site *s) {
        (void) health_free(s->health);
        (void) engine_free(s->engine);
        (void) cp_free(s->cp);
        credentials_done(&s->credentials);
        test_dir_done(&s->d);
}

/* All is told and acknowledged, now or soon. */
static bool is_current(const Site *s) {
        for (int i = 0; i < 600 && !health_is_current(s->health); i++)
                loop_for(event, 5);
        return health_is_current(s->health);
}

/* Its first beat is acknowledged. */
static void site(Site *s) {
        Config config = cp_config();

        *s = (Site) { .d = test_dir(), .credentials = kit_credentials("s1", "admin"), .word = "one" };
        cp_kit_reset();
        if (cp_new(event, http, &identity, &s->cp) < 0 || cp_configure(s->cp, &config, &s->credentials, NULL) < 0 ||
            engine_new(event, http, &(EngineOptions) { .socket_path = "/nowhere", .timeout_usec = USEC_PER_SEC }, on_state, on_event, NULL, &s->engine) < 0 ||
            health_new(event, s->cp, &identity, &s->loops,
                       &(HealthSources) { .agent = on_agent, .pins = on_nothing, .foreign = on_nothing, .workspaces = on_nothing,
                                          .answered = on_answered, .userdata = s, .engine = s->engine, .state_fd = s->d.fd }, &s->health) < 0)
                abort();
        rule(HEALTH, -1, 200, CP_JSON, "{}");
        rule("GET /api/v1/good", -1, 200, CP_JSON, "{}");
        rule("GET /api/v1/lost", -1, CP_CLOSE, "", "");
        health_open(s->health, true, BEAT * USEC_PER_SEC);
        CHECK(is_current(s));
}

/* So many beats came, and the last was a whole one or not. */
static bool beats(int wanted, bool whole) {
        (void) seen_until(wanted, 3000);
        loop_for(event, 30);            /* no more than that */
        if (!CHECK_INT(seen_like(HEALTH), wanted))
                return false;
        return CHECK_INT(!strstr(script->seen[seen_count() - 1].body, "\"unchanged\""), whole);
}

static void on_done(const CpAnswer *a, void *userdata) {
        (void) a;
        ++*(int *) userdata;
}

static void ask(Site *s, const char *path) {
        int done = 0;

        CHECK_INT(cp_send(s->cp, &(CpRequest) { .path = path }, on_done, &done, NULL), 0);
        CHECK(loop_until(event, &done, 1, 3000));
}

TEST(whole_at_first_and_then_unchanged) {
        _cleanup_(site_done) Site s;

        site(&s);
        CHECK(beats(1, true));
        pass(BEAT * 6 / 5 + 3);
        CHECK(beats(2, false));
}

TEST(a_change_is_told_within_a_second) {
        _cleanup_(site_done) Site s;

        site(&s);
        s.word = "two";
        health_changed(s.health);
        CHECK(!health_is_current(s.health));
        pass(2);
        CHECK(beats(2, true));
        CHECK(is_current(&s));
}

/* What came and went: nothing is told, and the next beat has its old time. */
TEST(a_change_that_changed_nothing_is_not_told) {
        _cleanup_(site_done) Site s;

        site(&s);
        health_changed(s.health);
        pass(2);
        CHECK(beats(1, true));
        CHECK(is_current(&s));
        pass(BEAT * 6 / 5 + 1);
        CHECK(beats(2, false));
}

/* The spread after a lost connection: a beat that falls into it is left out, a change waits for its end. */
TEST(while_nobody_is_to_be_asked) {
        _cleanup_(site_done) Site s;

        site(&s);
        do {                            /* until the spread is so long that a beat falls into it */
                pass(31);
                ask(&s, "/good");
                ask(&s, "/lost");
        } while (cp_held_back(s.cp) < 28 * USEC_PER_SEC);
        loop_for(event, 300);           /* a beat of before has come in by then */
        for (int before = seen_like(HEALTH), i = 0; i < 26; i++, pass(1))
                CHECK_INT(seen_like(HEALTH), before);
        s.word = "two";
        health_changed(s.health);
        for (int before = seen_like(HEALTH); cp_held_back(s.cp) > 100 * USEC_PER_MSEC; loop_for(event, 20))
                CHECK_INT(seen_like(HEALTH), before);
        pass(2);
        CHECK(is_current(&s));
        CHECK(strstr(script->seen[seen_count() - 1].body, "\"word\":\"two\""));
}

TEST(it_is_asked_for_the_whole) {
        _cleanup_(site_done) Site s;

        site(&s);
        forget_rules();
        rule(HEALTH, 1, 200, CP_JSON, "{\"need_full\":true}");
        rule(HEALTH, -1, 200, CP_JSON, "{}");
        pass(BEAT * 6 / 5 + 3);
        CHECK(beats(2, false));
        pass(2);
        CHECK(beats(2, false) && !health_is_current(s.health));        /* in its time, not at once */
        pass(BEAT * 6 / 5 + 3);
        CHECK(beats(3, true));
}

/* An upgrade is judged by it, at moments that beats have a way of falling on. */
TEST(it_is_heard_while_the_next_beat_is_on_its_way) {
        _cleanup_(site_done) Site s;

        site(&s);
        s.word = "two";
        health_changed(s.health);
        CHECK(health_is_heard(s.health));
        for (int i = 0; i < 3000 && seen_like(HEALTH) < 2; i++) {
                pass(1);
                CHECK(health_is_heard(s.health));
        }
        CHECK(is_current(&s));
        health_open(s.health, false, 0);        /* the control plane does not want this agent now */
        CHECK(!health_is_heard(s.health));
        health_open(s.health, true, 0);
        CHECK(seen_until(3, 3000) && is_current(&s) && health_is_heard(s.health));
        forget_rules();
        rule(HEALTH, -1, 503, CP_JSON, "{}");
        pass(BEAT * 6 / 5 + 1);
        CHECK(seen_until(4, 3000));
        loop_for(event, 50);
        CHECK(!health_is_heard(s.health));
}

int main(void) { return cp_kit_main(); }
