/* SPDX-License-Identifier: Apache-2.0 */

/* provision/pins: a good table is taken and kept; nothing that is less than good ever takes its place. */

#include <errno.h>

#include "base/hash.h"
#include "provision/pins.h"
#include "tests/sign-kit.h"

#define NOW (UINT64_C(1767323045) * USEC_PER_SEC)
#define ROW(template, region, name, digest) ROW_AT(template, region, name, digest, "2026-01-01T00:00:00Z")
#define ROW_AT(template, region, name, digest, moment) \
        "{\"template_name\":\"" template "\",\"region\":\"" region "\",\"image_digest\":\"" digest "\",\"image_ref\":\"" name "@" digest \
                                         "\"," \
                                         "\"git_sha\":\"x\",\"promoted_at\":\"" moment "\",\"promoted_by\":\"someone\""
#define TABLE(rows) "{\"pins\":[" rows "],\"thin_ami\":[],\"later\":{}}"
#define GOOD TABLE(ROW("codex", "global", "registry.example/a", KIT_DIGEST) "}")

static Pins *open_pins(const TestDir *d) {
        Pins *p = NULL;

        if (!CHECK_INT(pins_open(d->fd, &(TrustedKeys) {}, &p, NULL), 0))
                abort();
        return p;
}

static int replace(Pins *p, const char *body, const char *etag, Fault *f) { return pins_replace(p, body, strlen(body), etag, NOW, f); }

TEST(before_the_first_table) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);

        CHECK_STR(pins_etag(p), "");
        CHECK_INT(pins_fetched_at(p), 0);
        CHECK(pins_find(p, "codex", NULL) == NULL);
        CHECK_INT(replace(p, TABLE(""), "1", NULL), -ENODATA);
        CHECK_INT(replace(p, "{\"pins\":{}}", "1", NULL), -EBADMSG);
        CHECK_STR(pins_etag(p), "");
}

TEST(region_over_global) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);

        CHECK_INT(replace(p,
                          TABLE(ROW("codex", "eu-1", "registry.example/eu",
                                    KIT_DIGEST) "}," ROW("codex", "global", "registry.example/all",
                                                         KIT_DIGEST_2) "}," ROW("hermes", "eu-1", "registry.example/hermes",
                                                                                KIT_DIGEST) ",\"image_size_bytes\":\"12345\"}"),
                          "\"1\"", NULL),
                  0);
        CHECK_STR(pins_find(p, "codex", "eu-1")->image_ref, "registry.example/eu@" KIT_DIGEST);
        CHECK_STR(pins_find(p, "codex", "us-1")->image_ref, "registry.example/all@" KIT_DIGEST_2);
        CHECK_STR(pins_find(p, "codex", NULL)->image_ref, "registry.example/all@" KIT_DIGEST_2);
        CHECK_INT(pins_find(p, "codex", NULL)->image_size_bytes, 0);
        CHECK_INT(pins_find(p, "hermes", "eu-1")->image_size_bytes, 12345);
        CHECK(pins_find(p, "hermes", "us-1") == NULL && pins_find(p, "hermes", NULL) == NULL);
        CHECK(pins_find(p, "Codex", NULL) == NULL && pins_find(p, "", NULL) == NULL);
}

TEST(survives_a_restart) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);

        CHECK_INT(replace(p, GOOD, "W/\"tag \\\"", NULL), 0);
        for (int again = 0; again < 2; again++) {
                CHECK_STR(pins_etag(p), "W/\"tag \\\"");
                CHECK_INT(pins_fetched_at(p), NOW);
                CHECK_STR(pins_find(p, "codex", NULL)->image_digest, KIT_DIGEST);
                (void) pins_free(p);
                p = open_pins(&d);
        }
}

TEST(a_new_table_takes_the_place_of_the_old) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);

        CHECK_INT(replace(p, GOOD, "1", NULL), 0);
        CHECK_INT(replace(p, TABLE(ROW("hermes", "global", "registry.example/h", KIT_DIGEST_2) ",\"image_size_bytes\":null}"), "2", NULL),
                  0);
        CHECK(pins_find(p, "codex", NULL) == NULL && pins_find(p, "hermes", NULL));
        CHECK_STR(pins_etag(p), "2");
        CHECK_INT(replace(p, GOOD, NULL, NULL), 0);
        CHECK_STR(pins_etag(p), "");
}

