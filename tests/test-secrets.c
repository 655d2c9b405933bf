/* SPDX-License-Identifier: Apache-2.0 */

/* provision/secrets: which values are taken out of a job, and the hand-over made from what is there: the set, the payload, or what still
 * lies in memory. */

#include <errno.h>

#include "base/log.h"
#include "provision/secrets.h"
#include "secrets/handover.h"
#include "tests/box-kit.h"
#include "tests/vault-kit.h"

typedef struct Site {
        SealedKit    k;
        WorkspaceDir dir;
        Settings     settings;
        char         runtime[40];
} Site;

/* The runtime directory is one of the state's: test_dir() takes tmpfs where there is one. */
static Site site(void) {
        Site s = { .k = sealed_kit() };

        CHECK_INT(mkdirat(s.k.d.fd, "run", 0700) | mkdirat(s.k.d.fd, "ws", 0700), 0);
        (void) snprintf(s.runtime, sizeof s.runtime, "%.30s/run", s.k.d.path);
        s.dir = (WorkspaceDir) { .fd = openat(s.k.d.fd, "ws", O_RDONLY|O_DIRECTORY|O_CLOEXEC), .vault = s.k.vault };
        return s;
}

static const Settings *settings(Site *s) {
        s->settings = (Settings) { .org_id = KIT_ORG, .host_id = KIT_HOST, .runtime_path = s->runtime, .host_keys = s->k.host,
                                   .max_tier = 4 };
        s->dir.vault = s->k.vault;
        return &s->settings;
}

static void site_done(Site *s) {
        (void) close(s->dir.fd);
        sealed_kit_done(&s->k);
}
#define _cleanup_site_ _cleanup_(site_done)

#define NO_TMPFS "there is no room in a tmpfs at /dev/shm"
static bool is_tmpfs(const Site *s) { return strncmp(s->runtime, "/dev/shm/", 9) == 0; }

/* A job's payload with this env and these boxes (NAME=value …) of another generation and workspace where wanted. */
static Job *job_of(Site *s, uint64_t generation, const char *env, const char *boxes) {
        _cleanup_json_ cJSON *json = kit_json("{\"job_id\":\"" KIT_JOB "\",\"type\":\"workspace.provision\",\"org_id\":\"" KIT_ORG
                                              "\",\"host_id\":\"" KIT_HOST "\",\"workspace_id\":\"" KIT_WORKSPACE
                                              "\",\"issued_at\":\"2026-01-02T03:04:05Z\",\"spec\":" KIT_SPEC "}");
        cJSON *spec = (cJSON *) json_get(json, "spec"), *map = kit_json("{}");
        _cleanup_free_ char *copy = strdup(boxes), *text = NULL;
        JobRules rules = secrets_payload_rules(settings(s));
        char *save = NULL;
        JobLabel label;
        Job *j = NULL;
        Fault f = {};

        CHECK(json_add_u64_text(json, "generation", generation));
        if (env)
                kit_set(spec, "env", env);
        for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
                char *value = strchr(word, '=');
                Box b;
                _cleanup_free_ char *base64 = NULL;

                *value++ = 0;
                b = box_for(&s->k, KIT_ORG, KIT_WORKSPACE, word, value, strlen(value));
                base64 = base64_encode(b.data, b.size);
                CHECK(json_add_string(map, word, base64));
                box_done(&b);
        }
        if (boxes[0])
                CHECK(json_add_item(spec, "secrets", map) && json_add_string(spec, "sealed_to", host_keys_id(s->k.host)));
        else
                cJSON_Delete(map);
        text = json_print(json);
        if (job_parse(text, strlen(text), &rules, &label, &j, &f) < 0) {
                printf("Bail out! %s\n", f.text);
                exit(1);
        }
        job_keep(j, strdup(text), strlen(text));
        return j;
}

