/* SPDX-License-Identifier: Apache-2.0 */

/* base/metrics: numbers by their labels, buckets, and the text; and the address of metrics_listen. */

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <unistd.h>

#include "agent/api-metrics.h"
#include "base/metrics.h"
#include "base/text.h"
#include "tests/kit.h"

static char *print(void) {
        char *text = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);

        metrics_print(to);
        if (fclose(to) != 0)
                abort();
        return text;
}

/* Whether the text has this line. */
static bool has(const char *text, const char *line) {
        _cleanup_free_ char *wanted = str_printf("\n%s\n", line), *all = str_printf("\n%s", text);

        if (!strstr(all, wanted))
                printf("# no line: %s\n", line);
        return strstr(all, wanted);
}

static unsigned count_series(const char *text) {
        unsigned n = 0;

        for (const char *line = text; *line; line = strchr(line, '\n') + 1)
                n += *line != '#';
        return n;
}

TEST(counters_by_label) {
        _cleanup_free_ char *text = NULL;

        metric_add(METRIC_JOBS, METRIC_JOB_PROVISION, METRIC_OUTCOME_FAILED, 1);
        metric_add(METRIC_JOBS, METRIC_JOB_PROVISION, METRIC_OUTCOME_FAILED, 2);
        metric_add(METRIC_JOBS, METRIC_JOB_OTHER, METRIC_OUTCOME_CANCELLED, 1);
        metric_add(METRIC_CP_RETRIES, 0, 0, 7);
        text = print();
        CHECK(has(text, "# TYPE molecule_agent_jobs_total counter"));
        CHECK(has(text, "molecule_agent_jobs_total{type=\"workspace.provision\",outcome=\"failed\"} 3"));
        CHECK(has(text, "molecule_agent_jobs_total{type=\"workspace.provision\",outcome=\"succeeded\"} 0"));
        CHECK(has(text, "molecule_agent_jobs_total{type=\"other\",outcome=\"cancelled\"} 1"));
        CHECK(has(text, "molecule_agent_cp_retries_total 7"));
        CHECK_INT(metric_get(METRIC_JOBS, METRIC_JOB_PROVISION, METRIC_OUTCOME_FAILED), 3);
}

TEST(values_out_of_range_are_nobodys) {
        _cleanup_free_ char *before = print(), *after = NULL;

        metric_add(METRIC_JOBS, METRIC_JOB_N, 0, 1);
        metric_add(METRIC_JOBS, 0, METRIC_OUTCOME_N, 1);
        metric_add(METRIC_CP_RETRIES, 1, 0, 1);
        metric_set(METRIC_WORKSPACES, METRIC_STATE_N, 0, 1);
        metric_observe(METRIC_JOB_STEP, METRIC_STEP_N, 1);
        metric_observe(METRIC_CP_RETRIES, 0, 1);
        after = print();
        CHECK_STR(after, before);
}

TEST(no_two_metrics_share_a_number) {
        static const struct { Metric m; unsigned a, b; } ends[] = {
                { METRIC_LOOP_AGE, METRIC_LOOP_N - 1, 0 }, { METRIC_DEGRADED, METRIC_CODE_N - 1, 0 }, { METRIC_JOBS, METRIC_JOB_N - 1, METRIC_OUTCOME_N - 1 },
                { METRIC_WORKSPACES, METRIC_STATE_N - 1, 0 }, { METRIC_PULLS, METRIC_RESULT_N - 1, 0 },
                { METRIC_CP_REQUESTS, METRIC_CALL_N - 1, METRIC_STATUS_N - 1 },
        };

        for (size_t i = 0; i < ELEMENTS(ends); i++) {
                double own = metric_get(ends[i].m, ends[i].a, ends[i].b), next = metric_get(ends[i].m + 1, 0, 0);

                metric_set(ends[i].m, ends[i].a, ends[i].b, own + 1000);
                CHECK_INT(metric_get(ends[i].m, ends[i].a, ends[i].b), own + 1000);
                CHECK_INT(metric_get(ends[i].m + 1, 0, 0), next);
                metric_set(ends[i].m, ends[i].a, ends[i].b, own);
        }
}

