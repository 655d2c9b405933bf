/* SPDX-License-Identifier: Apache-2.0 */

/* agent/config: where values come from and which wins, every bad one with its place, and the last good set kept for a bad day. */

#include <errno.h>

#include "agent/config.h"
#include "base/file.h"
#include "tests/kit.h"

/* A configuration directory with these files, and an empty environment but for it. */
static void prepare(const TestDir *d, const char *main_file, const char *dropin_a, const char *dropin_b) {
        CHECK_INT(clearenv(), 0);
        CHECK_INT(setenv("CONFIGURATION_DIRECTORY", d->path, 1), 0);
        if (main_file)
                test_dir_text(d, "agent.conf", main_file);
        if (dropin_a || dropin_b)
                (void) mkdirat(d->fd, "agent.conf.d", 0700);
        if (dropin_a)
                test_dir_text(d, "agent.conf.d/10-a.conf", dropin_a);
        if (dropin_b)
                test_dir_text(d, "agent.conf.d/20-b.conf", dropin_b);
}

static Config *load(void) {
        Config *c = NULL;
        Fault f = {};

        if (!CHECK_INT(config_load(NULL, false, &c, &f), 0)) {
                printf("Bail out! %s\n", f.text);
                exit(1);
        }
        return c;
}

static char *show(const Config *c) {
        char *text = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);

        config_show(c, to);
        if (fclose(to) != 0)
                abort();
        return text;
}

/* The line of `key`; "" when there is none. Valid until the next call. */
static const char *shown(const Config *c, const char *key) {
        static char line[400];
        _cleanup_free_ char *text = show(c), *start = str_printf("\n%s = ", key);
        char *all = str_printf("\n%s", text), *at = strstr(all, start);

        (void) snprintf(line, sizeof line, "%.*s", at ? (int) strcspn(at + 1, "\n") : 0, at ? at + 1 : "");
        free(all);
        return line;
}

/* ── defaults and precedence ─────────────────────────────────────────────────────────────────────────────────── */

TEST(defaults) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL;

        prepare(&d, NULL, NULL, NULL);
        c = load();
        CHECK(!c->cp_url && !c->org_id && !config_can_enrol(c));
        CHECK_STR(c->cp_prefix, "/api/v1");
        CHECK_STR(c->engine_socket, "/var/run/docker.sock");
        CHECK_STR(c->network, "molecule-core-net");
        CHECK_STR(c->advertise_host, "127.0.0.1");
        CHECK_STR(c->probe_path, "/");
        CHECK_STR(c->log_level, "info");
        CHECK(c->port_low == 20000 && c->port_high == 29999 && !c->allow_insecure_loopback);
        CHECK(c->max_parallel_jobs == 4 && c->max_workspaces == 256 && c->max_tier == 2 && c->crash_loop_restarts == 5);
        CHECK(c->connect_timeout_seconds == 10 && c->engine_timeout_seconds == 60 && c->engine_wait_seconds == 600);
        CHECK(c->stop_timeout_seconds == 10 && c->probe_timeout_seconds == 300 && c->job_deadline_seconds == 7200 &&
              c->pull_stall_seconds == 120);
        CHECK(c->crash_loop_window_seconds == 600 && c->volume_grace_seconds == 86400 && !c->registry_auth_file);
        CHECK(c->prefetch && c->prefetch_spread_seconds == 300 && c->gc_high_percent == 85 && c->gc_low_percent == 75);
        CHECK_INT(c->min_free_bytes, INT64_C(5) << 30);
        CHECK_STR(c->launcher, "/usr/lib/molecule-agent/molecule-launch");
        CHECK(!c->require_signed_jobs && !c->signing_keys && c->trusted.n == 0 && !c->allow_unlocked_memory);
        CHECK(c->tier_memory_mb[1] == 256 && c->tier_memory_mb[2] == 512 && c->tier_memory_mb[3] == 2048 && c->tier_memory_mb[4] == 4096);
        CHECK(c->tier_cpu_shares[1] == 512 && c->tier_cpu_shares[2] == 1024 && c->tier_cpu_shares[3] == 2048 &&
              c->tier_cpu_shares[4] == 4096);
        CHECK(c->registry_list[0] && c->registry_list[1] && !c->registry_list[2]);
        CHECK_STR(shown(c, "max_tier"), "max_tier = 2\t# default");
}

