/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/hostkey: the pair and the one before it, boxes that are for this place and those that are not, and the proof of having held a
 * key. */

#include <errno.h>
#include <sodium.h>

#include "base/file.h"
#include "tests/box-kit.h"
#include "tests/data.h"

static const char *file_of(const char *id) {
        static char name[100];

        (void) snprintf(name, sizeof name, "keys/host.%s.seal", id);
        return name;
}

static void reopen(SealedKit *k) {
        sealed_close(k);
        sealed_open(k);
}

/* ── the pairs ───────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(made_once_and_named_by_its_public_key) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        char id[HOST_KEY_ID_SIZE], public[HOST_KEY_TEXT_SIZE], hash[HASH_TEXT_SIZE], wanted[HOST_KEY_ID_SIZE];
        _cleanup_free_ uint8_t *bytes = NULL;
        struct stat st;
        size_t size;

        strcpy(id, host_keys_id(k.host));
        strcpy(public, host_keys_public(k.host));
        CHECK_INT(base64_decode(public, 32, &bytes, &size), 0);
        CHECK_INT(size, 32);
        hash_text(bytes, size, hash);
        (void) snprintf(wanted, sizeof wanted, "h1-%.16s", hash);
        CHECK_STR(id, wanted);
        CHECK_INT(fstatat(k.d.fd, file_of(id), &st, 0), 0);
        CHECK_INT(st.st_mode & 07777, 0600);
        reopen(&k);
        CHECK_STR(host_keys_id(k.host), id);
        CHECK_STR(host_keys_public(k.host), public);
        CHECK_INT(test_dir_count(&k.d, "keys"), 2);     /* with the root */
}

TEST(rotation_keeps_the_current_and_the_previous) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        char ids[12][HOST_KEY_ID_SIZE];

        strcpy(ids[0], host_keys_id(k.host));
        for (int i = 1; i < 12; i++) {                  /* beyond 9: numbers, not text */
                char n[8];

                CHECK_INT(host_keys_rotate(k.host, NULL), 0);
                strcpy(ids[i], host_keys_id(k.host));
                (void) snprintf(n, sizeof n, "h%d-", i + 1);
                CHECK(strncmp(ids[i], n, strlen(n)) == 0);
                CHECK_INT(test_dir_count(&k.d, "keys"), 3);
                CHECK(test_dir_has(&k.d, file_of(ids[i])) && test_dir_has(&k.d, file_of(ids[i - 1])));
                if (i % 3 == 0)
                        reopen(&k);
                CHECK_STR(host_keys_id(k.host), ids[i]);
        }
}

TEST(the_previous_one_still_opens) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        char first[HOST_KEY_ID_SIZE], first_public[HOST_KEY_TEXT_SIZE];
        Box b, c;

        strcpy(first, host_keys_id(k.host));
        strcpy(first_public, host_keys_public(k.host));
        b = box_for(&k, KIT_ORG, KIT_WORKSPACE, "API_TOKEN", "value", 5);
        CHECK_INT(host_keys_rotate(k.host, NULL), 0);
        c = box_for(&k, KIT_ORG, KIT_WORKSPACE, "API_TOKEN", "value", 5);
        for (int again = 0; again < 2; again++) {
                CHECK_STR(box_open(&k, first, &b), "value");
                CHECK_STR(box_open(&k, host_keys_id(k.host), &c), "value");
                CHECK_STR(box_open(&k, host_keys_id(k.host), &b), NULL);
                CHECK_STR(box_open(&k, first, &c), NULL);
                reopen(&k);
        }
        CHECK(strcmp(first_public, host_keys_public(k.host)) != 0);
        CHECK_INT(host_keys_rotate(k.host, NULL), 0);
        CHECK_STR(box_open(&k, first, &b), NULL);
        CHECK(!test_dir_has(&k.d, file_of(first)));
        box_done(&b);
        box_done(&c);
}

