/* SPDX-License-Identifier: Apache-2.0 */

/* provision/job-args: what each type of job may say in its spec, row by row; and its place in its line, which is judged before. */

#include <errno.h>

#include "provision/job.h"
#include "tests/kit.h"

static const char *const registries[] = { "registry.example", NULL };
static const JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 2, .registries = registries } };

#define REF   "registry.example/codex@" KIT_DIGEST
#define OTHER "elsewhere.example/codex@" KIT_DIGEST
#define LONG  "0123456789012345678901234567890123456789012345678901234567890123456789"

static const struct { const char *type, *spec, *code, *words; } rows[] = {
        { "workspace.deprovision", "{\"prune\":true}", "", NULL },
        { "workspace.deprovision", "{}", "bad_json", "spec: field 'prune' is missing" },
        { "workspace.restart", "{}", "", NULL },
        { "workspace.restart", "{\"prune\":true}", "unsupported_field", "spec: unknown field 'prune'" },
        { "workspace.console", "{}", "", NULL },
        { "workspace.console", "{\"lines\":2000}", "", NULL },
        { "workspace.console", "{\"lines\":2001}", "bad_json", "from 0 to 2000" },
        { "image.ensure", "{\"runtime\":\"codex\"}", "", NULL },
        { "image.ensure", "{\"image_ref\":\"" REF "\",\"image_size_bytes\":\"7\"}", "", NULL },
        { "image.ensure", "{}", "bad_json", "One of 'runtime' and 'image_ref'" },
        { "image.ensure", "{\"runtime\":\"codex\",\"image_ref\":\"" REF "\"}", "bad_json", "One of 'runtime' and 'image_ref'" },
        { "image.ensure", "{\"runtime\":\"../codex\"}", "bad_json", "not a runtime's name" },
        { "image.ensure", "{\"image_ref\":\"" OTHER "\"}", "registry_not_allowed", "registries" },
        { "image.ensure", "{\"image_ref\":\"registry.example/codex:latest\"}", "image_ref_not_pinned", "'image_ref' is not NAME@sha256:DIGEST" },
        { "host.redeploy", "{}", "", NULL },
        { "host.redeploy", "{\"images\":{\"codex\":\"" REF "\"},\"runtimes\":[\"codex\",\"claude\"],\"workspaces\":[\"" KIT_WORKSPACE "\"],"
                           "\"continue_on_error\":true}", "", NULL },
        { "host.redeploy", "{\"images\":{\"codex\":\"" REF "\",\"claude\":\"" OTHER "\"}}", "registry_not_allowed", "registries" },
        { "host.redeploy", "{\"images\":{\"../x\":\"" REF "\"}}", "bad_json", "not a map from runtimes" },
        { "host.redeploy", "{\"images\":{\"codex\":7}}", "bad_json", "not a map from runtimes" },
        { "host.redeploy", "{\"runtimes\":[7]}", "bad_json", "'runtimes' holds something that is no runtime" },
        { "host.redeploy", "{\"runtimes\":[\"Codex!\"]}", "bad_json", "'runtimes' holds something that is no runtime" },
        { "host.redeploy", "{\"workspaces\":[\"codex\"]}", "bad_json", "'workspaces' holds something that is no workspace id" },
        { "host.drain", "{\"reason\":\"a disk\"}", "", NULL },
        { "host.drain", "{\"reason\":\"\"}", "bad_json", "'reason' is empty" },
        { "host.undrain", "{}", "bad_json", "'reason' is missing" },
        { "host.hold", "{\"reason\":\"x\",\"seconds\":31536000,\"workspace_id\":\"" KIT_WORKSPACE "\"}", "", NULL },
        { "host.hold", "{\"reason\":\"x\",\"seconds\":31536001}", "bad_json", "from 0 to 31536000" },
        { "host.release", "{\"reason\":\"x\",\"workspace_id\":\"\"}", "bad_json", "not a lower-case UUID" },
        { "host.teardown", "{\"confirm\":\"acme\"}", "", NULL },
        { "host.teardown", "{\"confirm\":\"" LONG "\"}", "too_large", "longer than 64 bytes" },
        { "job.cancel", "{\"job_id\":\"" KIT_JOB "\"}", "", NULL },
        { "job.cancel", "{}", "bad_json", "'job_id' is missing" },
};

