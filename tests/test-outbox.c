/* SPDX-License-Identifier: Apache-2.0 */

/* agent/outbox: durable before it says so, in order after a restart, bounded, and one bad file stops nobody. */

#include <errno.h>

#include "agent/outbox.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/record.h"
#include "tests/kit.h"

static const char *id(unsigned n) {
        static char ids[4][UUID_SIZE];
        static unsigned turn;
        char *text = ids[turn++ % 4];

        (void) snprintf(text, UUID_SIZE, "%08x-5555-4555-8555-555555555555", n);
        return text;
}

static cJSON *report(unsigned n, const char *job, const char *state) {
        cJSON *json = cJSON_CreateObject();

        if (!json_add_string(json, "report_id", id(n)) || !json_add_string(json, "job_id", job) ||
            !json_add_string(json, "workspace_id", KIT_WORKSPACE) || !json_add_string(json, "state", state) ||
            !json_add_time(json, "at", UINT64_C(1767323045) * USEC_PER_SEC + n * USEC_PER_MSEC))
                abort();
        return json;
}

static Outbox *open_outbox(const TestDir *d) {
        Outbox *o = NULL;

        if (!CHECK_INT(outbox_open(d->fd, &o, NULL), 0))
                abort();
        return o;
}

/* The batch as its ids' first numbers: "1 2 3". Valid until the next call. */
static const char *batch(const Outbox *o, size_t max) {
        static char text[400];
        _cleanup_json_ cJSON *list = outbox_batch(o, max);
        const cJSON *item;
        size_t used = 0;

        text[0] = 0;
        cJSON_ArrayForEach(item, list)
                if (used < sizeof text)
                        used += (size_t) snprintf(text + used, sizeof text - used, "%s%ld", used ? " " : "",
                                                  strtol(json_get_string(item, "report_id"), NULL, 16));
        return text;
}

TEST(oldest) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);
        const uint64_t second = UINT64_C(1767323045) * USEC_PER_SEC;

        CHECK_INT(outbox_oldest(o), 0);
        CHECK_INT(outbox_add(o, report(1, "job-1", "running"), false, NULL), 0);
        CHECK_INT(outbox_oldest(o), 0);
        CHECK_INT(outbox_add(o, report(2, "job-2", "accepted"), true, NULL), 0);
        CHECK_INT(outbox_add(o, report(3, "job-3", "failed"), true, NULL), 0);
        CHECK_INT(outbox_oldest(o), second + 2 * USEC_PER_MSEC);
        CHECK_INT(outbox_acked(o, id(2), NULL), 0);
        CHECK_INT(outbox_oldest(o), second + 3 * USEC_PER_MSEC);
}

TEST(incident_20_durable_before_it_returns) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);
        _cleanup_json_ cJSON *found = NULL;

        CHECK(outbox_is_empty(o) && outbox_batch(o, 10) == NULL);
        CHECK_INT(outbox_add(o, report(1, KIT_JOB, "accepted"), true, NULL), 0);
        CHECK_INT(test_dir_count(&d, "outbox"), 1);
        CHECK_INT(outbox_depth(o), 1);
        (void) outbox_free(o);
        o = open_outbox(&d);
        CHECK_INT(outbox_depth(o), 1);
        CHECK_STR(batch(o, 10), "1");
        found = outbox_batch(o, 1);
        CHECK_STR(json_get_string(cJSON_GetArrayItem(found, 0), "state"), "accepted");
}

TEST(in_the_order_they_were_made_after_a_restart_too) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);

        for (unsigned i = 0; i < 20; i++) {
                cJSON *json = report(0xf00 - i, KIT_JOB, "failed");     /* names fall while times rise */

                kit_set(json, "at", NULL);
                CHECK(json_add_time(json, "at", UINT64_C(1767323045) * USEC_PER_SEC + i * USEC_PER_MSEC));
                CHECK_INT(outbox_add(o, json, true, NULL), 0);
        }
        for (int again = 0; again < 2; again++) {
                CHECK_STR(batch(o, 4), "3840 3839 3838 3837");
                CHECK(outbox_oldest(o) == UINT64_C(1767323045) * USEC_PER_SEC);
                (void) outbox_free(o);
                o = open_outbox(&d);
        }
}

