/* SPDX-License-Identifier: Apache-2.0 */

/* agent/loops: alive while none is overdue, and what health shows of it. */

#include "agent/loops.h"
#include "tests/clock.h"
#include "tests/kit.h"

TEST(nothing_ticked_nothing_due) {
        Loops l = {};
        Loop overdue = _LOOP_MAX;
        _cleanup_json_ cJSON *json = loops_view(&l);

        CHECK(loops_alive(&l, &overdue));
        CHECK_INT(overdue, _LOOP_MAX);
        CHECK_INT(cJSON_GetArraySize(json), 0);
}

TEST(incident_62_overdue_a_minute_after_its_word) {
        for (int loop = 0; loop < _LOOP_MAX; loop++) {
                Loops l = {};
                Loop overdue = _LOOP_MAX;

                loops_tick(&l, (Loop) loop, 65 * USEC_PER_SEC);
                clock_push(124 * USEC_PER_SEC);
                CHECK(loops_alive(&l, &overdue));
                clock_push(2 * USEC_PER_SEC);
                CHECK(!loops_alive(&l, &overdue));
                CHECK_INT(overdue, loop);
                loops_tick(&l, (Loop) loop, 1);
                CHECK(loops_alive(&l, &overdue));
        }
}

TEST(a_loop_that_rests_is_never_overdue) {
        Loops l = {};
        Loop overdue;

        loops_tick(&l, LOOP_REPORTS, 1);
        loops_tick(&l, LOOP_REPORTS, 0);
        clock_push(UINT64_C(86400) * USEC_PER_SEC);
        CHECK(loops_alive(&l, &overdue));
}

TEST(view) {
        Loops l = {};
        _cleanup_json_ cJSON *json = NULL;
        uint64_t at = 0;

        loops_tick(&l, LOOP_CONTROL, 0);
        loops_tick(&l, LOOP_SWEEP, 5);
        clock_push(90 * USEC_PER_SEC);
        loops_tick(&l, LOOP_HEALTH, 5);
        json = loops_view(&l);
        CHECK_INT(cJSON_GetArraySize(json), 3);
        CHECK_INT(json_get_i64(json, "control/seconds_ago", -1), 90);
        CHECK_INT(json_get_i64(json, "sweep/seconds_ago", -1), 90);
        CHECK_INT(json_get_i64(json, "health/seconds_ago", -1), 0);
        CHECK_INT(time_parse(json_get_string(json, "control/last_tick_at"), &at), 0);
        CHECK(at <= now_realtime() && at + 10 * USEC_PER_SEC > now_realtime());
}

TEST(names) {
        static const char *const wanted[] = { "control", "reports", "health", "sweep" };

        CHECK_INT(_LOOP_MAX, ELEMENTS(wanted));
        for (int i = 0; i < _LOOP_MAX; i++)
                CHECK_STR(loops_name((Loop) i), wanted[i]);
}

TEST_MAIN