/* ── values ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A spec of so many boxes with this value, and its name. */
static int open_boxes(Site *s, const char *value, size_t size, size_t n, SecretSet *set, Fault *f) {
        SpecBox *boxes = calloc(n + 1, sizeof *boxes);
        WorkspaceSpec spec = { .boxes = boxes, .n_boxes = n, .sealed_to = strdup(host_keys_id(s->k.host)) };
        int r;

        for (size_t i = 0; i < n; i++) {
                char name[32];
                Box b;

                (void) snprintf(name, sizeof name, "N%zu", i);
                b = box_for(&s->k, KIT_ORG, KIT_WORKSPACE, name, value, size);
                boxes[i] = (SpecBox) { strdup(name), b.data, b.size };
        }
        r = secrets_open(&spec, settings(s), KIT_WORKSPACE, s->k.arena, set, f);
        for (size_t i = 0; i < n; i++) {
                free(boxes[i].name);
                free(boxes[i].data);
        }
        free(boxes);
        free(spec.sealed_to);
        return r;
}

TEST(values_that_are_taken_and_those_that_are_not) {
        _cleanup_free_ char *large = kit_fill('v', SEAL_SECRET_MAX + 1);
        const struct { const char *value; size_t size, n; const char *code; } table[] = {
                { "v", 1, 1, "" },
                { "two\nlines=\xff", 11, 1, "" },
                { "", 0, 1, "bad_secret" },
                { "\0", 1, 1, "bad_secret" },
                { "open\0sesame", 11, 1, "bad_secret" },
                { "open-sesame\0", 12, 1, "bad_secret" },
                { "ROTATE_TO_REVEAL_TOKEN", 22, 1, "bad_secret" },
                { "sesame ROTATE_TO_REVEAL_TOKEN sesame", 36, 1, "bad_secret" },
                { large, SEAL_SECRET_MAX - 1, 1, "" },
                { large, SEAL_SECRET_MAX, 1, "" },
                { large, SEAL_SECRET_MAX + 1, 1, "bad_secret" },
                { large, SEAL_SECRET_MAX, 4, "" },
                { large, SEAL_SECRET_MAX, 5, "too_large" },
                { large, 256, 1024, "" },
                { large, 257, 1024, "too_large" },
        };
        _cleanup_site_ Site s = site();

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                SecretSet set = {};
                Fault f = {};
                int r = open_boxes(&s, table[i].value, table[i].size, table[i].n, &set, &f);

                if (!CHECK_STR(kit_code(&f), table[i].code) || !CHECK((r == 0) == (table[i].code[0] == 0)) ||
                    !CHECK_INT(set.n, r == 0 ? table[i].n : 0))
                        printf("#   in: case %zu: %s\n", i, f.text);
                CHECK(!f.set || (!strstr(f.text, "sesame") && strstr(f.text, table[i].code[0] == 't' ? "in sum" : "N0")));
                for (size_t k = 0; k < set.n; k++)
                        CHECK(set.items[k].value->size == table[i].size &&
                              memcmp(set.items[k].value->data, table[i].value, table[i].size) == 0);
                secret_set_done(&set);
        }
        CHECK_INT(test_dir_count(&s.k.d, "sealed"), 0);         /* nothing is written by opening */
}

TEST(secret_named_env_is_taken_along) {
        EnvEntry env[] = { { (char *) "MY_TOKEN", (char *) "one", true }, { (char *) "PLAIN", (char *) "two", false },
                           { (char *) "A_KEY", (char *) "three", true } };
        EnvEntry bad[] = { { (char *) "MY_TOKEN", (char *) "xROTATE_TO_REVEAL_TOKEN", true } };
        WorkspaceSpec spec = { .env = env, .n_env = 3 }, marker = { .env = bad, .n_env = 1 };
        _cleanup_site_ Site s = site();
        Settings without = *settings(&s);
        SecretSet set = {};
        Fault f = {};

        without.host_keys = NULL;                       /* needs no key */
        CHECK_INT(secrets_open(&spec, &without, KIT_WORKSPACE, s.k.arena, &set, NULL), 0);
        if (CHECK_INT(set.n, 2)) {
                CHECK_STR(set.items[0].name, "MY_TOKEN");
                CHECK_STR(secret_text(set.items[0].value), "one");
                CHECK_STR(secret_text(set.items[1].value), "three");
        }
        secret_set_done(&set);
        CHECK(secrets_open(&marker, &without, KIT_WORKSPACE, s.k.arena, &set, &f) < 0);
        CHECK_STR(kit_code(&f), "bad_secret");
}