TEST(each_source_over_the_one_before) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_free_ char *wanted = NULL;

        for (int sources = 0; sources < 6; sources++) {
                static const char *const logs[] = { "info", "debug", "error", "warning", "notice", "debug" };
                _cleanup_(config_freep) Config *c = NULL;

                prepare(&d, sources > 0 ? "[agent]\nlog_level = debug\n" : NULL, sources > 1 ? "[agent]\nlog_level = error\n" : NULL,
                        sources > 2 ? "# words\n\n[agent]\nlog_level = warning\n" : NULL);
                if (sources > 3)
                        CHECK_INT(setenv("MOLECULE_AGENT_LOG_LEVEL", "notice", 1), 0);
                if (sources > 4)
                        CHECK_INT(setenv("MOLECULE_AGENT_LOG_LEVEL", "debug", 1), 0);
                c = load();
                CHECK_STR(c->log_level, logs[sources]);
                free(TAKE_PTR(wanted));
                wanted = sources == 0   ? str_printf("log_level = info\t# default")
                         : sources == 1 ? str_printf("log_level = debug\t# %s/agent.conf:2", d.path)
                         : sources == 2 ? str_printf("log_level = error\t# %s/agent.conf.d/10-a.conf:2", d.path)
                         : sources == 3 ? str_printf("log_level = warning\t# %s/agent.conf.d/20-b.conf:4", d.path)
                                        : str_printf("log_level = %s\t# MOLECULE_AGENT_LOG_LEVEL", logs[sources]);
                CHECK_STR(shown(c, "log_level"), wanted);
        }
}

TEST(the_platform_s_names_are_only_a_fallback) {
        static const struct { const char *env, *value, *key; } names[] = {
                { "MOLECULE_CP_URL", "https://env.example", "cp_url" },
                { "MOLECULE_ORG_ID", KIT_ORG, "org_id" },
                { "MOLECULE_ORG_SLUG", "slug", "org_slug" },
                { "MOLECULE_IMAGE_REGISTRY", "env.example", "registries" },
                { "TIER2_MEMORY_MB", "77", "tier2_memory_mb" },
                { "TIER3_MEMORY_MB", "77", "tier3_memory_mb" },
                { "TIER4_MEMORY_MB", "77", "tier4_memory_mb" },
                { "TIER2_CPU_SHARES", "77", "tier2_cpu_shares" },
                { "TIER3_CPU_SHARES", "77", "tier3_cpu_shares" },
                { "TIER4_CPU_SHARES", "77", "tier4_cpu_shares" },
        };
        static const char file[] =
                "[agent]\ncp_url = https://file.example\norg_id = " KIT_OTHER
                "\norg_slug = other\nregistries = file.example\ntier2_memory_mb = 99\n"
                "tier3_memory_mb = 99\ntier4_memory_mb = 99\ntier2_cpu_shares = 99\ntier3_cpu_shares = 99\ntier4_cpu_shares = 99\n";

        for (size_t i = 0; i < ELEMENTS(names); i++)
                for (int given = 0; given < 2; given++) {
                        _cleanup_dir_ TestDir d = test_dir();
                        _cleanup_(config_freep) Config *c = NULL;
                        _cleanup_free_ char *wanted = str_printf("%s = %s\t# %s", names[i].key, names[i].value, names[i].env);

                        prepare(&d, given ? file : NULL, NULL, NULL);
                        CHECK_INT(setenv(names[i].env, names[i].value, 1), 0);
                        c = load();
                        if (!CHECK((strcmp(shown(c, names[i].key), wanted) == 0) == !given))
                                printf("#   in: %s, %s\n", names[i].env, shown(c, names[i].key));
                }
}

