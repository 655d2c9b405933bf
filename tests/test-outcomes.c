/* SPDX-License-Identifier: Apache-2.0 */

/* provision/outcomes: a thousand last words, over restarts and damage. */

#include <errno.h>
#include <sys/resource.h>

#include "base/hash.h"
#include "base/record.h"
#include "provision/outcomes.h"
#include "provision/report.h"
#include "tests/kit.h"

static const char *job_id(unsigned n) {
        static char ids[4][UUID_SIZE];
        static unsigned turn;
        char *id = ids[turn++ % 4];

        (void) snprintf(id, UUID_SIZE, "%08x-4444-4444-8444-444444444444", n);
        return id;
}

static cJSON *report(unsigned n, const char *words) {
        Fault f = {};
        cJSON *json;

        (void) fault(&f, -EIO, FAULT_READINESS_TIMEOUT, "%s", words);
        json = report_make(&(Report) { .delivery_id = KIT_OTHER,
                                      .job_id = job_id(n),
                                      .type = "workspace.provision",
                                      .workspace_id = KIT_WORKSPACE,
                                      .generation = n + 1,
                                      .state = REPORT_FAILED,
                                      .stage = STAGE_FAILED,
                                      .progress = 50,
                                      .fault = &f },
                           kit_json("{\"rescue\":\"much text\"}"));
        if (!json)
                abort();
        return json;
}

static int add(Outcomes *o, unsigned n, const char *words) {
        _cleanup_json_ cJSON *json = report(n, words);

        return outcomes_add(o, json, NULL);
}

static Outcomes *reopen(const TestDir *d) {
        Outcomes *o = NULL;

        if (!CHECK_INT(outcomes_open(d->fd, &o, NULL), 0))
                abort();
        return o;
}

TEST(incident_18_remembers_over_a_restart) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = reopen(&d);
        const cJSON *found;

        CHECK(outcomes_find(o, job_id(1)) == NULL);
        CHECK_INT(add(o, 1, "one"), 0);
        CHECK_INT(add(o, 2, "two"), 0);
        for (int again = 0; again < 2; again++) {
                found = outcomes_find(o, job_id(1));
                CHECK_STR(json_get_string(found, "state"), "failed");
                CHECK_STR(json_get_string(found, "error/message"), "one");
                CHECK_STR(json_get_string(found, "generation"), "2");
                CHECK(json_get(found, "result") == NULL);
                CHECK(outcomes_find(o, job_id(2)) && !outcomes_find(o, job_id(3)) && !outcomes_find(o, ""));
                (void) outcomes_free(o);
                o = reopen(&d);
        }
}

TEST(the_first_word_stays) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = reopen(&d);

        CHECK_INT(add(o, 1, "first"), 0);
        CHECK_INT(add(o, 1, "second"), 0);
        CHECK_STR(json_get_string(outcomes_find(o, job_id(1)), "message"), "first");
}

TEST(what_an_operator_did_is_kept_each_time) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = reopen(&d);
        uint64_t before = now_boottime();
        _cleanup_json_ cJSON *json = kit_json("{\"source\":\"local\",\"state\":\"succeeded\"}"), *since = NULL;

        CHECK_INT(add(o, 1, "one"), 0);
        CHECK_INT(outcomes_add(o, json, NULL), 0);
        CHECK_INT(outcomes_add(o, json, NULL), 0);
        since = outcomes_since(o, before, 2);
        CHECK_INT(cJSON_GetArraySize(since), 2);
        CHECK_STR(json_get_string(cJSON_GetArrayItem(since, 0), "source"), "local");
        cJSON_Delete(since);
        since = outcomes_since(o, before, 10);
        CHECK_INT(cJSON_GetArraySize(since), 3);
        cJSON_Delete(since);
        since = outcomes_since(o, now_boottime() + 1, 10);
        CHECK_INT(cJSON_GetArraySize(since), 0);
}

TEST(without_a_job_id_nothing_is_kept) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = reopen(&d);
        _cleanup_json_ cJSON *json = kit_json("{\"report_id\":\"" KIT_OTHER "\",\"state\":\"refused\"}");

        CHECK_INT(outcomes_add(o, json, NULL), 0);
        CHECK(!test_dir_has(&d, "outcomes"));
}

static Outcomes *filled(const TestDir *d, unsigned more, const char *words) {
        Outcomes *o = reopen(d);

        for (unsigned i = 0; i < OUTCOMES_MAX + more; i++)
                if (!CHECK_INT(add(o, i, words), 0))
                        break;
        return o;
}

TEST(a_thousand_and_the_oldest_go) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = filled(&d, 30, "words");

        for (int again = 0; again < 2; again++) {
                CHECK(!outcomes_find(o, job_id(0)) && !outcomes_find(o, job_id(29)));
                CHECK(outcomes_find(o, job_id(30)) && outcomes_find(o, job_id(OUTCOMES_MAX + 29)));
                (void) outcomes_free(o);
                o = reopen(&d);
        }
        CHECK_INT(add(o, 5000, "after a restart the oldest is still the oldest"), 0);
        CHECK(!outcomes_find(o, job_id(30)) && outcomes_find(o, job_id(31)) && outcomes_find(o, job_id(5000)));
}

