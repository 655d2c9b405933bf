/* SPDX-License-Identifier: Apache-2.0 */

/* provision/env: every name that must not reach a workspace, the exceptions, the sizes; and that no value ever stands in a fault's words.
 * The names stand here once more on purpose: a table that checks itself checks nothing. */

#include <errno.h>

#include "provision/env.h"
#include "tests/kit.h"

#define VALUE "Xyzzy-value-of-the-env"

#define ENTRY(name, value) { (char *) (name), (char *) (value) }

typedef struct One { const char *name, *value, *kind, *secret_key; } One;

/* A spec with one entry; its value must never be in the words. */
static const char *judge(const One *o, Fault *f) {
        EnvEntry entry = ENTRY(o->name, o->value ?: VALUE);
        char *keys[] = { (char *) o->secret_key };
        WorkspaceSpec s = { .env = &entry, .n_env = 1, .kind = (char *) o->kind };
        int r;

        if (o->secret_key)
                s.workspace_secret_keys = (StringList) { keys, 1 };
        *f = (Fault) {};
        r = env_check(&s, f);
        CHECK((r < 0) == f->set);
        CHECK(!strstr(f->text, entry.value) || !entry.value[0]);
        return kit_code(f);
}

static void want(const One *o, const char *code) {
        Fault f;

        if (!CHECK_STR(judge(o, &f), code))
                printf("#   in: %s kind=%s %s\n", o->name, o->kind ?: "", f.text);
        if (code[0] && !CHECK(strstr(f.text, o->name) != NULL))
                printf("#   the words do not name %s: %s\n", o->name, f.text);
}

static const char *const never[] = {
        "MOLECULE_ADMIN_TOKEN", "CP_ADMIN_API_TOKEN", "CP_ADMIN_TOKEN", "CP_PROMOTE_PROD_API_TOKEN", "PROVISION_SHARED_SECRET",
        "MOLECULE_CP_SHARED_SECRET", "SECRETS_ENCRYPTION_KEY", "MOLECULE_TEMPLATE_REPO_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN", "GHCR_PULL_TOKEN", "INFISICAL_OPERATOR_TOKEN", "INFISICAL_BOOTSTRAP_TOKEN", "INFISICAL_CLIENT_ID",
        "INFISICAL_CLIENT_SECRET", "RAILWAY_TOKEN", "RAILWAY_PERSONAL_API_TOKEN", "HETZNER_TOKEN", "HETZNER_API_TOKEN",
        "MOLECULE_OPERATOR_", "MOLECULE_OPERATOR_X", "MOLECULE_OPERATOR_TOKEN",
        "LD_", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GCONV_PATH", "GLIBC_TUNABLES", "BASH_ENV",
        "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_", "WATCHDOG_USEC", "WATCHDOG_PID", "WATCHDOG_", "CREDENTIALS_DIRECTORY",
};

static const char *const write_tokens[] = {
        "GITEA_TOKEN", "GITEA_PAT", "GITHUB_TOKEN", "GITHUB_PAT", "GH_TOKEN", "GITLAB_TOKEN", "GL_TOKEN", "BITBUCKET_TOKEN",
};

static const char *const own[] = {
        "WORKSPACE_ID", "WORKSPACE_CONFIG_PATH", "PLATFORM_URL", "MOLECULE_URL",
        "manifest",     "TIER",         "PLUGINS_DIR",           "PYTHONPATH",   "MOLECULE_WORKSPACE_URL",
};

TEST(names_that_never_pass) {
        for (size_t i = 0; i < ELEMENTS(never); i++) {
                want(&(One) { .name = never[i] }, "privileged_env_forbidden");
                want(&(One) { .name = never[i], .value = "" }, "privileged_env_forbidden");
                want(&(One) { .name = never[i], .kind = "platform" }, "privileged_env_forbidden");
                want(&(One) { .name = never[i], .secret_key = never[i] }, "privileged_env_forbidden");
        }
}

TEST(their_neighbours_pass) {
        static const char *const names[] = {
                "A",      "_",          "_9",          "MOLECULE_OPERATOR", "XLD_PRELOAD",      "LDFLAGS",
                "LISTEN", "WATCHDOG",   "BASH",        "AWS_REGION",        "aws_region",       "NOTIFY_SOCKETS",
                "TIERS",  "ld_preload", "PYTHONPATHS", "RAILWAY",           "INFISICAL_CLIENT", "GITEA_PATH",
                "Path",   "MANIFEST",   "Manifest",    "manifests",
        };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                want(&(One) { .name = names[i] }, "");
}

TEST(incident_38_only_the_platform_s_own_workspace_may_have_its_admin_token) {
        want(&(One) { .name = "ADMIN_TOKEN" }, "privileged_env_forbidden");
        want(&(One) { .name = "ADMIN_TOKEN", .kind = "" }, "privileged_env_forbidden");
        want(&(One) { .name = "ADMIN_TOKEN", .secret_key = "ADMIN_TOKEN" }, "privileged_env_forbidden");
        want(&(One) { .name = "ADMIN_TOKEN", .kind = "platform" }, "");
}