TEST(histogram) {
        _cleanup_free_ char *text = NULL;

        metric_observe(METRIC_JOB_STEP, METRIC_STEP_GATE, 1 * USEC_PER_SEC);    /* a bound belongs to its bucket */
        metric_observe(METRIC_JOB_STEP, METRIC_STEP_GATE, 1 * USEC_PER_SEC + 500000);
        metric_observe(METRIC_JOB_STEP, METRIC_STEP_GATE, 29 * USEC_PER_SEC);
        metric_observe(METRIC_JOB_STEP, METRIC_STEP_GATE, 3600 * USEC_PER_SEC);
        metric_observe(METRIC_ENGINE_CALL, 0, 700000);
        text = print();
        CHECK(has(text, "# TYPE molecule_agent_job_step_duration_seconds histogram"));
        CHECK(has(text, "molecule_agent_job_step_duration_seconds_bucket{step=\"gate\",le=\"1\"} 1"));
        CHECK(has(text, "molecule_agent_job_step_duration_seconds_bucket{step=\"gate\",le=\"5\"} 2"));
        CHECK(has(text, "molecule_agent_job_step_duration_seconds_bucket{step=\"gate\",le=\"30\"} 3"));
        CHECK(has(text, "molecule_agent_job_step_duration_seconds_bucket{step=\"gate\",le=\"300\"} 3"));
        CHECK(has(text, "molecule_agent_job_step_duration_seconds_bucket{step=\"gate\",le=\"+Inf\"} 4"));
        CHECK(has(text, "molecule_agent_job_step_duration_seconds_sum{step=\"gate\"} 3631.5"));
        CHECK(has(text, "molecule_agent_job_step_duration_seconds_count{step=\"gate\"} 4"));
        CHECK(has(text, "molecule_agent_job_step_duration_seconds_count{step=\"undo\"} 0"));
        CHECK(has(text, "molecule_agent_engine_request_duration_seconds_bucket{le=\"0.5\"} 0"));
        CHECK(has(text, "molecule_agent_engine_request_duration_seconds_bucket{le=\"5\"} 1"));
        CHECK(has(text, "molecule_agent_engine_request_duration_seconds_sum 0.7"));
        CHECK_INT(metric_get(METRIC_JOB_STEP, METRIC_STEP_GATE, 0), 4);
}

TEST(unknown_is_left_out) {
        _cleanup_free_ char *without = NULL, *with = NULL;

        metric_set(METRIC_CLOCK_SKEW, 0, 0, NAN);
        without = print();
        CHECK(!strstr(without, "\nmolecule_agent_clock_skew_seconds"));
        metric_set(METRIC_CLOCK_SKEW, 0, 0, -0.25);
        with = print();
        CHECK(has(with, "molecule_agent_clock_skew_seconds -0.25"));
        CHECK_INT(count_series(with), count_series(without) + 1);
}

TEST(large_numbers_are_whole) {
        _cleanup_free_ char *text = NULL;

        metric_set(METRIC_DISK_FREE, 0, 0, 123456789012345.0);
        text = print();
        CHECK(has(text, "molecule_agent_disk_free_bytes 123456789012345"));
}

TEST(at_most_400_series) {
        _cleanup_free_ char *text = NULL;

        metric_set(METRIC_CLOCK_SKEW, 0, 0, 0);
        text = print();
        CHECK(count_series(text) > 100);
        CHECK(count_series(text) + 1 /* build_info */ + METRIC_WORKSPACES_MAX <= METRIC_SERIES_MAX);
        CHECK(count_series(text) + 1 <= 144);
        CHECK(!strstr(text, "workspace_id"));
}

TEST(every_one_has_help_and_type_and_a_proper_name) {
        _cleanup_free_ char *text = print();
        unsigned n = 0;

        for (char *line = strtok(text, "\n"), name[100], rest[400]; line; line = strtok(NULL, "\n")) {
                if (sscanf(line, "# HELP " METRIC_PREFIX "%99s %399[^\n]", name, rest) != 2)
                        continue;
                n++;
                CHECK(rest[strlen(rest) - 1] == '.');
                line = strtok(NULL, "\n");
                CHECK(line && sscanf(line, "# TYPE " METRIC_PREFIX "%99s %399s", name, rest) == 2);
                CHECK((strcmp(rest, "counter") == 0) == (strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0));
        }
        CHECK_INT(n, _METRIC_MAX);
}