TEST(a_crash_between_making_and_removing_is_tidied) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ char *old = NULL;
        char name[100];
        size_t size = 0;

        strcpy(name, file_of(host_keys_id(k.host)));
        old = kit_read(&k.d, name, &size);
        CHECK_INT(host_keys_rotate(k.host, NULL) | host_keys_rotate(k.host, NULL), 0);
        CHECK(!test_dir_has(&k.d, name));
        test_dir_write(&k.d, name, old, size);
        reopen(&k);
        CHECK(!test_dir_has(&k.d, name) && !test_dir_has(&k.d, "quarantine"));
        CHECK(strncmp(host_keys_id(k.host), "h3-", 3) == 0);
}

TEST(damage_goes_to_quarantine_and_another_is_made) {
        static const struct { const char *what; long at; int cut; const char *word; } table[] = {
                { "a bit of the tag", -1, 0, "bad_tag: " },    { "a bit of the head", 50, 0, "bad_tag: " },
                { "the type", 8, 0, "bad_type: " },
                { "the end cut off", 0, 1, "bad_size: " },     { "all cut off", 0, 1000, "truncated: " },
                { "the magic", 0, 0, "bad_magic: " },
                { "the epoch", 12, 0, "unknown_epoch: " },     { "far too large", 0, -5000, "bad_size: " },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                _cleanup_free_ char *file = NULL, *reason = NULL;
                char name[100], aside[120], beside[130], id[HOST_KEY_ID_SIZE];
                Fault damaged = {}, f = {};
                size_t size = 0;

                strcpy(id, host_keys_id(k.host));
                strcpy(name, file_of(id));
                (void) snprintf(aside, sizeof aside, "quarantine/%s", name + 5);
                (void) snprintf(beside, sizeof beside, "%s.reason", aside);
                file = kit_read(&k.d, name, &size);
                if (!table[i].cut)
                        kit_flip(&k.d, name, table[i].at);
                else {
                        _cleanup_free_ char *other = calloc(1, size + 5000);

                        memcpy(other, file, size);
                        test_dir_write(&k.d, name, other, table[i].cut > (int) size ? 0 : size - (size_t) table[i].cut);
                }
                k.host = host_keys_free(k.host);
                CHECK_INT(host_keys_open(k.d.fd, k.keys, KIT_ORG, &k.host, &damaged, &f), 0);
                CHECK(strncmp(host_keys_id(k.host), "h2-", 3) == 0);            /* no number is used twice */
                CHECK(!test_dir_has(&k.d, name) && test_dir_has(&k.d, aside));
                reason = kit_read(&k.d, beside, &size);
                if (!CHECK(damaged.set && strstr(damaged.text, id)) ||
                    !CHECK(reason && strncmp(reason, table[i].word, strlen(table[i].word)) == 0))
                        printf("#   in: %s: %s\n", table[i].what, reason ?: "(no reason)");
                CHECK_STR(kit_code(&damaged), "secret_undecryptable");
        }
}

/* The number is only an order, and no part of what is sealed. */
TEST(numbers_go_on_from_the_highest_name) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        char id[HOST_KEY_ID_SIZE], other[HOST_KEY_ID_SIZE], from[100];
        Fault damaged = {};

        strcpy(id, host_keys_id(k.host));
        (void) snprintf(other, sizeof other, "h9-%.16s", id + 3);
        k.host = host_keys_free(k.host);
        strcpy(from, file_of(id));
        CHECK_INT(renameat(k.d.fd, from, k.d.fd, file_of(other)), 0);
        CHECK_INT(host_keys_open(k.d.fd, k.keys, KIT_ORG, &k.host, &damaged, NULL), 0);
        CHECK(!damaged.set);
        CHECK_STR(host_keys_id(k.host), other);
        CHECK_INT(host_keys_rotate(k.host, NULL), 0);
        CHECK(strncmp(host_keys_id(k.host), "h10-", 4) == 0);
}