TEST(an_empty_variable_is_as_none) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL;

        prepare(&d, "[agent]\nmax_tier = 3\n", NULL, NULL);
        CHECK_INT(setenv("MOLECULE_AGENT_MAX_TIER", "", 1) | setenv("MOLECULE_AGENT_CP_URL", "", 1) | setenv("MOLECULE_ORG_ID", "", 1), 0);
        CHECK_INT(setenv("MOLECULE_CP_URL", "https://cp.example", 1), 0);
        c = load();
        CHECK_INT(c->max_tier, 3);
        CHECK_STR(c->cp_url, "https://cp.example");
        CHECK(!c->org_id);
}

TEST(a_named_file_stands_alone) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL;
        _cleanup_free_ char *path = str_printf("%s/mine.conf", d.path), *none = str_printf("%s/none.conf", d.path);
        Fault f = {};

        prepare(&d, "[agent]\nmax_tier = 3\n", "[agent]\nmax_parallel_jobs = 9\n", NULL);
        test_dir_text(&d, "mine.conf", "[agent]\nmax_workspaces = 5\n");
        CHECK_INT(config_load(path, false, &c, NULL), 0);
        CHECK(c && c->max_tier == 2 && c->max_parallel_jobs == 4 && c->max_workspaces == 5);
        c = config_free(c);
        CHECK(config_load(none, false, &c, &f) < 0);
        CHECK_STR(kit_code(&f), "config_invalid");
        CHECK(strstr(f.text, "none.conf"));
}

TEST(only_conf_files_are_drop_ins) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL;

        prepare(&d, NULL, "[agent]\nmax_tier = 1\n", NULL);
        test_dir_text(&d, "agent.conf.d/99-old.conf.bak", "[agent]\nmax_tier = 4\n");
        test_dir_text(&d, "agent.conf.d/.hidden.conf", "[agent]\nmax_tier = 4\n");
        test_dir_text(&d, "agent.conf.d/.conf", "[agent]\nmax_tier = 4\n");
        c = load();
        CHECK_INT(c->max_tier, 1);
}

