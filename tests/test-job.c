/* SPDX-License-Identifier: Apache-2.0 */

/* provision/job: from a delivery's bytes to a job; every way an envelope or a payload can be damaged; what a refusal still knows. */

#include <errno.h>

#include "provision/job.h"
#include "tests/sign-kit.h"

#define DELIVERY "55555555-5555-4555-8555-555555555555"

static const JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 2 } };

static cJSON *provision(void) {
        return kit_json("{\"job_id\":\"" KIT_JOB "\",\"type\":\"workspace.provision\",\"org_id\":\"" KIT_ORG "\",\"host_id\":\"" KIT_HOST
                        "\","
                        "\"workspace_id\":\"" KIT_WORKSPACE
                        "\",\"generation\":\"7\",\"issued_at\":\"2026-01-02T03:04:05Z\",\"spec\":" KIT_SPEC "}");
}

static cJSON *deprovision(void) {
        cJSON *json = provision();

        kit_set(json, "type", "\"workspace.deprovision\"");
        kit_set(json, "spec", "{\"prune\":true}");
        return json;
}

typedef struct Outcome {
        int      r;
        JobLabel label;
        Fault    fault;
        Job     *job;
} Outcome;

static void outcome_done(Outcome *o) { job_free(o->job); }
#define _cleanup_outcome_ _cleanup_(outcome_done)

static Outcome parse_text(const char *text, size_t size) {
        Outcome o = {};

        o.r = job_parse(text, size, &rules, &o.label, &o.job, &o.fault);
        CHECK((o.r < 0) == o.fault.set && (o.r == 0) == (o.job != NULL));
        return o;
}

static Outcome parse(const cJSON *payload) {
        _cleanup_free_ char *text = json_print(payload);

        return parse_text(text, strlen(text));
}

static cJSON *delivery_of(const void *payload, size_t size) {
        _cleanup_free_ char *text = base64_encode(payload, size);
        cJSON *json =
                kit_json("{\"delivery_id\":\"" DELIVERY "\",\"envelope\":{\"payloadType\":\"" JOB_PAYLOAD_TYPE "\",\"signatures\":[]}}");

        if (!json_add_string((cJSON *) json_get(json, "envelope"), "payload", text))
                abort();
        return json;
}

static Outcome open_it(const cJSON *delivery) {
        Outcome o = { .label.generation = 99 };

        o.r = job_open(delivery, &rules, &o.label, &o.job, &o.fault);
        CHECK((o.r < 0) == o.fault.set && (o.r == 0) == (o.job != NULL));
        return o;
}