TEST(another_key_under_a_key_s_name) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        char first[HOST_KEY_ID_SIZE], second[HOST_KEY_ID_SIZE], from[100];
        Fault damaged = {};

        strcpy(first, host_keys_id(k.host));
        CHECK_INT(host_keys_rotate(k.host, NULL), 0);
        strcpy(second, host_keys_id(k.host));
        k.host = host_keys_free(k.host);
        strcpy(from, file_of(first));
        CHECK_INT(renameat(k.d.fd, from, k.d.fd, file_of(second)), 0);
        CHECK_INT(host_keys_open(k.d.fd, k.keys, KIT_ORG, &k.host, &damaged, NULL), 0);
        CHECK(damaged.set && strstr(damaged.text, "wrong_name"));
        CHECK(strncmp(host_keys_id(k.host), "h3-", 3) == 0);
}

TEST(names_that_are_none_of_a_key_are_left_alone) {
        static const char *const names[] = { "host.h0-0123456789abcdef.seal", "host.h01-0123456789abcdef.seal",
                                             "host.h2-0123456789abcde.seal",
                                             "host.h2.seal", "host.x2-0123456789abcdef.seal", "host.h2-0123456789abcdef.seal.bak",
                                             "host.h99999999999999999999-0123456789abcdef.seal", "rotate-host-key" };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        char id[HOST_KEY_ID_SIZE];

        strcpy(id, host_keys_id(k.host));
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *name = str_printf("keys/%s", names[i]);

                test_dir_text(&k.d, name, "x");
        }
        reopen(&k);
        CHECK_STR(host_keys_id(k.host), id);
        CHECK_INT(host_keys_rotate(k.host, NULL) | host_keys_rotate(k.host, NULL), 0);
        CHECK_INT(test_dir_count(&k.d, "keys"), 3 + (int) ELEMENTS(names));
        CHECK(!test_dir_has(&k.d, "quarantine"));
}

static void never(const char *file, const char *reason, void *userdata) {
        (void) userdata;
        CHECK(false);
        printf("#   %s: %s\n", file, reason);
}

TEST(another_organization_s_pair_is_not_taken) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        unsigned files = 0;
        Fault damaged = {};
        char id[HOST_KEY_ID_SIZE];

        strcpy(id, host_keys_id(k.host));
        k.host = host_keys_free(k.host);
        CHECK_INT(host_keys_open(k.d.fd, k.keys, KIT_OTHER, &k.host, &damaged, NULL), 0);
        CHECK(!damaged.set && strncmp(host_keys_id(k.host), "h2-", 3) == 0);
        CHECK_INT(host_keys_rotate(k.host, NULL) | host_keys_rotate(k.host, NULL), 0);
        CHECK_INT(test_dir_count(&k.d, "keys"), 4);     /* the root, the two of now, and the one that is not theirs to remove */
        reopen(&k);                             /* the first organization again: its pair is still the one that is known there */
        CHECK_STR(host_keys_id(k.host), id);
        CHECK_INT(host_keys_rotate(k.host, NULL), 0);
        CHECK(strncmp(host_keys_id(k.host), "h5-", 3) == 0 && !test_dir_has(&k.d, "quarantine"));
        CHECK_INT(host_keys_verify(k.d.fd, k.keys, KIT_ORG, never, NULL, &files), 0);
        CHECK_INT(files, 4);
}

TEST(without_a_root_there_is_no_pair_and_none_is_lost) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        HostKeys *none = NULL;
        Fault damaged = {}, f = {};

        CHECK_INT(renameat(k.d.fd, "keys/root.e1", k.d.fd, "away"), 0);
        reopen(&k);
        CHECK(k.host == NULL);
        CHECK_INT(host_keys_open(k.d.fd, k.keys, KIT_ORG, &none, &damaged, &f), -ENOKEY);
        CHECK_STR(kit_code(&f), "secret_undecryptable");
        CHECK(strstr(f.text, "epoch 1 is missing") && !damaged.set && !none);
        CHECK_INT(test_dir_count(&k.d, "keys"), 1);
        CHECK(!test_dir_has(&k.d, "quarantine") && host_keys_free(NULL) == NULL);
}