/* ── bad values ──────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct { const char *key, *value; } bad[] = {
        { "cp_url", "ftp://cp.example" },
        { "cp_url", "cp.example" },
        { "cp_url", "https://user@cp.example" },
        { "cp_url", "https://cp.example?x" },
        { "cp_url", "https://cp.example#x" },
        { "cp_url", "https://cp.example/a b" },
        { "cp_url", "https://" },
        { "cp_url", "https:///x" },
        { "cp_prefix", "api" },
        { "cp_prefix", "/api/" },
        { "cp_prefix", "/" },
        { "org_id", "x" },
        { "org_id", "11111111-1111-4111-8111-11111111111A" },
        { "org_slug", "X" },
        { "org_slug", "a" },
        { "ca_file", "ca.pem" },
        { "connect_timeout_seconds", "0" },
        { "connect_timeout_seconds", "301" },
        { "connect_timeout_seconds", "10s" },
        { "connect_timeout_seconds", "" },
        { "connect_timeout_seconds", "-1" },
        { "connect_timeout_seconds", "99999999999999999999" },
        { "allow_insecure_loopback", "maybe" },
        { "allow_insecure_loopback", "YES" },
        { "log_level", "loud" },
        { "engine_socket", "docker.sock" },
        { "engine_timeout_seconds", "0" },
        { "engine_wait_seconds", "x" },
        { "network", "a b" },
        { "advertise_host", "a:80" },
        { "advertise_host", "a/b" },
        { "port_range", "20000" },
        { "port_range", "30000-20000" },
        { "port_range", "1023-2000" },
        { "port_range", "20000-65536" },
        { "port_range", "20000-29999x" },
        { "port_range", "-20000" },
        { "port_range", "" },
        { "max_parallel_jobs", "0" },
        { "max_parallel_jobs", "65" },
        { "max_workspaces", "0" },
        { "max_workspaces", "4097" },
        { "max_tier", "0" },
        { "max_tier", "5" },
        { "tier1_memory_mb", "15" },
        { "tier4_cpu_shares", "x" },
        { "stop_timeout_seconds", "3601" },
        { "probe_path", "healthz" },
        { "probe_timeout_seconds", "7201" },
        { "crash_loop_restarts", "0" },
        { "job_deadline_seconds", "86401" },
        { "pull_stall_seconds", "0" },
        { "crash_loop_window_seconds", "0" },
        { "volume_grace_seconds", "31536001" },
        { "registry_auth_file", "config.json" },
        { "prefetch", "later" },
        { "prefetch_spread_seconds", "86401" },
        { "gc_high_percent", "101" },
        { "gc_low_percent", "0" },
        { "min_free_bytes", "5X" },
        { "min_free_bytes", "G" },
        { "min_free_bytes", "-5G" },
        { "min_free_bytes", "5GG" },
        { "min_free_bytes", "5 G" },
        { "min_free_bytes", "16777216T" },
        { "min_free_bytes", "99999999999999999999999999" },
        { "launcher", "molecule-launch" },
        { "require_signed_jobs", "maybe" },
        { "allow_unlocked_memory", "2" },
        { "provision_secret_file", "secret" },
        { "admin_token_file", "~/token" },
};

TEST(every_bad_value_gives_its_place) {
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_free_ char *text = str_printf("[agent]\n# words\n%s = %s\n", bad[i].key, bad[i].value), *place = NULL;
                Config *c = NULL;
                Fault f = {};

                prepare(&d, text, NULL, NULL);
                place = str_printf("%s/agent.conf:3", d.path);
                if (!CHECK(config_load(NULL, false, &c, &f) < 0) || !CHECK_STR(kit_code(&f), "config_invalid") ||
                    !CHECK(strstr(f.text, place)) || !CHECK(strstr(f.text, bad[i].key)))
                        printf("#   in: %s = %s: %s\n", bad[i].key, bad[i].value, f.text);
                config_free(c);
        }
}

TEST(a_bad_variable_is_named) {
        _cleanup_dir_ TestDir d = test_dir();
        Config *c = NULL;
        Fault f = {}, g = {};

        prepare(&d, NULL, NULL, NULL);
        CHECK_INT(setenv("MOLECULE_AGENT_MAX_TIER", "9", 1), 0);
        CHECK(config_load(NULL, false, &c, &f) < 0);
        CHECK(strstr(f.text, "MOLECULE_AGENT_MAX_TIER"));
        prepare(&d, NULL, NULL, NULL);
        CHECK_INT(setenv("TIER2_MEMORY_MB", "lots", 1), 0);
        CHECK(config_load(NULL, false, &c, &g) < 0);
        CHECK(strstr(g.text, "TIER2_MEMORY_MB") && !strstr(g.text, "lots"));
}

TEST(a_variable_holds_no_second_line) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL;
        Fault f = {};

        prepare(&d, NULL, NULL, NULL);
        CHECK_INT(setenv("MOLECULE_AGENT_PROXY", "http://proxy.example\nmax_tier = 4", 1), 0);
        CHECK(config_load(NULL, false, &c, &f) < 0);
        CHECK_STR(kit_code(&f), "config_invalid");
}

TEST(damaged_files_are_not_valid) {
        static const char *const texts[] = { "max_tier = 2\n", "[agent]\nmax_tier 2\n", "[other]\n",
                                             "[agent\n",       "[agent]\nx = \x01\n",   "[agent]\nMAX = 1\n" };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                Config *c = NULL;
                Fault f = {};

                prepare(&d, NULL, texts[i], NULL);
                CHECK(config_load(NULL, false, &c, &f) < 0);
                CHECK_STR(kit_code(&f), "config_invalid");
                CHECK(strstr(f.text, "10-a.conf:"));
        }
}

TEST(an_unknown_key_is_a_warning_with_its_place) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_free_ char *text = NULL, *place = NULL;
        FILE *saved = stderr;
        size_t size = 0;

        prepare(&d, "[agent]\nmax_tiers = 2\n", NULL, NULL);
        place = str_printf("%s/agent.conf:2", d.path);
        for (int warn = 0; warn < 2; warn++) {
                Config *c = NULL;

                stderr = open_memstream(&text, &size);
                CHECK_INT(config_load(NULL, warn, &c, NULL), 0);
                (void) fclose(stderr);
                stderr = saved;
                CHECK((strstr(text, place) && strstr(text, "'max_tiers'")) == warn);
                free(TAKE_PTR(text));
                config_free(c);
        }
}

/* ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(plain_http_only_to_loopback_and_only_when_allowed) {
        static const struct { const char *url; bool allow, good; } table[] = {
                { "https://cp.example", false, true },
                { "https://cp.example", true, true },
                { "http://cp.example", false, false },
                { "http://cp.example", true, false },
                { "http://127.0.0.1:8080", false, false },
                { "http://127.0.0.1:8080", true, true },
                { "http://[::1]:8080", true, true },
                { "http://localhost:8080", true, false },
                { "http://127.0.0.1.evil.example", true, false },
                { "http://10.0.0.1", true, false },
                { "http://127.9.9.9", true, true },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_free_ char *text =
                        str_printf("[agent]\ncp_url = %s\nallow_insecure_loopback = %s\n", table[i].url, table[i].allow ? "yes" : "no");
                Config *c = NULL;
                Fault f = {};

                prepare(&d, text, NULL, NULL);
                if (!CHECK((config_load(NULL, false, &c, &f) == 0) == table[i].good) ||
                    !CHECK_STR(kit_code(&f), table[i].good ? "" : "config_invalid"))
                        printf("#   in: %s\n", table[i].url);
                CHECK(table[i].good || strstr(f.text, "cp_url"));
                config_free(c);
        }
}

TEST(what_enrolling_needs) {
        static const struct { const char *text; bool can; } table[] = {
                { "", false }, { "cp_url = https://cp.example\n", false }, { "org_id = " KIT_ORG "\n", false },
                { "cp_url = https://cp.example///\norg_id = " KIT_ORG "\n", true },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_(config_freep) Config *c = NULL;
                _cleanup_free_ char *text = str_printf("[agent]\n%s", table[i].text);

                prepare(&d, text, NULL, NULL);
                c = load();
                CHECK(config_can_enrol(c) == table[i].can);
                CHECK(!table[i].can || strcmp(c->cp_url, "https://cp.example") == 0);
        }
}

TEST(sizes_booleans_and_lists) {
        static const struct { const char *text; uint64_t bytes; } sizes[] = {
                { "0", 0 }, { "17", 17 }, { "3K", 3 << 10 }, { "3M", 3 << 20 }, { "3G", UINT64_C(3) << 30 }, { "3T", UINT64_C(3) << 40 },
                { "16777215T", UINT64_C(16777215) << 40 },
        };
        static const char *const yes[] = { "yes", "true", "on", "1" };

        for (size_t i = 0; i < ELEMENTS(sizes); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_(config_freep) Config *c = NULL;
                _cleanup_free_ char *text = str_printf(
                        "[agent]\nmin_free_bytes = %s\nallow_insecure_loopback = %s\nregistries = a.example, b.example:1/x  c.example,,\n",
                        sizes[i].text, yes[i % 4]);

                prepare(&d, text, NULL, NULL);
                c = load();
                CHECK(c->min_free_bytes == sizes[i].bytes);
                CHECK(c->allow_insecure_loopback);
                CHECK_STR(c->registry_list[0], "a.example");
                CHECK_STR(c->registry_list[1], "b.example:1/x");
                CHECK_STR(c->registry_list[2], "c.example");
                CHECK(c->registry_list[3] == NULL);
        }
}

TEST(too_many_registries) {
        _cleanup_dir_ TestDir d = test_dir();
        char text[1000] = "[agent]\nregistries = ";
        Config *c = NULL;
        Fault f = {};

        for (int i = 0; i < CONFIG_REGISTRIES_MAX; i++)
                strcat(text, "r.example,");
        prepare(&d, text, NULL, NULL);
        CHECK_INT(config_load(NULL, false, &c, NULL), 0);
        c = config_free(c);
        strcat(text, "r.example");
        prepare(&d, text, NULL, NULL);
        CHECK(config_load(NULL, false, &c, &f) < 0);
        CHECK_STR(kit_code(&f), "config_invalid");
}

/* ── signatures ──────────────────────────────────────────────────────────────────────────────────────────────── */

