/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/envelope: DSSE, signed here by the library and the page of DSSE alone; what counts as signed, and that nothing is read before
 * that. */

#include <errno.h>

#include "tests/sign-kit.h"

#define TYPE    "application/vnd.molecule.job.v1+json"
#define PAYLOAD "{\"hello\":\"world\"}"

typedef struct Opened { int r; char *text; size_t size; Fault fault; } Opened;

static Opened open_it(const cJSON *envelope, const TrustedKeys *trusted, size_t max) {
        Opened o = {};

        o.r = envelope_open(envelope, TYPE, trusted, max, &o.text, &o.size, &o.fault);
        CHECK((o.r < 0) == o.fault.set && (o.r == 0) == (o.text != NULL));
        return o;
}

static void want(const cJSON *envelope, const TrustedKeys *trusted, const char *code, const char *what) {
        Opened o = open_it(envelope, trusted, 1000);

        if (!CHECK_STR(kit_code(&o.fault), code) || (!code[0] && !CHECK_STR(o.text, PAYLOAD)))
                printf("#   in: %s: %s\n", what, o.fault.text);
        CHECK(o.r < 0 || (o.size == strlen(PAYLOAD) && o.text[o.size] == 0));
        free(o.text);
}

/* As it is published: "DSSEv1 29 http://example.com/HelloWorld 11 hello world". Ed25519 is deterministic, so the signature is one text. */
TEST(the_encoding_that_is_published) {
        static const char published[] = "DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        Signer s = signer(7);
        TrustedKeys trusted = trust(&s, 1);
        uint8_t sig[crypto_sign_BYTES];
        _cleanup_free_ char *text = NULL, *payload = base64_encode("hello world", 11), *out = NULL;
        _cleanup_json_ cJSON *e = NULL;
        size_t n = 0;

        CHECK_INT(crypto_sign_detached(sig, NULL, (const uint8_t *) published, strlen(published), s.secret), 0);
        text = base64_encode(sig, sizeof sig);
        e = envelope_with("http://example.com/HelloWorld", payload);
        add_signature(e, "k", text);
        CHECK_INT(envelope_open(e, "http://example.com/HelloWorld", &trusted, 100, &out, &n, NULL), 0);
        CHECK_STR(out, "hello world");
}

TEST(one_good_signature_of_a_trusted_key_is_enough) {
        Signer s[4] = { signer(1), signer(2), signer(3), signer(4) };
        TrustedKeys one = trust(s, 1), three = trust(s, 3);

        for (int by = 0; by < 4; by++) {
                _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, &s[by], 1);

                want(e, &one, by < 1 ? "" : "bad_signature", "one key");
                want(e, &three, by < 3 ? "" : "bad_signature", "three keys");
                want(e, NULL, "", "no keys");
                want(e, &(TrustedKeys) {}, "", "none");
        }
        {
                _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, s, 4), *last = signed_envelope(TYPE, PAYLOAD, &s[1], 3);
                TrustedKeys fourth = trust(&s[3], 1);

                want(e, &fourth, "", "the last of several");
                want(last, &one, "bad_signature", "several of others");
        }
}

TEST(unsigned_only_where_no_key_is_given) {
        Signer s = signer(1);
        TrustedKeys trusted = trust(&s, 1);
        _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, NULL, 0);

        want(e, &trusted, "bad_signature", "no signature");
        want(e, NULL, "", "no key");
}

TEST(how_many_signatures) {
        Signer s = signer(1), other = signer(2);
        TrustedKeys trusted = trust(&s, 1);

        for (int n = 15; n <= 17; n++) {
                _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, NULL, 0);

                for (int i = 1; i < n; i++)
                        sign(e, TYPE, PAYLOAD, &other);
                sign(e, TYPE, PAYLOAD, &s);
                want(e, &trusted, n <= 16 ? "" : "bad_signature", "many");
                want(e, NULL, "", "many, not judged");
        }
}

