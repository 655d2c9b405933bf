/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/vault: keys, blobs and sets there and back, what a rewriting leaves alone, sizes, and what goes. Damage has a test of its own. */

#include "tests/vault-kit.h"

/* ── blobs and single secrets ────────────────────────────────────────────────────────────────────────────────── */

TEST(blobs_there_and_back) {
        static const char *const kinds[] = { "payload", "undo" };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ char *large = kit_fill('x', 3 * 1024 * 1024);
        const size_t sizes[] = { 0, 1, 63, 64, 65, 3 * 1024 * 1024 };         /* the last one is more than the arena holds */

        for (size_t i = 0; i < ELEMENTS(kinds); i++)
                for (size_t s = 0; s < ELEMENTS(sizes); s++) {
                        _cleanup_free_ uint8_t *file = NULL;
                        _cleanup_free_ char *text = NULL;
                        size_t size = 0, n = 0;

                        CHECK_INT(vault_seal(k.vault, W1, 7, kinds[i], large, sizes[s], &file, &size, NULL), 0);
                        CHECK(!memmem(file, size, "xxxxxxxx", 8));
                        CHECK_INT(vault_open(k.vault, W1, 7, kinds[i], file, size, &text, &n, NULL), 0);
                        CHECK(n == sizes[s] && text && memcmp(text, large, n) == 0 && text[n] == 0);
                }
}

TEST(a_blob_is_bound_to_all_that_it_is_for) {
        static const struct { const char *workspace, *what, *word; uint64_t generation; } table[] = {
                { W1, "undo", "wrong_name: ", 7 }, { W1, "payload", "wrong_generation: ", 8 }, { W2, "payload", "bad_tag: ", 7 },
        };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ uint8_t *file = NULL, *other = NULL, *secret = NULL;
        Secret *value = kit_secret(k.arena, "x");
        size_t size = 0, n = 0, m = 0;

        CHECK_INT(vault_seal(k.vault, W1, 7, "payload", "open-sesame", 11, &file, &size, NULL), 0);
        CHECK_INT(vault_seal(k.vault, W2, 7, "payload", "x", 1, &other, &n, NULL), 0);
        CHECK_INT(vault_secret_seal(k.vault, W1, 7, "payload", value, &secret, &m, NULL), 0);
        for (size_t i = 0; i <= ELEMENTS(table); i++) {
                bool last = i == ELEMENTS(table);
                char *text = NULL;
                Fault f = {};

                CHECK_INT(vault_open(k.vault, last ? W1 : table[i].workspace, last ? 7 : table[i].generation,
                                     last ? "payload" : table[i].what,
                                     last ? secret : file, last ? m : size, &text, &n, &f), -EBADMSG);
                CHECK_STR(kit_code(&f), "secret_undecryptable");
                if (!CHECK(strncmp(f.text, last ? "bad_type: " : table[i].word, last ? 10 : strlen(table[i].word)) == 0) || !CHECK(!text))
                        printf("#   %s\n", f.text);
        }
        vault_set_org(k.vault, KIT_HOST);
        {
                char *text = NULL;
                Fault f = {};

                CHECK_INT(vault_open(k.vault, W1, 7, "payload", file, size, &text, &n, &f), -ENOKEY);
                CHECK(strstr(f.text, "wrong_org"));
                CHECK_INT(vault_key_check(k.vault, W1, NULL), -ENOKEY);
                CHECK(!test_dir_has(&k.d, "quarantine"));
                vault_set_org(k.vault, KIT_ORG);        /* and back: a wrong word in the configuration costs nothing */
                CHECK_INT(vault_open(k.vault, W1, 7, "payload", file, size, &text, &n, NULL), 0);
                free(text);
        }
        secret_free(value);
}

TEST(one_secret_outside_of_a_set) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Secret *value = secret_new(k.arena, "a\0b", 3), *out = NULL;
        _cleanup_free_ uint8_t *file = NULL;
        size_t size = 0;
        Fault f = {};

        CHECK_INT(vault_secret_seal(k.vault, "host", 0, "provision-secret", value, &file, &size, NULL), 0);
        CHECK_INT(vault_secret_open(k.vault, "host", 0, "provision-secret", file, size, &out, NULL), 0);
        CHECK(secret_equal(value, out));
        out = secret_free(out);
        CHECK_INT(vault_secret_open(k.vault, "host", 0, "other", file, size, &out, &f), -EBADMSG);
        CHECK(!out && strncmp(f.text, "wrong_name: ", 12) == 0);
        secret_free(value);
}