/* ── boxes ───────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_box_for_this_place) {
        static const struct { const char *value; size_t size; } values[] = { { "value", 5 }, { "", 0 }, { "a\nb=\xff\xfe", 6 },
                                                                             { "nul\0in it", 9 } };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ char *large = kit_fill('v', SEAL_SECRET_MAX);

        for (size_t i = 0; i <= ELEMENTS(values); i++) {
                const char *value = i < ELEMENTS(values) ? values[i].value : large;
                size_t size = i < ELEMENTS(values) ? values[i].size : SEAL_SECRET_MAX;
                Box b = box_for(&k, KIT_ORG, KIT_WORKSPACE, "API_TOKEN", value, size);
                _cleanup_(secret_freep) Secret *s = NULL;

                CHECK_INT(host_keys_open_box(k.host, host_keys_id(k.host), KIT_WORKSPACE, "API_TOKEN", b.data, b.size, &s, NULL), 0);
                CHECK(s && s->size == size && memcmp(s->data, value, size) == 0 && s->data[size] == 0);
                box_done(&b);
        }
}

static void refused(const SealedKit *k, const char *sealed_to, const char *workspace, const char *name, const uint8_t *box, size_t size,
                    const char *words) {
        Secret *s = NULL;
        Fault f = {};

        if (!CHECK(host_keys_open_box(k->host, sealed_to, workspace, name, box, size, &s, &f) < 0) || !CHECK(!s) ||
            !CHECK_STR(kit_code(&f), "secret_undecryptable") || !CHECK(strstr(f.text, words)) || !CHECK(!strstr(f.text, "sesame")))
                printf("#   in: %s\n", f.text);
        secret_free(s);
}

TEST(a_box_for_another_place) {
        static const struct { const char *org, *workspace, *name; } table[] = {
                { KIT_OTHER, KIT_WORKSPACE, "API_TOKEN" }, { KIT_ORG, KIT_OTHER, "API_TOKEN" }, { KIT_ORG, KIT_WORKSPACE, "API_TOKEN2" },
                { KIT_ORG, KIT_WORKSPACE, "API_TOKE" },    { KIT_ORG, KIT_WORKSPACE, "" },      { KIT_WORKSPACE, KIT_ORG, "API_TOKEN" },
                { "", KIT_WORKSPACE, "API_TOKEN" },
        };
        _cleanup_sealed_ SealedKit k = sealed_kit();

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                Box b = box_for(&k, table[i].org, table[i].workspace, table[i].name, "open-sesame", 11);

                refused(&k, host_keys_id(k.host), KIT_WORKSPACE, "API_TOKEN", b.data, b.size, "another organization, workspace or name");
                box_done(&b);
        }
}

TEST(a_box_that_does_not_open) {
        _cleanup_sealed_ SealedKit k = sealed_kit(), other = sealed_kit();
        Box b = box_for(&k, KIT_ORG, KIT_WORKSPACE, "A", "open-sesame", 11),
            foreign = box_for(&other, KIT_ORG, KIT_WORKSPACE, "A", "open-sesame", 11);
        const char *id = host_keys_id(k.host);

        refused(&k, id, KIT_WORKSPACE, "A", foreign.data, foreign.size, "does not open");
        for (size_t n = 0; n < b.size; n++)
                refused(&k, id, KIT_WORKSPACE, "A", b.data, n, "does not open");
        for (size_t i = 0; i < b.size; i++) {
                b.data[i] ^= 1;
                refused(&k, id, KIT_WORKSPACE, "A", b.data, b.size, "does not open");
                b.data[i] ^= 1;
        }
        CHECK_STR(box_open_as(&k, id, "A", &b), "open-sesame");
        refused(&k, host_keys_id(other.host), KIT_WORKSPACE, "A", b.data, b.size, id);  /* the current one is named */
        refused(&k, "", KIT_WORKSPACE, "A", b.data, b.size, id);
        refused(&k, NULL, KIT_WORKSPACE, "A", b.data, b.size, id);
        box_done(&b);
        box_done(&foreign);
}

