/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that ends in the middle of what reads and writes: each allocation fails once. Then the call says -ENOMEM and leaves its outputs alone (or
 * says nothing and has the whole result, where memory was only for words), and what it had is given back. */

#include <errno.h>

#include "base/file.h"
#include "base/record.h"
#include "provision/job.h"
#include "tests/kit.h"
#include "tests/oom.h"

#define NO_OOM "the allocator is a sanitizer's"

static const JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 4 } };

/* ── json ────────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Dest { char *name, *text; cJSON *value; } Dest;

static const JsonField fields[] = {
        { "name",  cJSON_String, json_set_string, offsetof(Dest, name),  JSON_REQUIRED },
        { "text",  cJSON_String, json_set_text,   offsetof(Dest, text),  JSON_OPTIONAL },
        { "value", cJSON_Array,  json_set_value,  offsetof(Dest, value), JSON_OPTIONAL },
        {}
};

static int parse_and_dispatch(const char *text, Dest *d, Fault *f) {
        _cleanup_json_ cJSON *json = NULL;
        int r = json_parse(text, strlen(text), &json, f);

        CHECK((r < 0) == (json == NULL));
        return r < 0 ? r : json_dispatch(json, fields, JSON_STRICT, d, f);
}

TEST(json_in) {
        int failed = 0;

        if (!oom_is_here())
                SKIP(NO_OOM);
        for (Oom o = {}; oom_next(&o);) {
                long before = oom_blocks;
                Dest d = {};
                Fault f = {};
                int r;

                oom_begin(&o);
                r = parse_and_dispatch("{\"name\":\"n\",\"text\":\"\",\"value\":[1,{\"a\":null}]}", &d, &f);
                oom_end();
                CHECK_INT(r, oom_failed ? -ENOMEM : 0);
                CHECK_STR(kit_code(&f), oom_failed ? "internal" : "");
                failed += r < 0;
                free(d.name);
                free(d.text);
                cJSON_Delete(d.value);
                CHECK_INT(oom_blocks, before);
        }
        CHECK(failed > 10);
}

static bool build(cJSON *json) {
        return json_add_string(json, "s", "x") && json_add_string(json, "null", NULL) && json_add_u64_text(json, "u", 1) &&
               json_add_i64(json, "i", 1) && json_add_i64(json, "raw", INT64_C(1) << 52) && json_add_bool(json, "b", true) &&
               json_add_time(json, "t", 1) && json_add_seconds(json, "w", 1) && json_add_item(json, "a", cJSON_CreateArray());
}

TEST(json_out) {
        char first[TIME_TEXT_SIZE];
        int failed = 0;

        if (!oom_is_here())
                SKIP(NO_OOM);
        (void) time_text(1, first);             /* the C library keeps its time zones */
        for (Oom o = {}; oom_next(&o);) {
                long before = oom_blocks;
                cJSON *json = cJSON_CreateObject();
                char *text;
                bool built;

                oom_begin(&o);
                built = build(json);
                text = built ? json_print(json) : NULL;
                oom_end();
                CHECK((text == NULL) == oom_failed);
                failed += !text;
                free(text);
                cJSON_Delete(json);
                CHECK_INT(oom_blocks, before);
        }
        CHECK(failed > 10);
}

/* ── records ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_whole(const TestDir *d, const char *name) {
        _cleanup_json_ cJSON *back = NULL;
        return record_read(d->fd, name, "pins", 4096, &back, NULL) == 0 && json_get_i64(back, "a", 0) == 1;
}

TEST(records) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_json_ cJSON *json = kit_json("{\"a\":1}");
        int failed = 0;

        if (!oom_is_here())
                SKIP(NO_OOM);
        CHECK_INT(record_write(d.fd, "r", "pins", json, NULL), 0);
        for (Oom o = {}; oom_next(&o);) {
                long before = oom_blocks;
                cJSON *back = NULL;
                Fault f = {};
                int w, r;

                oom_begin(&o);
                w = record_write(d.fd, "r", "pins", json, &f);
                r = w < 0 ? w : record_read(d.fd, "r", "pins", 4096, &back, &f);
                oom_end();
                failed += r < 0;
                CHECK_INT(r, oom_failed ? -ENOMEM : 0);
                CHECK_STR(kit_code(&f), oom_failed ? "state_degraded" : "");
                CHECK((back != NULL) == (r == 0));
                CHECK(is_whole(&d, "r"));               /* the old one, or the new one */
                cJSON_Delete(back);
                CHECK_INT(oom_blocks, before);
        }
        CHECK(failed > 5);
}