TEST(both_kinds_count_together) {
        enum { N = SECRETS_MAX };
        _cleanup_site_ Site s = site();
        static EnvEntry env[N + 1];
        static char names[N + 1][24];
        WorkspaceSpec spec = { .env = env };

        for (int i = 0; i <= N; i++) {
                (void) snprintf(names[i], sizeof names[i], "KEY_%d", i);
                env[i] = (EnvEntry) { names[i], (char *) "v", true };
        }
        for (int more = 0; more < 2; more++) {
                SecretSet set = {};
                Fault f = {};

                spec.n_env = (size_t) N + (size_t) more;
                CHECK((secrets_open(&spec, settings(&s), KIT_WORKSPACE, s.k.arena, &set, &f) == 0) == !more);
                CHECK_STR(kit_code(&f), more ? "too_large" : "");
                CHECK_INT(set.n, more ? 0 : N);
                secret_set_done(&set);
        }
}

TEST(boxes_for_others) {
        _cleanup_site_ Site s = site(), other = site();
        _cleanup_(job_freep) Job *foreign = job_of(&other, 7, NULL, "A=open-sesame"), *own = job_of(&s, 7, NULL, "A=open-sesame");
        Settings without = *settings(&s);
        SecretSet set = {};
        Fault f = {}, g = {}, h = {};

        CHECK(secrets_open(foreign->spec, settings(&s), KIT_WORKSPACE, s.k.arena, &set, &f) < 0);
        CHECK_STR(kit_code(&f), "secret_undecryptable");
        CHECK(strstr(f.text, host_keys_id(s.k.host)));
        CHECK(secrets_open(own->spec, settings(&s), KIT_OTHER, s.k.arena, &set, &g) < 0);
        CHECK_STR(kit_code(&g), "secret_undecryptable");
        without.host_keys = NULL;
        CHECK(secrets_open(own->spec, &without, KIT_WORKSPACE, s.k.arena, &set, &h) < 0);
        CHECK_STR(kit_code(&h), "secret_undecryptable");
        CHECK_INT(set.n, 0);
        CHECK_INT(secrets_open(own->spec, settings(&s), KIT_WORKSPACE, s.k.arena, &set, NULL), 0);
        CHECK_INT(set.n, 1);
        secret_set_done(&set);
}

/* ── handing over ────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *handed(const Site *s, uint64_t generation, const char *name) {
        static char text[100];
        _cleanup_free_ char *path = str_printf("run/ws/" W1 "/%llu/secrets/%s", (unsigned long long) generation, name),
                            *data = kit_read(&s->k.d, path, NULL);

        (void) snprintf(text, sizeof text, "%s", data ?: "(none)");
        return text;
}

TEST(the_set_is_made_from_the_job) {
        _cleanup_site_ Site s = site();
        _cleanup_(job_freep) Job *j = job_of(&s, 7, "{\"MY_TOKEN\":\"two\",\"PLAIN\":\"x\"}", "A=one");
        Fault f = {};

        if (!is_tmpfs(&s))
                SKIP(NO_TMPFS);
        CHECK(secrets_hand_over(&s.dir, settings(&s), W1, 7, NULL, &f) < 0);    /* neither a set nor a payload */
        CHECK(!handover_any(s.runtime, W1));
        CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, j->spec, NULL), 0);
        CHECK_STR(kit_set_text(&s.k, W1, 7, NULL), "A=one MY_TOKEN=two");
        CHECK_STR(handed(&s, 7, "A"), "one");
        CHECK_STR(handed(&s, 7, "MY_TOKEN"), "two");
        CHECK_STR(handed(&s, 7, "PLAIN"), "(none)");
        CHECK(handover_is_whole(s.runtime, W1, 7));
        CHECK_INT(handover_remove_all(s.runtime, W1), 0);       /* as after a boot: the set alone makes it, without host key or payload */
        {
                Settings without = *settings(&s);

                without.host_keys = NULL;
                CHECK_INT(secrets_hand_over(&s.dir, &without, W1, 7, NULL, NULL), 0);
        }
        CHECK_STR(handed(&s, 7, "A"), "one");
}

