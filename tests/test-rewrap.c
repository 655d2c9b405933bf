/* SPDX-License-Identifier: Apache-2.0 */

/* Rotation of the root: what is wrapped anew and what is left as it is, byte by byte; damage on the way; and an end at any place. */

#include <errno.h>
#include <linux/capability.h>
#include <sys/syscall.h>

#include "base/file.h"
#include "tests/sealed-kit.h"

#define W1 KIT_WORKSPACE
#define SEALED_W1 "sealed/" W1
#define W2 KIT_OTHER

static const char *const workspaces[] = { W1, W2 };

/* Two workspaces with a set and a blob each, all under the first root. */
static void fill(SealedKit *k) {
        for (size_t i = 0; i < ELEMENTS(workspaces); i++) {
                SecretSet set = {};
                _cleanup_free_ uint8_t *blob = NULL;
                char name[64];
                size_t size = 0;

                CHECK_INT(secret_set_add(&set, "API_TOKEN", kit_secret(k->arena, workspaces[i])), 0);
                CHECK_INT(vault_set_write(k->vault, workspaces[i], 7, &set, NULL), 0);
                CHECK_INT(vault_seal(k->vault, workspaces[i], 7, "payload", workspaces[i], 36, &blob, &size, NULL), 0);
                (void) snprintf(name, sizeof name, "blob-%zu", i);
                test_dir_write(&k->d, name, blob, size);
                secret_set_done(&set);
        }
}

static bool opens(SealedKit *k, size_t i, bool wanted) {
        SecretSet set = {};
        _cleanup_free_ char *text = NULL, *blob = NULL;
        char name[64];
        size_t size = 0;
        Fault f = {};
        int r = vault_set_open(k->vault, workspaces[i], 7, &set, &f), s;
        bool good;

        (void) snprintf(name, sizeof name, "blob-%zu", i);
        blob = kit_read(&k->d, name, &size);
        s = vault_open(k->vault, workspaces[i], 7, "payload", blob, size, &text, &size, NULL);
        good = r == 0 && set.n == 1 && strcmp(secret_text(set.items[0].value), workspaces[i]) == 0 && s == 0 &&
             strcmp(text, workspaces[i]) == 0;
        secret_set_done(&set);
        if (good != wanted)
                printf("#   %s: %d %d %s\n", workspaces[i], r, s, f.text);
        return good;
}

static void all_open(SealedKit *k, const char *host_id) {
        for (size_t i = 0; i < ELEMENTS(workspaces); i++)
                CHECK(opens(k, i, true));
        CHECK_STR(k->host ? host_keys_id(k->host) : NULL, host_id);
}

static uint32_t epoch_of(const SealedKit *k, const char *file) {
        size_t size = 0;
        _cleanup_free_ char *data = kit_read(&k->d, file, &size);
        uint32_t epoch = 0;

        CHECK_INT(data ? seal_epoch((const uint8_t *) data, size, &epoch) : -1, 0);
        return epoch;
}

static void second_root(SealedKit *k) {
        _cleanup_free_ char *root = kit_fill('2', KEY_SIZE);

        test_dir_write(&k->d, "keys/root.e2", root, KEY_SIZE);
        sealed_close(k);
        sealed_open(k);
        CHECK_INT(keys_epoch(k->keys), 2);
}

static void reopen(SealedKit *k) {
        sealed_close(k);
        sealed_open(k);
}

static const char *host_file(const SealedKit *k) {
        static char name[100];

        (void) snprintf(name, sizeof name, "keys/host.%s.seal", host_keys_id(k->host));
        return name;
}

typedef struct Same { char *before; size_t size; const char *name; } Same;

static Same same_begin(const SealedKit *k, const char *name) {
        Same s = { .name = name };

        s.before = kit_read(&k->d, name, &s.size);
        return s;
}

static bool same_end(const SealedKit *k, Same *s) {
        size_t size = 0;
        _cleanup_free_ char *now = kit_read(&k->d, s->name, &size);
        bool same = now && s->before && size == s->size && memcmp(now, s->before, size) == 0;

        free(s->before);
        return same;
}

static Rewrapped rewrap(SealedKit *k) {
        Rewrapped done = {};

        CHECK_INT(keys_rewrap(k->keys, k->d.fd, &k->checks, &done, NULL), 0);
        return done;
}