TEST(write_tokens_only_where_the_workspace_wrote_them) {
        for (size_t i = 0; i < ELEMENTS(write_tokens); i++) {
                want(&(One) { .name = write_tokens[i] }, "privileged_env_forbidden");
                want(&(One) { .name = write_tokens[i], .kind = "platform" }, "privileged_env_forbidden");
                want(&(One) { .name = write_tokens[i], .secret_key = "OTHER" }, "privileged_env_forbidden");
                want(&(One) { .name = write_tokens[i], .secret_key = write_tokens[i] }, "");
        }
}

TEST(names_that_are_the_agent_s_to_set) {
        for (size_t i = 0; i < ELEMENTS(own); i++) {
                want(&(One) { .name = own[i] }, "bad_env");
                want(&(One) { .name = own[i], .kind = "platform", .secret_key = own[i] }, "bad_env");
        }
}

TEST(names_like_secrets_are_known_and_pass) {
        static const char *const names[] = {
                "MY_TOKEN", "my_token", "SecretSauce", "API_KEY", "KEY", "monkey", "DB_PASSWORD", "Password2"
        };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                CHECK(env_name_is_secret(names[i]));
                want(&(One) { .name = names[i] }, "");
        }
        CHECK(!env_name_is_secret("PASS") && !env_name_is_secret("TOKE_N") && !env_name_is_secret(""));
}

TEST(the_form_of_names) {
        static const char *const bad[] = { "", "1A", "A-B", "A B", "A=B", "A.B", "\xc3\x84", "A\n", "A/B" };
        _cleanup_free_ char *most = kit_fill('A', 128), *more = kit_fill('A', 129);
        Fault f;

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                CHECK(!env_name_is_valid(bad[i]));
                CHECK_STR(judge(&(One) { .name = bad[i] }, &f), "bad_env");
        }
        CHECK(env_name_is_valid(most) && !env_name_is_valid(more));
}

TEST(one_answer_names_all_that_are_forbidden) {
        EnvEntry env[] = { ENTRY("GH_TOKEN", VALUE), ENTRY("FINE", VALUE), ENTRY("LD_PRELOAD", VALUE), ENTRY("ADMIN_TOKEN", VALUE) };
        WorkspaceSpec s = { .env = env, .n_env = ELEMENTS(env) };
        Fault f = {};

        CHECK_INT(env_check(&s, &f), -EPERM);
        CHECK(strstr(f.text, "GH_TOKEN") && strstr(f.text, "LD_PRELOAD") && strstr(f.text, "ADMIN_TOKEN"));
        CHECK(!strstr(f.text, "FINE") && !strstr(f.text, VALUE));
}

TEST(ever_so_many_names_fit_into_the_words) {
        enum { N = 300 };
        EnvEntry env[N];
        char names[N][32];
        WorkspaceSpec s = { .env = env, .n_env = N };
        Fault f = {};

        for (int i = 0; i < N; i++) {
                (void) snprintf(names[i], sizeof names[i], "LD_SOMETHING_NUMBER_%d", i);
                env[i] = (EnvEntry) ENTRY(names[i], VALUE);
        }
        CHECK_INT(env_check(&s, &f), -EPERM);
        CHECK(strstr(f.text, "LD_SOMETHING_NUMBER_0, LD_SOMETHING_NUMBER_1"));
        CHECK(!strstr(f.text, VALUE));
}

/* ── secrets that come sealed ────────────────────────────────────────────────────────────────────────────────── */

static const char *judge_box(const char *name, const char *kind, const char *secret_key, Fault *f) {
        SpecBox box = { .name = (char *) name, .data = (uint8_t *) (char *) VALUE, .size = strlen(VALUE) };
        char *keys[] = { (char *) secret_key };
        WorkspaceSpec s = { .boxes = &box, .n_boxes = 1, .kind = (char *) kind, .sealed_to = (char *) "h1-0123456789abcdef" };

        if (secret_key)
                s.workspace_secret_keys = (StringList) { keys, 1 };
        *f = (Fault) {};
        CHECK((env_check(&s, f) < 0) == f->set);
        CHECK(!strstr(f->text, VALUE));
        return kit_code(f);
}