static const char *const bad[] = {
        "",
        "{",
        "<html>maintenance</html>",
        "[]",
        "{}",
        "null",
        "{\"pins\":null}",
        "{\"pins\":{}}",
        "{\"pins\":[]}",
        "{\"pins\":[7]}",
        "{\"pins\":[{}]}",
        "{\"pins\":[[]]}",
        TABLE(ROW("codex", "global", "registry.example/a", KIT_DIGEST) "},"
                                                                       "{\"template_name\":\"x\"}"),
        TABLE(ROW("codex", "global", "registry.example/a", KIT_DIGEST) "}," ROW("codex", "global", "registry.example/b", KIT_DIGEST_2) "}"),
        TABLE(ROW("codex", "eu-1", "registry.example/a", KIT_DIGEST) "}," ROW("codex", "eu-1", "registry.example/a", KIT_DIGEST) "}"),
        TABLE(ROW("codex", "global", "registry.example/a:latest", "sha256:0123") "}"),
        TABLE(ROW("codex", "global", "a", KIT_DIGEST) "}"),
        TABLE(ROW("codex", "", "registry.example/a", KIT_DIGEST) "}"),
        TABLE(ROW("", "global", "registry.example/a", KIT_DIGEST) "}"),
        TABLE(ROW("codex", "global", "registry.example/a", KIT_DIGEST) ",\"image_size_bytes\":12}"),
        TABLE(ROW("codex", "global", "registry.example/a", KIT_DIGEST) ",\"image_size_bytes\":\"-1\"}"),
        "{\"pins\":[{\"template_name\":\"codex\",\"region\":\"global\",\"image_digest\":\"" KIT_DIGEST_2
        "\",\"image_ref\":\"registry.example/a@" KIT_DIGEST "\"}]}",
        "{\"pins\":[{\"template_name\":\"codex\",\"region\":\"global\",\"image_digest\":null,\"image_ref\":\"registry.example/a@" KIT_DIGEST
        "\"}]}",
        "{\"pins\":[{\"template_name\":\"codex\",\"region\":\"global\",\"image_digest\":\"" KIT_DIGEST
        "\",\"image_ref\":\"registry.example/a:1\"}]}",
};

TEST(incident_16_nothing_less_than_good_takes_its_place) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);

        CHECK_INT(replace(p, GOOD, "good", NULL), 0);
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                Fault f = {};

                if (!CHECK(replace(p, bad[i], "bad", &f) < 0) || !CHECK_STR(kit_code(&f), "bad_json"))
                        printf("#   in: %.100s\n", bad[i]);
        }
        for (int again = 0; again < 2; again++) {
                CHECK_STR(pins_etag(p), "good");
                CHECK(pins_find(p, "codex", NULL) != NULL);
                (void) pins_free(p);
                p = open_pins(&d);
        }
}

#define AT(moment) TABLE(ROW_AT("codex", "global", "registry.example/a", KIT_DIGEST, moment) "}")

TEST(incident_9_an_older_table_does_not_come_back) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);
        Fault f = {};

        pins_from(p, "cp.example");
        CHECK_INT(replace(p, AT("2026-11-02T00:00:00Z"), "new", NULL), 0);
        p = (pins_free(p), open_pins(&d)); /* also over a restart */
        pins_from(p, "cp.example");
        CHECK_INT(replace(p, AT("2026-11-01T00:00:00Z"), "old", &f), -ESTALE);
        CHECK_STR(kit_code(&f), "bad_json");
        CHECK_STR(pins_etag(p), "new");
        CHECK_INT(replace(p, AT("2026-11-02T00:00:00Z"), "same", NULL), 0);
        CHECK_INT(replace(p, AT("2026-11-03T00:00:00Z"), "newer", NULL), 0);
}

TEST(a_table_is_compared_only_with_one_of_the_same_control_plane) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);

        CHECK_INT(replace(p, AT("2026-11-02T00:00:00Z"), "1", NULL), 0);
        pins_from(p, "one.example");
        CHECK_INT(replace(p, AT("2026-11-01T00:00:00Z"), "2", NULL), 0); /* whose the first was is not known */
        pins_from(p, "other.example");
        CHECK_INT(replace(p, AT("2026-10-01T00:00:00Z"), "3", NULL), 0);
        CHECK(replace(p, AT("2026-09-01T00:00:00Z"), "4", NULL) < 0);
        CHECK_INT(replace(p, AT("no time at all"), "5", NULL), 0);
        CHECK_INT(replace(p, GOOD, "6", NULL), 0);
}