/* Each pair of a signature and a key walks over the whole payload once more. */
TEST(how_many_pairs) {
        Signer s[TRUSTED_KEYS_MAX], other = signer(99);

        for (int i = 0; i < TRUSTED_KEYS_MAX; i++)
                s[i] = signer((uint8_t) (i + 1));
        for (size_t keys = 1; keys <= TRUSTED_KEYS_MAX; keys++) {
                TrustedKeys trusted = trust(s, keys);

                for (size_t n = 1; n <= 16; n++) {      /* the good one is the last in both lists */
                        _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, NULL, 0);

                        for (size_t i = 1; i < n; i++)
                                sign(e, TYPE, PAYLOAD, &other);
                        sign(e, TYPE, PAYLOAD, &s[keys - 1]);
                        want(e, &trusted, keys * n <= 32 ? "" : "bad_signature", "pairs");
                }
        }
}

TEST(what_is_signed_is_the_type_and_the_bytes) {
        static const char *const types[] = { "application/vnd.molecule.job.v2+json", "", "application/vnd.molecule.job.v1+json ",
                                             "application/vnd.molecule.pins.v1+json" };
        Signer s = signer(1);
        TrustedKeys trusted = trust(&s, 1);
        _cleanup_json_ cJSON *raw = NULL;

        for (size_t i = 0; i < ELEMENTS(types); i++) {
                _cleanup_json_ cJSON *as_other = signed_envelope(types[i], PAYLOAD, &s, 1),
                                     *moved = signed_envelope(TYPE, PAYLOAD, NULL, 0);

                want(as_other, &trusted, "unsupported_type", types[i]);
                sign(moved, types[i], PAYLOAD, &s);     /* a signature of another type put here */
                want(moved, &trusted, "bad_signature", types[i]);
        }
        for (size_t at = 0; at < strlen(PAYLOAD); at++) {
                _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, &s, 1);
                char text[] = PAYLOAD;
                _cleanup_free_ char *other = NULL;

                text[at] ^= 1;
                other = base64_encode(text, strlen(PAYLOAD));
                set_string(e, "payload", other);
                want(e, &trusted, "bad_signature", "a bit of the payload");
        }
        raw = signed_envelope(TYPE, PAYLOAD, NULL, 0);          /* over the payload without its type */
        sign_raw(raw, PAYLOAD, strlen(PAYLOAD), &s);
        want(raw, &trusted, "bad_signature", "the payload alone");
}

TEST(signatures_that_are_none) {
        static const char *const texts[] = { "[]", "[{}]", "[null]", "[7]", "[\"x\"]", "[{\"sig\":7}]", "[{\"sig\":\"\"}]",
                                             "[{\"sig\":\"AAAA\"}]", "[{\"sig\":\"!!\"}]",
                                             "[{\"keyid\":\"k\"}]" };
        Signer s = signer(1);
        TrustedKeys trusted = trust(&s, 1);

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, NULL, 0), *both = signed_envelope(TYPE, PAYLOAD, NULL, 0);

                kit_set(e, "signatures", texts[i]);
                want(e, &trusted, "bad_signature", texts[i]);
                kit_set(both, "signatures", texts[i]);
                sign(both, TYPE, PAYLOAD, &s);
                want(both, &trusted, "", "a good one behind it");
        }
        for (int bit = 0; bit < 512; bit += 5) {
                _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, NULL, 0);

                sign_with_bit(e, TYPE, PAYLOAD, &s, bit);
                want(e, &trusted, "bad_signature", "a bit of it");
        }
}