#define KEY_A "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_B "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="

static int load_text(const char *text, Config **ret, Fault *f) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_free_ char *all = str_printf("[agent]\n%s", text);

        prepare(&d, all, NULL, NULL);
        return config_load(NULL, false, ret, f);
}

TEST(keys_imply_that_all_is_signed) {
        static const struct { const char *text; size_t n; } table[] = {
                { "signing_keys = " KEY_A "\n", 1 },
                { "signing_keys = " KEY_A ", " KEY_B " ,\n", 2 },
                { "signing_keys = " KEY_A " " KEY_B "\nrequire_signed_jobs = yes\n", 2 },
                { "signing_keys = " KEY_A "\nrequire_signed_jobs = no\n", 1 },
                { "signing_keys =\n", 0 },
                { "signing_keys = , ,\nallow_unlocked_memory = yes\nlauncher = /opt/launch\n", 0 },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_(config_freep) Config *c = NULL;

                if (!CHECK_INT(load_text(table[i].text, &c, NULL), 0))
                        continue;
                CHECK_INT(c->trusted.n, table[i].n);
                CHECK(c->require_signed_jobs == (table[i].n > 0));
                for (uint8_t k = 0; k < TRUSTED_KEY_SIZE; k++) {
                        CHECK_INT(c->trusted.keys[0][k], table[i].n > 0 ? k : 0);
                        CHECK_INT(c->trusted.keys[1][k], table[i].n > 1 ? 31 - k : 0);
                }
                CHECK_STR(c->launcher, i == 5 ? "/opt/launch" : "/usr/lib/molecule-agent/molecule-launch");
                CHECK(c->allow_unlocked_memory == (i == 5));
        }
}

