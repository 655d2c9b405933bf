/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/vault and damage: which word is said of it, that it is set aside and made anew, and that no other workspace is any the worse for
 * it. */

#include <sys/mount.h>

#include "base/log.h"
#include "tests/vault-kit.h"

#define A1 SET1 "/A.seal"
#define B1 SET1 "/B.seal"
#define M1 SET1 "/manifest.seal"

/* ── kinds of damage ─────────────────────────────────────────────────────────────────────────────────────────── */

static void copy_file(SealedKit *k, const char *from, const char *to) {
        size_t size = 0;
        _cleanup_free_ char *data = kit_read(&k->d, from, &size);

        if (!CHECK(data))
                return;
        test_dir_write(&k->d, to, data, size);
}

static void cut(SealedKit *k, const char *name, size_t left) {
        size_t size = 0;
        _cleanup_free_ char *data = kit_read(&k->d, name, &size);

        test_dir_write(&k->d, name, data, left < size ? left : size);
}

static void flip_tag(SealedKit *k) { kit_flip(&k->d, A1, -1); }
static void flip_head(SealedKit *k) { kit_flip(&k->d, A1, 60); }
static void flip_magic(SealedKit *k) { kit_flip(&k->d, A1, 0); }
static void cut_secret(SealedKit *k) { cut(k, A1, 40); }
static void empty_secret(SealedKit *k) { cut(k, A1, 0); }
static void cut_end(SealedKit *k) { cut(k, A1, 150); }
static void other_workspace(SealedKit *k) { copy_file(k, "sealed/" W2 "/g7/A.seal", A1); }
static void other_generation(SealedKit *k) { copy_file(k, S1 "/g6/A.seal", A1); }
static void other_name(SealedKit *k) { copy_file(k, B1, A1); }
static void missing_secret(SealedKit *k) { (void) unlinkat(k->d.fd, A1, 0); }
static void missing_manifest(SealedKit *k) { (void) unlinkat(k->d.fd, M1, 0); }
static void flip_manifest(SealedKit *k) { kit_flip(&k->d, M1, -30); }
static void manifest_of_another_generation(SealedKit *k) { copy_file(k, S1 "/g6/manifest.seal", M1); }
static void manifest_of_another_workspace(SealedKit *k) { copy_file(k, "sealed/" W2 "/g7/manifest.seal", M1); }
static void secret_for_manifest(SealedKit *k) { copy_file(k, A1, M1); }

static void too_large(SealedKit *k) {
        _cleanup_free_ char *data = kit_fill('x', 70000);

        test_dir_write(&k->d, A1, data, 70000);
}

static void swapped(SealedKit *k) {
        copy_file(k, A1, "spare");
        copy_file(k, B1, A1);
        copy_file(k, "spare", B1);
}

/* An older writing of the same secret and generation, authentic in every part. */
static void older_writing(SealedKit *k) {
        copy_file(k, A1, "spare");
        CHECK_INT(kit_write(k, W1, 7, "A=2 B=2", NULL), 0);
        copy_file(k, "spare", A1);
        CHECK_INT(file_remove_tree(k->d.fd, "quarantine"), 0);
}

static const struct { const char *what; void (*damage)(SealedKit *k); const char *file, *word; } damages[] = {
        { "a bit of a tag", flip_tag, "A", "bad_tag: " },
        { "a bit of a head", flip_head, "A", "bad_tag: " },
        { "a bit of the magic", flip_magic, "A", "bad_magic: " },
        { "cut within the head", cut_secret, "A", "truncated: " },
        { "cut to nothing", empty_secret, "A", "truncated: " },
        { "cut at the end", cut_end, "A", "bad_size: " },
        { "far too large", too_large, "A", "too_large: " },
        { "another workspace's file", other_workspace, "A", "bad_tag: " },
        { "another generation's file", other_generation, "A", "wrong_generation: " },
        { "another name's file", other_name, "A", "wrong_name: " },
        { "two files in each other's place", swapped, "A", "wrong_name: " },
        { "an older writing", older_writing, "A", "changed: " },
        { "a secret gone", missing_secret, "A", "missing: " },
        { "the manifest gone", missing_manifest, NULL, "missing: " },
        { "a bit of the manifest", flip_manifest, "manifest.seal", "bad_tag: " },
        { "another generation's manifest", manifest_of_another_generation, "manifest.seal", "wrong_generation: " },
        { "another workspace's manifest", manifest_of_another_workspace, "manifest.seal", "bad_tag: " },
        { "a secret in its place", secret_for_manifest, "manifest.seal", "bad_type: " },
};

