/* SPDX-License-Identifier: Apache-2.0 */

/* provision/spec: every field given well, missing, of another type, out of its range; and the rules between them. */

#include <errno.h>

#include "base/hash.h"
#include "provision/spec.h"
#include "tests/kit.h"

static const char *const registries[] = { "registry.example", "other.example:5000/team", NULL };
static const SpecRules host = { .max_tier = 4, .registries = registries };

static int parse_with(const char *name, const char *value, const SpecRules *rules, WorkspaceSpec **ret, Fault *f) {
        _cleanup_json_ cJSON *json = kit_json(KIT_SPEC);

        kit_set(json, name, value);
        return spec_parse(json, rules, ret, f);
}

/* ── fields, one at a time ───────────────────────────────────────────────────────────────────────────────────── */

#define S10(x)  x x x x x x x x x x
#define PINNED  "registry.example/ws@" KIT_DIGEST

typedef struct Case { const char *field, *value, *code; } Case;         /* code "": good; value NULL: absent */

static const Case cases[] = {
        { "runtime", "\"claude-code\"", "" },
        { "runtime", NULL, "bad_json" },
        { "runtime", "null", "bad_json" },
        { "runtime", "7", "bad_json" },
        { "runtime", "\"\"", "bad_json" },
        { "runtime", "\"Codex\"", "bad_json" },
        { "runtime", "\"a/b\"", "bad_json" },
        { "runtime", "\"" S10("abcdef") "abcd\"", "" },
        { "runtime", "\"" S10("abcdef") "abcde\"", "too_large" },

        { "platform_url", NULL, "bad_json" },
        { "platform_url", "\"\"", "bad_json" },
        { "platform_url", "[]", "bad_json" },
        { "platform_url", "\"ftp://x.example\"", "bad_env" },

        { "template", "\"anything at all\"", "" },
        { "template", "\"\"", "" },
        { "template", "3", "bad_json" },
        { "template", "null", "bad_json" },
        { "instance_type", "\"m5.large\"", "" },
        { "instance_type", "true", "bad_json" },
        { "instance_type", "\"" S10("abcdef") "abcde\"", "too_large" },
        { "provider", "\"aws\"", "" },
        { "provider", "{}", "bad_json" },

        { "tier", "1", "" },
        { "tier", "4", "" },
        { "tier", "0", "" },
        { "tier", "9", "" },
        { "tier", "-1", "bad_json" },
        { "tier", "1.5", "bad_json" },
        { "tier", "1001", "bad_json" },
        { "tier", "\"2\"", "bad_json" },

        { "disk_gb", "0", "" },
        { "disk_gb", "1048576", "" },
        { "disk_gb", "1048577", "bad_json" },
        { "disk_gb", "\"10\"", "bad_json" },

        { "data_persistence", "\"\"", "" },
        { "data_persistence", "\"persist\"", "" },
        { "data_persistence", "\"ephemeral\"", "" },
        { "data_persistence", "\"forever\"", "unsupported_field" },
        { "data_persistence", "\"EPHEMERAL\"", "unsupported_field" },
        { "data_persistence", "1", "bad_json" },

        { "kind", "\"\"", "" },
        { "kind", "\"platform\"", "" },
        { "kind", "\"Platform\"", "unsupported_field" },
        { "kind", "\"admin\"", "unsupported_field" },
        { "kind", "1", "bad_json" },

        { "display", "{}", "" },
        { "display", "{\"mode\":\"\"}", "" },
        { "display", "{\"mode\":\"none\",\"width\":800,\"height\":600,\"protocol\":\"\"}", "" },
        { "display", "{\"mode\":\"vnc\"}", "unsupported_field" },
        { "display", "{\"mode\":1}", "bad_json" },
        { "display", "{\"colour\":1}", "unsupported_field" },
        { "display", "\"none\"", "bad_json" },

        { "env", "{}", "" },
        { "env", "{\"A\":\"1\",\"B\":\"\"}", "" },
        { "env", "{\"A\":1}", "bad_json" },
        { "env", "{\"A\":null}", "bad_json" },
        { "env", "{\"A\":[\"x\"]}", "bad_json" },
        { "env", "[\"A=1\"]", "bad_json" },

        { "config_files", "{\"a.txt\":\"aGVsbG8=\"}", "" },
        { "config_files", "{\"a.txt\":\"\"}", "" },
        { "config_files", "{\"a.txt\":7}", "bad_json" },
        { "config_files", "{\"a.txt\":\"aGVsbG8\"}", "bad_json" },
        { "config_files", "{\"a.txt\":\"a b=\"}", "bad_json" },
        { "config_files", "{\"../a\":\"\"}", "bad_path" },
        { "config_files", "{\"\":\"\"}", "bad_path" },
        { "config_files", "{\"a/b\":\"\",\"a\\\\b\":\"\"}", "bad_path" },
        { "config_files", "[]", "bad_json" },

        { "template_assets", "{\"config.yaml\":\"\",\"system-prompt.md\":\"\",\"prompts/a/b.md\":\"\"}", "" },
        { "template_assets", "{\"prompts\":\"\"}", "bad_path" },
        { "template_assets", "{\"config.yml\":\"\"}", "bad_path" },
        { "template_assets", "{\"prompts/../config.yaml\":\"\"}", "bad_path" },

        { "image_ref", "\"" PINNED "\"", "" },
        { "image_ref", "\"registry.example/ws:1@" KIT_DIGEST "\"", "" },
        { "image_ref", "\"other.example:5000/team/ws@" KIT_DIGEST "\"", "" },
        { "image_ref", "\"registry.example/ws:latest\"", "image_ref_not_pinned" },
        { "image_ref", "\"registry.example/ws@sha256:0123\"", "image_ref_not_pinned" },
        { "image_ref", "\"ws@" KIT_DIGEST "\"", "image_ref_not_pinned" },
        { "image_ref", "\"\"", "bad_json" },
        { "image_ref", "null", "bad_json" },
        { "image_ref", "\"elsewhere.example/ws@" KIT_DIGEST "\"", "registry_not_allowed" },
        { "image_ref", "\"registry.example.evil.example/ws@" KIT_DIGEST "\"", "registry_not_allowed" },
        { "image_ref", "\"registry.example:5000/ws@" KIT_DIGEST "\"", "registry_not_allowed" },
        { "image_ref", "\"other.example:5000/teams/ws@" KIT_DIGEST "\"", "registry_not_allowed" },

        { "image_size_bytes", "\"0\"", "" },
        { "image_size_bytes", "\"18446744073709551615\"", "" },
        { "image_size_bytes", "\"18446744073709551616\"", "bad_json" },
        { "image_size_bytes", "\"-1\"", "bad_json" },
        { "image_size_bytes", "\"007\"", "bad_json" },
        { "image_size_bytes", "5", "bad_json" },

        { "workspace_secret_keys", "[]", "" },
        { "workspace_secret_keys", "[\"GH_TOKEN\",\"OTHER\"]", "" },
        { "workspace_secret_keys", "[\"not a name\"]", "bad_json" },
        { "workspace_secret_keys", "[7]", "bad_json" },
        { "workspace_secret_keys", "{}", "bad_json" },
        { "required_env", "[]", "" },
        { "required_env", "[\"\"]", "bad_json" },
        { "required_env", "[\"A\"]", "missing_required_env" },
        { "required_env", "\"A\"", "bad_json" },

        { "probe", "{}", "" },
        { "probe", "{\"path\":\"/healthz?deep=1\",\"timeout_seconds\":7200}", "" },
        { "probe", "{\"path\":\"healthz\"}", "bad_json" },
        { "probe", "{\"path\":\"\"}", "bad_json" },
        { "probe", "{\"path\":\"/a b\"}", "bad_json" },
        { "probe", "{\"path\":\"/a#b\"}", "bad_json" },
        { "probe", "{\"path\":\"/a\\r\\nHost: x\"}", "bad_json" },
        { "probe", "{\"timeout_seconds\":7201}", "bad_json" },
        { "probe", "{\"timeout_seconds\":-1}", "bad_json" },
        { "probe", "{\"port\":1}", "unsupported_field" },
        { "probe", "[]", "bad_json" },

        { "restart", "true", "" },
        { "restart", "false", "" },
        { "restart", "0", "bad_json" },
        { "restart", "\"no\"", "bad_json" },
        { "restart", "null", "bad_json" },

        { "secrets", "{}", "" },
        { "secrets", "{\"A\":\"b3BlbiBzZXNhbWU=\"}", "bad_json" },        /* sealed to what? */
        { "secrets", "[]", "bad_json" },
        { "secrets", "null", "bad_json" },
        { "secrets", "\"A\"", "bad_json" },
        { "sealed_to", "\"k1\"", "bad_json" },
        { "sealed_to", "\"\"", "bad_json" },
        { "sealed_to", "7", "bad_json" },
        { "sealed_to", "null", "bad_json" },
        { "Runtime", "\"codex\"", "unsupported_field" },
        { "unheard_of", "1", "unsupported_field" },
};

