/* SPDX-License-Identifier: Apache-2.0 */

/* agent/credentials: which source wins, what never counts, and that no words hold a value. */

#include <errno.h>

#include "agent/credentials.h"
#include "tests/sealed-kit.h"

static Arena *arena;

__attribute__((constructor)) static void begin(void) { arena = kit_arena(); }

/* As a start of the agent: the environment is taken, then the sources are asked. */
static int load(const Config *c, Credentials *ret, Fault *f) {
        CredentialsEnv env;
        int r;

        credentials_take_environment(arena, &env);
        r = credentials_load(c, arena, &env, ret, f);
        credentials_env_done(&env);
        return r;
}

static const char *text(const Secret *s) { return s ? secret_text(s) : NULL; }

typedef struct Sources { const char *directory, *file, *env, *env_too; } Sources;

static const struct { Sources secret; const char *wanted; } order[] = {
        { { "d", "f", "e", "p" }, "d" },
        { { NULL, "f", "e", "p" }, "f" },
        { { NULL, NULL, "e", "p" }, "e" },
        { { NULL, NULL, NULL, "p" }, "p" },
        { { NULL, NULL, NULL, NULL }, NULL },

        /* empty, white space and what cannot stand in a header never count */
        { { "", "f", "e", "p" }, "f" },
        { { " \n\t\r", "\n", "e", "p" }, "e" },
        { { "", "", "", "p" }, "p" },
        { { "", "", "", " " }, NULL },
        { { "two words", "f", NULL, NULL }, "f" },
        { { "two\nlines", NULL, "e", NULL }, "e" },
        { { "bell\a", NULL, NULL, "p" }, "p" },
        { { "del\x7f", NULL, NULL, NULL }, NULL },

        /* white space at the ends goes */
        { { "  d\r\n", NULL, NULL, NULL }, "d" },
        { { NULL, "\tf\n", NULL, NULL }, "f" },
        { { NULL, NULL, " e ", NULL }, "e" },
};

static void prepare(const TestDir *d, const Sources *secret, const char *admin, Config *c) {
        static char file[64];

        CHECK_INT(clearenv(), 0);
        (void) unlinkat(d->fd, "provision-secret", 0);
        (void) unlinkat(d->fd, "file", 0);
        CHECK_INT(setenv("CREDENTIALS_DIRECTORY", d->path, 1), 0);
        *c = (Config) {};
        if (secret->directory)
                test_dir_text(d, "provision-secret", secret->directory);
        if (secret->file) {
                test_dir_text(d, "file", secret->file);
                (void) snprintf(file, sizeof file, "%s/file", d->path);
                c->provision_secret_file = file;
        }
        if (secret->env)
                CHECK_INT(setenv("MOLECULE_CP_SHARED_SECRET", secret->env, 1), 0);
        if (secret->env_too)
                CHECK_INT(setenv("PROVISION_SHARED_SECRET", secret->env_too, 1), 0);
        if (admin)
                CHECK_INT(setenv("ADMIN_TOKEN", admin, 1), 0);
}

TEST(the_order_of_sources) {
        _cleanup_dir_ TestDir d = test_dir();

        for (size_t i = 0; i < ELEMENTS(order); i++) {
                Credentials found = {};
                Config c;
                Fault f = {};

                prepare(&d, &order[i].secret, "a", &c);
                CHECK_INT(load(&c, &found, &f), order[i].wanted ? 0 : -ENOKEY);
                if (!CHECK_STR(text(found.provision_secret), order[i].wanted) || !CHECK_STR(kit_code(&f), order[i].wanted ? "" : "not_enrolled"))
                        printf("#   in: case %zu\n", i);
                CHECK_STR(text(found.admin_token), order[i].wanted ? "a" : NULL);
                credentials_done(&found);
                CHECK(!found.provision_secret && !found.admin_token);
        }
}

TEST(the_admin_token_s_sources) {
        _cleanup_dir_ TestDir d = test_dir();
        static const Sources secret = { .env = "s" };
        Credentials found = {};
        CredentialsEnv env;
        char file[64];
        Config c;

        prepare(&d, &secret, "env", &c);
        credentials_take_environment(arena, &env);
        (void) snprintf(file, sizeof file, "%s/token", d.path);
        c.admin_token_file = file;
        CHECK_INT(credentials_load(&c, arena, &env, &found, NULL), 0);
        CHECK_STR(text(found.admin_token), "env");            /* the file is not there */
        test_dir_text(&d, "token", "file\n");
        CHECK_INT(credentials_load(&c, arena, &env, &found, NULL), 0);
        CHECK_STR(text(found.admin_token), "file");
        test_dir_text(&d, "admin-token", "directory");
        CHECK_INT(credentials_load(&c, arena, &env, &found, NULL), 0);
        CHECK_STR(text(found.admin_token), "directory");
        credentials_done(&found);
        credentials_env_done(&env);
}

