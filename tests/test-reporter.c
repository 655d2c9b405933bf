/* SPDX-License-Identifier: Apache-2.0 */

/* agent/report: who delivers the outbox, towards a control plane by script. */

#include "agent/outbox.h"
#include "agent/report.h"
#include "tests/cp-kit.h"

#define REPORTS "POST " CP_HOST "/reports"
#define FIRST   "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
#define SECOND  "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"

static int idle;

static void on_acked(const char *report_id, void *userdata) {
        (void) report_id;
        (void) userdata;
}
static void on_answered(const CpAnswer *answer, void *userdata) {
        (void) answer;
        (void) userdata;
}
static void on_idle(void *userdata) {
        (void) userdata;
        idle++;
}

static void add(Outbox *o, const char *id) {
        cJSON *report = kit_json("{\"state\":\"refused\"}");

        CHECK(json_add_string(report, "report_id", id));
        CHECK_INT(outbox_add(o, report, true, NULL), 0);
}

/* The last report is out of the outbox while there is still something to wait for: nothing may wait for ever. */
TEST(after_a_report_that_was_set_aside_the_next_goes_out) {
        const ReporterEvents events = { .acked = on_acked, .answered = on_answered, .idle = on_idle };
        _cleanup_dir_ TestDir d = test_dir();
        Credentials credentials = kit_credentials("s1", "admin");
        Config config = cp_config();
        Loops loops = {};
        Cp *cp;
        Outbox *o;
        Reporter *r;

        cp_kit_reset();
        rule(REPORTS, 1, 400, CP_JSON, "{\"error\":\"bad_request\"}");
        rule(REPORTS, -1, 200, CP_JSON, "{\"acked\":[\"" SECOND "\"]}");
        if (cp_new(event, http, &identity, &cp) < 0 || cp_configure(cp, &config, &credentials, NULL) < 0 || outbox_open(d.fd, &o, NULL) < 0 ||
            reporter_new(event, cp, o, &identity, &loops, &events, &r) < 0)
                abort();
        reporter_open(r, true);
        add(o, FIRST);
        reporter_wake(r, true);
        CHECK(seen_until(1, 3000));
        for (int i = 0; i < 400 && !outbox_is_empty(o); i++)
                loop_for(event, 5);
        CHECK(outbox_is_empty(o));
        CHECK_INT(reporter_refused(r), 1);
        add(o, SECOND);
        reporter_wake(r, true);
        pass(120);
        CHECK(seen_until(2, 3000));
        for (int i = 0; i < 400 && !outbox_is_empty(o); i++)
                loop_for(event, 5);
        CHECK(outbox_is_empty(o));
        CHECK(idle > 0);
        reporter_free(r);
        outbox_free(o);
        cp_free(cp);
        credentials_done(&credentials);
}

int main(void) { return cp_kit_main(); }