TEST(every_field_in_every_way) {
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(spec_freep) WorkspaceSpec *s = NULL;
                Fault f = {};
                int r = parse_with(cases[i].field, cases[i].value, &host, &s, &f);

                bool good = strlen(cases[i].code) == 0;
                if (!CHECK_STR(kit_code(&f), cases[i].code) || !CHECK((r == 0) == good) ||
                    !CHECK((s != NULL) == (r == 0)))
                        printf("#   in: %s = %.80s; %s\n", cases[i].field, cases[i].value ?: "(absent)", f.text);
        }
}

TEST(a_fault_names_its_field) {
        static const char *const fields[] = { "template", "tier",         "disk_gb",          "kind",  "display",
                                              "env",      "config_files", "image_size_bytes", "probe", "restart" };

        for (size_t i = 0; i < ELEMENTS(fields); i++) {
                WorkspaceSpec *s = NULL;
                Fault f = {};

                CHECK(parse_with(fields[i], "[[]]", &host, &s, &f) < 0);
                if (!CHECK(strstr(f.text, fields[i]) && strncmp(f.text, "spec: ", 6) == 0))
                        printf("#   %s: %s\n", fields[i], f.text);
        }
}

TEST(a_repeated_field_is_bad_json) {
        _cleanup_json_ cJSON *json = kit_json(KIT_SPEC);
        WorkspaceSpec *s = NULL;
        Fault f = {};

        CHECK(json_add_string(json, "runtime", "codex"));
        CHECK(spec_parse(json, &host, &s, &f) < 0);
        CHECK_STR(kit_code(&f), "bad_json");
        CHECK(strstr(f.text, "runtime"));
}