TEST(the_environment_is_wiped_whichever_source_wins) {
        static char first[] = "MOLECULE_CP_SHARED_SECRET=open-sesame-1", second[] = "PROVISION_SHARED_SECRET=open-sesame-2",
                    third[] = "ADMIN_TOKEN=open-sesame-3", other[] = "CP_ADMIN_TOKEN=not-ours";
        CredentialsEnv env;

        CHECK_INT(clearenv(), 0);
        CHECK_INT(putenv(first) | putenv(second) | putenv(third) | putenv(other), 0);
        credentials_take_environment(arena, &env);
        CHECK_STR(text(env.provision_secret), "open-sesame-1");
        CHECK_STR(text(env.admin_token), "open-sesame-3");
        CHECK(!getenv("MOLECULE_CP_SHARED_SECRET") && !getenv("PROVISION_SHARED_SECRET") && !getenv("ADMIN_TOKEN"));
        CHECK(!memmem(first, sizeof first, "sesame", 6) && !memmem(second, sizeof second, "sesame", 6) &&
              !memmem(third, sizeof third, "sesame", 6));
        CHECK_STR(getenv("CP_ADMIN_TOKEN"), "not-ours");
        credentials_env_done(&env);
        CHECK(!env.provision_secret && !env.admin_token);
        credentials_take_environment(arena, &env);
        CHECK(!env.provision_secret && !env.admin_token);       /* once */
        CHECK_INT(clearenv(), 0);
}

TEST(the_platform_s_admin_bearers_are_never_read) {
        _cleanup_dir_ TestDir d = test_dir();
        static const Sources secret = { .env = "s" };
        Credentials found = {};
        Config c;

        prepare(&d, &secret, NULL, &c);
        CHECK_INT(setenv("CP_ADMIN_API_TOKEN", "x", 1) | setenv("CP_ADMIN_TOKEN", "x", 1) | setenv("MOLECULE_ADMIN_TOKEN", "x", 1), 0);
        CHECK_INT(load(&c, &found, NULL), -ENOKEY);
}

TEST(words_say_which_is_missing_and_hold_no_value) {
        static const struct { const char *secret, *admin, *words; } table[] = {
                { NULL, NULL, "provision secret and admin token" },
                { "open-sesame", NULL, "no admin token" },
                { NULL, "open-sesame", "no provision secret" },
        };
        _cleanup_dir_ TestDir d = test_dir();

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                const Sources secret = { .env = table[i].secret };
                Credentials found = {};
                Fault f = {};
                Config c;

                prepare(&d, &secret, table[i].admin, &c);
                CHECK(load(&c, &found, &f) < 0);
                CHECK(strstr(f.text, table[i].words) && !strstr(f.text, "sesame"));
                CHECK(!found.provision_secret && !found.admin_token);
        }
}

TEST(a_failed_load_leaves_the_old_ones) {
        _cleanup_dir_ TestDir d = test_dir();
        static const Sources secret = { .env = "s" }, none = {};
        Credentials found = {};
        Config c;

        prepare(&d, &secret, "a", &c);
        CHECK_INT(load(&c, &found, NULL), 0);
        prepare(&d, &none, NULL, &c);
        CHECK_INT(load(&c, &found, NULL), -ENOKEY);
        CHECK_STR(text(found.provision_secret), "s");
        CHECK_STR(text(found.admin_token), "a");
        credentials_done(&found);
}

TEST(sizes) {
        _cleanup_dir_ TestDir d = test_dir();
        _cleanup_free_ char *most = kit_fill('s', CREDENTIAL_MAX), *more = kit_fill('s', CREDENTIAL_MAX + 1), *huge = kit_fill('s', 100000);
        const Sources sources[] = { { .directory = most }, { .directory = more }, { .directory = huge }, { .env = more } };

        for (size_t i = 0; i < ELEMENTS(sources); i++) {
                Credentials found = {};
                Config c;

                prepare(&d, &sources[i], "a", &c);
                CHECK_INT(load(&c, &found, NULL), i == 0 ? 0 : -ENOKEY);
                credentials_done(&found);
        }
}