/* ── a workspace's key ───────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_key_is_made_by_sealing_and_stays) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ uint8_t *file = NULL;
        struct stat st;
        size_t size;
        char *text = NULL;
        ino_t inode;
        Fault f = {};

        CHECK(!vault_has_key(k.vault, W1));
        CHECK_INT(vault_key_check(k.vault, W1, NULL), -ENOENT);
        CHECK_INT(vault_open(k.vault, W1, 7, "payload", "x", 1, &text, &size, &f), -EBADMSG);  /* a file is there, so its key should be */
        CHECK(strncmp(f.text, "no_key: ", 8) == 0);
        CHECK(!test_dir_has(&k.d, S1));                 /* opening makes nothing */
        CHECK_INT(vault_seal(k.vault, W1, 7, "payload", "x", 1, &file, &size, NULL), 0);
        CHECK(vault_has_key(k.vault, W1) && !vault_has_key(k.vault, W2));
        CHECK_INT(vault_key_check(k.vault, W1, NULL), 0);
        CHECK_INT(fstatat(k.d.fd, S1, &st, 0), 0);
        CHECK_INT(st.st_mode & 07777, 0700);
        CHECK_INT(fstatat(k.d.fd, S1 "/key.seal", &st, 0), 0);
        CHECK_INT(st.st_mode & 07777, 0600);
        inode = st.st_ino;
        CHECK_INT(kit_write(&k, W1, 7, "A=1", NULL), 0);
        CHECK(kit_inode(&k, S1 "/key.seal") == inode);
}

TEST(without_a_root_or_an_organization_nothing_is_done) {
        for (int i = 0; i < 2; i++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                _cleanup_free_ uint8_t *file = NULL, *more = NULL;
                char *text = NULL;
                size_t size = 0, n;
                Fault f = {}, g = {}, h = {};

                CHECK_INT(kit_write(&k, W1, 7, "A=1", NULL), 0);
                CHECK_INT(vault_seal(k.vault, W1, 7, "payload", "x", 1, &file, &size, NULL), 0);
                if (i == 0) {
                        CHECK_INT(renameat(k.d.fd, "keys/root.e1", k.d.fd, "away"), 0);
                        sealed_close(&k);
                        sealed_open(&k);
                        CHECK(vault_fault(k.vault) != NULL);
                } else
                        vault_set_org(k.vault, "");
                CHECK_INT(vault_open(k.vault, W1, 7, "payload", file, size, &text, &n, &f), -ENOKEY);
                CHECK_INT(vault_seal(k.vault, W1, 8, "payload", "x", 1, &more, &n, NULL), -ENOKEY);
                CHECK_INT(vault_key_check(k.vault, W1, NULL), -ENOKEY);
                CHECK(!kit_set_text(&k, W1, 7, &g));
                CHECK_INT(kit_write(&k, W1, 7, "A=2", &h), -ENOKEY);
                CHECK_STR(kit_code(&f), i == 0 ? "secret_undecryptable" : "not_enrolled");
                CHECK(str_equal(kit_code(&g), kit_code(&f)) && str_equal(kit_code(&h), kit_code(&f)));
                if (i == 0) {
                        CHECK_INT(renameat(k.d.fd, "away", k.d.fd, "keys/root.e1"), 0);
                        sealed_close(&k);
                        sealed_open(&k);
                } else
                        vault_set_org(k.vault, KIT_ORG);
                CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1");        /* nothing was set aside or changed meanwhile */
                CHECK(!test_dir_has(&k.d, "quarantine") && !vault_fault(k.vault));
                CHECK_STR(vault_org(k.vault), KIT_ORG);
        }
}