TEST(no_object_is_no_spec) {
        static const char *const texts[] = { "[]", "null", "\"x\"", "7", "{}" };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_json_ cJSON *json = kit_json(texts[i]);
                WorkspaceSpec *s = NULL;
                Fault f = {};

                CHECK(spec_parse(json, &host, &s, &f) < 0);
                CHECK_STR(kit_code(&f), "bad_json");
        }
}

/* ── what comes out ──────────────────────────────────────────────────────────────────────────────────────────── */

TEST(defaults) {
        _cleanup_(spec_freep) WorkspaceSpec *s = NULL;

        if (!CHECK_INT(parse_with("x", NULL, &host, &s, NULL), 0))
                return;
        CHECK_STR(s->runtime, "codex");
        CHECK_INT(s->tier, 2);
        CHECK(!s->image_ref && !s->probe_path && !s->kind && !s->data_persistence);
        CHECK_INT(s->n_env + s->n_files + s->probe_timeout_seconds + s->image_size_bytes + s->disk_gb, 0);
        CHECK(!spec_is_platform(s) && spec_restarts(s) && !spec_has_claude_sessions(s));
}

TEST(incident_34_everything_arrives) {
        _cleanup_json_ cJSON *json = kit_json(
                "{\"runtime\":\"claude-code\",\"template\":\"t\",\"tier\":3,\"instance_type\":\"i\",\"disk_gb\":12,\"provider\":\"p\","
                "\"data_persistence\":\"persist\",\"kind\":\"platform\",\"display\":{\"mode\":\"none\"},\"platform_url\":\"http://"
                "10.0.0.1:80/x\","
                "\"env\":{\"B\":\"2\",\"A\":\"1\"},\"config_files\":{\"d\\\\.auth_token\":\"AAEC\"},\"template_assets\":{\"config.yaml\":"
                "\"aGk=\"},"
                "\"image_ref\":\"" PINNED
                "\",\"image_size_bytes\":\"77\",\"workspace_secret_keys\":[\"GH_TOKEN\"],\"required_env\":[\"A\",\"B\"],"
                "\"probe\":{\"path\":\"/p\",\"timeout_seconds\":9},\"restart\":true}");
        _cleanup_(spec_freep) WorkspaceSpec *s = NULL;
        Fault f = {};

        if (!CHECK_INT(spec_parse(json, &host, &s, &f), 0)) {
                printf("#   %s\n", f.text);
                return;
        }
        CHECK_STR(s->template_name, "t");
        CHECK_STR(s->instance_type, "i");
        CHECK_STR(s->provider, "p");
        CHECK_STR(s->data_persistence, "persist");
        CHECK_STR(s->platform_url, "http://10.0.0.1:80/x");
        CHECK_STR(s->image_ref, PINNED);
        CHECK_STR(s->probe_path, "/p");
        CHECK_INT(s->tier, 3);
        CHECK_INT(s->disk_gb, 12);
        CHECK_INT(s->image_size_bytes, 77);
        CHECK_INT(s->probe_timeout_seconds, 9);
        CHECK_INT(s->n_env, 2);
        CHECK_STR(s->workspace_secret_keys.items[0], "GH_TOKEN");
        CHECK_INT(s->required_env.n, 2);
        CHECK(spec_is_platform(s) && spec_restarts(s) && spec_has_claude_sessions(s));
        if (!CHECK_INT(s->n_files, 2))
                return;
        for (size_t i = 0; i < 2; i++)
                if (strcmp(s->files[i].name, "d/.auth_token") == 0) {
                        CHECK_INT(s->files[i].mode, 0600);
                        CHECK(s->files[i].size == 3 && memcmp(s->files[i].data, "\0\1\2", 3) == 0);
                } else {
                        CHECK_STR(s->files[i].name, "config.yaml");
                        CHECK_INT(s->files[i].mode, 0644);
                        CHECK(s->files[i].size == 2 && memcmp(s->files[i].data, "hi", 2) == 0);
                }
}