TEST(a_full_arena_is_not_damage) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Box b = box_for(&k, KIT_ORG, KIT_WORKSPACE, "A", "value", 5);
        Fault f = {}, g = {}, damaged = {};
        Secret *most = NULL, *rest = NULL, *s = NULL;
        HostKeys *none = NULL;
        char name[100];

        strcpy(name, file_of(host_keys_id(k.host)));
        for (size_t n = ARENA_SIZE; !most && n > 0; n -= 16)
                most = secret_alloc(k.arena, n);
        CHECK_INT(host_keys_open_box(k.host, host_keys_id(k.host), KIT_WORKSPACE, "A", b.data, b.size, &s, &f), -ENOMEM);
        CHECK_STR(kit_code(&f), "internal");
        k.host = host_keys_free(k.host);
        for (size_t n = 1024; !rest && n > 0; n -= 16)  /* the place that it had */
                rest = secret_alloc(k.arena, n);
        CHECK(host_keys_open(k.d.fd, k.keys, KIT_ORG, &none, &damaged, &g) < 0);
        CHECK(g.set && !damaged.set && !none && test_dir_has(&k.d, name) && !test_dir_has(&k.d, "quarantine"));
        secret_free(rest);
        secret_free(most);
        reopen(&k);
        CHECK_STR(file_of(host_keys_id(k.host)), name);
        box_done(&b);
}

/* The vectors: a key of theirs is put in place of this host's. */
TEST(boxes_of_the_vectors) {
        _cleanup_json_ cJSON *json = data_json("mseal/derive.json");
        const cJSON *item;
        int n_good = 0, n_bad = 0;

        cJSON_ArrayForEach(item, json_get(json, "box")) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                const char *value = json_get_string(item, "value_hex"), *text = json_get_string(item, "box_hex"),
                           *org = json_get_string(item, "org");
                const SealContext c = { SEAL_HOST_KEY, org, "host", "", 0 };
                _cleanup_free_ uint8_t *box = calloc(1, strlen(text) + 1), *file = NULL, *wanted = calloc(1, strlen(text) + 1);
                _cleanup_(secret_freep) Secret *s = NULL;
                uint8_t secret[KEY_SIZE];
                char name[100], id[HOST_KEY_ID_SIZE];
                size_t size = 0, box_size = 0, wanted_size = 0;
                Fault damaged = {}, f = {};
                bool good = value != NULL;

                sodium_hex2bin(secret, sizeof secret, json_get_string(item, "secret_key"), 64, NULL, NULL, NULL);
                sodium_hex2bin(box, strlen(text), text, strlen(text), NULL, &box_size, NULL);
                if (value)
                        sodium_hex2bin(wanted, strlen(text), value, strlen(value), NULL, &wanted_size, NULL);
                (void) snprintf(id, sizeof id, "h7-%s", json_get_string(item, "key_id_hex16"));
                (void) snprintf(name, sizeof name, "%s", file_of(host_keys_id(k.host)));
                CHECK_INT(unlinkat(k.d.fd, name, 0), 0);
                CHECK_INT(seal_make(&c, 1, keys_root(1, k.keys), secret, KEY_SIZE, k.arena, &file, &size, NULL), 0);
                test_dir_write(&k.d, file_of(id), file, size);
                k.host = host_keys_free(k.host);
                CHECK_INT(host_keys_open(k.d.fd, k.keys, org, &k.host, &damaged, NULL), 0);
                if (!CHECK(!damaged.set) || !CHECK_STR(host_keys_id(k.host), id))
                        continue;
                (void) host_keys_open_box(k.host, id, json_get_string(item, "workspace"), json_get_string(item, "name"), box, box_size, &s,
                                          &f);
                if (strstr(json_get_string(item, "about"), "NUL in the value") || strstr(json_get_string(item, "about"), "NUL behind"))
                        good = true;            /* it opens: that a value may not hold one is judged by whoever takes it */
                n_good += good;
                n_bad += !good;
                if (!CHECK((s != NULL) == good) || !CHECK(!value || (s && s->size == wanted_size &&
                                                                     memcmp(s->data, wanted, wanted_size) == 0)) ||
                    !CHECK(good || f.code == FAULT_SECRET_UNDECRYPTABLE))
                        printf("#   in: %s\n", json_get_string(item, "about"));
                CHECK(value || !good || (s && memchr(s->data, 0, s->size)));
        }
        CHECK(n_good == 6 && n_bad >= 20);
}

