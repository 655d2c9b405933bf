/* SPDX-License-Identifier: Apache-2.0 */

/* agent/control while all is well: register, poll, pins, deliver; tables that cannot be had; and no spinning. */

#include "tests/control-kit.h"

/* ── as it should be ─────────────────────────────────────────────────────────────────────────────────────────── */

TEST(register_poll_pins_deliver_poll) {
        _cleanup_site_ Site s;

        site(&s, false);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL "?wait=20&max=3&pins_etag= ", 0, 0, "", "");
        rule(POLL, 1, 200, CP_JSON, JOBS(ETAG));
        rule(POLL, -1, CP_HANG, "", "");
        rule(PINS, -1, 200, CP_JSON "ETag: \"e1\"\r\n", TABLE);
        CHECK_INT(control_state(s.control), CONTROL_IDLE);
        start(&s);
        CHECK(seen_until(4, 3000));
        CHECK_STR(seen_line(0), REGISTER);
        CHECK_STR(script->seen[0].body, "{\"protocol\":1}");
        CHECK_STR(seen_line(1), POLL "?wait=20&max=3&pins_etag=");
        CHECK_STR(seen_line(2), PINS);
        CHECK_STR(seen_line(3), POLL "?wait=20&max=3&pins_etag=%22e1%22");
        CHECK_STR(s.delivered, "one two ");
        CHECK_INT(s.pins_at_delivery, 1);               /* a job may need the pin that came with it */
        CHECK(s.registered == 1 && s.polled == 1 && s.heartbeat == 7 * USEC_PER_SEC && s.changed > 0);
        CHECK(pins_find(s.pins, "codex", NULL) != NULL);
        CHECK_INT(control_state(s.control), CONTROL_POLLING);
        CHECK_STR(fault_of(&s), "");
        CHECK(seen_header(1, "Authorization: Bearer s1"));
}

TEST(the_first_request_within_five_seconds) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule("", -1, CP_HANG, "", "");
        control_start(s.control, false);
        CHECK(rest(&s) <= 5 * USEC_PER_SEC);
        pass(5);
        CHECK(seen_until(1, 3000));
}

TEST(once_asks_at_once_and_does_not_wait) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, CP_HANG, "", "");
        control_start(s.control, true);
        CHECK(seen_until(2, 2000));
        CHECK_STR(seen_line(1), POLL "?wait=0&max=3&pins_etag=");
}

TEST(what_register_answers_is_bounded) {
        static const struct { const char *answer, *poll; uint64_t heartbeat; } table[] = {
                { "{}", "?wait=50&max=16&", 30 },
                { "{\"wait_seconds\":100000,\"max_jobs\":100000,\"heartbeat_seconds\":100000}", "?wait=300&max=100&", 3600 },
                { "{\"wait_seconds\":-5,\"max_jobs\":0,\"heartbeat_seconds\":0}", "?wait=0&max=1&", 1 },
                { "{\"wait_seconds\":\"x\",\"max_jobs\":null,\"heartbeat_seconds\":[]}", "?wait=50&max=16&", 30 },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_site_ Site s;

                site(&s, true);
                rule(REGISTER, -1, 200, CP_JSON, table[i].answer);
                rule(POLL, -1, CP_HANG, "", "");
                start(&s);
                CHECK(seen_until(2, 3000));
                CHECK(strstr(seen_line(1), table[i].poll));
                CHECK_INT(s.heartbeat, table[i].heartbeat * USEC_PER_SEC);
        }
}

TEST(room_is_told) {
        _cleanup_site_ Site s;

        site(&s, true);
        s.room = 0;
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(2, 3000));
        CHECK(strstr(seen_line(1), "&max=0&"));
}

TEST(registers_once_a_day) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, 200, CP_JSON, NO_JOBS);
        start(&s);
        CHECK(seen_until(2, 3000));
        pass(86300);
        loop_for(event, 50);
        CHECK_INT(seen_like(REGISTER), 1);
        pass(101);
        for (int i = 0; i < 40 && seen_like(REGISTER) < 2; i++)
                loop_for(event, 50);
        loop_for(event, 100);
        CHECK_INT(seen_like(REGISTER), 2);
        CHECK_INT(s.registered, 2);
}