TEST(restart_has_its_default_by_kind) {
        static const struct { const char *kind, *restart; bool wanted; } table[] = {
                { NULL, NULL, true },                { NULL, "false", false },                { NULL, "true", true },
                { "\"platform\"", NULL, false },     { "\"platform\"", "true", true },        { "\"platform\"", "false", false },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *json = kit_json(KIT_SPEC);
                _cleanup_(spec_freep) WorkspaceSpec *s = NULL;

                kit_set(json, "kind", table[i].kind);
                kit_set(json, "restart", table[i].restart);
                if (CHECK_INT(spec_parse(json, &host, &s, NULL), 0))
                        CHECK(spec_restarts(s) == table[i].wanted);
        }
}

/* ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int parse_secrets(const char *secrets, const char *sealed_to, WorkspaceSpec **ret, Fault *f) {
        _cleanup_json_ cJSON *json = kit_json(KIT_SPEC);

        kit_set(json, "secrets", secrets);
        kit_set(json, "sealed_to", sealed_to);
        return spec_parse(json, &host, ret, f);
}

TEST(secrets_and_what_they_are_sealed_to) {
        static const struct { const char *secrets, *sealed_to, *code; } table[] = {
                { "{\"A\":\"b3BlbiBzZXNhbWU=\"}", "\"h1-0123456789abcdef\"", "" },
                { "{\"A\":\"\"}", "\"h1-0123456789abcdef\"", "" },              /* no box opens that short: said when it is opened */
                { "{\"A\":7}", "\"h1\"", "bad_json" },
                { "{\"A\":null}", "\"h1\"", "bad_json" },
                { "{\"A\":\"b3Blbg\"}", "\"h1\"", "bad_json" },
                { "{\"A\":\"b3 lbg==\"}", "\"h1\"", "bad_json" },
                { "{\"A-B\":\"AA==\"}", "\"h1\"", "bad_env" },
                { "{\"\":\"AA==\"}", "\"h1\"", "bad_env" },
                { "{\"../A\":\"AA==\"}", "\"h1\"", "bad_env" },
                { "{\"manifest\":\"AA==\"}", "\"h1\"", "bad_env" },
                { "{\"LD_PRELOAD\":\"AA==\"}", "\"h1\"", "privileged_env_forbidden" },
                { "{\"A\":\"AA==\"}", "\"" S10("abcdef") S10("abcdef") "abcdefgh\"", "" },
                { "{\"A\":\"AA==\"}", "\"" S10("abcdef") S10("abcdef") "abcdefghi\"", "too_large" },
                { "{}", NULL, "" },
                { "{}", "\"h1\"", "bad_json" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_(spec_freep) WorkspaceSpec *s = NULL;
                Fault f = {};

                (void) parse_secrets(table[i].secrets, table[i].sealed_to, &s, &f);
                if (!CHECK_STR(kit_code(&f), table[i].code) || !CHECK(!f.set || !strstr(f.text, "b3")))
                        printf("#   in: %s to %s; %s\n", table[i].secrets, table[i].sealed_to ?: "(absent)", f.text);
        }
}