static void prepare(SealedKit *k) {
        CHECK_INT(kit_write(k, W1, 6, "A=6 B=6", NULL) | kit_write(k, W1, 7, "A=1 B=2", NULL) | kit_write(k, W2, 7, "A=9", NULL), 0);
}

/* The key of the first workspace, as its file has it. */
static Secret *key_of_first(SealedKit *k) {
        const SealContext wrap = { SEAL_WORKSPACE_KEY, KIT_ORG, W1, "", 0 };
        SealKeys keys = keys_for(k->keys, NULL);
        size_t size = 0;
        _cleanup_free_ char *wrapped = kit_read(&k->d, S1 "/key.seal", &size);
        Secret *key = NULL;

        CHECK_INT(seal_open(&wrap, &keys, (const uint8_t *) wrapped, size, k->arena, &key, NULL), 0);
        return key;
}

typedef struct Bad { char text[1000]; } Bad;

static void on_bad(const char *file, const char *reason, void *userdata) {
        Bad *b = userdata;
        size_t n = strlen(b->text);

        (void) snprintf(b->text + n, sizeof b->text - n, "[%s %.60s]", file, reason);
}

static int verify(SealedKit *k, Bad *b, unsigned *n) {
        *b = (Bad) {};
        return vault_verify_set(k->vault, W1, 7, on_bad, b, n);
}

TEST(each_damage_has_its_word_and_is_made_anew) {
        for (size_t i = 0; i < ELEMENTS(damages); i++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                _cleanup_free_ char *reason = NULL, *words = NULL;
                unsigned n;
                Fault f = {};
                Bad b;

                prepare(&k);
                CHECK_INT(verify(&k, &b, &n), 0);
                CHECK_INT(n, 3);
                damages[i].damage(&k);
                words = damages[i].file ? str_printf("%s: %s", damages[i].file, damages[i].word) : str_printf("%s", damages[i].word);
                if (!CHECK(!kit_set_text(&k, W1, 7, &f)) || !CHECK_STR(kit_code(&f), "secret_undecryptable") ||
                    !CHECK(strncmp(f.text, words, strlen(words)) == 0))
                        printf("#   in: %s: %s\n", damages[i].what, f.text);
                CHECK(verify(&k, &b, &n) >= 1 && strstr(b.text, damages[i].word));
                CHECK(!test_dir_has(&k.d, "quarantine"));       /* who only reads sets nothing aside */
                CHECK_STR(kit_set_text(&k, W2, 7, NULL), "A=9");
                CHECK_STR(kit_set_text(&k, W1, 6, NULL), "A=6 B=6");

                CHECK_INT(kit_write(&k, W1, 7, "A=1 B=2", NULL), 0);
                CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");
                CHECK(test_dir_has(&k.d, "quarantine/" W1 ".g7"));
                reason = kit_read(&k.d, "quarantine/" W1 ".g7.reason", NULL);
                if (!CHECK(reason && strstr(reason, damages[i].word)))
                        printf("#   in: %s: %s\n", damages[i].what, reason ?: "(none)");
                CHECK_INT(verify(&k, &b, &n), 0);
                CHECK_STR(kit_set_text(&k, W2, 7, NULL), "A=9");
                CHECK_STR(kit_set_text(&k, W1, 6, NULL), "A=6 B=6");
        }
}

TEST(every_bit_of_a_set_counts) {
        static const char *const names[] = { A1, M1, S1 "/key.seal" };
        _cleanup_sealed_ SealedKit k = sealed_kit();

        prepare(&k);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                size_t size = 0;
                _cleanup_free_ char *data = kit_read(&k.d, names[i], &size);

                for (size_t at = 0; data && at < size; at++) {
                        data[at] ^= (char) (1 << at % 8);
                        test_dir_write(&k.d, names[i], data, size);
                        /* of types 2 to 4 the epoch is covered by the tag too */
                        if (!CHECK(!kit_set_text(&k, W1, 7, NULL)))
                                printf("#   in: %s, byte %zu\n", names[i], at);
                        data[at] ^= (char) (1 << at % 8);
                }
                test_dir_write(&k.d, names[i], data, size);
        }
        CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");
}