/* ── good ones ───────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_good_provision) {
        _cleanup_json_ cJSON *payload = provision(), *delivery = NULL;
        _cleanup_free_ char *text = json_print(payload);
        _cleanup_outcome_ Outcome o = {};
        char hash[HASH_TEXT_SIZE];

        delivery = delivery_of(text, strlen(text));
        o = open_it(delivery);
        if (!CHECK_INT(o.r, 0))
                return;
        CHECK_INT(o.job->type, JOB_PROVISION);
        CHECK_STR(o.job->job_id, KIT_JOB);
        CHECK_STR(o.job->org_id, KIT_ORG);
        CHECK_STR(o.job->host_id, KIT_HOST);
        CHECK_STR(o.job->workspace_id, KIT_WORKSPACE);
        CHECK_INT(o.job->generation, 7);
        CHECK_INT(o.job->issued_at / USEC_PER_SEC, 1767323045);
        CHECK_INT(o.job->expires_at + o.job->deadline_seconds, 0);
        CHECK_STR(o.job->spec->runtime, "codex");
        CHECK_STR(o.job->payload, text);
        CHECK_INT(o.job->payload_size, strlen(text));
        hash_text(text, strlen(text), hash);
        CHECK_STR(o.job->payload_hash, hash);
        CHECK_STR(o.label.delivery_id, DELIVERY);
        CHECK_STR(o.label.job_id, KIT_JOB);
        CHECK_STR(o.label.workspace_id, KIT_WORKSPACE);
        CHECK_STR(o.label.type, "workspace.provision");
        CHECK(o.label.has_generation && o.label.generation == 7);
}

TEST(a_good_deprovision) {
        for (int prune = 0; prune < 2; prune++) {
                _cleanup_json_ cJSON *payload = deprovision();
                _cleanup_outcome_ Outcome o = {};

                kit_set(payload, "spec", prune ? "{\"prune\":true}" : "{\"prune\":false}");
                kit_set(payload, "deadline_seconds", "86400");
                o = parse(payload);
                if (!CHECK_INT(o.r, 0))
                        continue;
                CHECK_INT(o.job->type, JOB_DEPROVISION);
                CHECK_INT(o.job->args.prune, prune);
                CHECK(o.job->spec == NULL);
                CHECK_INT(o.job->deadline_seconds, 86400);
        }
}

TEST(payload_bytes_are_kept_as_they_came) {
        _cleanup_json_ cJSON *payload = provision();
        _cleanup_free_ char *text = json_print(payload), *spaced = str_printf("  \n%s \t", text ?: "");
        _cleanup_json_ cJSON *delivery = delivery_of(spaced ?: "", spaced ? strlen(spaced) : 0);
        _cleanup_outcome_ Outcome a = parse_text(text ?: "", text ? strlen(text) : 0), b = open_it(delivery);

        if (!CHECK_INT(a.r, 0) || !CHECK_INT(b.r, 0) || !a.job || !b.job || !spaced)
                return;
        CHECK_STR(b.job->payload, spaced);
        CHECK(memcmp(a.job->payload_hash, b.job->payload_hash, sizeof a.job->payload_hash) != 0);
}

TEST(expiry_is_judged_by_the_control_plane_s_time) {
        _cleanup_json_ cJSON *payload = provision();
        _cleanup_outcome_ Outcome o = {};
        uint64_t at = UINT64_C(1767323105) * USEC_PER_SEC;

        kit_set(payload, "expires_at", "\"2026-01-02T03:05:05Z\"");
        o = parse(payload);
        if (!CHECK_INT(o.r, 0))
                return;
        CHECK_INT(o.job->expires_at, at);
        CHECK(!job_expired(o.job, at - 1));
        CHECK(job_expired(o.job, at));
        CHECK(job_expired(o.job, at + 1));
        CHECK(!job_expired(o.job, 0));                  /* unknown: nothing expires */
        o.job->expires_at = 0;
        CHECK(!job_expired(o.job, UINT64_MAX));
}

TEST(types_have_names) {
        JobType t = _JOB_TYPE_MAX;

        for (int i = 0; i < _JOB_TYPE_MAX; i++) {
                CHECK_INT(job_type_find(job_type_name((JobType) i), &t), 0);
                CHECK_INT(t, i);
        }
        CHECK_INT(job_type_find("host.upgrade", &t), -ENOENT);
        CHECK_INT(job_type_find("", &t), -ENOENT);
}