TEST(only_keys_are_wrapped_anew) {
        static const char *const kept[] = { "sealed/" W1 "/g7/API_TOKEN.seal", "sealed/" W1 "/g7/manifest.seal",
                                            "sealed/" W2 "/g7/API_TOKEN.seal",
                                            "sealed/" W2 "/g7/manifest.seal", "blob-0", "blob-1" };
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Same same[ELEMENTS(kept)];
        char host[HOST_KEY_ID_SIZE];
        Rewrapped done;

        fill(&k);
        strcpy(host, host_keys_id(k.host));
        CHECK_INT(rewrap(&k).wrapped, 0);               /* nothing to do, and that is known from now on */
        CHECK_INT(k.checks.wrapped, 1);
        for (size_t i = 0; i < ELEMENTS(kept); i++)
                same[i] = same_begin(&k, kept[i]);
        second_root(&k);
        all_open(&k, host);
        CHECK_INT(epoch_of(&k, "sealed/" W1 "/key.seal"), 1);
        done = rewrap(&k);
        CHECK(done.wrapped == 3 && done.unreadable == 0 && !done.first.set && k.checks.wrapped == 2);
        CHECK(epoch_of(&k, "sealed/" W1 "/key.seal") == 2 && epoch_of(&k, "sealed/" W2 "/key.seal") == 2 &&
              epoch_of(&k, host_file(&k)) == 2);
        for (size_t i = 0; i < ELEMENTS(kept); i++)
                if (!CHECK(same_end(&k, &same[i])))
                        printf("#   in: %s\n", kept[i]);
        all_open(&k, host);
        CHECK_INT(rewrap(&k).wrapped, 0);
        CHECK_INT(unlinkat(k.d.fd, "keys/root.e1", 0), 0);
        reopen(&k);
        CHECK(!keys_fault(k.keys) && k.checks.n == 1);
        all_open(&k, host);
        CHECK(!test_dir_has(&k.d, "quarantine"));
}

TEST(both_host_keys_are_wrapped_anew) {
        _cleanup_sealed_ SealedKit k = sealed_kit();

        CHECK_INT(host_keys_rotate(k.host, NULL), 0);
        second_root(&k);
        CHECK_INT(rewrap(&k).wrapped, 2);
        CHECK_INT(unlinkat(k.d.fd, "keys/root.e1", 0), 0);
        reopen(&k);
        CHECK_INT(test_dir_count(&k.d, "keys"), 3);
        CHECK(!test_dir_has(&k.d, "quarantine"));
}

TEST(a_damaged_key_is_left_as_it_is_and_stops_nobody) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Rewrapped done;
        Same damaged;
        Fault f = {};

        fill(&k);
        (void) rewrap(&k);
        kit_flip(&k.d, "sealed/" W1 "/key.seal", -1);
        second_root(&k);
        damaged = same_begin(&k, "sealed/" W1 "/key.seal");
        done = rewrap(&k);
        CHECK(done.wrapped == 2 && done.unreadable == 1);
        CHECK(done.first.set && strncmp(done.first.text, "bad_tag: ", 9) == 0);
        CHECK(same_end(&k, &damaged));
        CHECK_INT(k.checks.wrapped, 2);
        CHECK(!opens(&k, 0, false) && opens(&k, 1, true));
        CHECK_INT(unlinkat(k.d.fd, "keys/root.e1", 0), 0);
        reopen(&k);
        CHECK(!keys_fault(k.keys) && opens(&k, 1, true));
        CHECK_INT(vault_key_check(k.vault, W1, &f), -EBADMSG);
        CHECK(strstr(f.text, "unknown_epoch"));
}

/* What lets root read everything, off or on again. */
static void override_modes(bool on) {
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct caps[2] = {};

        CHECK_INT(syscall(SYS_capget, &head, caps), 0);
        for (size_t i = 0; i < ELEMENTS(caps); i++)
                caps[i].effective = on ? caps[i].permitted : 0;
        CHECK_INT(syscall(SYS_capset, &head, caps), 0);
}

TEST(what_cannot_be_looked_at_keeps_the_old_root) {
        static const char *const closed[] = { SEALED_W1, "sealed", "keys" };

        for (size_t i = 0; i < ELEMENTS(closed); i++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                char host[HOST_KEY_ID_SIZE];
                Rewrapped done = {};
                Fault f = {};

                fill(&k);
                strcpy(host, host_keys_id(k.host));
                (void) rewrap(&k);
                second_root(&k);
                CHECK_INT(fchmodat(k.d.fd, closed[i], 0, 0), 0);
                override_modes(false);
                CHECK_INT(keys_rewrap(k.keys, k.d.fd, &k.checks, &done, &f), -EACCES);
                override_modes(true);
                CHECK_INT(fchmodat(k.d.fd, closed[i], 0700, 0), 0);
                CHECK_STR(kit_code(&f), "state_degraded");
                CHECK_INT(k.checks.wrapped, 1);
                (void) rewrap(&k);
                CHECK_INT(k.checks.wrapped, 2);
                CHECK_INT(unlinkat(k.d.fd, "keys/root.e1", 0), 0);
                reopen(&k);
                all_open(&k, host);
        }
}