TEST(no_more_is_taken_than_was_asked_for) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, "{\"max_jobs\":2}");
        rule(POLL, 1, 200, CP_JSON, "{\"jobs\":[{\"delivery_id\":\"a\"},{\"delivery_id\":\"b\"},{\"delivery_id\":\"c\"}]}");
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(3, 3000));
        CHECK_STR(s.delivered, "a b ");
}

/* ── whose sealing key counts ────────────────────────────────────────────────────────────────────────────────── */

#define CONFLICT "{\"error\":\"sealing_key_conflict\",\"challenge\":\"Y2hhbGxlbmdl\"}"

TEST(a_challenge_is_answered_once) {
        _cleanup_site_ Site s;

        site(&s, true);
        s.can_prove = true;
        rule(REGISTER, 1, 409, CP_JSON, CONFLICT);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(3, 3000));
        CHECK_INT(s.challenges, 1);
        CHECK_STR(s.challenge, "Y2hhbGxlbmdl");
        CHECK_INT(seen_like(REGISTER), 2);
        CHECK(strncmp(seen_line(2), POLL, strlen(POLL)) == 0);
        CHECK_STR(fault_of(&s), "");
        CHECK_INT(s.registered, 1);
        pass(400);
        loop_for(event, 50);
        CHECK_INT(seen_like(REGISTER), 2);
}

/* A pair may be replaced more than once in an agent's life. */
TEST(each_conflict_has_its_own_proof) {
        _cleanup_site_ Site s;

        site(&s, true);
        s.can_prove = true;
        rule(REGISTER, 1, 409, CP_JSON, CONFLICT);
        rule(REGISTER, 1, 200, CP_JSON, REGISTERED);
        rule(REGISTER, 1, 409, CP_JSON, CONFLICT);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(3, 3000));
        CHECK_INT(s.challenges, 1);
        control_register(s.control);
        CHECK(seen_until(6, 3000));
        CHECK_INT(s.challenges, 2);
        CHECK_INT(seen_like(REGISTER), 4);
        CHECK_INT(s.registered, 2);
        CHECK_STR(fault_of(&s), "");
}

/* prove: the proof is sent and not taken either; otherwise there is none to send. */
static void conflict_stays(bool prove) {
        int before = prove ? 2 : 1;
        _cleanup_site_ Site s;

        site(&s, true);
        s.can_prove = prove;
        rule(REGISTER, 2 * before, 409, CP_JSON, CONFLICT);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, 1, 200, CP_JSON, JOBS(""));
        rule(POLL, -1, 200, CP_JSON, NO_JOBS);
        start(&s);
        CHECK(seen_until(before + 1, 3000));
        CHECK_INT(seen_like(REGISTER), before);
        CHECK_INT(s.challenges, 1);                     /* at the second one there is nothing more to say */
        CHECK_INT(control_state(s.control), CONTROL_POLLING);
        CHECK_STR(fault_of(&s), "sealing_key_conflict");
        for (int i = 0; i < 300 && s.polled < 1; i++)
                loop_for(event, 10);
        CHECK_STR(s.delivered, "one two ");             /* it works on */
        CHECK_STR(fault_of(&s), "sealing_key_conflict");
        CHECK_INT(s.registered, 1);
        pass(280);
        loop_for(event, 50);
        CHECK_INT(seen_like(REGISTER), before);
        for (int i = 0; i < 100 && seen_like(REGISTER) < 2 * before; i++)
                pass(1);
        CHECK_INT(seen_like(REGISTER), 2 * before);
        for (int i = 0; i < 200 && s.challenges < 2; i++)
                loop_for(event, 10);
        CHECK_INT(s.challenges, 2);
        loop_for(event, 50);
        CHECK_STR(fault_of(&s), "sealing_key_conflict");
        for (int i = 0; i < 400 && fault_of(&s)[0]; i++)
                pass(1);
        CHECK_INT(seen_like(REGISTER), 2 * before + 1);
        CHECK_STR(fault_of(&s), "");                    /* settled */
        control_stop(s.control);
        for (int n = -1; n != seen_count(); loop_for(event, 100))
                n = seen_count();                       /* what is on its way must not come to the next test */
}

TEST(a_proof_that_is_not_taken_stops_nothing_but_secrets) { conflict_stays(true); }
TEST(a_conflict_without_a_proof) { conflict_stays(false); }