/* ── proofs ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Of so many bytes; 32 is what it should be. */
static char *challenge_of(const SealedKit *k, const uint8_t *random, size_t n) {
        _cleanup_free_ uint8_t *public = NULL;
        uint8_t box[40 + crypto_box_SEALBYTES];
        size_t size;

        if (n > 40 || base64_decode(host_keys_public(k->host), 32, &public, &size) < 0 || crypto_box_seal(box, random, n, public) != 0)
                abort();
        return base64_encode(box, n + crypto_box_SEALBYTES);
}

static char *challenge_for(const SealedKit *k, uint8_t random[static 32]) {
        randombytes_buf(random, 32);
        return challenge_of(k, random, 32);
}

static void check_proof(const SealedKit *k, const uint8_t *random, const char *proof) {
        _cleanup_free_ uint8_t *public = NULL;
        _cleanup_free_ char *text = NULL;
        uint8_t wanted[32];
        size_t size;

        CHECK_INT(base64_decode(host_keys_public(k->host), 32, &public, &size), 0);
        crypto_generichash(wanted, 32, public, 32, random, 32);
        text = base64_encode(wanted, 32);
        CHECK_STR(proof, text);
}

TEST(the_proof_is_of_the_new_key_by_the_old) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ char *challenge = NULL, *current = NULL;
        char proof[HOST_KEY_TEXT_SIZE] = "";
        uint8_t random[32];
        Fault f = {};

        challenge = challenge_for(&k, random);
        CHECK_INT(host_keys_rotate(k.host, NULL), 0);
        CHECK_INT(host_keys_prove(k.host, challenge, proof, &f), 0);
        check_proof(&k, random, proof);
        current = challenge_for(&k, random);
        CHECK_INT(host_keys_prove(k.host, current, proof, &f), 0);
        check_proof(&k, random, proof);
        CHECK_INT(host_keys_rotate(k.host, NULL), 0);
        CHECK(host_keys_prove(k.host, challenge, proof, &f) < 0);       /* two rotations ago: that key is gone */
        CHECK_STR(kit_code(&f), "sealing_key_conflict");
        CHECK(strstr(f.text, host_keys_id(k.host)));
}

TEST(challenges_that_are_none) {
        _cleanup_sealed_ SealedKit k = sealed_kit(), other = sealed_kit();
        uint8_t random[40] = {};
        _cleanup_free_ char *foreign = challenge_for(&other, random), *own = challenge_for(&k, random), *shorter = NULL, *longer = NULL;
        _cleanup_free_ char *empty = challenge_of(&k, random, 0), *short_one = challenge_of(&k, random, 31);
        _cleanup_free_ char *long_one = challenge_of(&k, random, 33);
        const char *texts[9];

        shorter = base64_encode(own, 79);
        longer = base64_encode(own, 81);
        memcpy(texts, (const char *[]) { foreign, NULL, "", "!!!", shorter, longer, empty, short_one, long_one }, sizeof texts);
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                char proof[HOST_KEY_TEXT_SIZE] = "untouched";
                Fault f = {};

                CHECK(host_keys_prove(k.host, texts[i], proof, &f) < 0);
                CHECK_STR(kit_code(&f), "sealing_key_conflict");
                CHECK_STR(proof, "untouched");
        }
}

TEST_MAIN
