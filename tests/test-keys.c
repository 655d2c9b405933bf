/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/keys: which root is taken and which never, what is said of a wrong or missing one. */

#include <errno.h>

#include "tests/sealed-kit.h"

static Arena *arena;

static void put_root(const TestDir *d, const char *name, char c, size_t size) {
        _cleanup_free_ char *data = kit_fill(c, size);

        (void) mkdirat(d->fd, "keys", 0700);
        (void) mkdirat(d->fd, "credentials", 0700);
        test_dir_write(d, name, data, size);
}

static void use_credentials(const TestDir *d) {
        _cleanup_free_ char *path = str_printf("%s/credentials", d->path);

        CHECK_INT(setenv("CREDENTIALS_DIRECTORY", path, 1), 0);
}

static Keys *open_keys(const TestDir *d, RootChecks *checks, bool changes) {
        bool changed = !changes;
        Keys *k = NULL;
        Fault f = {};

        if (CHECK_INT(keys_open(d->fd, arena, checks, &changed, &k, &f), 0))
                CHECK(changed == changes);
        return k;
}

/* Whether the root of that epoch is 32 times this character; '\0': there is none. */
static bool root_is(const Keys *k, uint32_t epoch, char c) {
        const uint8_t *root = keys_root(epoch, k);

        for (size_t i = 0; root && i < KEY_SIZE; i++)
                if (root[i] != (uint8_t) c)
                        return false;
        return root ? c != 0 : c == 0;
}

static void check_fault(const Keys *k, const char *words) {
        const Fault *f = keys_fault(k);

        CHECK((f != NULL) == (words != NULL));
        if (f && words && (!CHECK_STR(kit_code(f), "secret_undecryptable") || !CHECK(strstr(f->text, words))))
                printf("#   %s\n", f->text);
        CHECK((keys_epoch(k) == 0) == (words != NULL));
}

/* ── the first ───────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(the_first_root_is_made_once) {
        _cleanup_dir_ TestDir d = test_dir();
        RootChecks checks = {};
        _cleanup_(keys_freep) Keys *k = open_keys(&d, &checks, true);
        _cleanup_free_ char *made = NULL, *again = NULL;
        char check[ROOT_CHECK_SIZE];
        struct stat st;
        size_t size = 0;

        CHECK_INT(fstatat(d.fd, "keys/root.e1", &st, 0), 0);
        CHECK_INT(st.st_mode & 07777, 0600);
        CHECK_INT(st.st_size, 32);
        check_fault(k, NULL);
        CHECK(keys_epoch(k) == 1 && keys_are_made_here(k) && keys_arena(k) == arena);
        CHECK(checks.n == 1 && checks.items[0].epoch == 1 && checks.wrapped == 0);
        seal_root_check(keys_root(1, k), check);
        CHECK_STR(checks.items[0].check, check);
        made = kit_read(&d, "keys/root.e1", &size);
        CHECK(made && memcmp(made, keys_root(1, k), 32) == 0);
        (void) keys_free(k);
        k = open_keys(&d, &checks, false);
        again = kit_read(&d, "keys/root.e1", &size);
        CHECK(again && made && memcmp(made, again, 32) == 0 && memcmp(made, keys_root(1, k), 32) == 0);
        CHECK_INT(test_dir_count(&d, "keys"), 1);
        CHECK_INT(keys_for(k, NULL).userdata == k, 1);
}

TEST(two_hosts_have_two_roots) {
        _cleanup_dir_ TestDir d = test_dir(), e = test_dir();
        RootChecks a = {}, b = {};

        keys_free(open_keys(&d, &a, true));
        keys_free(open_keys(&e, &b, true));
        CHECK(strcmp(a.items[0].check, b.items[0].check) != 0);
}

TEST(a_root_that_cannot_be_written) {
        RootChecks checks = {};
        Keys *k = NULL;
        bool changed;
        Fault f = {};

        CHECK(keys_open(-1, arena, &checks, &changed, &k, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK(!k && checks.n == 0);
}

/* ── wrong ones ──────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_root_that_is_not_the_one_stops_all_sealing) {
        static const struct { size_t size; const char *words; } table[] = {
                { 32, "'root.e1' is not the key" }, { 31, "'root.e1' is not the key" }, { 33, "'root.e1' is not the key" },
                { 0, "'root.e1' is not the key" },  { SIZE_MAX, "epoch 1 is missing" },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                RootChecks checks = {}, before;
                _cleanup_(keys_freep) Keys *k = open_keys(&d, &checks, true);

                before = checks;
                if (table[i].size == SIZE_MAX)
                        CHECK_INT(unlinkat(d.fd, "keys/root.e1", 0), 0);
                else
                        put_root(&d, "keys/root.e1", 'x', table[i].size);
                (void) keys_free(k);
                k = open_keys(&d, &checks, false);
                check_fault(k, table[i].words);
                CHECK(root_is(k, 1, 0) && !keys_are_made_here(k));
                CHECK(checks.n == 1 && before.n == 1 && checks.wrapped == before.wrapped && checks.items[0].epoch == before.items[0].epoch);
                CHECK_STR(checks.items[0].check, before.items[0].check);
                CHECK(test_dir_has(&d, "keys/root.e1") == (table[i].size != SIZE_MAX));
                CHECK_INT(test_dir_count(&d, "keys"), table[i].size != SIZE_MAX);       /* no new one is made */
        }
}