/* Of a signature that ends in a zero byte the other 63 are not enough, nor is one byte more. */
TEST(a_signature_has_64_bytes) {
        Signer s = signer(1);
        TrustedKeys trusted = trust(&s, 1);
        int found = 0;

        for (int i = 0; i < 2000 && found < 3; i++) {
                _cleanup_free_ char *payload = str_printf("%d", i), *message = str_printf("DSSEv1 %zu " TYPE " %zu %s", strlen(TYPE),
                                                                                          strlen(payload), payload);
                uint8_t sig[65] = {};

                crypto_sign_detached(sig, NULL, (const uint8_t *) message, strlen(message), s.secret);
                if (sig[63] != 0)
                        continue;
                found++;
                for (size_t n = 62; n <= 65; n++) {
                        _cleanup_json_ cJSON *e = signed_envelope(TYPE, payload, NULL, 0);
                        _cleanup_free_ char *text = base64_encode(sig, n);
                        Opened o;

                        add_signature(e, "k", text);
                        o = open_it(e, &trusted, 100);
                        CHECK_STR(kit_code(&o.fault), n == 64 ? "" : "bad_signature");
                        free(o.text);
                }
        }
        CHECK_INT(found, 3);
}

TEST(the_keyid_is_only_a_hint) {
        static const char *const ids[] = { "", "other", NULL };
        Signer s = signer(1);
        TrustedKeys trusted = trust(&s, 1);

        for (size_t i = 0; i < ELEMENTS(ids); i++) {
                _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, &s, 1);

                kit_set(cJSON_GetArrayItem(json_get(e, "signatures"), 0), "keyid", ids[i] ? "\"other\"" : NULL);
                want(e, &trusted, "", "keyid");
        }
}

/* A valid-looking signature that any message has under a key of small order. */
TEST(keys_of_small_order_sign_nothing) {
        static const uint8_t identity[32] = { 1 };
        _cleanup_free_ char *key = base64_encode(identity, 32), *text = NULL;
        _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, NULL, 0);
        uint8_t sig[64] = { 1 };
        TrustedKeys trusted = {};

        CHECK_INT(trusted_keys_add(&trusted, key), 0);
        text = base64_encode(sig, sizeof sig);
        add_signature(e, "k", text);
        want(e, &trusted, "bad_signature", "small order");
}

TEST(shapes) {
        static const struct { const char *field, *value; } table[] = {
                { "payloadType", NULL }, { "payloadType", "7" }, { "payload", NULL }, { "payload", "{}" }, { "signatures", NULL },
                { "signatures", "{}" },
                { "payload", "\"!!!!\"" }, { "payload", "\"e30\"" }, { "payload", "\"e3 0=\"" },
        };
        static const char *const others[] = { "[]", "null", "7", "{}" };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, NULL, 0);

                CHECK(envelope_is(e));
                kit_set(e, table[i].field, table[i].value);
                want(e, NULL, "bad_json", table[i].field);
                CHECK(envelope_is(e) == (i >= 6));
        }
        for (size_t i = 0; i < ELEMENTS(others); i++) {
                _cleanup_json_ cJSON *e = kit_json(others[i]);

                want(e, NULL, "bad_json", others[i]);
        }
        want(NULL, NULL, "bad_json", "nothing");
}

TEST(sizes) {
        Signer s = signer(1);
        TrustedKeys trusted = trust(&s, 1);
        _cleanup_json_ cJSON *e = signed_envelope(TYPE, PAYLOAD, &s, 1), *empty = signed_envelope(TYPE, "", &s, 1);
        Opened o = open_it(e, &trusted, strlen(PAYLOAD)), less = open_it(e, &trusted, strlen(PAYLOAD) - 1),
               none = open_it(empty, &trusted, 10);

        CHECK_INT(o.r, 0);
        CHECK_STR(kit_code(&less.fault), "too_large");
        CHECK(none.r == 0 && none.size == 0);
        free(o.text);
        free(none.text);
}

TEST(trusted_keys) {
        static const char *const bad[] = { "", "x", "AAAA", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
                                           "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISI=" };
        TrustedKeys t = {};

        for (size_t i = 0; i < ELEMENTS(bad); i++)
                CHECK_INT(trusted_keys_add(&t, bad[i]), -EINVAL);
        for (int i = 0; i < TRUSTED_KEYS_MAX; i++)
                CHECK_INT(trusted_keys_add(&t, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), 0);
        CHECK_INT(trusted_keys_add(&t, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), -E2BIG);
        CHECK_INT(t.n, TRUSTED_KEYS_MAX);
}

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