/* ── sets ────────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(sets_there_and_back) {
        static const char *const texts[] = { "", "A=1", "A=1 B=2 C=3", "API_TOKEN=open-sesame EMPTY= MANIFEST=x host=y key=z" };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                struct stat st;

                CHECK(!kit_set_text(&k, W1, 7, NULL));
                CHECK_INT(kit_write(&k, W1, 7, texts[i], NULL), 0);
                CHECK_STR(kit_set_text(&k, W1, 7, NULL), texts[i]);
                CHECK(!kit_set_text(&k, W1, 8, NULL) && !kit_set_text(&k, W2, 7, NULL));
                CHECK_INT(fstatat(k.d.fd, SET1, &st, 0), 0);
                CHECK_INT(st.st_mode & 07777, 0700);
                CHECK_INT(fstatat(k.d.fd, SET1 "/manifest.seal", &st, 0), 0);
                CHECK_INT(st.st_mode & 07777, 0600);
                sealed_close(&k);
                sealed_open(&k);
                CHECK_STR(kit_set_text(&k, W1, 7, NULL), texts[i]);
        }
}

TEST(a_set_that_is_not_there_is_no_damage) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        SecretSet s = {};
        Fault f = {};

        CHECK_INT(vault_set_open(k.vault, W1, 7, &s, &f), -ENOENT);
        CHECK_INT(kit_write(&k, W1, 6, "A=1", NULL), 0);
        CHECK_INT(vault_set_open(k.vault, W1, 7, &s, &f), -ENOENT);
        CHECK(!f.set && s.n == 0);
}

TEST(the_largest_numbers_of_generations) {
        static const uint64_t generations[] = { 0, 1, 9, 10, UINT64_MAX };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        char text[32];

        for (size_t i = 0; i < ELEMENTS(generations); i++) {
                (void) snprintf(text, sizeof text, "A=%zu", i);
                CHECK_INT(kit_write(&k, W1, generations[i], text, NULL), 0);
        }
        for (size_t i = 0; i < ELEMENTS(generations); i++) {
                (void) snprintf(text, sizeof text, "A=%zu", i);
                CHECK_STR(kit_set_text(&k, W1, generations[i], NULL), text);
        }
        CHECK(test_dir_has(&k.d, S1 "/g18446744073709551615/A.seal"));
}

TEST(the_same_once_more_changes_no_file) {
        static const char *const names[] = { SET1, SET1 "/A.seal", SET1 "/B.seal", SET1 "/manifest.seal", S1 "/key.seal" };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        ino_t inodes[ELEMENTS(names)];

        CHECK_INT(kit_write(&k, W1, 7, "A=1 B=2", NULL), 0);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                inodes[i] = kit_inode(&k, names[i]);
        CHECK_INT(kit_write(&k, W1, 7, "A=1 B=2", NULL), 0);
        CHECK_INT(kit_write(&k, W1, 7, "B=2 A=1", NULL), 0);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                CHECK(inodes[i] && kit_inode(&k, names[i]) == inodes[i]);
        CHECK(!test_dir_has(&k.d, "quarantine"));
}

TEST(another_set_of_the_same_generation_is_set_aside) {
        static const char *const others[] = { "A=1 B=3", "A=1", "A=1 B=2 C=3", "A=1 C=2", "" };

        for (size_t i = 0; i < ELEMENTS(others); i++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();

                CHECK_INT(kit_write(&k, W1, 7, "A=1 B=2", NULL), 0);
                CHECK_INT(kit_write(&k, W1, 7, others[i], NULL), 0);
                CHECK_STR(kit_set_text(&k, W1, 7, NULL), others[i]);
                CHECK(test_dir_has(&k.d, "quarantine/" W1 ".g7/B.seal") && test_dir_has(&k.d, "quarantine/" W1 ".g7.reason"));
        }
}

TEST(names_that_no_secret_may_have) {
        static const char *const names[] = { "manifest", "a/b", "../A", ".A", "" };
        _cleanup_free_ char *longest = kit_fill('N', 128), *longer = kit_fill('N', 129);
        _cleanup_sealed_ SealedKit k = sealed_kit();

        for (size_t i = 0; i <= ELEMENTS(names) + 1; i++) {
                const char *name = i < ELEMENTS(names) ? names[i] : i == ELEMENTS(names) ? longer : longest;
                SecretSet s = {};
                Fault f = {};

                CHECK_INT(secret_set_add(&s, "FINE", kit_secret(k.arena, "x")), 0);
                CHECK_INT(secret_set_add(&s, name, kit_secret(k.arena, "x")), 0);
                if (!CHECK((vault_set_write(k.vault, W1, 7 + i, &s, &f) == 0) == (name == longest)))
                        printf("#   in: '%.20s' %s\n", name, f.text);
                if (i < 4)
                        CHECK_STR(kit_code(&f), "bad_env");
                if (name != longest)
                        CHECK_INT(test_dir_count(&k.d, S1), 1); /* the key alone */
                secret_set_done(&s);
        }
}