TEST(incident_30_no_root_is_made_beside_one_of_a_wrong_size) {
        static const size_t wrong[] = { 0, 31, 33, 64 };

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                RootChecks checks = {};
                _cleanup_(keys_freep) Keys *k = NULL;

                put_root(&d, "keys/root.e1", 'x', wrong[i]);
                k = open_keys(&d, &checks, false);
                check_fault(k, "'root.e1'");
                CHECK_INT(checks.n, 0);
                CHECK_INT(test_dir_count(&d, "keys"), 1);
        }
}

TEST(a_next_root_of_a_wrong_size_is_not_adopted) {
        static const size_t wrong[] = { 0, 31, 33, 64 };

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                _cleanup_dir_ TestDir d = test_dir();
                RootChecks checks = {};
                _cleanup_(keys_freep) Keys *k = open_keys(&d, &checks, true);

                put_root(&d, "keys/root.e2", 'x', wrong[i]);
                (void) keys_free(k);
                k = open_keys(&d, &checks, false);
                check_fault(k, NULL);
                CHECK(keys_epoch(k) == 1 && checks.n == 1 && root_is(k, 2, 0));
        }
}

TEST(names_that_are_none_of_a_root) {
        static const char *const names[] = { "root.e0", "root.e01", "root.e-1", "root.e", "root.ex", "root.e4294967296", "root.e1.bak",
                                             "Root.e1", ".root.e1" };
        _cleanup_dir_ TestDir d = test_dir();
        RootChecks checks = {};
        _cleanup_(keys_freep) Keys *k = NULL;

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *name = str_printf("keys/%s", names[i]);

                put_root(&d, name, 'x', 32);
        }
        CHECK_INT(symlinkat("root.ex", d.fd, "keys/root.e7"), 0);       /* a link is no root either */
        k = open_keys(&d, &checks, true);
        check_fault(k, NULL);
        CHECK(keys_epoch(k) == 1 && !root_is(k, 1, 'x'));
}

/* ── credentials, epochs ─────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_credential_is_used_and_nothing_is_made) {
        _cleanup_dir_ TestDir d = test_dir();
        RootChecks checks = {};
        _cleanup_(keys_freep) Keys *k = NULL;

        put_root(&d, "credentials/seal-key.e1", 'c', 32);
        put_root(&d, "credentials/root.e2", 'x', 32);           /* the other one's name */
        put_root(&d, "keys/seal-key.e2", 'x', 32);
        use_credentials(&d);
        k = open_keys(&d, &checks, true);
        check_fault(k, NULL);
        CHECK(root_is(k, 1, 'c') && root_is(k, 2, 0) && !keys_are_made_here(k) && checks.n == 1);
        CHECK_INT(test_dir_count(&d, "keys"), 1);
        (void) keys_free(k);
        put_root(&d, "credentials/seal-key.e1", 'd', 32);
        k = open_keys(&d, &checks, false);
        check_fault(k, "The credential 'seal-key.e1' is not the key");
        CHECK_INT(test_dir_count(&d, "keys"), 1);
        CHECK_INT(unsetenv("CREDENTIALS_DIRECTORY"), 0);
        (void) keys_free(k);
        k = open_keys(&d, &checks, false);
        check_fault(k, "seal-key.e1 nor the file root.e1");
}