TEST(links_are_not_followed) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Fault f = {};

        prepare(&k);
        CHECK_INT(unlinkat(k.d.fd, A1, 0) | symlinkat("B.seal", k.d.fd, A1), 0);
        CHECK(!kit_set_text(&k, W1, 7, &f));
        CHECK_STR(kit_code(&f), "state_degraded");      /* not damage: the disk does not give it */
        CHECK_INT(renameat(k.d.fd, S1 "/g6", k.d.fd, S1 "/elsewhere") | symlinkat("elsewhere", k.d.fd, S1 "/g6"), 0);
        CHECK(!kit_set_text(&k, W1, 6, NULL));
        CHECK_INT(renameat(k.d.fd, "sealed/" W2, k.d.fd, "elsewhere") | symlinkat("../elsewhere", k.d.fd, "sealed/" W2), 0);
        CHECK(!kit_set_text(&k, W2, 7, NULL) && kit_write(&k, W2, 8, "A=1", NULL) < 0);
}

TEST(a_file_that_the_manifest_does_not_name) {
        static const char *const names[] = { "C.seal", "x", "A.seal.bak", ".seal" };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        unsigned n;
        Bad b;

        prepare(&k);
        for (size_t i = 0; i < 3; i++) {
                _cleanup_free_ char *name = str_printf(SET1 "/%s", names[i]),
                                    *wanted = str_printf("[sealed/" W1 "/g7/%s unlisted: ", names[i]);

                copy_file(&k, A1, name);
                CHECK_INT(verify(&k, &b, &n), 1);
                CHECK_INT(n, 4);
                if (!CHECK(strstr(b.text, wanted)))
                        printf("#   %s\n", b.text);
                CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");    /* it is not read, and does no harm */
                CHECK_INT(unlinkat(k.d.fd, name, 0), 0);
        }
        missing_manifest(&k);
        CHECK_INT(verify(&k, &b, &n), 3);               /* the manifest, and both that nothing is known of */
        CHECK_INT(vault_verify_set(k.vault, W1, 99, on_bad, &b, &n), 1);
        CHECK_INT(n, 0);
}

/* Only who has the key can write these. */
TEST(authentic_manifests_that_make_no_sense) {
        static const struct { const char *text, *word; } table[] = {
                { "{\"generation\":\"8\",\"files\":{}}", "bad_manifest: " },      { "{\"generation\":7,\"files\":{}}", "bad_manifest: " },
                { "{\"files\":{}}", "bad_manifest: " },                           { "{\"generation\":\"7\"}", "bad_manifest: " },
                { "{\"generation\":\"7\",\"files\":[]}", "bad_manifest: " },
                { "{\"generation\":\"7\",\"files\":{}", "bad_manifest: " },
                { "", "bad_manifest: " },                                         { "[]", "bad_manifest: " },
                { "{\"generation\":\"7\",\"files\":{\"A\":7}}", "A: changed: " },
                { "{\"generation\":\"7\",\"files\":{\"A\":null}}", "A: changed: " },
                { "{\"generation\":\"7\",\"files\":{\"A\":\"\"}}", "A: changed: " },
                { "{\"generation\":\"7\",\"files\":{\"../g6/A\":\"\"}}", "../g6/A: missing: " },
                { "{\"generation\":\"7\",\"files\":{\"manifest\":\"\"}}", "manifest: missing: " },
                { "{\"generation\":\"7\",\"files\":{}}", NULL },
        };
        const SealContext manifest = { SEAL_MANIFEST, KIT_ORG, W1, "", 7 };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_(secret_freep) Secret *key = NULL;
        size_t size = 0;

        prepare(&k);
        key = key_of_first(&k);
        if (!key)
                return;
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_free_ uint8_t *file = NULL;
                Fault f = {};
                const char *text;

                CHECK_INT(seal_make(&manifest, 1, key->data, table[i].text, strlen(table[i].text), k.arena, &file, &size, NULL), 0);
                test_dir_write(&k.d, M1, file, size);
                text = kit_set_text(&k, W1, 7, &f);
                if (!CHECK(table[i].word ? !text && strncmp(f.text, table[i].word, strlen(table[i].word)) == 0 : text && !text[0]))
                        printf("#   in: %s: %s\n", table[i].text, f.text);
                CHECK_STR(kit_code(&f), table[i].word ? "secret_undecryptable" : "");
        }
}