TEST(another_409_is_no_conflict_of_keys) {
        _cleanup_site_ Site s;

        site(&s, true);
        s.can_prove = true;
        rule(REGISTER, -1, 409, CP_JSON, "{\"error\":\"something_else\",\"challenge\":\"Y2hhbGxlbmdl\"}");
        start(&s);
        CHECK(seen_until(1, 3000));
        loop_for(event, 100);
        CHECK(s.challenges == 0 && s.registered == 0);
        CHECK_INT(control_state(s.control), CONTROL_REGISTERING);
        CHECK(strcmp(fault_of(&s), "sealing_key_conflict") != 0 && fault_of(&s)[0]);
}

TEST(registering_again_at_once) {
        _cleanup_site_ Site s;

        site(&s, true);
        control_register(s.control);                    /* not before it has begun */
        loop_for(event, 20);
        CHECK_INT(seen_count(), 0);
        CHECK_INT(control_state(s.control), CONTROL_IDLE);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(2, 3000));
        control_register(s.control);
        CHECK_INT(control_state(s.control), CONTROL_REGISTERING);
        CHECK(seen_until(4, 3000));
        CHECK_STR(seen_line(2), REGISTER);
        CHECK(strncmp(seen_line(3), POLL, strlen(POLL)) == 0);
        CHECK_INT(s.registered, 2);
}

TEST(stopped_and_started_again) {
        _cleanup_site_ Site s;
        int n;

        at_rest(&s);
        control_stop(s.control);
        CHECK_INT(control_state(s.control), CONTROL_IDLE);
        n = seen_count();
        pass(3600);
        loop_for(event, 50);
        CHECK_INT(seen_count(), n);
        start(&s);
        CHECK(seen_until(n + 2, 3000));
        CHECK_INT(seen_like(REGISTER), 2);
}

/* ── pins that cannot be had ─────────────────────────────────────────────────────────────────────────────────── */

static const struct { int status; const char *headers, *body; } bad_pins[] = {
        { 200, CP_JSON "ETag: \"e1\"\r\n", "{\"pins\":[]}" },
        { 200, CP_JSON "ETag: \"e1\"\r\n", "{\"pins\":[{\"template_name\":\"x\"}]}" },
        { 200, "Content-Type: text/html\r\n", "<html>" },
        { 500, CP_JSON, "{}" },
        { 404, CP_JSON, "{\"error\":\"x\"}" },
        { 200, CP_JSON "ETag: \"e0\"\r\n", TABLE },     /* another table than the poll spoke of */
        { 304, "", "" },
};

TEST(a_bad_table_keeps_the_old_one_and_makes_no_hot_loop) {
        for (size_t i = 0; i < ELEMENTS(bad_pins); i++) {
                _cleanup_site_ Site s;
                int before;

                site(&s, true);
                CHECK_INT(pins_replace(s.pins, TABLE, strlen(TABLE), "\"old\"", 1, NULL), 0);
                rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
                rule(PINS, -1, bad_pins[i].status, bad_pins[i].headers, bad_pins[i].body);
                rule(POLL "?wait=20&max=3&pins_etag=%22e1%22", -1, CP_HANG, "", "");    /* as told: nothing new for one who has it */
                rule(POLL, -1, 200, CP_JSON, "{\"pins_etag\":\"" ETAG "\",\"jobs\":[]}");
                start(&s);
                CHECK(seen_until(4, 3000));
                loop_for(event, 100);
                if (!CHECK_INT(seen_count(), 4) || !CHECK_STR(seen_line(3), POLL "?wait=20&max=3&pins_etag=%22e1%22"))
                        printf("#   in: %d %s: %s\n", bad_pins[i].status, bad_pins[i].body, seen_line(3));
                CHECK(pins_find(s.pins, "codex", NULL) != NULL);
                CHECK_INT(control_state(s.control), CONTROL_POLLING);
                before = seen_like(PINS);
                CHECK_INT(before, 1);
                CHECK_STR(fault_of(&s), "");
        }
}