TEST(damage_of_every_kind_on_the_way) {
        static const struct { const char *name; long at; int cut; unsigned wrapped, unreadable; } table[] = {
                { "the magic", 0, 0, 2, 0 },            /* not a sealed file any more: said when it is opened */
                { "the type", 8, 0, 2, 1 },             { "the epoch", 12, 0, 2, 1 },
                { "the length of org", 48, 0, 2, 1 },   { "org", 50, 0, 2, 1 },
                { "the ciphertext", -20, 0, 2, 1 },     { "cut short", 0, 20, 2, 1 },
                { "cut within the head", 0, 100, 2, 0 }, { "much too large", 0, -3000, 2, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                _cleanup_free_ char *was = NULL, *file = NULL, *now = NULL;
                size_t size = 0, now_size = 0;
                Rewrapped done;

                fill(&k);
                (void) rewrap(&k);
                was = kit_read(&k.d, "sealed/" W1 "/key.seal", &size);
                file = calloc(1, size + 4000);
                if (!was || !file)
                        abort();
                memcpy(file, was, size);
                if (table[i].cut)
                        size = (size_t) ((long) size - table[i].cut);
                else
                        file[table[i].at < 0 ? size - (size_t) -table[i].at : (size_t) table[i].at] ^= 4;
                test_dir_write(&k.d, "sealed/" W1 "/key.seal", file, size);
                second_root(&k);
                done = rewrap(&k);
                now = kit_read(&k.d, "sealed/" W1 "/key.seal", &now_size);
                if (!CHECK_INT(done.wrapped, table[i].wrapped) || !CHECK_INT(done.unreadable, table[i].unreadable) ||
                    !CHECK(now_size == size && memcmp(now, file, size) == 0))
                        printf("#   in: %s\n", table[i].name);
                CHECK(opens(&k, 1, true) && !opens(&k, 0, false));
        }
}

/* Ended after so many files: the others are still of the first root. */
TEST(an_end_at_any_place_is_gone_on_with) {
        static const char *const names[] = { "sealed/" W1 "/key.seal", "sealed/" W2 "/key.seal", NULL };

        for (unsigned mask = 0; mask < 8; mask++) {
                _cleanup_sealed_ SealedKit k = sealed_kit();
                char host[HOST_KEY_ID_SIZE], *old[3];
                size_t sizes[3];
                unsigned left = 0;

                fill(&k);
                (void) rewrap(&k);
                strcpy(host, host_keys_id(k.host));
                for (int i = 0; i < 3; i++)
                        old[i] = kit_read(&k.d, names[i] ?: host_file(&k), &sizes[i]);
                second_root(&k);
                CHECK_INT(rewrap(&k).wrapped, 3);
                for (int i = 0; i < 3; i++)
                        if (mask & 1u << i) {
                                test_dir_write(&k.d, names[i] ?: host_file(&k), old[i], sizes[i]);
                                left++;
                        }
                k.checks.wrapped = 1;                   /* as it is on the disk until all is done */
                reopen(&k);
                all_open(&k, host);
                CHECK_INT(rewrap(&k).wrapped, left);
                CHECK_INT(k.checks.wrapped, 2);
                CHECK_INT(unlinkat(k.d.fd, "keys/root.e1", 0), 0);
                reopen(&k);
                all_open(&k, host);
                for (int i = 0; i < 3; i++)
                        free(old[i]);
        }
}

TEST(a_disk_that_fails_is_not_done) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Rewrapped done = {};
        Fault f = {};

        fill(&k);
        (void) rewrap(&k);
        CHECK_INT(renameat(k.d.fd, "sealed/" W1 "/key.seal", k.d.fd, "away"), 0);
        CHECK_INT(mkdirat(k.d.fd, "sealed/" W1 "/key.seal", 0700), 0);          /* any error but absence will do */
        second_root(&k);
        CHECK(keys_rewrap(k.keys, k.d.fd, &k.checks, &done, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK_INT(k.checks.wrapped, 1);
        CHECK_INT(unlinkat(k.d.fd, "sealed/" W1 "/key.seal", AT_REMOVEDIR), 0);
        CHECK_INT(renameat(k.d.fd, "away", k.d.fd, "sealed/" W1 "/key.seal"), 0);
        (void) rewrap(&k);
        CHECK_INT(k.checks.wrapped, 2);
        CHECK(opens(&k, 0, true) && opens(&k, 1, true));
}

TEST(without_a_root_nothing_is_wrapped) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Same same;

        fill(&k);
        second_root(&k);
        CHECK_INT(renameat(k.d.fd, "keys/root.e1", k.d.fd, "away"), 0);
        reopen(&k);
        CHECK(keys_fault(k.keys) != NULL);
        same = same_begin(&k, "sealed/" W1 "/key.seal");
        CHECK_INT(rewrap(&k).wrapped, 0);
        CHECK_INT(k.checks.wrapped, 0);
        CHECK(same_end(&k, &same));
}

TEST_MAIN