TEST(every_row) {
        bool seen[_JOB_TYPE_MAX] = { [JOB_PROVISION] = true };          /* whose spec is a page of its own */

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_json_ cJSON *spec = kit_json(rows[i].spec);
                JobArgs a = {};
                JobType t = _JOB_TYPE_MAX;
                Fault f = {};

                CHECK_INT(job_type_find(rows[i].type, &t), 0);
                CHECK((job_args_parse(t, spec, &rules, &a, &f) < 0) == f.set);
                if (!CHECK_STR(kit_code(&f), rows[i].code) || !CHECK(!rows[i].words || strstr(f.text, rows[i].words)))
                        printf("#   %s %s: %s\n", rows[i].type, rows[i].spec, f.text);
                seen[t] = true;
                job_args_done(&a);
        }
        for (int t = 0; t < _JOB_TYPE_MAX; t++)
                if (!CHECK(seen[t]))
                        printf("#   no row for %s\n", job_type_name((JobType) t));
}

TEST(what_is_said_arrives) {
        _cleanup_json_ cJSON *spec = kit_json("{\"images\":{\"codex\":\"" REF "\"},\"runtimes\":[\"codex\",\"claude\"],\"workspaces\":[\""
                                              KIT_WORKSPACE "\"],\"continue_on_error\":true}");
        _cleanup_json_ cJSON *ensure = kit_json("{\"image_ref\":\"" REF "\",\"image_size_bytes\":\"18446744073709551615\"}");
        _cleanup_json_ cJSON *hold = kit_json("{\"reason\":\"a disk\",\"seconds\":60,\"workspace_id\":\"" KIT_WORKSPACE "\"}");
        JobArgs a = {}, b = {}, c = {};

        CHECK_INT(job_args_parse(JOB_REDEPLOY, spec, &rules, &a, NULL), 0);
        CHECK(a.n_images == 1 && a.runtimes.n == 2 && a.workspaces.n == 1 && a.continue_on_error);
        CHECK_STR(a.images[0].runtime, "codex");
        CHECK_STR(a.images[0].image_ref, REF);
        CHECK_STR(a.runtimes.items[1], "claude");
        CHECK_STR(a.workspaces.items[0], KIT_WORKSPACE);
        job_args_done(&a);
        CHECK_INT(job_args_parse(JOB_IMAGE_ENSURE, ensure, &rules, &b, NULL), 0);
        CHECK_STR(b.image_ref, REF);
        CHECK(!b.runtime && b.image_size_bytes == UINT64_MAX);
        job_args_done(&b);
        CHECK_INT(job_args_parse(JOB_HOLD, hold, &rules, &c, NULL), 0);
        CHECK_STR(c.reason, "a disk");
        CHECK_STR(c.workspace_id, KIT_WORKSPACE);
        CHECK_INT(c.seconds, 60);
        job_args_done(&c);
}

/* ── how many ────────────────────────────────────────────────────────────────────────────────────────────────── */

static cJSON *list_of(const char *name, const char *item, int n) {
        cJSON *json = kit_json("{}"), *list = cJSON_AddArrayToObject(json, name);

        for (int i = 0; i < n; i++)
                (void) cJSON_AddItemToArray(list, cJSON_CreateString(item));
        return json;
}

static cJSON *images_of(int n) {
        cJSON *json = kit_json("{}"), *map = cJSON_AddObjectToObject(json, "images");
        char name[32];

        for (int i = 0; i < n; i++) {
                (void) snprintf(name, sizeof name, "codex-%d", i);
                CHECK(json_add_string(map, name, REF));
        }
        return json;
}