/* Every poll is answered at once: the table is asked for again only after its minute, unless there is another one. */
TEST(a_bad_table_is_asked_for_again_after_a_minute) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(PINS, -1, 200, CP_JSON "ETag: \"e1\"\r\n", "{\"pins\":[{}]}");
        rule(POLL, -1, 200, CP_JSON, "{\"pins_etag\":\"" ETAG "\",\"jobs\":[]}");
        start(&s);
        CHECK(seen_until(4, 3000));
        for (int i = 0; i < 20; i++) {
                settle(&s);
                pass(1);
        }
        settle(&s);
        CHECK_INT(seen_like(PINS), 1);
        CHECK(seen_like(POLL) >= 20 && seen_like(POLL) <= 24);
        pass(60);
        settle(&s);
        CHECK_INT(seen_like(PINS), 2);
        forget_rules();
        rule(PINS, -1, 200, CP_JSON "ETag: \"e2\"\r\n", TABLE);
        rule(POLL, -1, 200, CP_JSON, "{\"pins_etag\":\"\\\"e2\\\"\",\"jobs\":[]}");
        pass(1);
        settle(&s);
        CHECK_INT(seen_like(PINS), 3);
        CHECK_STR(pins_etag(s.pins), "\"e2\"");
}

/* Nothing is promoted yet: no trouble, and nothing to ask for again. Once there were pins it is trouble. */
TEST(no_pins_yet) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(PINS, -1, 200, CP_JSON "ETag: \"e1\"\r\n", "{\"pins\":[]}");
        rule(POLL, -1, 200, CP_JSON, "{\"pins_etag\":\"" ETAG "\",\"jobs\":[]}");
        start(&s);
        CHECK(seen_until(4, 3000));
        CHECK_STR(seen_line(3), POLL "?wait=20&max=3&pins_etag=%22e1%22");
        for (int i = 0; i < 3; i++) {
                pass(60);
                settle(&s);
        }
        CHECK_STR(seen_line(seen_count() - 1), POLL "?wait=20&max=3&pins_etag=%22e1%22");
        CHECK_INT(seen_like(PINS), 1);
        CHECK(!control_pins_behind(s.control));
        CHECK_STR(fault_of(&s), "");
        forget_rules();
        rule(PINS, 1, 200, CP_JSON "ETag: \"e2\"\r\n", TABLE);
        rule(POLL, -1, 200, CP_JSON, "{\"pins_etag\":\"\\\"e2\\\"\",\"jobs\":[]}");
        pass(1);
        settle(&s);
        CHECK_STR(pins_etag(s.pins), "\"e2\"");
        CHECK(!control_pins_behind(s.control));
        forget_rules();
        rule(PINS, -1, 200, CP_JSON "ETag: \"e1\"\r\n", "{\"pins\":[]}");
        rule(POLL, -1, 200, CP_JSON, "{\"pins_etag\":\"" ETAG "\",\"jobs\":[]}");
        pass(1);
        settle(&s);
        CHECK_STR(pins_etag(s.pins), "\"e2\"");
        CHECK(pins_find(s.pins, "codex", NULL) && control_pins_behind(s.control));
}

TEST(jobs_wait_for_a_table_that_is_away) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(PINS, 1, 500, CP_JSON, "{}");
        rule(POLL, 1, 200, CP_JSON, JOBS(ETAG));
        rule(POLL, -1, CP_HANG, "", "");
        start(&s);
        CHECK(seen_until(4, 3000));
        CHECK_STR(s.delivered, "");                     /* handed out again by the control plane; refusing them would be final */
}

TEST(a_table_that_is_always_another_does_not_spin) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(PINS, -1, 200, CP_JSON "ETag: \"fixed\"\r\n", TABLE);
        rule(POLL, -1, 200, CP_JSON, "{\"pins_etag\":\"#\",\"jobs\":[]}");
        start(&s);
        loop_for(event, 2500);
        if (!CHECK(seen_count() < 40))
                printf("#   %d requests in 2.5 seconds\n", seen_count());
}

/* ── no spinning ─────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(quick_empty_answers_do_not_spin) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, 200, CP_JSON, NO_JOBS);
        start(&s);
        loop_for(event, 2500);
        if (!CHECK(seen_like(POLL) >= 2 && seen_like(POLL) <= 4))
                printf("#   %d polls in 2.5 seconds\n", seen_like(POLL));
}

TEST(quick_answers_with_jobs_go_on_at_once_but_not_for_ever) {
        _cleanup_site_ Site s;

        site(&s, true);
        rule(REGISTER, -1, 200, CP_JSON, REGISTERED);
        rule(POLL, -1, 200, CP_JSON, "{\"pins_etag\":\"\",\"jobs\":[{}]}");
        start(&s);
        loop_for(event, 1500);
        if (!CHECK(seen_like(POLL) >= 4 && seen_like(POLL) <= 14))
                printf("#   %d polls in 1.5 seconds\n", seen_like(POLL));
}

int main(void) { return cp_kit_main(); }