TEST(a_file_wins_over_the_credential_of_its_epoch) {
        _cleanup_dir_ TestDir d = test_dir();
        RootChecks checks = {};
        _cleanup_(keys_freep) Keys *k = NULL;

        put_root(&d, "credentials/seal-key.e1", 'c', 32);
        put_root(&d, "keys/root.e1", 'f', 32);
        use_credentials(&d);
        k = open_keys(&d, &checks, true);
        check_fault(k, NULL);
        CHECK(root_is(k, 1, 'f') && keys_are_made_here(k) && checks.n == 1);
        (void) keys_free(k);
        put_root(&d, "keys/root.e1", 'x', 32);          /* neither is the one that is remembered */
        k = open_keys(&d, &checks, false);
        check_fault(k, "is not the key");
        (void) keys_free(k);
        put_root(&d, "credentials/seal-key.e1", 'f', 32);
        k = open_keys(&d, &checks, false);
        check_fault(k, NULL);                           /* a wrong file does not hide the right credential */
        CHECK(root_is(k, 1, 'f') && !keys_are_made_here(k));
        CHECK_INT(unsetenv("CREDENTIALS_DIRECTORY"), 0);
}

TEST(a_higher_epoch_is_adopted_and_a_lower_one_never) {
        _cleanup_dir_ TestDir d = test_dir();
        RootChecks checks = {};
        _cleanup_(keys_freep) Keys *k = NULL;

        put_root(&d, "keys/root.e5", '5', 32);
        k = open_keys(&d, &checks, true);
        CHECK(keys_epoch(k) == 5 && root_is(k, 5, '5'));
        put_root(&d, "keys/root.e4294967295", '9', 32);
        put_root(&d, "keys/root.e4", '4', 32);
        (void) keys_free(k);
        k = open_keys(&d, &checks, true);
        check_fault(k, NULL);
        CHECK(keys_epoch(k) == UINT32_MAX && root_is(k, 5, '5') && root_is(k, UINT32_MAX, '9'));
        CHECK(root_is(k, 4, 0) && checks.n == 2);
        (void) keys_free(k);
        k = open_keys(&d, &checks, false);
        CHECK(root_is(k, 4, 0) && checks.n == 2);
        put_root(&d, "keys/root.e6", '6', 32);          /* between the two */
        (void) keys_free(k);
        k = open_keys(&d, &checks, false);
        CHECK(root_is(k, 6, 0) && keys_epoch(k) == UINT32_MAX);
}

TEST(a_higher_epoch_beside_a_missing_root_is_not_remembered) {
        _cleanup_dir_ TestDir d = test_dir();
        RootChecks checks = {};

        (void) unsetenv("CREDENTIALS_DIRECTORY");
        put_root(&d, "keys/root.e1", 'a', KEY_SIZE);
        keys_free(open_keys(&d, &checks, true));
        CHECK_INT(unlinkat(d.fd, "keys/root.e1", 0), 0);
        put_root(&d, "keys/root.e2", 'b', KEY_SIZE);
        {
                _cleanup_(keys_freep) Keys *k = open_keys(&d, &checks, false);

                check_fault(k, "epoch 1 is missing");
        }
        CHECK_INT(unlinkat(d.fd, "keys/root.e2", 0), 0);
        put_root(&d, "keys/root.e1", 'a', KEY_SIZE);
        {
                _cleanup_(keys_freep) Keys *k = open_keys(&d, &checks, false);

                check_fault(k, NULL);
                CHECK_INT(keys_epoch(k), 1);
        }
}

TEST(more_roots_than_there_is_room_for) {
        _cleanup_dir_ TestDir d = test_dir();
        RootChecks checks = {};
        _cleanup_(keys_freep) Keys *k = NULL;

        for (int i = 1; i <= 9; i++) {
                char name[] = "keys/root.e1";

                name[11] = (char) ('0' + i);
                put_root(&d, name, name[11], 32);
        }
        put_root(&d, "keys/root.e10", 'x', 32);
        k = open_keys(&d, &checks, true);
        CHECK_INT(checks.n, ROOTS_MAX);
        check_fault(k, NULL);
}