TEST(lists_are_bounded) {
        struct { cJSON *most, *more; } table[] = {
                { list_of("runtimes", "codex", 64), list_of("runtimes", "codex", 65) },
                { list_of("workspaces", KIT_WORKSPACE, 4096), list_of("workspaces", KIT_WORKSPACE, 4097) },
                { images_of(64), images_of(65) },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                JobArgs a = {}, b = {};
                Fault f = {};

                CHECK_INT(job_args_parse(JOB_REDEPLOY, table[i].most, &rules, &a, NULL), 0);
                CHECK_INT(job_args_parse(JOB_REDEPLOY, table[i].more, &rules, &b, &f), -E2BIG);
                CHECK_STR(kit_code(&f), "too_large");
                job_args_done(&a);
                job_args_done(&b);
                cJSON_Delete(table[i].most);
                cJSON_Delete(table[i].more);
        }
}

/* ── place ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What belongs beside the spec: an id of a workspace, a generation, neither; and whether a type that has it may do without. */
static const struct { const char *type, *spec; bool workspace, generation; } places[] = {
        { "workspace.provision",   KIT_SPEC,                       true,  true },
        { "workspace.deprovision", "{\"prune\":true}",             true,  true },
        { "workspace.restart",     "{}",                           true,  true },
        { "workspace.console",     "{}",                           true,  false },
        { "image.ensure",          "{\"runtime\":\"codex\"}",      false, false },
        { "host.redeploy",         "{}",                           false, true },
        { "host.drain",            "{\"reason\":\"x\"}",           false, true },
        { "host.undrain",          "{\"reason\":\"x\"}",           false, true },
        { "host.hold",             "{\"reason\":\"x\"}",           false, true },
        { "host.release",          "{\"reason\":\"x\"}",           false, true },
        { "host.teardown",         "{\"confirm\":\"x\"}",          false, true },
        { "job.cancel",            "{\"job_id\":\"" KIT_JOB "\"}", false, false },
};

static const char *judged(const char *type, const char *spec, bool workspace, const char *generation) {
        _cleanup_json_ cJSON *json = kit_json("{\"job_id\":\"" KIT_JOB "\",\"org_id\":\"" KIT_ORG "\",\"host_id\":\"" KIT_HOST "\","
                                              "\"issued_at\":\"2026-01-02T03:04:05Z\"}");
        _cleanup_free_ char *text = NULL;
        _cleanup_(job_freep) Job *j = NULL;
        JobLabel label = {};
        static Fault f;

        f = (Fault) {};
        CHECK(json_add_string(json, "type", type));
        kit_set(json, "spec", spec);
        kit_set(json, "workspace_id", workspace ? "\"" KIT_WORKSPACE "\"" : NULL);
        kit_set(json, "generation", generation);
        text = json_print(json);
        CHECK((job_parse(text, strlen(text), &rules, &label, &j, &f) < 0) == f.set);
        return kit_code(&f);
}

TEST(each_type_has_its_place) {
        CHECK_INT(ELEMENTS(places), _JOB_TYPE_MAX);
        for (size_t i = 0; i < ELEMENTS(places); i++) {
                const char *type = places[i].type, *spec = places[i].spec, *generation = places[i].generation ? "\"7\"" : NULL;
                JobType t = _JOB_TYPE_MAX;

                CHECK_INT(job_type_find(type, &t), 0);
                CHECK(job_type_names_workspace(t) == places[i].workspace && (job_type_line(t) != LINE_NONE) == places[i].generation);
                CHECK_STR(judged(type, spec, places[i].workspace, generation), "");
                CHECK_STR(judged(type, spec, !places[i].workspace, generation), places[i].workspace ? "bad_json" : "unsupported_field");
                CHECK_STR(judged(type, spec, places[i].workspace, generation ? NULL : "\"7\""), generation ? "bad_json" : "unsupported_field");
                if (generation)
                        CHECK_STR(judged(type, spec, places[i].workspace, "\"0\""), "bad_json");
        }
}

TEST_MAIN
