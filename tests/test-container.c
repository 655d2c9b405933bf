/* SPDX-License-Identifier: Apache-2.0 */

/* provision/container: what the engine is told of a workspace, tier by tier, against golden files; and what its hash covers. */

#include "base/hash.h"
#include "provision/container.h"
#include "tests/data.h"
#include "tests/kit.h"

#define SECRET "open-sesame"

static const char *const no_registries[] = { NULL };

static Settings settings(void) {
        return (Settings) {
                .org_id = KIT_ORG, .host_id = KIT_HOST, .network = "molecule-core-net", .advertise_host = "127.0.0.1",
                .engine_socket = "/var/run/docker.sock", .port_low = 20000, .port_high = 29999, .max_tier = 4, .probe_path = "/",
                .runtime_path = "/run/molecule-agent", .launcher = "/usr/lib/molecule-agent/molecule-launch",
                .tier_memory_mb = { 0, 256, 512, 2048, 4096 }, .tier_cpu_shares = { 0, 512, 1024, 2048, 4096 }, .registries = no_registries,
        };
}

static const char *const entrypoint[] = { "/entrypoint.sh", "--quiet", NULL }, *const cmd[] = { "serve", "8000", NULL };

static const ContainerIdentity identity = {
        .workspace_id = KIT_WORKSPACE, .job_id = KIT_JOB, .generation = 7, .port = 20017, .image_digest = KIT_DIGEST,
        .image_id = "sha256:8830af3578b0ca2a59dcec43fa3fe1a6db1e27ff588b215060492de72fed80a0",
        .entrypoint = entrypoint, .cmd = cmd,
};

static cJSON *spec_json(unsigned tier, const char *runtime) {
        cJSON *json = kit_json("{\"platform_url\":\"https://platform.example\","
                               "\"env\":{\"GREETING\":\"hello \\\"you\\\"\",\"EMPTY\":\"\",\"MY_TOKEN\":\"" SECRET "\",\"AN_EMPTY_KEY\":\"\"},"
                               "\"secrets\":{\"BOXED\":\"b3BlbiBzZXNhbWU=\"},\"sealed_to\":\"h1-0123456789abcdef\","
                               "\"config_files\":{\"a\":\"AA==\"}}");

        if (!json_add_string(json, "runtime", runtime) || !json_add_i64(json, "tier", tier))
                abort();
        return json;
}

static WorkspaceSpec *spec_of(const cJSON *json) {
        const SpecRules rules = { .max_tier = 4 };
        WorkspaceSpec *s = NULL;
        Fault f = {};

        if (!CHECK_INT(spec_parse(json, &rules, &s, &f), 0)) {
                printf("Bail out! %s\n", f.text);
                exit(1);
        }
        return s;
}

static WorkspaceSpec *spec(unsigned tier, const char *runtime) {
        _cleanup_json_ cJSON *json = spec_json(tier, runtime);

        return spec_of(json);
}

static ContainerPlan *plan(const WorkspaceSpec *s, const Settings *host, const ContainerIdentity *id) {
        ContainerPlan *p = NULL;

        CHECK_INT(container_plan(s, host, id, &p, NULL), 0);
        return p;
}

/* ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Equal as JSON: order within objects is of no account, within arrays it is. Says the first path that differs. */
static bool same(const cJSON *a, const cJSON *b, const char *path) {
        char deeper[300];
        const cJSON *item;
        int i = 0;

        if (!a || !b || (a->type & 0xff) != (b->type & 0xff)) {
                printf("#   %s: there in one only, or of another type\n", path);
                return false;
        }
        if (!cJSON_IsObject(a) && !cJSON_IsArray(a)) {
                _cleanup_free_ char *x = json_print(a), *y = json_print(b);

                if (strcmp(x, y) != 0)
                        printf("#   %s: %s is not %s\n", path, x, y);
                return strcmp(x, y) == 0;
        }
        if (cJSON_GetArraySize(a) != cJSON_GetArraySize(b)) {
                printf("#   %s: %d and %d members\n", path, cJSON_GetArraySize(a), cJSON_GetArraySize(b));
                return false;
        }
        cJSON_ArrayForEach(item, a) {
                (void) snprintf(deeper, sizeof deeper, "%.200s/%.80s", path, item->string ?: "[]");
                if (!same(item, cJSON_IsObject(a) ? json_get(b, item->string) : cJSON_GetArrayItem(b, i++), deeper))
                        return false;
        }
        return true;
}