TEST(running_words_coalesce) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);

        CHECK_INT(outbox_add(o, report(9, KIT_OTHER, "running"), false, NULL), 0);
        CHECK(outbox_oldest(o) == 0);                           /* words that may be lost do not age */
        CHECK_INT(outbox_add(o, report(1, KIT_JOB, "accepted"), true, NULL), 0);
        CHECK(outbox_oldest(o) > 0);
        CHECK_INT(outbox_add(o, report(2, KIT_JOB, "running"), false, NULL), 0);
        CHECK_INT(outbox_add(o, report(3, KIT_OTHER, "running"), false, NULL), 0);
        CHECK_INT(outbox_add(o, report(4, KIT_JOB, "running"), false, NULL), 0);
        CHECK_STR(batch(o, 10), "1 3 4");
        CHECK_INT(outbox_depth(o), 1);
        CHECK_INT(test_dir_count(&d, "outbox"), 1);
        CHECK_INT(outbox_add(o, report(5, KIT_JOB, "succeeded"), true, NULL), 0);
        CHECK_STR(batch(o, 10), "1 3 5");
        (void) outbox_free(o);
        o = open_outbox(&d);
        CHECK_STR(batch(o, 10), "1 5");
}

TEST(one_id_once) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);

        CHECK_INT(outbox_add(o, report(1, KIT_JOB, "accepted"), true, NULL), 0);
        CHECK_INT(outbox_add(o, report(1, KIT_JOB, "failed"), true, NULL), 0);
        CHECK_INT(outbox_depth(o), 1);
        (void) outbox_free(o);
        o = open_outbox(&d);
        CHECK_INT(outbox_add(o, report(1, KIT_JOB, "accepted"), true, NULL), 0);
        CHECK_INT(outbox_depth(o), 1);
}

TEST(no_id_no_file) {
        static const char *const ids[] = { NULL, "\"\"", "\"../../etc/passwd\"", "7", "\"11111111-1111-4111-8111-11111111111A\"" };
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);

        for (size_t i = 0; i < ELEMENTS(ids); i++) {
                cJSON *json = report(1, KIT_JOB, "failed");

                kit_set(json, "report_id", ids[i]);
                CHECK_INT(outbox_add(o, json, true, NULL), 0);
        }
        CHECK(outbox_is_empty(o));
        CHECK_INT(test_dir_count(&d, "outbox"), 0);
}

TEST(acked) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);

        CHECK_INT(outbox_add(o, report(1, KIT_JOB, "accepted"), true, NULL), 0);
        CHECK_INT(outbox_add(o, report(2, KIT_JOB, "running"), false, NULL), 0);
        CHECK_INT(outbox_add(o, report(3, KIT_OTHER, "failed"), true, NULL), 0);
        CHECK_INT(outbox_acked(o, id(99), NULL), 0);
        CHECK_INT(outbox_acked(o, "", NULL), 0);
        CHECK_INT(outbox_acked(o, id(1), NULL), 0);
        CHECK_INT(outbox_acked(o, id(1), NULL), 0);
        CHECK_STR(batch(o, 10), "2 3");
        CHECK_INT(outbox_acked(o, id(2), NULL), 0);
        CHECK_INT(outbox_depth(o), 1);
        CHECK_INT(test_dir_count(&d, "outbox"), 1);
        CHECK_INT(outbox_acked(o, id(3), NULL), 0);
        CHECK(outbox_is_empty(o));
        CHECK_INT(test_dir_count(&d, "outbox"), 0);
}

TEST(what_the_other_side_never_takes_goes_to_quarantine) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);

        CHECK_INT(outbox_add(o, report(1, KIT_JOB, "failed"), true, NULL), 0);
        CHECK_INT(outbox_add(o, report(2, KIT_OTHER, "running"), false, NULL), 0);
        CHECK_INT(outbox_quarantine(o, id(1), NULL), 0);
        CHECK_INT(outbox_quarantine(o, id(2), NULL), 0);
        CHECK_INT(outbox_quarantine(o, id(3), NULL), 0);
        CHECK(outbox_is_empty(o));
        CHECK_INT(test_dir_count(&d, "outbox"), 0);
        CHECK_INT(test_dir_count(&d, "quarantine"), 2);    /* each with its .reason */
}

/* ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static cJSON *large(unsigned n, size_t size) {
        cJSON *json = report(n, id(n), "failed");
        _cleanup_free_ char *text = kit_fill('x', size);

        if (!json_add_string(json, "message", text))
                abort();
        return json;
}

TEST(batches_are_bounded) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);

        CHECK_INT(outbox_add(o, large(1, 600 * 1024), true, NULL), 0);
        for (unsigned i = 2; i < 7; i++)
                CHECK_INT(outbox_add(o, large(i, 200 * 1024), true, NULL), 0);
        CHECK_STR(batch(o, 100), "1");                  /* alone above the limit: it goes alone */
        CHECK_INT(outbox_acked(o, id(1), NULL), 0);
        CHECK_STR(batch(o, 100), "2 3");
        CHECK_STR(batch(o, 1), "2");
}

TEST(full_by_number) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);
        unsigned n = 0;

        for (; n < OUTBOX_REPORTS_MAX && !outbox_is_full(o); n++)
                if (!CHECK_INT(outbox_add(o, report(n, id(n), "failed"), true, NULL), 0))
                        break;
        CHECK_INT(n, OUTBOX_REPORTS_MAX);
        CHECK(outbox_is_full(o));
        CHECK_INT(outbox_add(o, report(n, id(n), "failed"), true, NULL), 0);    /* a final is never dropped */
        CHECK_INT(outbox_depth(o), OUTBOX_REPORTS_MAX + 1);
        CHECK_INT(outbox_acked(o, id(0), NULL), 0);
        CHECK(outbox_is_full(o));
        CHECK_INT(outbox_acked(o, id(1), NULL), 0);
        CHECK(!outbox_is_full(o));
}

TEST(full_by_bytes) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);
        unsigned n = 0;

        for (; n < 100 && !outbox_is_full(o); n++)
                CHECK_INT(outbox_add(o, large(n, 1000 * 1024), true, NULL), 0);
        CHECK_INT(n, 66);                               /* 64 MiB of 1000 KiB and a little more each */
        CHECK_INT(outbox_acked(o, id(0), NULL), 0);
        CHECK(!outbox_is_full(o));
        (void) outbox_free(o);
        o = open_outbox(&d);
        CHECK_INT(outbox_depth(o), 65);
}

/* ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(one_bad_file_stops_nobody) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);
        _cleanup_json_ cJSON *json = report(8, KIT_JOB, "failed");
        char name[64];

        CHECK_INT(outbox_add(o, report(1, KIT_JOB, "accepted"), true, NULL), 0);
        CHECK_INT(outbox_add(o, report(9, KIT_JOB, "failed"), true, NULL), 0);
        (void) outbox_free(o);
        (void) snprintf(name, sizeof name, "outbox/%s", id(2));
        test_dir_text(&d, name, "garbage");
        (void) snprintf(name, sizeof name, "outbox/%s", id(3));
        test_dir_text(&d, name, "");
        CHECK_INT(record_write(d.fd, "x", "report", json, NULL), 0);
        (void) snprintf(name, sizeof name, "outbox/%s", id(4));
        CHECK_INT(renameat(d.fd, "x", d.fd, name), 0);  /* a good record under another's name */
        o = open_outbox(&d);
        CHECK_STR(batch(o, 10), "1 9");
        CHECK_INT(test_dir_count(&d, "outbox"), 2);
        CHECK_INT(test_dir_count(&d, "quarantine"), 6);
}

TEST(what_cannot_be_written_is_kept_and_said) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outbox_freep) Outbox *o = open_outbox(&d);
        Fault f = {};

        CHECK_INT(unlinkat(d.fd, "outbox", AT_REMOVEDIR), 0);
        CHECK(outbox_add(o, report(1, KIT_JOB, "failed"), true, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK_STR(batch(o, 10), "1");
        CHECK_INT(outbox_acked(o, id(1), NULL), 0);
        CHECK(outbox_is_empty(o));
}

int main(void) {
        (void) log_set_level("error");
        return hash_init() < 0 ? 1 : test_run_all();
}