TEST(the_largest_value_and_one_byte_more) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ char *data = kit_fill('v', SEAL_SECRET_MAX + 1);

        for (int more = 0; more < 2; more++) {
                SecretSet s = {};
                Fault f = {};

                CHECK_INT(secret_set_add(&s, "A", secret_new(k.arena, data, SEAL_SECRET_MAX + (size_t) more)), 0);
                CHECK((vault_set_write(k.vault, W1, (uint64_t) more, &s, &f) == 0) == !more);
                CHECK_STR(kit_code(&f), more ? "too_large" : "");
                secret_set_done(&s);
                if (more)
                        continue;
                CHECK_INT(vault_set_open(k.vault, W1, 0, &s, NULL), 0);
                CHECK(s.n == 1 && s.items[0].value->size == SEAL_SECRET_MAX && memcmp(s.items[0].value->data, data, SEAL_SECRET_MAX) == 0);
                secret_set_done(&s);
        }
        CHECK_INT(test_dir_count(&k.d, S1), 2);         /* the key and the good one: no part of the other */
}

TEST(as_many_as_there_may_be) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        SecretSet s = {}, out = {};

        for (int i = 0; i < SECRETS_MAX; i++) {
                char name[129], value[256] = "";

                (void) snprintf(name, sizeof name, "%0128d", i);        /* names as long as they may be: the manifest has to hold them */
                name[0] = 'N';
                memset(value, 'v', 255);
                CHECK_INT(secret_set_add(&s, name, kit_secret(k.arena, value)), 0);
        }
        CHECK_INT(vault_set_write(k.vault, W1, 7, &s, NULL), 0);
        CHECK_INT(vault_set_open(k.vault, W1, 7, &out, NULL), 0);
        CHECK_INT(out.n, SECRETS_MAX);
        secret_set_done(&out);
        CHECK_INT(vault_set_write(k.vault, W1, 7, &s, NULL), 0);        /* beside a second one of that size while they are compared */
        secret_set_done(&s);
        CHECK(!test_dir_has(&k.d, "quarantine"));
}

TEST(two_of_the_largest_fit_side_by_side) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ char *data = kit_fill('v', SEAL_SECRET_MAX);
        SecretSet s = {};

        for (char name[] = "A"; name[0] <= 'D'; name[0]++)
                CHECK_INT(secret_set_add(&s, name, secret_new(k.arena, data, SEAL_SECRET_MAX)), 0);
        CHECK_INT(vault_set_write(k.vault, W1, 7, &s, NULL), 0);
        CHECK_INT(vault_set_write(k.vault, W1, 7, &s, NULL), 0);
        secret_set_done(&s);
        CHECK(!test_dir_has(&k.d, "quarantine"));
}