TEST(a_manifest_of_more_than_there_may_be) {
        const SealContext manifest = { SEAL_MANIFEST, KIT_ORG, W1, "", 7 };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_(secret_freep) Secret *key = NULL;
        size_t size = 0;

        prepare(&k);
        key = key_of_first(&k);
        if (!key)
                return;
        for (int n = SECRETS_MAX; n <= SECRETS_MAX + 1; n++) {
                _cleanup_json_ cJSON *json = kit_json("{\"generation\":\"7\"}"), *files = cJSON_CreateObject();
                _cleanup_free_ uint8_t *file = NULL;
                _cleanup_free_ char *text = NULL;
                Fault f = {};

                for (int i = 0; i < n; i++) {
                        char name[16];

                        (void) snprintf(name, sizeof name, "N%d", i);
                        CHECK(json_add_string(files, name, ""));
                }
                CHECK(json_add_item(json, "files", TAKE_PTR(files)));
                text = json_print(json);
                CHECK_INT(seal_make(&manifest, 1, key->data, text, strlen(text), k.arena, &file, &size, NULL), 0);
                test_dir_write(&k.d, M1, file, size);
                CHECK(!kit_set_text(&k, W1, 7, &f));
                CHECK(strncmp(f.text, n > SECRETS_MAX ? "bad_manifest: " : "N0: missing: ", 13) == 0);
        }
}

/* ── the key ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_damaged_key) {
        static const struct { const char *what; long at, left; const char *word; } table[] = {
                { "a bit of the tag", -1, -1, "bad_tag: " }, { "the epoch", 12, -1, "unknown_epoch: " },
                { "the type", 8, -1, "bad_type: " },
                { "cut to nothing", 0, 0, "truncated: " },   { "far too large", 0, 9999, "bad_size: " },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                _cleanup_free_ char *reason = NULL, *huge = calloc(1, 9999), *text = NULL;
                _cleanup_free_ uint8_t *file = NULL, *other = NULL;
                size_t size = 0, n = 0;
                Fault f = {}, g = {}, h = {};

                prepare(&k);
                CHECK_INT(vault_seal(k.vault, W1, 7, "payload", "x", 1, &file, &size, NULL), 0);
                if (table[i].left < 0)
                        kit_flip(&k.d, S1 "/key.seal", table[i].at);
                else
                        test_dir_write(&k.d, S1 "/key.seal", huge, (size_t) table[i].left);
                CHECK_INT(vault_key_check(k.vault, W1, &f), -EBADMSG);
                CHECK_STR(kit_code(&f), "secret_undecryptable");
                if (!CHECK(strstr(f.text, table[i].word)) || !CHECK(strstr(f.text, "the workspace's key")))
                        printf("#   in: %s: %s\n", table[i].what, f.text);
                CHECK(!kit_set_text(&k, W1, 7, &g) && strstr(g.text, table[i].word));
                CHECK_INT(vault_open(k.vault, W1, 7, "payload", file, size, &text, &n, &h), -EBADMSG);
                CHECK(test_dir_has(&k.d, S1 "/key.seal") && !test_dir_has(&k.d, "quarantine"));
                CHECK_STR(kit_set_text(&k, W2, 7, NULL), "A=9");

                CHECK_INT(vault_seal(k.vault, W1, 8, "payload", "y", 1, &other, &n, NULL), 0);         /* what comes now must not be lost */
                CHECK_INT(vault_key_check(k.vault, W1, NULL), 0);
                CHECK(test_dir_has(&k.d, "quarantine/" W1 ".key.seal"));
                reason = kit_read(&k.d, "quarantine/" W1 ".key.seal.reason", NULL);
                CHECK(reason && strstr(reason, table[i].word));
                CHECK_INT(vault_open(k.vault, W1, 8, "payload", other, n, &text, &n, NULL), 0);
                free(text);
                text = NULL;
                CHECK_INT(vault_open(k.vault, W1, 7, "payload", file, size, &text, &n, NULL), -EBADMSG);
                CHECK_INT(kit_write(&k, W1, 7, "A=1 B=2", NULL), 0);
                CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");
                CHECK_STR(kit_set_text(&k, W2, 7, NULL), "A=9");
        }
}