TEST(incident_14_create_bodies_are_the_golden_ones) {
        for (unsigned tier = 1; tier <= 4; tier++) {
                _cleanup_(spec_freep) WorkspaceSpec *s = spec(tier, "claude-code");
                _cleanup_(container_plan_freep) ContainerPlan *p = NULL;
                _cleanup_json_ cJSON *golden = NULL, *json = NULL;
                _cleanup_free_ char *body = NULL;
                Settings host = settings();
                char name[64], quoted[80];

                host.cgroup_parent = tier == 2 ? "molecule.slice" : NULL;
                p = plan(s, &host, &identity);
                (void) snprintf(name, sizeof name, "create/plan-tier%u.json", tier);
                (void) snprintf(quoted, sizeof quoted, "\"%s\"", container_plan_hash(p));
                golden = data_json(name);
                kit_set((cJSON *) json_get(golden, "Labels"), LABEL_SPEC, quoted);
                if (!CHECK_INT(container_spec_body(container_plan_spec(p), &body, NULL), 0))
                        continue;
                CHECK(!strstr(body, SECRET) && !strstr(body, "MY_TOKEN") && !strstr(body, "BOXED") && !strstr(body, "b3Bl"));
                json = kit_json(body);
                if (!CHECK(same(json, golden, "")))
                        printf("#   in: tier %u\n", tier);
        }
}

TEST(lower_tiers_never_get_the_host) {
        for (unsigned tier = 1; tier <= 2; tier++) {
                _cleanup_(spec_freep) WorkspaceSpec *s = spec(tier, "codex");
                Settings host = settings();
                _cleanup_(container_plan_freep) ContainerPlan *p = plan(s, &host, &identity);
                const ContainerSpec *c = container_plan_spec(p);

                CHECK(!c->privileged && !c->host_pid && !c->host_network && c->drop_net_raw && c->no_new_privileges);
                for (size_t i = 0; i < c->n_mounts; i++)
                        if (strcmp(c->mounts[i].type, "volume") != 0) {
                                CHECK_STR(c->mounts[i].type, "bind");
                                CHECK(c->mounts[i].read_only);
                                CHECK(str_equal(c->mounts[i].target, HANDOVER_TARGET) || str_equal(c->mounts[i].target, LAUNCHER_TARGET));
                        }
        }
}

TEST(the_launcher_ends_in_what_the_image_runs) {
        static const char *const none[] = { NULL };
        static const struct { const char *const *entrypoint, *const *cmd; const char *wanted[5]; } table[] = {
                { entrypoint, cmd, { "/entrypoint.sh", "--quiet", "serve", "8000" } },
                { entrypoint, none, { "/entrypoint.sh", "--quiet" } },
                { none, cmd, { "serve", "8000" } },
                { NULL, cmd, { "serve", "8000" } },
                { entrypoint, NULL, { "/entrypoint.sh", "--quiet" } },
                { none, none, {} },
                { NULL, NULL, {} },
        };
        _cleanup_(spec_freep) WorkspaceSpec *s = spec(2, "codex");
        Settings host = settings();

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                ContainerIdentity id = identity;
                _cleanup_(container_plan_freep) ContainerPlan *p = NULL;
                const ContainerSpec *c;

                id.entrypoint = table[i].entrypoint;
                id.cmd = table[i].cmd;
                p = plan(s, &host, &id);
                c = container_plan_spec(p);
                CHECK_STR(c->entrypoint[0], LAUNCHER_TARGET);
                CHECK(c->entrypoint[1] == NULL);
                for (size_t k = 0; k < 5; k++) {
                        CHECK_STR(c->cmd[k], table[i].wanted[k]);
                        if (!c->cmd[k])
                                break;
                }
        }
}

TEST(limits_are_the_settings) {
        _cleanup_(spec_freep) WorkspaceSpec *s = spec(1, "codex");
        Settings host = settings();
        _cleanup_(container_plan_freep) ContainerPlan *p = NULL;

        host.tier_memory_mb[1] = 100;
        host.tier_cpu_shares[1] = 256;
        p = plan(s, &host, &identity);
        CHECK_INT(container_plan_spec(p)->memory_bytes, 100 << 20);
        CHECK_INT(container_plan_spec(p)->nano_cpus, 250000000);
}

/* ── names, volumes, labels ──────────────────────────────────────────────────────────────────────────────────── */