/* ── payloads ────────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct { const char *field, *value, *code; } fields[] = {
        { "job_id", NULL, "bad_json" },
        { "job_id", "\"x\"", "bad_json" },
        { "job_id", "7", "bad_json" },
        { "job_id", "\"44444444-4444-4444-8444-44444444444A\"", "bad_json" },
        { "type", NULL, "bad_json" },
        { "type", "7", "bad_json" },
        { "type", "\"\"", "bad_json" },
        { "type", "\"workspace.restarted\"", "unsupported_type" },
        { "type", "\"WORKSPACE.PROVISION\"", "unsupported_type" },
        { "type", "\"workspace.provision \"", "unsupported_type" },
        { "type", "\"host.redeploy\"", "unsupported_field" },
        { "org_id", NULL, "bad_json" },
        { "org_id", "\"\"", "bad_json" },
        { "org_id", "\"" KIT_OTHER "\"", "wrong_tenant" },
        { "host_id", NULL, "bad_json" },
        { "host_id", "null", "bad_json" },
        { "host_id", "\"" KIT_OTHER "\"", "wrong_host" },
        { "workspace_id", NULL, "bad_json" },
        { "workspace_id", "\"../x\"", "bad_json" },
        { "generation", NULL, "bad_json" },
        { "generation", "7", "bad_json" },
        { "generation", "\"0\"", "bad_json" },
        { "generation", "\"-1\"", "bad_json" },
        { "generation", "\"1.0\"", "bad_json" },
        { "generation", "\"01\"", "bad_json" },
        { "generation", "\"18446744073709551615\"", "" },
        { "generation", "\"18446744073709551616\"", "bad_json" },
        { "issued_at", NULL, "bad_json" },
        { "issued_at", "\"yesterday\"", "bad_json" },
        { "issued_at", "0", "bad_json" },
        { "expires_at", "\"2026-13-01T00:00:00Z\"", "bad_json" },
        { "expires_at", "null", "bad_json" },
        { "expires_at", "\"2020-01-01T00:00:00Z\"", "" },
        { "deadline_seconds", "0", "" },
        { "deadline_seconds", "86401", "bad_json" },
        { "deadline_seconds", "\"9\"", "bad_json" },
        { "spec", NULL, "bad_json" },
        { "spec", "[]", "bad_json" },
        { "spec", "{}", "bad_json" },
        { "extra", "1", "unsupported_field" },
        { "Job_id", "\"x\"", "unsupported_field" },
        { "signatures", "[]", "unsupported_field" },
};

TEST(every_field_of_the_payload) {
        for (size_t i = 0; i < ELEMENTS(fields); i++) {
                _cleanup_json_ cJSON *payload = provision();
                _cleanup_outcome_ Outcome o = {};

                kit_set(payload, fields[i].field, fields[i].value);
                o = parse(payload);
                if (!CHECK_STR(kit_code(&o.fault), fields[i].code))
                        printf("#   in: %s = %s; %s\n", fields[i].field, fields[i].value ?: "(absent)", o.fault.text);
        }
}

TEST(a_deprovision_s_spec) {
        static const struct { const char *spec, *code; } table[] = {
                { "{}", "bad_json" },
                { "{\"prune\":1}", "bad_json" },
                { "{\"prune\":null}", "bad_json" },
                { "{\"prune\":true,\"x\":1}", "unsupported_field" },
                { KIT_SPEC, "unsupported_field" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *payload = deprovision();
                _cleanup_outcome_ Outcome o = {};

                kit_set(payload, "spec", table[i].spec);
                o = parse(payload);
                CHECK_STR(kit_code(&o.fault), table[i].code);
        }
}

TEST(a_field_given_twice) {
        _cleanup_json_ cJSON *payload = provision();
        _cleanup_outcome_ Outcome o = {};

        CHECK(json_add_string(payload, "org_id", KIT_ORG));
        o = parse(payload);
        CHECK_STR(kit_code(&o.fault), "bad_json");
}

TEST(truncated_at_every_byte) {
        _cleanup_json_ cJSON *payload = provision();
        _cleanup_free_ char *text = json_print(payload);
        size_t size = strlen(text);

        for (size_t n = 0; n < size; n++) {
                char *copy = malloc(n + 1);             /* exactly so large: a read beyond is seen by the sanitizer */
                _cleanup_outcome_ Outcome o = {};

                if (!copy)
                        abort();
                memcpy(copy, text, n);
                o = parse_text(copy, n);
                free(copy);
                if (!CHECK_STR(kit_code(&o.fault), "bad_json"))
                        return;
        }
}