TEST(another_workspace_s_key_is_not_taken) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Fault f = {};

        prepare(&k);
        copy_file(&k, "sealed/" W2 "/key.seal", S1 "/key.seal");
        CHECK_INT(vault_key_check(k.vault, W1, &f), -EBADMSG);
        CHECK(strstr(f.text, "wrong_workspace"));
        CHECK_STR(kit_set_text(&k, W2, 7, NULL), "A=9");
}

TEST(a_key_that_is_gone) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Fault f = {};

        prepare(&k);
        CHECK_INT(unlinkat(k.d.fd, S1 "/key.seal", 0), 0);
        CHECK(!kit_set_text(&k, W1, 7, &f));
        CHECK(strncmp(f.text, "no_key: ", 8) == 0);
        CHECK_INT(kit_write(&k, W1, 7, "A=1", NULL), 0);
        CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1");
        CHECK(test_dir_has(&k.d, "quarantine/" W1 ".g7/B.seal"));
}

TEST(setting_aside_by_hand) {
        _cleanup_sealed_ SealedKit k = sealed_kit();

        prepare(&k);
        CHECK_INT(vault_set_aside(k.vault, W1, 7, "why"), 0);
        CHECK(!test_dir_has(&k.d, SET1) && test_dir_has(&k.d, "quarantine/" W1 ".g7/A.seal"));
        CHECK_INT(vault_key_aside(k.vault, W1, "why"), 0);
        CHECK(!vault_has_key(k.vault, W1) && test_dir_has(&k.d, "quarantine/" W1 ".key.seal"));
        CHECK(vault_set_aside(k.vault, W1, 99, "why") < 0 && vault_set_aside(k.vault, KIT_HOST, 7, "why") < 0);
        CHECK_STR(kit_set_text(&k, W2, 7, NULL), "A=9");
}

TEST(a_key_that_was_set_aside_is_destroyed_too) {
        _cleanup_sealed_ SealedKit k = sealed_kit();

        prepare(&k);
        CHECK_INT(vault_key_aside(k.vault, W1, "why") | vault_key_aside(k.vault, W2, "why"), 0);
        CHECK_INT(kit_write(&k, W1, 8, "A=1", NULL), 0);        /* under another key */
        CHECK_INT(vault_destroy_key(k.vault, W1), 0);
        CHECK(!vault_has_key(k.vault, W1) && !test_dir_has(&k.d, "quarantine/" W1 ".key.seal"));
        CHECK(!test_dir_has(&k.d, "quarantine/" W1 ".key.seal.reason") && test_dir_has(&k.d, "quarantine/" W2 ".key.seal"));
}

/* ── what a crash leaves, what a disk refuses ────────────────────────────────────────────────────────────────── */

TEST(what_a_crash_left_is_swept) {
        static const char *const left[] = { S1 "/.new.g8", S1 "/.new.g9", S1 "/.other" };
        _cleanup_sealed_ SealedKit k = sealed_kit();

        prepare(&k);
        for (size_t i = 0; i < ELEMENTS(left); i++) {
                _cleanup_free_ char *name = str_printf("%s/A.seal", left[i]);

                CHECK_INT(mkdirat(k.d.fd, left[i], 0700), 0);
                test_dir_text(&k.d, name, "half");
        }
        CHECK(!kit_set_text(&k, W1, 8, NULL));          /* none of them is a set */
        CHECK_INT(kit_write(&k, W1, 8, "A=8", NULL), 0);
        CHECK_STR(kit_set_text(&k, W1, 8, NULL), "A=8");
        for (size_t i = 0; i < ELEMENTS(left); i++)
                CHECK(!test_dir_has(&k.d, left[i]));
        CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");
}