/* n rows, each of another runtime. */
static char *table_of(unsigned n) {
        size_t used = 0, size = 400 * (size_t) n + 100;
        char *text = malloc(size);

        if (!text)
                abort();
        used = (size_t) snprintf(text, size, "{\"pins\":[");
        for (unsigned i = 0; i < n; i++)
                used += (size_t) snprintf(text + used, size - used,
                                          "%s{\"template_name\":\"r%u\",\"region\":\"global\",\"image_digest\":\"" KIT_DIGEST "\","
                                          "\"image_ref\":\"registry.example/a@" KIT_DIGEST
                                          "\",\"image_size_bytes\":\"1\",\"git_sha\":\"x\","
                                          "\"promoted_at\":\"t\",\"promoted_by\":\"b\"}",
                                          i ? "," : "", i);
        (void) snprintf(text + used, size - used, "]}");
        return text;
}

TEST(the_largest_table) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);
        _cleanup_free_ char *most = table_of(2000), *more = table_of(2001);

        CHECK_INT(replace(p, most, "1", NULL), 0);
        (void) pins_free(p);
        p = open_pins(&d);
        CHECK(pins_find(p, "r1999", NULL) != NULL);
        CHECK(replace(p, more, "2", NULL) < 0);
        CHECK_STR(pins_etag(p), "1");
}