TEST(names) {
        char name[CONTAINER_NAME_SIZE];

        CHECK_STR(container_name(KIT_WORKSPACE, CONTAINER_CURRENT, name), "ws-" KIT_WORKSPACE);
        CHECK_STR(container_name(KIT_WORKSPACE, CONTAINER_NEXT, name), "ws-" KIT_WORKSPACE ".next");
        CHECK_STR(container_name(KIT_WORKSPACE, CONTAINER_PREV, name), "ws-" KIT_WORKSPACE ".prev");
}

TEST(volumes_by_tier_and_runtime) {
        static const struct { unsigned tier; const char *runtime; size_t n; } table[] = {
                { 1, "codex", 1 },       { 1, "claude-code", 1 }, { 2, "codex", 2 },
                { 2, "claude-code", 3 }, { 3, "claude-code", 3 }, { 4, "hermes", 2 },
        };
        static const Volume wanted[] = {
                { "ws-" KIT_WORKSPACE "-configs", "/configs" },
                { "ws-" KIT_WORKSPACE "-workspace", "/workspace" },
                { "ws-" KIT_WORKSPACE "-claude-sessions", "/root/.claude/sessions" },
        };
        Volume v[VOLUMES_MAX];

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_(spec_freep) WorkspaceSpec *s = spec(table[i].tier, table[i].runtime);
                size_t n = container_volumes(KIT_WORKSPACE, s, v);

                CHECK_INT(n, table[i].n);
                for (size_t k = 0; k < n; k++) {
                        CHECK_STR(v[k].name, wanted[k].name);
                        CHECK_STR(v[k].target, wanted[k].target);
                }
        }
        CHECK_INT(container_volumes_all(KIT_WORKSPACE, v), 3);
        CHECK_STR(v[2].name, wanted[2].name);
}

TEST(incident_46_labels_of_containers_and_volumes) {
        static const struct { const char *name, *value; } wanted[] = {
                { "molecule.platform.managed", "true" },    { "molecule.platform.instance", KIT_HOST }, { "molecule.agent.org", KIT_ORG },
                { "molecule.agent.workspace", KIT_WORKSPACE }, { "molecule.agent.generation", "18446744073709551615" },
                { "molecule.agent.job", KIT_JOB },          { "molecule.agent.host", KIT_HOST },        { "molecule.agent.spec", "abc" },
        };
        ContainerIdentity id = identity;
        Settings host = settings();
        IdentityLabels l;

        id.generation = UINT64_MAX;
        for (int spec_too = 0; spec_too < 2; spec_too++) {
                container_labels(&host, &id, spec_too ? "abc" : NULL, &l);
                CHECK_INT(l.n, spec_too ? 8 : 7);
                for (size_t i = 0; i < l.n; i++) {
                        CHECK_STR(l.pairs[i].name, wanted[i].name);
                        CHECK_STR(l.pairs[i].value, wanted[i].value);
                }
        }
}

TEST(where_a_workspace_answers) {
        Settings host = settings();
        char url[300];

        host.advertise_host = "host.example";
        workspace_url(&host, 2, 20001, url, sizeof url);
        CHECK_STR(url, "http://host.example:20001");
        workspace_url(&host, 4, 20001, url, sizeof url);
        CHECK_STR(url, "http://host.example:8000");
        CHECK_INT(workspace_port(3, 20001), 20001);
        CHECK_INT(workspace_port(4, 20001), 8000);
}

/* ── the hash ────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct Input {
        unsigned          tier;
        const char       *runtime, *field, *value;      /* one member of the spec put in place */
        ContainerIdentity id;
        Settings          host;
} Input;

static Input input(void) {
        return (Input) { .tier = 2, .runtime = "codex", .field = "template", .value = "\"t\"", .id = identity, .host = settings() };
}

static void hash_of(const Input *in, char ret[static HASH_TEXT_SIZE]) {
        _cleanup_json_ cJSON *json = spec_json(in->tier, in->runtime);
        _cleanup_(spec_freep) WorkspaceSpec *s = NULL;
        _cleanup_(container_plan_freep) ContainerPlan *p = NULL;

        kit_set(json, in->field, in->value);
        s = spec_of(json);
        p = plan(s, &in->host, &in->id);
        strcpy(ret, container_plan_hash(p));
}

static void compare(const char *what, const Input *changed, bool differs) {
        char a[HASH_TEXT_SIZE], b[HASH_TEXT_SIZE];
        Input base = input();

        hash_of(&base, a);
        hash_of(changed, b);
        CHECK_INT(strlen(a), 64);
        if (!CHECK((strcmp(a, b) != 0) == differs))
                printf("#   in: %s\n", what);
}