TEST(keys_that_are_none_and_marks_that_cross) {
        static const struct { const char *text, *words; } table[] = {
                { "require_signed_jobs = yes\n", "signing_keys" },
                { "gc_low_percent = 85\n", "gc_low_percent (85) must be below gc_high_percent (85)" },
                { "gc_high_percent = 75\n", "gc_low_percent (75) must be below gc_high_percent (75)" },
                { "require_signed_jobs = yes\nsigning_keys = ,\n", "signing_keys" },
                { "signing_keys = x\n", "number 1" },
                { "signing_keys = " KEY_A " AAAA\n", "number 2" },
                { "signing_keys = " KEY_A ",AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n", "number 2" },
                { "signing_keys = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISI=\n", "number 1" },
                { "signing_keys = 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n", "number 1" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                Config *c = NULL;
                Fault f = {};

                if (!CHECK(load_text(table[i].text, &c, &f) < 0) || !CHECK_STR(kit_code(&f), "config_invalid") ||
                    !CHECK(strstr(f.text, table[i].words)))
                        printf("#   in: %s: %s\n", table[i].text, f.text);
                config_free(c);
        }
}

TEST(eight_keys_and_not_one_more) {
        char text[800] = "signing_keys =";
        Config *c = NULL;
        Fault f = {};

        for (int i = 0; i < TRUSTED_KEYS_MAX; i++)
                strcat(text, " " KEY_A);
        CHECK_INT(load_text(text, &c, NULL), 0);
        c = config_free(c);
        strcat(text, " " KEY_B);
        CHECK(load_text(text, &c, &f) < 0);
        CHECK_STR(kit_code(&f), "config_invalid");
}

/* ── the last good one ───────────────────────────────────────────────────────────────────────────────────────── */

static void values_only(char *text) {
        char *to = text;

        for (char *from = text; *from;) {
                if (*from == '\t')
                        from += strcspn(from, "\n");
                else
                        *to++ = *from++;
        }
        *to = 0;
}

TEST(the_last_good_one_there_and_back) {
        static const char file[] =
                "[agent]\ncp_url = https://cp.example:8443\ncp_prefix = /cp\norg_id = " KIT_ORG "\norg_slug = slug\nca_file = /etc/ca.pem\n"
                "proxy = http://proxy.example:3128\nno_proxy = a,b\nlog_level = debug\nport_range = 21000-21010\nmax_tier = 4\nregistries "
                "= a.example, b.example\n"
                "min_free_bytes = 7M\ngc_high_percent = 76\nregistry_auth_file = /etc/auth.json\nprefetch = no\nallow_insecure_loopback = yes\ntier1_memory_mb = 99\nprovision_secret_file = /run/secret\nprobe_path "
                "= /healthz\n";
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL, *back = NULL;
        _cleanup_free_ char *before = NULL, *after = NULL;

        prepare(&d, file, NULL, NULL);
        c = load();
        CHECK_INT(config_save_good(d.fd, c), 0);
        CHECK_INT(setenv("MOLECULE_AGENT_MAX_TIER", "1", 1), 0);        /* the good one is whole, the day's environment is not asked */
        if (!CHECK_INT(config_load_good(d.fd, &back, NULL), 0))
                return;
        before = show(c);
        after = show(back);
        values_only(before);
        values_only(after);
        CHECK_STR(after, before);
        CHECK_STR(back->registry_list[1], "b.example");
        CHECK_INT(back->max_tier, 4);
        CHECK(strstr(after, "min_free_bytes = 7340032\n") && strstr(after, "port_range = 21000-21010\n"));
}

TEST(defaults_there_and_back) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL, *back = NULL;

        prepare(&d, NULL, NULL, NULL);
        c = load();
        CHECK_INT(config_save_good(d.fd, c), 0);
        if (CHECK_INT(config_load_good(d.fd, &back, NULL), 0))
                CHECK(!back->cp_url && !back->proxy && back->max_tier == 2);
}