TEST(a_name_twice_in_one_map_is_bad_json) {
        static const char *const texts[] = {
                "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"env\":{\"A\":\"1\",\"A\":\"2\"}}",
                "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"sealed_to\":\"h1\",\"secrets\":{\"A\":\"AA==\",\"A\":\"AQ==\"}}",
        };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                cJSON *json = NULL;
                WorkspaceSpec *s = NULL;
                Fault f = {};
                int r = json_parse(texts[i], strlen(texts[i]), &json, &f);

                if (r == 0)
                        r = spec_parse(json, &host, &s, &f);
                CHECK(r < 0);
                if (!CHECK_STR(kit_code(&f), "bad_json"))
                        printf("#   %s\n", f.text);
                cJSON_Delete(json);
                spec_free(s);
        }
}

TEST(boxes_arrive_and_are_forgotten) {
        _cleanup_json_ cJSON *json = kit_json(KIT_SPEC);
        _cleanup_(spec_freep) WorkspaceSpec *s = NULL;

        kit_set(json, "env", "{\"MY_TOKEN\":\"open-sesame\",\"AN_EMPTY_KEY\":\"\",\"PLAIN\":\"words\"}");
        kit_set(json, "secrets", "{\"A\":\"AAEC\",\"B_KEY\":\"Aw==\"}");
        kit_set(json, "sealed_to", "\"h1-0123456789abcdef\"");
        if (!CHECK_INT(spec_parse(json, &host, &s, NULL), 0) || !CHECK_INT(s->n_boxes, 2) || !CHECK_INT(s->n_env, 3))
                return;
        CHECK_STR(s->sealed_to, "h1-0123456789abcdef");
        CHECK_STR(s->boxes[0].name, "A");
        CHECK(s->boxes[0].size == 3 && memcmp(s->boxes[0].data, "\0\1\2", 3) == 0);
        for (size_t i = 0; i < 3; i++)
                CHECK(s->env[i].secret == (strcmp(s->env[i].name, "MY_TOKEN") == 0));
        spec_forget_secrets(s);
        for (size_t i = 0; i < 3; i++)
                CHECK_STR(s->env[i].value, strcmp(s->env[i].name, "PLAIN") == 0 ? "words" : "");
        CHECK(!s->boxes[0].data && !s->boxes[1].data);
        CHECK_STR(s->env[0].name, "MY_TOKEN");
}