TEST(what_changes_the_hash) {
        static const struct { const char *field, *value; } spec_changes[] = {
                { "env", "{\"GREETING\":\"hello \\\"you\\\"\",\"EMPTY\":\"x\"}" },
                { "env", "{\"GREETING\":\"hello \\\"you\\\"\"}" },
                { "env", "{\"GREETING\":\"hello \\\"you\\\"\",\"EMPTY\":\"\",\"MORE\":\"\"}" },
                { "env", "{\"GREETING\":\"hello \\\"you\\\"EMPTY\",\"E\":\"\"}" },
                { "env", "{\"GREETING\":\"hello \\\"you\\\"\",\"EMPTY\":\"\",\"HIS_TOKEN\":\"" SECRET "\",\"AN_EMPTY_KEY\":\"\"}" },
                { "env", "{\"GREETING\":\"hello \\\"you\\\"\",\"EMPTY\":\"\",\"MY_TOKEN\":\"\",\"AN_EMPTY_KEY\":\"\"}" },
                { "secrets", "{\"BOXED\":\"b3BlbiBzZXNhbWU=\",\"B\":\"AA==\"}" },
                { "secrets", "{\"BOXES\":\"b3BlbiBzZXNhbWU=\"}" },
                { "platform_url", "\"https://other.example\"" },
                { "runtime", "\"hermes\"" },
                { "runtime", "\"claude-code\"" },
                { "tier", "1" },
                { "tier", "3" },
                { "tier", "4" },
        };
        Input in;

        for (size_t i = 0; i < ELEMENTS(spec_changes); i++) {
                in = input();
                in.field = spec_changes[i].field;
                in.value = spec_changes[i].value;
                compare(spec_changes[i].value, &in, true);
        }
#define CHANGED(member, to) in = input(); in.member = (to); compare(#member, &in, true)
        CHANGED(id.image_digest, KIT_DIGEST_2);
        CHANGED(id.port, 20018);
        CHANGED(id.workspace_id, KIT_OTHER);
        CHANGED(id.entrypoint, cmd);
        CHANGED(id.cmd, entrypoint);
        CHANGED(id.cmd, NULL);
        CHANGED(host.launcher, "/opt/launch");
        CHANGED(host.advertise_host, "10.0.0.1");
        CHANGED(host.tier_memory_mb[2], 513);
        CHANGED(host.tier_cpu_shares[2], 1025);
#undef CHANGED
}

TEST(what_does_not) {
        static const struct { const char *field, *value; } spec_changes[] = {
                { "env", "{\"GREETING\":\"hello \\\"you\\\"\",\"EMPTY\":\"\",\"MY_TOKEN\":\"another\",\"AN_EMPTY_KEY\":\"\"}" },
                { "secrets", "{\"BOXED\":\"AAAA\"}" },           { "sealed_to", "\"h2-0123456789abcdef\"" },
                { "template", "\"u\"" },       { "disk_gb", "7" },   { "instance_type", "\"i\"" }, { "provider", "\"p\"" },
                { "data_persistence", "\"persist\"" },               { "display", "{\"mode\":\"none\"}" },
                { "config_files", "{\"b\":\"AQ==\"}" },              { "probe", "{\"path\":\"/x\",\"timeout_seconds\":1}" },
                { "restart", "false" },        { "required_env", "[\"GREETING\"]" },
                { "image_ref", "\"registry.example/a@" KIT_DIGEST_2 "\"" },
        };
        Input in;

        for (size_t i = 0; i < ELEMENTS(spec_changes); i++) {
                in = input();
                in.field = spec_changes[i].field;
                in.value = spec_changes[i].value;
                compare(spec_changes[i].field, &in, false);
        }
#define CHANGED(member, to) in = input(); in.member = (to); compare(#member, &in, false)
        CHANGED(id.job_id, KIT_OTHER);
        CHANGED(id.generation, 8);
        CHANGED(id.image_id, "sha256:another");         /* differs between storage drivers for one digest */
        CHANGED(host.runtime_path, "/run/elsewhere");
        CHANGED(host.tier_memory_mb[3], 1);
        CHANGED(host.stop_timeout_seconds, 99);
        CHANGED(host.max_tier, 2);
#undef CHANGED
}

int main(void) { return hash_init() < 0 ? 1 : test_run_all(); }