TEST(the_roots_that_a_rotation_has_left_behind_may_go) {
        _cleanup_dir_ TestDir d = test_dir();
        RootChecks checks = {};
        _cleanup_(keys_freep) Keys *k = NULL;

        put_root(&d, "keys/root.e1", '1', 32);
        put_root(&d, "keys/root.e2", '2', 32);
        k = open_keys(&d, &checks, true);
        CHECK_INT(checks.n, 2);
        CHECK_INT(unlinkat(d.fd, "keys/root.e1", 0), 0);
        for (uint32_t wrapped = 0; wrapped < 2; wrapped++) {    /* something may still be wrapped by it */
                checks.wrapped = wrapped;
                (void) keys_free(k);
                k = open_keys(&d, &checks, false);
                check_fault(k, "epoch 1 is missing");
                CHECK_INT(checks.n, 2);
        }
        checks.wrapped = 2;
        (void) keys_free(k);
        k = open_keys(&d, &checks, true);
        check_fault(k, NULL);
        CHECK(checks.n == 1 && checks.items[0].epoch == 2 && keys_epoch(k) == 2);
        CHECK_INT(unlinkat(d.fd, "keys/root.e2", 0), 0);        /* but not the one that counts */
        (void) keys_free(k);
        k = open_keys(&d, &checks, false);
        check_fault(k, "epoch 2 is missing");
        CHECK_INT(test_dir_count(&d, "keys"), 0);
}

/* ── what is left of what they wrap ──────────────────────────────────────────────────────────────────────────── */

/* Where this says no, a new root is made in place of one that is lost. */
TEST(whether_anything_wrapped_is_left) {
        static const struct { const char *what, *dirs[4], *file, *link; bool left; } table[] = {
                { "nothing at all", {}, NULL, NULL, false },
                { "no key", { "keys", "sealed" }, NULL, NULL, false },
                { "a root alone", { "keys", "sealed" }, "keys/root.e1", NULL, false },
                { "a request", { "keys", "sealed" }, "keys/rotate-host-key", NULL, false },
                { "a host key", { "keys", "sealed" }, "keys/host.h1-0123456789abcdef.seal", NULL, true },
                { "a host key, and no sealed", { "keys" }, "keys/host.h1-0123456789abcdef.seal", NULL, true },
                { "a workspace without a key", { "keys", "sealed", "sealed/" KIT_WORKSPACE, "sealed/" KIT_WORKSPACE "/g7" }, NULL, NULL, false },
                { "a workspace's key", { "keys", "sealed", "sealed/" KIT_WORKSPACE }, "sealed/" KIT_WORKSPACE "/key.seal", NULL, true },
                { "a workspace's key, and no keys", { "sealed", "sealed/" KIT_WORKSPACE }, "sealed/" KIT_WORKSPACE "/key.seal", NULL, true },
                { "the second workspace's", { "sealed", "sealed/" KIT_WORKSPACE, "sealed/" KIT_OTHER }, "sealed/" KIT_OTHER "/key.seal", NULL, true },
                { "a link in place of a key", { "sealed", "sealed/" KIT_WORKSPACE }, NULL, "sealed/" KIT_WORKSPACE "/key.seal", true },
                /* unknown is not absent */
                { "keys is a file", { "sealed" }, "keys", NULL, true },
                { "sealed is a file", { "keys" }, "sealed", NULL, true },
                { "keys is a link", { "sealed" }, NULL, "keys", true },
                { "sealed is a link", { "keys" }, NULL, "sealed", true },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_dir_ TestDir d = test_dir();

                for (size_t k = 0; k < ELEMENTS(table[i].dirs) && table[i].dirs[k]; k++)
                        CHECK_INT(mkdirat(d.fd, table[i].dirs[k], 0700), 0);
                if (table[i].file)
                        test_dir_text(&d, table[i].file, "x");
                if (table[i].link)
                        CHECK_INT(symlinkat("elsewhere", d.fd, table[i].link), 0);
                if (!CHECK(keys_any_wrapped(d.fd) == table[i].left))
                        printf("#   in: %s\n", table[i].what);
        }
        CHECK(keys_any_wrapped(-1));
}

int main(void) {
        arena = kit_arena();
        (void) unsetenv("CREDENTIALS_DIRECTORY");
        return test_run_all();
}