TEST(a_table_that_cannot_be_written_is_not_taken) {
        _cleanup_(pins_freep) Pins *p = NULL;
        Fault f = {};

        CHECK_INT(pins_open(-1, &(TrustedKeys) {}, &p, NULL), 0);
        CHECK(replace(p, GOOD, "1", &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK(pins_find(p, "codex", NULL) == NULL);
        CHECK_STR(pins_etag(p), "");
}

TEST(a_damaged_cache_is_left_out) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_pins(&d);

        CHECK_INT(replace(p, GOOD, "1", NULL), 0);
        (void) pins_free(p);
        test_dir_text(&d, "pins", "molecule-agent pins v1 3 0\n{}\n");
        p = open_pins(&d);
        CHECK_STR(pins_etag(p), "");
        CHECK(pins_find(p, "codex", NULL) == NULL);
        CHECK_INT(replace(p, GOOD, "2", NULL), 0);
        CHECK(pins_find(p, "codex", NULL) != NULL);
}

/* ── signatures ──────────────────────────────────────────────────────────────────────────────────────────────── */

#define OTHER TABLE(ROW("codex", "global", "registry.example/b", KIT_DIGEST_2) "}")

static Pins *open_trusting(const TestDir *d, const TrustedKeys *trusted) {
        Pins *p = NULL;

        if (!CHECK_INT(pins_open(d->fd, trusted, &p, NULL), 0))
                abort();
        return p;
}

/* by NULL: not signed, but in an envelope. */
static char *enveloped(const char *type, const char *table, const Signer *by) {
        _cleanup_json_ cJSON *e = signed_envelope(type, table, by, by ? 1 : 0);

        return json_print(e);
}

static const char *image_of(const Pins *p) { return pins_find(p, "codex", NULL) ? pins_find(p, "codex", NULL)->image_digest : NULL; }

TEST(only_what_is_signed_where_keys_are_given) {
        Signer s[2] = { signer(1), signer(2) };
        const TrustedKeys first = trust(s, 1), none = {};
        _cleanup_free_ char *good = enveloped(PINS_PAYLOAD_TYPE, OTHER, &s[0]), *wrong = enveloped(PINS_PAYLOAD_TYPE, OTHER, &s[1]),
                            *bare = enveloped(PINS_PAYLOAD_TYPE, OTHER, NULL),
                            *job = enveloped("application/vnd.molecule.job.v1+json", OTHER, &s[0]),
                            *garbage = enveloped(PINS_PAYLOAD_TYPE, "{\"pins\":[]}", &s[0]),
                            *no_json = enveloped(PINS_PAYLOAD_TYPE, "{", &s[0]);
        const struct { const char *body; const TrustedKeys *trusted; const char *code; } table[] = {
                { good, &first, "" },            { good, &none, "" },             { wrong, &none, "" },  { bare, &none, "" },
                { OTHER, &none, "" },
                { OTHER, &first, "bad_signature" }, { wrong, &first, "bad_signature" }, { bare, &first, "bad_signature" },
                { job, &first, "unsupported_type" }, { job, &none, "unsupported_type" }, { garbage, &first, "bad_json" },
                { no_json, &first, "bad_json" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_(pins_freep) Pins *p = open_trusting(&d, table[i].trusted);
                _cleanup_free_ char *before = enveloped(PINS_PAYLOAD_TYPE, GOOD, &s[0]);
                bool good_one = table[i].code[0] == 0;
                Fault f = {};

                CHECK_INT(replace(p, before, "1", NULL), 0);
                if (!CHECK((replace(p, table[i].body, "2", &f) == 0) == good_one) || !CHECK_STR(kit_code(&f), table[i].code))
                        printf("#   in: case %zu: %s\n", i, f.text);
                for (int again = 0; again < 2; again++) {
                        CHECK_STR(image_of(p), good_one ? KIT_DIGEST_2 : KIT_DIGEST);
                        CHECK_STR(pins_etag(p), good_one ? "2" : "1");
                        (void) pins_free(p);
                        p = open_trusting(&d, table[i].trusted);
                }
        }
}

TEST(the_cache_is_judged_at_each_start) {
        Signer s[2] = { signer(1), signer(2) };
        const TrustedKeys first = trust(s, 1), second = trust(&s[1], 1), both = trust(s, 2), none = {};
        const TrustedKeys *starts[] = { &first, &second, &none, &both, &second, &first };
        _cleanup_free_ char *signed_table = enveloped(PINS_PAYLOAD_TYPE, GOOD, &s[0]);

        for (int is_signed = 0; is_signed < 2; is_signed++) {
                _cleanup_dir_ TestDir d = test_dir();
                _cleanup_(pins_freep) Pins *p = open_trusting(&d, &none);

                CHECK_INT(replace(p, is_signed ? signed_table : GOOD, "1", NULL), 0);
                for (size_t i = 0; i < ELEMENTS(starts); i++) {
                        bool counts = starts[i]->n == 0 || (is_signed && starts[i] != &second);

                        (void) pins_free(p);
                        p = open_trusting(&d, starts[i]);
                        if (!CHECK_STR(image_of(p), counts ? KIT_DIGEST : NULL) || !CHECK_STR(pins_etag(p), counts ? "1" : ""))
                                printf("#   in: start %zu, signed %d\n", i, is_signed);
                        CHECK_INT(pins_fetched_at(p), counts ? NOW : 0);
                }
        }
}

TEST(a_cache_that_was_tampered_with_does_not_count) {
        Signer s = signer(1), other = signer(2);
        const TrustedKeys trusted = trust(&s, 1);
        _cleanup_free_ char *good = enveloped(PINS_PAYLOAD_TYPE, GOOD, &s), *forged = enveloped(PINS_PAYLOAD_TYPE, OTHER, &other);
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_trusting(&d, &(TrustedKeys) {});

        CHECK_INT(replace(p, forged, "1", NULL), 0);    /* the record is whole, its checksum right: whoever can write there can do that */
        (void) pins_free(p);
        p = open_trusting(&d, &trusted);
        CHECK_STR(image_of(p), NULL);
        CHECK_STR(pins_etag(p), "");                    /* so that it is fetched anew */
        CHECK_INT(replace(p, good, "1", NULL), 0);
        CHECK_STR(image_of(p), KIT_DIGEST);
}

TEST(trust_may_change_while_running) {
        Signer s[2] = { signer(1), signer(2) };
        const TrustedKeys first = trust(s, 1), second = trust(&s[1], 1), none = {};
        _cleanup_free_ char *good = enveloped(PINS_PAYLOAD_TYPE, GOOD, &s[0]), *other = enveloped(PINS_PAYLOAD_TYPE, OTHER, &s[1]);
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_(pins_freep) Pins *p = open_trusting(&d, &none);

        pins_trust(p, &first);
        CHECK_STR(image_of(p), NULL);
        CHECK_INT(replace(p, good, "1", NULL), 0);
        pins_trust(p, &first);                          /* nothing changed */
        CHECK_STR(image_of(p), KIT_DIGEST);
        CHECK_STR(pins_etag(p), "1");
        pins_trust(p, &second);
        CHECK_STR(image_of(p), NULL);
        CHECK_STR(pins_etag(p), "");
        CHECK_INT(pins_fetched_at(p), 0);
        CHECK(replace(p, good, "2", NULL) < 0);
        pins_trust(p, &none);                           /* what lies in the cache counts again */
        CHECK_STR(image_of(p), KIT_DIGEST);
        CHECK_STR(pins_etag(p), "1");
        pins_trust(p, &second);
        CHECK_INT(replace(p, other, "3", NULL), 0);
        CHECK_STR(image_of(p), KIT_DIGEST_2);
        pins_trust(p, &none);
        CHECK_INT(replace(p, GOOD, "4", NULL), 0);
        pins_trust(p, &second);
        CHECK_STR(image_of(p), NULL);                   /* a table that nobody signed */
}

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