/* Written at once: a thousand reports whose words are as long as words can be. */
static void check_thousand(char fill) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = NULL;
        _cleanup_free_ char *words = kit_fill(fill, sizeof(((Fault *) NULL)->text) - 1);
        _cleanup_json_ cJSON *all = cJSON_CreateObject(), *last = report(9999, words);
        cJSON *list = cJSON_CreateArray();

        o = reopen(&d);
        CHECK_INT(outcomes_add(o, last, NULL), 0);
        (void) outcomes_free(o);
        for (unsigned i = 0; i < OUTCOMES_MAX; i++) {
                cJSON *one = report(i, words);

                cJSON_DeleteItemFromObjectCaseSensitive(one, "result");
                (void) cJSON_AddItemToArray(list, one);
        }
        CHECK(json_add_item(all, "outcomes", list));
        CHECK_INT(record_write(d.fd, "outcomes", "outcomes", all, NULL), 0);
        o = reopen(&d);
        CHECK(outcomes_find(o, job_id(0)) && outcomes_find(o, job_id(OUTCOMES_MAX - 1)));
        CHECK_INT(outcomes_add(o, last, NULL), 0);
        (void) outcomes_free(o);
        o = reopen(&d);
        CHECK(!outcomes_find(o, job_id(0)) && outcomes_find(o, job_id(1)) && outcomes_find(o, job_id(9999)));
}

TEST(a_thousand_of_the_largest_can_be_read_back) { check_thousand('w'); }
TEST(a_thousand_that_grow_when_escaped_can_be_read_back) { check_thousand('"'); }

/* A start with thousands of workspaces would otherwise write the whole of it for each. */
TEST(what_a_start_recalls_is_written_once) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = reopen(&d);
        _cleanup_json_ cJSON *one = report(1, "one"), *two = report(2, "two");

        CHECK_INT(outcomes_recall(o, one), 1);
        CHECK_INT(outcomes_recall(o, two), 1);
        CHECK_INT(outcomes_recall(o, one), 0);
        CHECK(outcomes_find(o, job_id(1)) && json_get(outcomes_find(o, job_id(2)), "result") == NULL);
        CHECK(!test_dir_has(&d, "outcomes"));
        CHECK_INT(outcomes_save(o, NULL), 0);
        (void) outcomes_free(o);
        o = reopen(&d);
        CHECK(outcomes_find(o, job_id(1)) && outcomes_find(o, job_id(2)));
}

static int recall_at(Outcomes *o, unsigned n, const char *at) {
        _cleanup_json_ cJSON *json = report(n, "words");

        (void) cJSON_ReplaceItemInObjectCaseSensitive(json, "at", cJSON_CreateString(at));
        return outcomes_recall(o, json);
}

/* More workspaces than the ring has room for: what gave way before does not come back in place of what only the ring knows. */
TEST(what_gave_way_is_not_recalled) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = reopen(&d);
        _cleanup_json_ cJSON *since = NULL;
        uint64_t before = now_boottime();

        for (unsigned i = 0; i < OUTCOMES_MAX; i++)
                CHECK_INT(recall_at(o, i, "2026-01-02T03:04:05.000Z"), 1);
        CHECK_INT(recall_at(o, 5000, "2026-01-02T03:04:04.999Z"), 0);
        CHECK(outcomes_find(o, job_id(0)) && !outcomes_find(o, job_id(5000)));
        CHECK_INT(recall_at(o, 5001, "2026-01-02T03:04:05.001Z"), 1);   /* a crash came between its record and the ring */
        CHECK(!outcomes_find(o, job_id(0)) && outcomes_find(o, job_id(5001)));
        since = outcomes_since(o, before, 10);
        CHECK_INT(cJSON_GetArraySize(since), 0);                        /* all of them ended before this start */
}

TEST(a_damaged_record_starts_empty_and_says_so) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = NULL;
        Fault f = {};

        test_dir_text(&d, "outcomes", "molecule-agent outcomes v1 3 0123\n{}\n");
        CHECK_INT(outcomes_open(d.fd, &o, &f), 0);
        CHECK(f.set);
        CHECK(test_dir_has(&d, "quarantine/outcomes") && test_dir_has(&d, "quarantine/outcomes.reason"));
        CHECK_INT(add(o, 1, "goes on"), 0);
        (void) outcomes_free(o);
        o = reopen(&d);
        CHECK(outcomes_find(o, job_id(1)));
}

/* What the record says is not known to be nothing: a start that began with an empty ring would write it over. */
TEST(what_cannot_be_read_now_stops_the_start) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = reopen(&d);
        struct rlimit l, none;
        Fault f = {};

        CHECK_INT(add(o, 1, "one"), 0);
        o = outcomes_free(o);
        CHECK_INT(getrlimit(RLIMIT_NOFILE, &l), 0);
        none = l;
        none.rlim_cur = 0;
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
        CHECK_INT(outcomes_open(d.fd, &o, &f), -EMFILE);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &l), 0);
        CHECK(o == NULL && f.set);
        CHECK(!test_dir_has(&d, "quarantine"));
        o = reopen(&d);
        CHECK(outcomes_find(o, job_id(1)));
}

TEST(what_cannot_be_written_is_kept_in_memory) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(outcomes_freep) Outcomes *o = reopen(&d);
        _cleanup_json_ cJSON *json = report(1, "words");
        Fault g = {};

        CHECK_INT(mkdirat(d.fd, "outcomes", 0700), 0);          /* no file takes its place */
        CHECK(outcomes_add(o, json, &g) < 0);
        CHECK_STR(kit_code(&g), "state_degraded");
        CHECK(outcomes_find(o, job_id(1)));
        CHECK(outcomes_save_again(o) < 0);
        CHECK_INT(unlinkat(d.fd, "outcomes", AT_REMOVEDIR), 0);
        CHECK_INT(outcomes_save_again(o), 0);
        (void) outcomes_free(o);
        o = reopen(&d);
        CHECK(outcomes_find(o, job_id(1)));
        CHECK_INT(unlinkat(d.fd, "outcomes", 0), 0);
        CHECK_INT(outcomes_save_again(o), 0);                   /* once */
        CHECK(!test_dir_has(&d, "outcomes"));
}

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