TEST(an_unchanged_good_one_is_not_written_again) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(config_freep) Config *c = NULL;
        struct stat a, b;

        prepare(&d, NULL, NULL, NULL);
        c = load();
        CHECK_INT(config_save_good(d.fd, c), 0);
        CHECK_INT(fstatat(d.fd, "config.good", &a, 0), 0);
        CHECK_INT(config_save_good(d.fd, c), 0);
        CHECK_INT(fstatat(d.fd, "config.good", &b, 0), 0);
        CHECK(a.st_ino == b.st_ino);
        c->max_tier = 1;
        CHECK_INT(config_save_good(d.fd, c), 0);
        CHECK_INT(fstatat(d.fd, "config.good", &b, 0), 0);
        CHECK(a.st_ino != b.st_ino);
}

TEST(no_good_one_and_a_damaged_one) {
        _cleanup_dir_ TestDir d = test_dir();
        Config *c = NULL;
        Fault f = {};

        CHECK_INT(config_load_good(d.fd, &c, NULL), -ENOENT);
        test_dir_text(&d, "config.good", "[agent]\nmax_tier = 9\n");
        CHECK(config_load_good(d.fd, &c, &f) < 0);
        CHECK_STR(kit_code(&f), "config_invalid");
        CHECK(c == NULL);
}

TEST_MAIN