TEST(the_rules_bind_what_comes_sealed_too) {
        Fault f;

        for (size_t i = 0; i < ELEMENTS(never); i++)
                if (!CHECK_STR(judge_box(never[i], "platform", never[i], &f), "privileged_env_forbidden") ||
                    !CHECK(strstr(f.text, never[i])))
                        printf("#   in: %s\n", never[i]);
        for (size_t i = 0; i < ELEMENTS(own); i++)
                if (!CHECK_STR(judge_box(own[i], NULL, NULL, &f), "bad_env") || !CHECK(strstr(f.text, own[i])))
                        printf("#   in: %s\n", own[i]);
        for (size_t i = 0; i < ELEMENTS(write_tokens); i++) {
                CHECK_STR(judge_box(write_tokens[i], NULL, NULL, &f), "privileged_env_forbidden");
                CHECK_STR(judge_box(write_tokens[i], NULL, write_tokens[i], &f), "");
        }
        CHECK_STR(judge_box("ADMIN_TOKEN", NULL, NULL, &f), "privileged_env_forbidden");
        CHECK_STR(judge_box("ADMIN_TOKEN", "platform", NULL, &f), "");
        CHECK_STR(judge_box("9", NULL, NULL, &f), "bad_env");
        CHECK_STR(judge_box("ANYTHING", NULL, NULL, &f), "");
}

TEST(a_name_in_env_and_secrets_is_refused) {
        EnvEntry env[] = { ENTRY("BOTH", VALUE), ENTRY("ONE", VALUE), ENTRY("EMPTY", "") };
        SpecBox boxes[] = { { .name = (char *) "OTHER" }, { .name = (char *) "BOTH" }, { .name = (char *) "EMPTY" } };
        WorkspaceSpec s = { .env = env, .n_env = 3, .boxes = boxes, .n_boxes = 3 };
        Fault f = {};

        CHECK(env_check(&s, &f) < 0);
        CHECK_STR(kit_code(&f), "bad_env");
        CHECK(strstr(f.text, "BOTH, EMPTY") && !strstr(f.text, "ONE") && !strstr(f.text, "OTHER"));
        s.n_boxes = 1;
        CHECK_INT(env_check(&s, NULL), 0);
}

TEST(a_sealed_secret_is_as_good_as_env_where_it_is_required) {
        EnvEntry env[] = { ENTRY("A", "x") };
        SpecBox boxes[] = { { .name = (char *) "B" } };
        char *required[] = { (char *) "A", (char *) "B", (char *) "C" };
        WorkspaceSpec s = { .env = env, .n_env = 1, .boxes = boxes, .n_boxes = 1, .required_env = { required, 2 } };
        Fault f = {};

        CHECK_INT(env_check(&s, NULL), 0);
        s.required_env.n = 3;
        CHECK(env_check(&s, &f) < 0);
        CHECK_STR(kit_code(&f), "missing_required_env");
        CHECK(strstr(f.text, ": C."));
}

/* ── values ──────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(one_value_s_size) {
        _cleanup_free_ char *most = kit_fill('v', ENV_VALUE_MAX), *more = kit_fill('v', ENV_VALUE_MAX + 1);

        want(&(One) { .name = "A", .value = most }, "");
        want(&(One) { .name = "A", .value = more }, "bad_env");
}

TEST(the_size_of_all) {
        _cleanup_free_ char *most = kit_fill('v', ENV_VALUE_MAX), *rest = kit_fill('v', ENV_VALUE_MAX - 8 * 4 + 1);
        EnvEntry env[8];
        WorkspaceSpec s = { .env = env, .n_env = 8 };
        Fault f = {};

        for (int i = 0; i < 8; i++)
                env[i] = (EnvEntry) ENTRY("AB", i ? most : rest);
        CHECK_INT(env_check(&s, &f), -E2BIG);           /* names, '=' and NUL count */
        CHECK_STR(kit_code(&f), "bad_env");
        rest[strlen(rest) - 1] = 0;
        CHECK_INT(env_check(&s, NULL), 0);
}

TEST(a_disclosure_marker_is_no_value) {
        want(&(One) { .name = "A", .value = "ROTATE_TO_REVEAL_TOKEN" }, "bad_secret");
        want(&(One) { .name = "A", .value = "xxROTATE_TO_REVEAL_TOKENyy" }, "bad_secret");
        want(&(One) { .name = "A", .value = "rotate_to_reveal_token" }, "");
}

TEST(incident_33_required_env) {
        static const struct { const char *a, *required[3]; const char *missing; } table[] = {
                { "x", { "A" }, NULL },      { "", { "A" }, "A" },               { NULL, { "A" }, "A" },
                { "x", { "a" }, "a" },       { "x", { "A", "B", "C" }, "B, C" }, { "x", {}, NULL },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                EnvEntry env = ENTRY("A", table[i].a);
                WorkspaceSpec s = { .env = &env, .n_env = table[i].a ? 1 : 0, .required_env = { .items = (char **) table[i].required } };
                Fault f = {};

                while (s.required_env.n < 3 && table[i].required[s.required_env.n])
                        s.required_env.n++;
                CHECK((env_check(&s, &f) < 0) == (table[i].missing != NULL));
                CHECK_STR(kit_code(&f), table[i].missing ? "missing_required_env" : "");
                CHECK(!table[i].missing || strstr(f.text, table[i].missing));
        }
}

TEST_MAIN