TEST(a_set_of_another_job_is_not_handed_over) {
        _cleanup_site_ Site s = site();
        _cleanup_(job_freep) Job *lost = job_of(&s, 7, NULL, "A=old B=old"), *j = job_of(&s, 7, NULL, "A=new");
        Settings without = *settings(&s);

        if (!is_tmpfs(&s))
                SKIP(NO_TMPFS);
        without.host_keys = NULL;
        CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, lost->spec, NULL), 0);
        for (int i = 0; i < 2; i++) {           /* and again, when the host's key has gone meanwhile */
                CHECK_INT(secrets_hand_over(&s.dir, i ? &without : settings(&s), W1, 7, j->spec, NULL), 0);
                CHECK_STR(kit_set_text(&s.k, W1, 7, NULL), "A=new");
                CHECK_STR(handed(&s, 7, "A"), "new");
                CHECK_STR(handed(&s, 7, "B"), "(none)");
        }
}

TEST(a_set_that_is_damaged_or_gone_is_made_from_the_payload) {
        static const char *const damages[] = { "A.seal", "manifest.seal", NULL };

        for (size_t i = 0; i < ELEMENTS(damages); i++) {
                _cleanup_site_ Site s = site();
                _cleanup_(job_freep) Job *j = job_of(&s, 7, NULL, "A=one B=two");

                if (!is_tmpfs(&s))
                        SKIP(NO_TMPFS);
                CHECK_INT(payload_save(&s.dir, W1, j, NULL), 0);
                CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, j->spec, NULL), 0);
                CHECK_INT(handover_remove_all(s.runtime, W1), 0);
                if (damages[i]) {
                        _cleanup_free_ char *name = str_printf(SET1 "/%s", damages[i]);

                        kit_flip(&s.k.d, name, -1);
                } else
                        CHECK_INT(vault_destroy_set(s.k.vault, W1, 7), 0);
                CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, NULL, NULL), 0);
                CHECK_STR(kit_set_text(&s.k, W1, 7, NULL), "A=one B=two");
                CHECK_STR(handed(&s, 7, "B"), "two");
                CHECK(test_dir_has(&s.k.d, "quarantine/" W1 ".g7.reason") == (damages[i] != NULL));
        }
}

/* A payload with this type and spec, read as it was when it was accepted, and what comes of it once it lies on disk alone. */
static int from_payload(Site *s, const char *type, const char *spec, Fault *f) {
        _cleanup_free_ char *text = str_printf("{\"job_id\":\"" KIT_JOB "\",\"type\":\"%s\",\"org_id\":\"" KIT_ORG "\",\"host_id\":\"" KIT_HOST
                                               "\",\"workspace_id\":\"" W1 "\",\"generation\":\"7\","
                                               "\"issued_at\":\"2026-01-02T03:04:05Z\",\"spec\":%s}", type, spec);
        const JobRules rules = { .org_id = KIT_ORG, .host_id = KIT_HOST, .spec = { .max_tier = 4 } };
        _cleanup_(job_freep) Job *j = NULL;
        JobLabel label;

        CHECK_INT(job_parse(text, strlen(text), &rules, &label, &j, NULL), 0);
        job_keep(j, strdup(text), strlen(text));
        CHECK_INT(payload_save(&s->dir, W1, j, NULL), 0);
        return secrets_hand_over(&s->dir, settings(s), W1, 7, NULL, f);
}

/* What this host accepted once is opened, whatever its settings say today. */
TEST(payloads_of_any_tier_and_of_no_provision) {
        _cleanup_site_ Site s = site();
        Fault f = {}, g = {};

        if (!is_tmpfs(&s))
                SKIP(NO_TMPFS);
        CHECK_INT(from_payload(&s, "workspace.deprovision", "{\"prune\":true}", &g), -EBADMSG);
        CHECK(g.set && !handover_any(s.runtime, W1));
        CHECK_INT(from_payload(&s, "workspace.provision", "{\"runtime\":\"codex\",\"platform_url\":\"https://platform.example\",\"tier\":4,"
                                                          "\"env\":{\"A_KEY\":\"one\"}}", &f), 0);
        CHECK_STR(handed(&s, 7, "A_KEY"), "one");
}