TEST(a_start_sweeps_every_workspace) {
        static const char *const left[] = { S1 "/.new.g8", "sealed/" W2 "/.new.g9" };
        _cleanup_sealed_ SealedKit k = sealed_kit();

        prepare(&k);
        CHECK_INT(kit_write(&k, W2, 7, "A=2", NULL), 0);
        for (size_t i = 0; i < ELEMENTS(left); i++) {
                _cleanup_free_ char *name = str_printf("%s/A.seal", left[i]);

                CHECK_INT(mkdirat(k.d.fd, left[i], 0700), 0);
                test_dir_text(&k.d, name, "half");
        }
        vault_sweep(k.vault);
        for (size_t i = 0; i < ELEMENTS(left); i++)
                CHECK(!test_dir_has(&k.d, left[i]));
        CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");
        CHECK_STR(kit_set_text(&k, W2, 7, NULL), "A=2");
}

/* A state directory of so many KiB; false where this user may not mount. */
static bool small_disk(SealedKit *k, unsigned kib) {
        char options[40];

        sealed_close(k);
        (void) snprintf(options, sizeof options, "size=%uk,mode=0700", kib);
        if (mount("tmpfs", k->d.path, "tmpfs", 0, options) < 0) {
                sealed_open(k);
                return false;
        }
        (void) close(k->d.fd);
        k->d.fd = open(k->d.path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        k->checks = (RootChecks) {};
        sealed_open(k);
        return true;
}

static void small_disk_done(SealedKit *k) {
        sealed_close(k);
        (void) close(k->d.fd);
        (void) umount2(k->d.path, MNT_DETACH);
        k->d.fd = open(k->d.path, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        sealed_open(k);
}

TEST(a_full_disk_leaves_no_half_set) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ char *data = kit_fill('v', SEAL_SECRET_MAX);
        SecretSet s = {};
        Fault f = {};

        if (!small_disk(&k, 160))
                SKIP("this user may not mount a small tmpfs");
        CHECK_INT(kit_write(&k, W1, 7, "A=1 B=2", NULL), 0);
        for (char name[] = "A"; name[0] <= 'C'; name[0]++)
                CHECK_INT(secret_set_add(&s, name, secret_new(k.arena, data, SEAL_SECRET_MAX)), 0);
        CHECK(vault_set_write(k.vault, W1, 8, &s, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK_INT(test_dir_count(&k.d, S1), 2);         /* the key and the set of before; nothing hidden */
        CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");
        CHECK(!kit_set_text(&k, W1, 8, NULL));
        CHECK_INT(kit_write(&k, W1, 8, "A=8", NULL), 0);        /* there is room again */
        secret_set_done(&s);
        small_disk_done(&k);
}

TEST(a_disk_that_takes_nothing) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        _cleanup_free_ uint8_t *file = NULL;
        size_t size;
        Fault f = {}, g = {};

        if (!small_disk(&k, 512))
                SKIP("this user may not mount a small tmpfs");
        CHECK_INT(kit_write(&k, W1, 7, "A=1 B=2", NULL), 0);
        CHECK_INT(mount(NULL, k.d.path, "none", MS_REMOUNT|MS_RDONLY, NULL), 0);
        CHECK(kit_write(&k, W1, 8, "A=1", &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK(vault_seal(k.vault, W2, 7, "payload", "x", 1, &file, &size, &g) < 0);     /* which would need a key */
        CHECK_STR(kit_code(&g), "state_degraded");
        CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");
        CHECK_INT(kit_write(&k, W1, 7, "A=1 B=2", NULL), 0);    /* nothing to write */
        small_disk_done(&k);
}

TEST(a_full_arena_is_no_damage) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Secret *most = NULL;
        Fault f = {}, g = {};
        SecretSet s = {};

        prepare(&k);
        for (size_t n = ARENA_SIZE; !most && n > 0; n -= 16)
                most = secret_alloc(k.arena, n);
        CHECK_INT(vault_set_open(k.vault, W1, 7, &s, &f), -ENOMEM);
        CHECK_STR(kit_code(&f), "internal");
        CHECK_INT(vault_set_write(k.vault, W1, 7, &s, &g), -ENOMEM);
        CHECK(vault_key_check(k.vault, W1, NULL) == -ENOMEM && !test_dir_has(&k.d, "quarantine"));
        secret_free(most);
        CHECK_STR(kit_set_text(&k, W1, 7, NULL), "A=1 B=2");
}

TEST_MAIN