TEST(deep_and_huge_and_odd) {
        static const char *const texts[] = {
                "", " ", "null", "[]", "{}", "7", "\"x\"", "{\"a\":1}{}", "\xef\xbb\xbf{}", "{\"a\":\"\\u0000\"}", "{\"a\":01}", "{'a':1}"
        };
        _cleanup_free_ char *deep = kit_fill('[', 100000), *flat = kit_fill('1', 60001);

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_outcome_ Outcome o = parse_text(texts[i], strlen(texts[i]));

                CHECK_STR(kit_code(&o.fault), "bad_json");
        }
        {
                _cleanup_outcome_ Outcome o = parse_text(deep, strlen(deep));

                CHECK_STR(kit_code(&o.fault), "bad_json");
        }
        for (size_t i = 1; i < 60000; i += 2)
                flat[i] = ',';
        flat[0] = '[';
        flat[60000] = ']';
        {
                _cleanup_outcome_ Outcome o = parse_text(flat, strlen(flat));

                CHECK_STR(kit_code(&o.fault), "bad_json");
        }
}

TEST(words_of_a_refusal_hold_no_values) {
        _cleanup_json_ cJSON *payload = provision();
        _cleanup_outcome_ Outcome o = {};

        kit_set(payload, "spec", "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"env\":{\"GH_TOKEN\":\"open-sesame\"}}");
        o = parse(payload);
        CHECK_STR(kit_code(&o.fault), "privileged_env_forbidden");
        CHECK(strstr(o.fault.text, "GH_TOKEN") && !strstr(o.fault.text, "sesame"));
}