TEST(boxes_are_bounded_in_size_and_number) {
        static const struct { size_t n, size; const char *code; } table[] = {
                { 1, 64 * 1024 + 1024, "" }, { 1, 64 * 1024 + 1025, "bad_secret" }, { 1024, 48, "" }, { 1025, 48, "too_large" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *json = kit_json(KIT_SPEC);
                _cleanup_free_ char *data = kit_fill('x', table[i].size), *text = base64_encode(data, table[i].size);
                _cleanup_(spec_freep) WorkspaceSpec *s = NULL;
                cJSON *map = cJSON_CreateObject();
                Fault f = {};

                for (size_t k = 0; k < table[i].n; k++) {
                        char name[24];

                        (void) snprintf(name, sizeof name, "S%zu", k);
                        CHECK(json_add_string(map, name, text));
                }
                CHECK(json_add_item(json, "secrets", map) && json_add_string(json, "sealed_to", "h1"));
                (void) spec_parse(json, &host, &s, &f);
                if (!CHECK_STR(kit_code(&f), table[i].code))
                        printf("#   %zu of %zu bytes: %s\n", table[i].n, table[i].size, f.text);
        }
}

/* ── tiers, registries, sums ─────────────────────────────────────────────────────────────────────────────────── */

TEST(incident_44_max_tier_is_the_host_s_word) {
        for (unsigned max = 1; max <= 4; max++)
                for (unsigned tier = 0; tier <= 5; tier++) {
                        const SpecRules rules = { .max_tier = max, .registries = registries };
                        unsigned counts = tier < 1 || tier > 4 ? 2 : tier;
                        _cleanup_(spec_freep) WorkspaceSpec *s = NULL;
                        char text[8];
                        Fault f = {};

                        (void) snprintf(text, sizeof text, "%u", tier);
                        CHECK_INT(parse_with("tier", text, &rules, &s, &f), counts <= max ? 0 : -EPERM);
                        CHECK_STR(kit_code(&f), counts <= max ? "" : "tier_not_allowed");
                        if (s)
                                CHECK_INT(s->tier, counts);
                        else
                                CHECK(strstr(f.text, "max_tier"));
                }
}

TEST(a_payload_accepted_before_is_not_judged_by_registries) {
        const SpecRules stored = { .max_tier = 2 };
        _cleanup_(spec_freep) WorkspaceSpec *s = NULL;

        CHECK_INT(parse_with("image_ref", "\"elsewhere.example/ws@" KIT_DIGEST "\"", &stored, &s, NULL), 0);
        s = spec_free(s);
        CHECK(parse_with("image_ref", "\"elsewhere.example/ws:latest\"", &stored, &s, NULL) < 0);
}

TEST(an_empty_allow_list_allows_nothing) {
        static const char *const nothing[] = { NULL };
        const SpecRules rules = { .max_tier = 2, .registries = nothing };
        WorkspaceSpec *s = NULL;
        Fault f = {};

        CHECK(parse_with("image_ref", "\"" PINNED "\"", &rules, &s, &f) < 0);
        CHECK_STR(kit_code(&f), "registry_not_allowed");
}

/* One map with `n` files of `size` bytes each. */
static int parse_files(const char *field, const char *name, size_t n, size_t size, Fault *f) {
        _cleanup_json_ cJSON *json = kit_json(KIT_SPEC);
        _cleanup_free_ char *data = kit_fill('x', size), *text = base64_encode(data, size);
        _cleanup_(spec_freep) WorkspaceSpec *s = NULL;
        cJSON *map = cJSON_CreateObject();

        for (size_t i = 0; i < n; i++) {
                char each[64];

                (void) snprintf(each, sizeof each, "%s%zu", name, i);
                CHECK(json_add_string(map, each, text));
        }
        CHECK(json_add_item(json, field, map));
        return spec_parse(json, &host, &s, f);
}

TEST(files_are_bounded_in_sum_and_number) {
        static const struct { const char *field, *name; size_t n, size; const char *code; } table[] = {
                { "config_files", "f", 1, 256 * 1024, "" },
                { "config_files", "f", 1, 256 * 1024 + 1, "too_large" },
                { "config_files", "f", 4, 64 * 1024, "" },
                { "config_files", "f", 5, 64 * 1024, "too_large" },
                { "config_files", "f", 1024, 1, "" },
                { "config_files", "f", 1025, 1, "too_large" },
                { "template_assets", "prompts/f", 4, 4 * 1024 * 1024, "" },
                { "template_assets", "prompts/f", 5, 4 * 1024 * 1024, "too_large" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                Fault f = {};

                (void) parse_files(table[i].field, table[i].name, table[i].n, table[i].size, &f);
                if (!CHECK_STR(kit_code(&f), table[i].code))
                        printf("#   %s: %zu of %zu bytes: %s\n", table[i].field, table[i].n, table[i].size, f.text);
        }
}

TEST(one_name_in_both_maps_of_files) {
        _cleanup_json_ cJSON *json = kit_json(KIT_SPEC);
        WorkspaceSpec *s = NULL;
        Fault f = {};

        kit_set(json, "config_files", "{\"config.yaml\":\"AA==\"}");
        kit_set(json, "template_assets", "{\"config.yaml\":\"AA==\"}");
        CHECK(spec_parse(json, &host, &s, &f) < 0);
        CHECK_STR(kit_code(&f), "bad_path");
}

TEST(words_hold_no_content_of_a_file) {
        WorkspaceSpec *s = NULL;
        Fault f = {};

        CHECK(parse_with("config_files", "{\"a\":\"c2Vzc2FtZQ==!\"}", &host, &s, &f) < 0);
        CHECK(f.set && !strstr(f.text, "c2Vz"));
}

TEST_MAIN