TEST(find) {
        CHECK_INT(metric_find(METRIC_JOBS, "workspace.restart"), METRIC_JOB_RESTART);
        CHECK_INT(metric_find(METRIC_JOBS, "host.drain"), METRIC_JOB_OTHER);
        CHECK_INT(metric_find(METRIC_JOBS, NULL), METRIC_JOB_OTHER);
        CHECK_INT(metric_find(METRIC_WORKSPACES, "online"), METRIC_STATE_ONLINE);
        CHECK_INT(metric_find(METRIC_DEGRADED, "torn_down"), METRIC_CODE_TORN_DOWN);
        CHECK_INT(metric_find(METRIC_DEGRADED, "internal"), METRIC_CODE_OTHER);
}

TEST(escaping) {
        char *text = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);

        metric_print_escaped(to, "a\"b\\c\nd");
        metric_print_head(to, "x", "gauge", "Words.");
        if (fclose(to) != 0)
                abort();
        CHECK_STR(text, "a\\\"b\\\\c\\nd# HELP molecule_agent_x Words.\n# TYPE molecule_agent_x gauge\n");
        free(text);
}

TEST(addresses) {
        static const char *const bad[] = { "", ":", ":9464", "9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:94x", "localhost:9464",
                                           "::1:9464", "[::1]", "[::1:9464", "[]:1", "[:1", "]:1", "[127.0.0.1]:1", "127.0.0.1.1:1",
                                           "1111:2222:3333:4444:5555:6666:7777:8888:9999:1:1:1:1" };
        ApiAddress a;

        CHECK_INT(api_address_parse("127.0.0.1:9464", &a), 0);
        CHECK(a.four.sin_family == AF_INET && ntohs(a.four.sin_port) == 9464 && ntohl(a.four.sin_addr.s_addr) == INADDR_LOOPBACK);
        CHECK_INT(api_address_parse("[::1]:1", &a), 0);
        CHECK(a.six.sin6_family == AF_INET6 && ntohs(a.six.sin6_port) == 1 && IN6_IS_ADDR_LOOPBACK(&a.six.sin6_addr));
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                if (!CHECK_INT(api_address_parse(bad[i], &a), -22))
                        printf("# %s\n", bad[i]);
}

TEST(loopback_addresses) {
        static const char *const near[] = { "127.0.0.1:1", "127.255.255.254:1", "[::1]:1" };
        static const char *const far[] = { "0.0.0.0:1", "126.255.255.255:1", "128.0.0.1:1", "192.0.2.1:1", "1.0.0.127:1", "[::]:1", "[2001:db8::1]:1", "[fe80::1]:1",
                                           "[::ffff:192.0.2.1]:1" };
        ApiAddress a;

        for (size_t i = 0; i < ELEMENTS(near); i++)
                if (!CHECK_INT(api_address_parse(near[i], &a), 0) || !CHECK(api_address_is_loopback(&a)))
                        printf("# %s\n", near[i]);
        for (size_t i = 0; i < ELEMENTS(far); i++)
                if (!CHECK_INT(api_address_parse(far[i], &a), 0) || !CHECK(!api_address_is_loopback(&a)))
                        printf("# %s\n", far[i]);
}

static char *text_of_nothing(void *userdata) {
        (void) userdata;
        return NULL;
}

/* Starts it and ends it: what it logged. */
static char *served_on(sd_event *event, const char *address) {
        FILE *log = tmpfile();
        int before = dup(STDERR_FILENO);
        char *words = calloc(1, 1000);
        ApiMetrics *m = NULL;
        Fault why = {};

        if (!log || !words || before < 0 || dup2(fileno(log), STDERR_FILENO) < 0)
                abort();
        CHECK_INT(api_metrics_start(event, address, text_of_nothing, NULL, &m, &why), 0);
        (void) api_metrics_stop(m);
        (void) dup2(before, STDERR_FILENO);
        (void) close(before);
        rewind(log);
        (void) !fread(words, 1, 999, log);
        (void) fclose(log);
        return words;
}

TEST(an_address_for_others_is_a_warning) {
        _cleanup_free_ char *warned = NULL, *quiet = NULL;
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;

        if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)     /* nobody else's network is listened on */
                SKIP("no network namespace can be made");
        CHECK(sd_event_new(&event) >= 0);
        warned = served_on(event, "0.0.0.0:9464");
        CHECK(strstr(warned, "0.0.0.0:9464 (metrics_listen), which is no loopback address"));
        quiet = served_on(event, "127.0.0.1:9464");
        CHECK_STR(quiet, "");
}

TEST_MAIN