/* ── labels of refusals ──────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_refusal_knows_what_it_refuses) {
        _cleanup_json_ cJSON *payload = provision(), *delivery = NULL;
        _cleanup_free_ char *text = NULL;
        _cleanup_outcome_ Outcome o = {};

        kit_set(payload, "type", "\"host.upgrade\"");
        kit_set(payload, "unknown", "1");
        text = json_print(payload);
        delivery = delivery_of(text, strlen(text));
        o = open_it(delivery);
        CHECK_STR(kit_code(&o.fault), "unsupported_type");
        CHECK_STR(o.label.delivery_id, DELIVERY);
        CHECK_STR(o.label.job_id, KIT_JOB);
        CHECK_STR(o.label.workspace_id, KIT_WORKSPACE);
        CHECK_STR(o.label.type, "host.upgrade");
        CHECK(o.label.has_generation && o.label.generation == 7);
}

TEST(a_label_takes_nothing_odd) {
        _cleanup_json_ cJSON *payload = provision(), *delivery = NULL;
        _cleanup_free_ char *text = NULL;
        _cleanup_outcome_ Outcome o = {};

        kit_set(payload, "job_id", "\"not-a-uuid\"");
        kit_set(payload, "workspace_id", "7");
        kit_set(payload, "type", "\"<b>\\n\"");
        kit_set(payload, "generation", "\"x\"");
        text = json_print(payload);
        delivery = delivery_of(text, strlen(text));
        kit_set(delivery, "delivery_id", "\"../../etc\"");
        o = open_it(delivery);
        CHECK(o.r < 0);
        CHECK(!o.label.delivery_id[0] && !o.label.job_id[0] && !o.label.workspace_id[0] && !o.label.type[0] && !o.label.has_generation);
}

TEST(an_unreadable_payload_still_has_its_delivery) {
        _cleanup_json_ cJSON *delivery = delivery_of("{", 1);
        _cleanup_outcome_ Outcome o = open_it(delivery);

        CHECK_STR(kit_code(&o.fault), "bad_json");
        CHECK_STR(o.label.delivery_id, DELIVERY);
        CHECK(!o.label.job_id[0]);
}

/* ── envelopes ───────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct { const char *field, *value, *code; } envelopes[] = {
        { "payloadType", NULL, "bad_json" },
        { "payloadType", "7", "bad_json" },
        { "payloadType", "\"application/vnd.molecule.job.v2+json\"", "unsupported_type" },
        { "payloadType", "\"application/vnd.molecule.job.v1+json \"", "unsupported_type" },
        { "payload", NULL, "bad_json" },
        { "payload", "{}", "bad_json" },
        { "payload", "\"\"", "bad_json" },
        { "payload", "\"!!!!\"", "bad_json" },
        { "payload", "\"e30\"", "bad_json" },
        { "payload", "\"e30=\\n\"", "bad_json" },
        { "signatures", NULL, "bad_json" },
        { "signatures", "{}", "bad_json" },
        { "signatures", "[{\"keyid\":\"k\",\"sig\":\"AAAA\"}]", "" },
};

TEST(every_damage_to_an_envelope) {
        _cleanup_json_ cJSON *payload = provision();
        _cleanup_free_ char *text = json_print(payload);

        for (size_t i = 0; i < ELEMENTS(envelopes); i++) {
                _cleanup_json_ cJSON *delivery = delivery_of(text, strlen(text));
                _cleanup_outcome_ Outcome o = {};

                kit_set((cJSON *) json_get(delivery, "envelope"), envelopes[i].field, envelopes[i].value);
                o = open_it(delivery);
                if (!CHECK_STR(kit_code(&o.fault), envelopes[i].code))
                        printf("#   in: %s = %s; %s\n", envelopes[i].field, envelopes[i].value ?: "(absent)", o.fault.text);
                CHECK_STR(o.label.delivery_id, DELIVERY);
        }
}

TEST(signed_where_keys_are_given) {
        Signer s[2] = { signer(1), signer(2) };
        const TrustedKeys trusted = trust(s, 1), none = {};
        _cleanup_json_ cJSON *payload = provision();
        _cleanup_free_ char *text = json_print(payload);
        const struct { const Signer *by; const TrustedKeys *trusted; const char *code; } table[] = {
                { &s[0], &trusted, "" }, { &s[1], &trusted, "bad_signature" }, { NULL, &trusted, "bad_signature" }, { NULL, &none, "" },
                { &s[1], NULL, "" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *delivery = kit_json("{\"delivery_id\":\"" DELIVERY "\"}");
                _cleanup_outcome_ Outcome o = {};
                JobRules r = rules;

                r.trusted = table[i].trusted;
                CHECK(json_add_item(delivery, "envelope", signed_envelope(JOB_PAYLOAD_TYPE, text, table[i].by, table[i].by ? 1 : 0)));
                o.r = job_open(delivery, &r, &o.label, &o.job, &o.fault);
                if (!CHECK_STR(kit_code(&o.fault), table[i].code) || !CHECK((o.job != NULL) == (table[i].code[0] == 0)))
                        printf("#   in: case %zu: %s\n", i, o.fault.text);
                CHECK_STR(o.label.delivery_id, DELIVERY);
                CHECK_STR(o.label.job_id, table[i].code[0] ? "" : KIT_JOB);     /* what is not signed is not read */
        }
}

TEST(no_envelope_at_all) {
        static const char *const texts[] = { "{}", "[]", "null", "7", "{\"envelope\":null}", "{\"envelope\":[]}", "{\"envelope\":\"x\"}" };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_json_ cJSON *delivery = kit_json(texts[i]);
                _cleanup_outcome_ Outcome o = open_it(delivery);

                CHECK_STR(kit_code(&o.fault), "bad_json");
                CHECK(!o.label.delivery_id[0] && !o.label.has_generation);
        }
}

TEST(a_payload_over_its_limit) {
        _cleanup_free_ char *big = kit_fill(' ', JOB_PAYLOAD_MAX + 1);
        _cleanup_json_ cJSON *delivery = delivery_of(big, JOB_PAYLOAD_MAX + 1);
        _cleanup_outcome_ Outcome o = open_it(delivery);

        CHECK_STR(kit_code(&o.fault), "too_large");
}

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