TEST(all_of_it_lost) {
        _cleanup_site_ Site s = site();
        _cleanup_(job_freep) Job *j = job_of(&s, 7, NULL, "A=one");
        Fault f = {}, g = {}, h = {};

        if (!is_tmpfs(&s))
                SKIP(NO_TMPFS);
        CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, j->spec, NULL), 0);
        kit_flip(&s.k.d, SET1 "/A.seal", -1);
        CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, NULL, &f), -EBADMSG);  /* there is no payload */
        CHECK(test_dir_has(&s.k.d, "quarantine/" W1 ".g7/A.seal") && !test_dir_has(&s.k.d, SET1));
        CHECK_STR(handed(&s, 7, "A"), "one");           /* what lies in memory was left alone */
        CHECK_INT(secrets_hand_over_again(&s.dir, settings(&s), W1, 7, &g), 0);
        CHECK(!g.set);
        CHECK_INT(unlinkat(s.k.d.fd, "run/ws/" W1 "/7/env", 0), 0);
        CHECK(secrets_hand_over_again(&s.dir, settings(&s), W1, 7, &h) < 0);
        CHECK(secrets_hand_over_again(&s.dir, settings(&s), W1, 8, NULL) < 0);
}

TEST(a_damaged_key_and_a_payload_under_it) {
        _cleanup_site_ Site s = site();
        _cleanup_(job_freep) Job *j = job_of(&s, 7, NULL, "A=one");
        Fault f = {};

        if (!is_tmpfs(&s))
                SKIP(NO_TMPFS);
        CHECK_INT(payload_save(&s.dir, W1, j, NULL), 0);
        CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, j->spec, NULL), 0);
        kit_flip(&s.k.d, S1 "/key.seal", -1);
        CHECK(secrets_hand_over(&s.dir, settings(&s), W1, 7, NULL, &f) < 0);
        CHECK_STR(kit_code(&f), "secret_undecryptable");
        CHECK_INT(secrets_hand_over_again(&s.dir, settings(&s), W1, 7, NULL), 0);
        CHECK_INT(handover_remove_all(s.runtime, W1), 0);
        CHECK(secrets_hand_over_again(&s.dir, settings(&s), W1, 7, NULL) < 0);
        CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, j->spec, NULL), 0);    /* ordered anew */
        CHECK_STR(handed(&s, 7, "A"), "one");
}

TEST(while_the_root_is_away_nothing_is_set_aside) {
        _cleanup_site_ Site s = site();
        _cleanup_(job_freep) Job *j = job_of(&s, 7, NULL, "A=one");
        Fault f = {};

        if (!is_tmpfs(&s))
                SKIP(NO_TMPFS);
        CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, j->spec, NULL), 0);
        CHECK_INT(renameat(s.k.d.fd, "keys/root.e1", s.k.d.fd, "away"), 0);
        sealed_close(&s.k);
        sealed_open(&s.k);
        CHECK_INT(secrets_hand_over(&s.dir, settings(&s), W1, 7, NULL, &f), -ENOKEY);
        CHECK_STR(kit_code(&f), "secret_undecryptable");
        CHECK(!test_dir_has(&s.k.d, "quarantine") && test_dir_has(&s.k.d, SET1 "/A.seal"));
        CHECK_INT(secrets_hand_over_again(&s.dir, settings(&s), W1, 7, NULL), 0);
}

TEST(a_place_that_is_refused) {
        _cleanup_site_ Site s = site();
        _cleanup_(job_freep) Job *j = job_of(&s, 7, NULL, "A=one");
        Fault f = {};

        if (!is_tmpfs(&s))
                SKIP(NO_TMPFS);
        CHECK_INT(fchmodat(s.k.d.fd, "run", 0777, 0), 0);
        CHECK(secrets_hand_over(&s.dir, settings(&s), W1, 7, j->spec, &f) < 0);
        CHECK_STR(kit_code(&f), "state_degraded");
        CHECK_INT(test_dir_count(&s.k.d, "run"), 0);
}

int main(void) {
        (void) log_set_level("error");
        return hash_init() < 0 ? 1 : test_run_all();
}