TEST(refresh) {
        Credentials c = { .provision_secret = kit_secret(arena, "old"), .admin_token = kit_secret(arena, "admin") };

        CHECK_INT(credentials_refresh(&c, NULL), -EINVAL);
        CHECK_INT(credentials_refresh(&c, ""), -EINVAL);
        CHECK_INT(credentials_refresh(&c, " \r\n\t"), -EINVAL);
        CHECK_INT(credentials_refresh(&c, "two words"), -EINVAL);
        CHECK_STR(text(c.provision_secret), "old");
        CHECK_INT(credentials_refresh(&c, "old"), 1);
        CHECK_INT(credentials_refresh(&c, " old\n"), 1);
        CHECK_INT(credentials_refresh(&c, "new\n"), 0);
        CHECK_STR(text(c.provision_secret), "new");
        CHECK_STR(text(c.admin_token), "admin");
        credentials_done(&c);
}

/* ── over a restart ──────────────────────────────────────────────────────────────────────────────────────────── */

static Credentials configured(const char *secret) {
        Credentials c = { .provision_secret = kit_secret(arena, secret), .admin_token = kit_secret(arena, "admin") };

        hash_text(secret, strlen(secret), c.configured);
        return c;
}

/* Refreshes what is configured, keeps it, and forgets everything but the disk. */
static void keep(SealedKit *k, const char *secret, const char *refreshed) {
        Credentials c = configured(secret);

        CHECK_INT(credentials_refresh(&c, refreshed), 0);
        CHECK_INT(credentials_keep(k->d.fd, k->vault, &c, NULL), 0);
        credentials_done(&c);
        sealed_close(k);
        sealed_open(k);
}

TEST(a_refreshed_secret_outlives_the_agent) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Credentials c = configured("first"), other = configured("changed");
        _cleanup_free_ char *file = NULL;

        CHECK_INT(credentials_restore(k.d.fd, k.vault, &c, NULL), 0);
        keep(&k, "first", "refreshed-sesame");
        file = kit_read(&k.d, "credentials.seal", NULL);
        CHECK(file && !strstr(file, "sesame"));
        CHECK_INT(credentials_restore(k.d.fd, k.vault, &c, NULL), 1);
        CHECK_STR(text(c.provision_secret), "refreshed-sesame");
        CHECK_STR(text(c.admin_token), "admin");
        CHECK_INT(credentials_restore(k.d.fd, k.vault, &other, NULL), 0);
        CHECK_STR(text(other.provision_secret), "changed");     /* what the operator changed wins, for good */
        CHECK(!test_dir_has(&k.d, "credentials.seal"));
        credentials_done(&c);
        credentials_done(&other);
}

TEST(a_kept_secret_that_does_not_open_is_set_aside) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Credentials c = configured("first");
        Fault f = {};

        keep(&k, "first", "refreshed");
        kit_flip(&k.d, "credentials.seal", -1);
        CHECK_INT(credentials_restore(k.d.fd, k.vault, &c, &f), -EBADMSG);
        CHECK_STR(kit_code(&f), "secret_undecryptable");
        CHECK(strstr(f.text, "bad_tag"));
        CHECK_STR(text(c.provision_secret), "first");
        CHECK(!test_dir_has(&k.d, "credentials.seal") && test_dir_has(&k.d, "quarantine/credentials.seal"));
        CHECK(test_dir_has(&k.d, "quarantine/credentials.seal.reason"));
        credentials_done(&c);
}

TEST(a_kept_secret_of_another_key_is_left_while_the_root_is_away) {
        _cleanup_sealed_ SealedKit k = sealed_kit();
        Credentials c = configured("first");
        Fault f = {};

        keep(&k, "first", "refreshed");
        CHECK_INT(renameat(k.d.fd, "keys/root.e1", k.d.fd, "away"), 0);
        sealed_close(&k);
        sealed_open(&k);
        CHECK_INT(credentials_restore(k.d.fd, k.vault, &c, &f), -ENOKEY);
        CHECK_STR(text(c.provision_secret), "first");
        CHECK(test_dir_has(&k.d, "credentials.seal"));
        CHECK_INT(renameat(k.d.fd, "away", k.d.fd, "keys/root.e1"), 0);
        sealed_close(&k);
        sealed_open(&k);
        CHECK_INT(credentials_restore(k.d.fd, k.vault, &c, NULL), 1);
        CHECK_STR(text(c.provision_secret), "refreshed");
        credentials_done(&c);
}

TEST_MAIN