TEST(a_record_of_another_version) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_json_ cJSON *json = kit_json("{\"a\":1}");
        int failed = 0;

        if (!oom_is_here())
                SKIP(NO_OOM);
        for (Oom o = {}; oom_next(&o);) {
                long before = oom_blocks;
                int r;

                record_set_version(RECORD_VERSION - 1);
                CHECK_INT(record_write(d.fd, "r", "pins", json, NULL), 0);
                record_set_version(RECORD_VERSION);
                oom_begin(&o);
                r = record_rewrite(d.fd, "r", 4096);
                oom_end();
                failed += r < 0;
                CHECK_INT(r, oom_failed ? -ENOMEM : 0);
                CHECK_INT(record_version_of(d.fd, "r", 4096), r < 0 ? RECORD_VERSION - 1 : RECORD_VERSION);
                CHECK_INT(oom_blocks, before);
        }
        CHECK(failed > 0);
}

/* ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────── */

#define HEAD   "{\"job_id\":\"" KIT_JOB "\",\"org_id\":\"" KIT_ORG "\",\"host_id\":\"" KIT_HOST "\",\"issued_at\":\"2026-01-02T03:04:05Z\","
#define OF_WS  HEAD "\"workspace_id\":\"" KIT_WORKSPACE "\","
#define REF    "registry.example/codex@" KIT_DIGEST

static const char *const payloads[] = {
        OF_WS "\"type\":\"workspace.provision\",\"generation\":\"7\",\"spec\":{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\","
              "\"env\":{\"A\":\"b\",\"MY_TOKEN\":\"c\"},\"config_files\":{\"config.yaml\":\"YQ==\"},\"secrets\":{\"S\":\"YQ==\"},\"sealed_to\":\"k\",\"kind\":\"platform\"}}",
        OF_WS "\"type\":\"workspace.deprovision\",\"generation\":\"7\",\"spec\":{\"prune\":true}}",
        HEAD "\"type\":\"host.redeploy\",\"generation\":\"7\",\"spec\":{\"images\":{\"codex\":\"" REF "\"},\"runtimes\":[\"codex\"],"
             "\"workspaces\":[\"" KIT_WORKSPACE "\"]}}",
        HEAD "\"type\":\"host.hold\",\"generation\":\"7\",\"spec\":{\"reason\":\"x\"}}",
        HEAD "\"type\":\"image.ensure\",\"spec\":{\"image_ref\":\"" REF "\"}}",
};

TEST(jobs) {
        if (!oom_is_here())
                SKIP(NO_OOM);
        for (size_t i = 0; i < ELEMENTS(payloads); i++) {
                _cleanup_json_ cJSON *delivery = kit_json("{\"envelope\":{\"payloadType\":\"" JOB_PAYLOAD_TYPE "\",\"signatures\":[]}}");
                _cleanup_free_ char *text = base64_encode(payloads[i], strlen(payloads[i]));
                int failed = 0;

                CHECK(json_add_string((cJSON *) json_get(delivery, "envelope"), "payload", text));
                for (Oom o = {}; oom_next(&o);) {
                        long before = oom_blocks;
                        JobLabel label = {};
                        Job *j = NULL;
                        Fault f = {};
                        int r;

                        oom_begin(&o);
                        r = job_open(delivery, &rules, &label, &j, &f);
                        oom_end();
                        if (!CHECK_INT(r, oom_failed ? -ENOMEM : 0) || !CHECK_STR(kit_code(&f), oom_failed ? "internal" : ""))
                                printf("#   payload %zu, allocation %ld: %s\n", i, o.n, f.text);
                        CHECK((j != NULL) == (r == 0));
                        failed += r < 0;
                        job_free(j);
                        CHECK_INT(oom_blocks, before);
                }
                CHECK(failed > 20);
        }
}

TEST_MAIN