/* ── what goes ───────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Seen { char text[200]; int stop_after; } Seen;

static int see(Vault *v, const char *workspace, void *userdata) {
        Seen *s = userdata;

        (void) v;
        strcat(strncat(s->text, workspace, 4), " ");
        return --s->stop_after == 0 ? -ECANCELED : 1;
}

static int see_set(Vault *v, const char *workspace, uint64_t generation, void *userdata) {
        Seen *s = userdata;
        size_t n = strlen(s->text);

        (void) v;
        (void) workspace;
        (void) snprintf(s->text + n, sizeof s->text - n, "%llu ", (unsigned long long) generation);
        return --s->stop_after == 0 ? -ECANCELED : 1;
}

TEST(which_there_are) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Seen all = {}, first = { .stop_after = 1 }, sets = {}, none = {};

        CHECK_INT(kit_write(&k, W1, 7, "A=1", NULL) | kit_write(&k, W1, 10, "A=1", NULL) | kit_write(&k, W2, 1, "A=1", NULL), 0);
        CHECK_INT(mkdirat(k.d.fd, S1 "/gx", 0700) | mkdirat(k.d.fd, S1 "/g07", 0700) | mkdirat(k.d.fd, S1 "/.new.g8", 0700), 0);
        CHECK_INT(vault_each(k.vault, see, &all), 0);
        CHECK_STR(all.text, "3333 9999 ");
        CHECK_INT(vault_each(k.vault, see, &first), -ECANCELED);
        CHECK_STR(first.text, "3333 ");
        CHECK_INT(vault_each_set(k.vault, W1, see_set, &sets), 0);
        CHECK_STR(sets.text, "10 7 ");
        CHECK_INT(vault_each_set(k.vault, KIT_HOST, see_set, &none), 0);
        CHECK_STR(none.text, "");
        CHECK(vault_has_sets(k.vault, W1) && !vault_has_sets(k.vault, KIT_HOST));
}

TEST(incident_50_destroying_in_the_order_of_a_removal) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Fault f = {};

        CHECK_INT(kit_write(&k, W1, 7, "A=1", NULL) | kit_write(&k, W1, 8, "A=1", NULL) | kit_write(&k, W2, 7, "A=1", NULL), 0);
        CHECK_INT(vault_destroy_set(k.vault, W1, 7), 0);
        CHECK_INT(vault_destroy_set(k.vault, W1, 7), 0);
        CHECK(!test_dir_has(&k.d, SET1) && test_dir_has(&k.d, S1 "/g8"));
        CHECK_INT(vault_destroy_key(k.vault, W1), 0);
        CHECK_INT(vault_destroy_key(k.vault, W1), 0);
        CHECK(!vault_has_key(k.vault, W1) && vault_has_sets(k.vault, W1));
        CHECK(!kit_set_text(&k, W1, 8, &f) && strncmp(f.text, "no_key: ", 8) == 0);
        CHECK_INT(mkdirat(k.d.fd, S1 "/.new.g9", 0700), 0);
        CHECK_INT(vault_destroy_sets(k.vault, W1), 0);
        CHECK_INT(vault_destroy_sets(k.vault, W1), 0);
        CHECK(!test_dir_has(&k.d, S1) && !vault_has_sets(k.vault, W1));
        CHECK_STR(kit_set_text(&k, W2, 7, NULL), "A=1");
        CHECK_INT(vault_destroy_key(k.vault, W1) | vault_destroy_set(k.vault, W1, 7), 0);       /* of a workspace that is not there */
}

/* A receipt says "gone" of what was looked for. */
TEST(what_cannot_be_looked_at_is_not_gone) {
        _cleanup_sealed_ SealedKit k = sealed_kit();

        CHECK(!vault_has_key(k.vault, W1) && !vault_has_sets(k.vault, W1));
        CHECK_INT(symlinkat("elsewhere", k.d.fd, S1), 0);
        CHECK(vault_has_key(k.vault, W1) && vault_has_sets(k.vault, W1));
        CHECK(vault_destroy_key(k.vault, W1) < 0 && vault_destroy_sets(k.vault, W1) < 0);
        CHECK_INT(unlinkat(k.d.fd, S1, 0), 0);
        test_dir_text(&k.d, S1, "x");
        CHECK(vault_has_key(k.vault, W1) && vault_has_sets(k.vault, W1));
        CHECK_INT(unlinkat(k.d.fd, S1, 0) | mkdirat(k.d.fd, S1, 0700) | symlinkat("elsewhere", k.d.fd, S1 "/key.seal"), 0);
        CHECK(vault_has_key(k.vault, W1) && !vault_has_sets(k.vault, W1));
}

TEST(destroying_sets_leaves_the_key) {
        _cleanup_sealed_ SealedKit k = sealed_kit();

        CHECK_INT(kit_write(&k, W1, 7, "A=1", NULL), 0);
        CHECK_INT(vault_destroy_sets(k.vault, W1), 0);
        CHECK(vault_has_key(k.vault, W1) && !vault_has_sets(k.vault, W1));
        CHECK_INT(test_dir_count(&k.d, S1), 1);
}

TEST_MAIN
