/* SPDX-License-Identifier: Apache-2.0 */

/* engine/engine-json: answers of real engines (20.10 recorded, newer ones by hand) and what is no answer at all; and the bodies we send,
 * against golden files. */

#include <errno.h>

#include "base/text.h"
#include "engine/engine-json.h"
#include "tests/data.h"

static cJSON *json_of(const char *text) {
        cJSON *json = NULL;

        CHECK_INT(json_parse(text, strlen(text), &json, NULL), 0);
        return json;
}

/* ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static const EnginePair env[] = { { "WORKSPACE_ID", "6f1c2d3e" }, { "QUOTE", "a \"b\" \\ \n=c" } };
static const EnginePair labels[] = { { LABEL_MANAGED, "true" }, { LABEL_GENERATION, "7" } };
static const EngineMount mounts[] = {
        { "volume", "ws-one-configs", "/configs", false },
        { "bind", "/run/molecule-agent/ws/one/7", "/run/molecule", true },
};

#define COMMON \
        .image_id = "sha256:8830af3578b0ca2a59dcec43fa3fe1a6db1e27ff588b215060492de72fed80a0", \
        .env = env, .n_env = ELEMENTS(env), .labels = labels, .n_labels = ELEMENTS(labels), \
        .mounts = mounts, .n_mounts = ELEMENTS(mounts), \
        .network = "molecule-core-net", .alias = "ws-one", .host_port = 20001

static const struct { const char *golden; ContainerSpec spec; } tiers[] = {
        { "create/tier1.json", {
                COMMON, .memory_bytes = UINT64_C(256) << 20, .nano_cpus = 500000000, .read_only_root = true, .tmpfs_tmp = true,
                .drop_net_raw = true, .no_new_privileges = true, .cgroup_parent = "molecule.slice" } },
        { "create/tier2.json", {
                COMMON, .memory_bytes = UINT64_C(512) << 20, .nano_cpus = 1000000000, .drop_net_raw = true, .no_new_privileges = true } },
        { "create/tier3.json", {
                COMMON, .memory_bytes = UINT64_C(2048) << 20, .nano_cpus = 2000000000, .privileged = true, .host_pid = true } },
        { "create/tier4.json", {
                COMMON, .memory_bytes = UINT64_C(4096) << 20, .nano_cpus = 4000000000, .privileged = true, .host_pid = true,
                .host_network = true } },
};

TEST(create_bodies_are_the_golden_ones) {
        for (size_t i = 0; i < ELEMENTS(tiers); i++) {
                _cleanup_json_ cJSON *golden = data_json(tiers[i].golden);
                _cleanup_free_ char *wanted = json_print(golden), *body = NULL;

                CHECK_INT(container_spec_body(&tiers[i].spec, &body, NULL), 0);
                CHECK_STR(body, wanted);
        }
}

TEST(the_least_create_body) {
        _cleanup_free_ char *body = NULL;
        _cleanup_json_ cJSON *json = NULL;
        Fault f = {};

        CHECK_INT(container_spec_body(&(ContainerSpec) { .image_id = "sha256:1" }, &body, NULL), 0);
        json = json_of(body);
        CHECK_STR(json_get_string(json, "HostConfig/RestartPolicy/Name"), "unless-stopped");
        CHECK_STR(json_get_string(json, "HostConfig/LogConfig/Config/max-size"), "10m");
        CHECK_STR(json_get_string(json, "HostConfig/LogConfig/Config/max-file"), "3");
        CHECK_INT(json_get_i64(json, "HostConfig/PidsLimit", 0), 1024);
        CHECK(!json_get_path(json, "HostConfig/Memory") && !json_get(json, "ExposedPorts") && !json_get_path(json, "HostConfig/Binds"));
        free(TAKE_PTR(body));
        CHECK_INT(container_spec_body(&(ContainerSpec) {}, &body, &f), -EINVAL);
        CHECK(body == NULL && f.set);
}

TEST(bodies_of_volumes_and_networks) {
        _cleanup_free_ char *volume = NULL, *network = NULL;

        CHECK_INT(volume_body("ws-one-configs", labels, ELEMENTS(labels), &volume), 0);
        CHECK_STR(volume, "{\"Name\":\"ws-one-configs\",\"Driver\":\"local\",\"Labels\":{\"molecule.platform.managed\":\"true\","
                          "\"molecule.agent.generation\":\"7\"}}");
        CHECK_INT(network_body("molecule-core-net", NULL, 0, &network), 0);
        CHECK_STR(network, "{\"Name\":\"molecule-core-net\",\"Driver\":\"bridge\",\"CheckDuplicate\":true,\"Labels\":{}}");
}

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(a_running_container_of_20_10) {
        _cleanup_json_ cJSON *json = data_json("engine/container-running-20.10.json");
        EngineContainer c;

        CHECK_INT(engine_container_parse(json, "rec-net", &c, NULL), 0);
        CHECK_INT(strlen(c.id), 64);
        CHECK_STR(c.name, "rec-one");
        CHECK_STR(c.status, "running");
        CHECK(c.running && !c.restarting && !c.oom_killed);
        CHECK(c.error == NULL);
        CHECK_INT(c.health, ENGINE_HEALTH_HEALTHY);
        CHECK_INT(c.health_grace_usec, 8 * USEC_PER_SEC);
        CHECK(c.started_at && strncmp(c.started_at, "20", 2) == 0);
        CHECK(c.image_id && strncmp(c.image_id, "sha256:", 7) == 0);
        CHECK(c.ip_address && strncmp(c.ip_address, "172.", 4) == 0);
        CHECK(c.labels.managed);
        CHECK_INT(c.labels.generation, 7);
        CHECK_STR(c.labels.workspace, "6f1c2d3e-0000-4000-8000-000000000003");
        CHECK_STR(c.labels.job, "6f1c2d3e-0000-4000-8000-000000000004");
        CHECK_STR(c.labels.org, "6f1c2d3e-0000-4000-8000-000000000002");
        CHECK_STR(c.labels.host, "6f1c2d3e-0000-4000-8000-000000000001");
        CHECK_STR(c.labels.instance, "6f1c2d3e-0000-4000-8000-000000000001");
        CHECK_STR(c.labels.spec, "abcdef");
        engine_container_done(&c);
        CHECK(c.id == NULL);
}

TEST(an_exited_and_a_created_container_of_20_10) {
        _cleanup_json_ cJSON *exited = data_json("engine/container-exited-20.10.json");
        _cleanup_json_ cJSON *created = data_json("engine/container-created-20.10.json");
        EngineContainer c;

        CHECK_INT(engine_container_parse(exited, NULL, &c, NULL), 0);
        CHECK_STR(c.status, "exited");
        CHECK_INT(c.exit_code, 3);
        CHECK(!c.running);
        CHECK_INT(c.health, ENGINE_HEALTH_NONE);
        CHECK_INT(c.health_grace_usec, 0);
        CHECK(c.ip_address == NULL);
        engine_container_done(&c);

        CHECK_INT(engine_container_parse(created, NULL, &c, NULL), 0);
        CHECK_STR(c.status, "created");
        CHECK(!c.running);
        engine_container_done(&c);
}

TEST(a_container_of_a_newer_engine) {
        _cleanup_json_ cJSON *json = data_json("engine/container-running-29.json");
        EngineContainer c;

        CHECK_INT(engine_container_parse(json, "molecule-core-net", &c, NULL), 0);
        CHECK_STR(c.name, "ws-one");
        CHECK_STR(c.ip_address, "172.20.0.2");
        CHECK_INT(c.restart_count, 2);
        CHECK_INT(c.health, ENGINE_HEALTH_STARTING);
        CHECK_INT(c.health_grace_usec, 90 * USEC_PER_SEC);      /* the interval is the engine's default */
        CHECK(c.labels.generation == UINT64_MAX);
        CHECK(c.labels.job == NULL);
        engine_container_done(&c);

        CHECK_INT(engine_container_parse(json, "no-such-net", &c, NULL), 0);
        CHECK_STR(c.ip_address, "172.19.0.9");
        engine_container_done(&c);
}

TEST(containers_that_make_no_sense) {
        static const char *const texts[] = {
                "{}", "[]", "7", "{\"Id\":\"a\"}", "{\"Id\":\"a\",\"Name\":\"/b\",\"Image\":\"c\",\"State\":{}}",
                "{\"Id\":7,\"Name\":\"/b\",\"Image\":\"c\",\"State\":{\"Status\":\"running\"}}",
                "{\"Id\":\"a\",\"Name\":\"/\",\"Image\":\"c\",\"State\":{\"Status\":\"running\"}}",
                "{\"Id\":\"a\",\"Name\":\"b\",\"Image\":\"c\",\"State\":\"running\"}",
        };

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                _cleanup_json_ cJSON *json = json_of(texts[i]);
                EngineContainer c = { .exit_code = 99 };
                Fault f = {};

                CHECK_INT(engine_container_parse(json, NULL, &c, &f), -EBADMSG);
                CHECK_INT(f.code, FAULT_ENGINE_ERROR);
                CHECK(c.id == NULL && c.exit_code == 0);
        }
}

TEST(mistyped_details_are_defaults) {
        _cleanup_json_ cJSON *json = json_of("{\"Id\":\"a\",\"Name\":\"b\",\"Image\":\"c\",\"State\":{\"Status\":\"dead\",\"Running\":"
                "\"yes\",\"ExitCode\":\"1\",\"Health\":{\"Status\":\"odd\"},\"Error\":\"no such thing\"},\"RestartCount\":null,"
                "\"Config\":{\"Labels\":null,\"Healthcheck\":{\"Test\":[\"NONE\"],\"Interval\":5}},\"NetworkSettings\":{\"Networks\":[]}}");
        EngineContainer c;

        CHECK_INT(engine_container_parse(json, "n", &c, NULL), 0);
        CHECK(!c.running && c.exit_code == 0 && c.restart_count == 0 && c.health == ENGINE_HEALTH_NONE && c.health_grace_usec == 0);
        CHECK_STR(c.error, "no such thing");
        CHECK(!c.labels.managed && c.labels.generation == 0);
        engine_container_done(&c);
}

TEST(the_list_of_20_10) {
        _cleanup_json_ cJSON *json = data_json("engine/list-20.10.json");
        EngineContainers all;
        bool one = false, two = false;

        CHECK_INT(engine_containers_parse(json, &all, NULL), 0);
        CHECK_INT(all.n, 2);
        for (size_t i = 0; i < all.n; i++) {
                one = one || (str_equal(all.items[i].name, "rec-one") && all.items[i].running);
                two = two || (str_equal(all.items[i].name, "rec-two") && !all.items[i].running && str_equal(all.items[i].status, "exited"));
                CHECK(all.items[i].labels.managed && all.items[i].labels.generation == 7);
                CHECK(all.items[i].image_id && strncmp(all.items[i].image_id, "sha256:", 7) == 0);
        }
        CHECK(one && two);
        engine_containers_done(&all);
        CHECK(all.items == NULL && all.n == 0);
}

TEST(lists_of_other_kinds) {
        static const struct { const char *text; int r; size_t n; } cases[] = {
                { "[]", 0, 0 }, { "{}", -EBADMSG, 0 }, { "null", -EBADMSG, 0 }, { "[1]", -EBADMSG, 0 },
                { "[{\"Id\":\"a\",\"Names\":[\"/x/alias\",\"/x\"],\"State\":\"restarting\"}]", 0, 1 },
                { "[{\"Id\":\"a\",\"Names\":null,\"State\":\"exited\"}]", 0, 1 },
                { "[{\"Id\":\"a\",\"State\":\"exited\"},{\"Id\":\"b\"}]", -EBADMSG, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_json_ cJSON *json = json_of(cases[i].text);
                EngineContainers all;

                CHECK_INT(engine_containers_parse(json, &all, NULL), cases[i].r);
                CHECK_INT(all.n, cases[i].n);
                if (i == 4) {
                        CHECK_STR(all.items[0].name, "x");
                        CHECK(all.items[0].running && all.items[0].restarting);
                }
                engine_containers_done(&all);
        }
}

TEST(incident_11_images) {
        static const char digest[] = "sha256:5ec8cbacaa2f4ba193cf83b003e2a2e0e944d4c6fa1b78f7b3eb2a96fe61cc41";
        static const char *const files[] = { "engine/image-20.10.json", "engine/image-29.json" };
        _cleanup_json_ cJSON *none = json_of("{\"Id\":\"sha256:1\",\"RepoDigests\":null}"), *bad = json_of("{\"RepoDigests\":[]}");
        EngineImage image;

        for (size_t i = 0; i < ELEMENTS(files); i++) {
                _cleanup_json_ cJSON *json = data_json(files[i]);

                CHECK_INT(engine_image_parse(json, &image, NULL), 0);
                CHECK(engine_image_has_digest(&image, digest));
                CHECK(!engine_image_has_digest(&image, "sha256:8830af3578b0ca2a59dcec43fa3fe1a6db1e27ff588b215060492de72fed80a0"));
                CHECK(!engine_image_has_digest(&image, digest + 1) && !engine_image_has_digest(&image, ""));
                CHECK(image.size_bytes > 1000000);
                engine_image_done(&image);
        }
        CHECK_INT(engine_image_parse(none, &image, NULL), 0);
        CHECK(image.repo_digests && !image.repo_digests[0] && image.size_bytes == 0);
        engine_image_done(&image);
        CHECK_INT(engine_image_parse(bad, &image, NULL), -EBADMSG);
        CHECK(image.id == NULL);
}

static void check_words(char **words, const char *const *wanted) {
        size_t i = 0;

        if (!CHECK(words))
                return;
        for (; words[i] && wanted[i]; i++)
                CHECK_STR(words[i], wanted[i]);
        CHECK(!words[i] && !wanted[i]);
}

TEST(what_an_image_runs) {
        static const struct { const char *json; const char *entrypoint[4], *cmd[4]; } table[] = {
                { "{\"Entrypoint\":[\"/e\",\"-x\"],\"Cmd\":[\"a\",\"\",\"c\"]}", { "/e", "-x" }, { "a", "", "c" } },
                { "{\"Entrypoint\":null,\"Cmd\":[\"a\"]}", {}, { "a" } },
                { "{\"Entrypoint\":[\"/e\"],\"Cmd\":null}", { "/e" }, {} },
                { "{\"Entrypoint\":[],\"Cmd\":[]}", {}, {} },
                { "{}", {}, {} },
                { "null", {}, {} },
                { "{\"Entrypoint\":\"/e\",\"Cmd\":7}", {}, {} },
                { "{\"Entrypoint\":[\"/e\",7,null],\"Cmd\":[{}]}", { "/e" }, {} },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                char text[200];
                _cleanup_json_ cJSON *json = NULL;
                EngineImage image, copy;

                (void) snprintf(text, sizeof text, "{\"Id\":\"sha256:1\",\"Size\":5,\"RepoDigests\":[\"a@sha256:2\"],\"Config\":%s}",
                                table[i].json);
                json = json_of(text);
                if (!CHECK_INT(engine_image_parse(json, &image, NULL), 0))
                        continue;
                check_words(image.entrypoint, table[i].entrypoint);
                check_words(image.cmd, table[i].cmd);
                CHECK_INT(engine_image_copy(&copy, &image), 0);
                engine_image_done(&image);
                CHECK(!image.entrypoint && !image.cmd && !image.id);
                check_words(copy.entrypoint, table[i].entrypoint);
                check_words(copy.cmd, table[i].cmd);
                check_words(copy.repo_digests, (const char *const[]) { "a@sha256:2", NULL });
                CHECK_STR(copy.id, "sha256:1");
                CHECK_INT(copy.size_bytes, 5);
                engine_image_done(&copy);
        }
}

TEST(the_command_of_recorded_images) {
        static const struct { const char *file, *cmd[6]; } table[] = {
                { "engine/image-20.10.json", { "/bin/busybox", "httpd", "-f", "-p", "8000" } },
                { "engine/image-29.json", { "/bin/busybox" } },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                _cleanup_json_ cJSON *json = data_json(table[i].file);
                EngineImage image;

                CHECK_INT(engine_image_parse(json, &image, NULL), 0);
                check_words(image.entrypoint, (const char *const[]) { NULL });
                check_words(image.cmd, table[i].cmd);
                engine_image_done(&image);
        }
}

TEST(a_body_with_words_and_one_without) {
        static const char *const e[] = { "/launch", NULL }, *const none[] = { NULL }, *const c[] = { "a \"b\"", "", NULL };
        static const struct { const char *const *entrypoint, *const *cmd; const char *wanted[2], *missing[2]; } table[] = {
                { e, c, { "\"Entrypoint\":[\"/launch\"]", "\"Cmd\":[\"a \\\"b\\\"\",\"\"]" }, { "null", "null" } },
                { e, none, { "\"Entrypoint\":[\"/launch\"]", "\"Cmd\":[]" }, { "null", "null" } },
                { NULL, NULL, { "\"Image\"", "\"Image\"" }, { "Entrypoint", "Cmd" } },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                const ContainerSpec spec = { COMMON, .entrypoint = table[i].entrypoint, .cmd = table[i].cmd };
                _cleanup_free_ char *body = NULL;

                CHECK_INT(container_spec_body(&spec, &body, NULL), 0);
                for (int k = 0; body && k < 2; k++)
                        if (!CHECK(strstr(body, table[i].wanted[k])) || !CHECK(!strstr(body, table[i].missing[k])))
                                printf("#   in: %s\n", body);
        }
}

TEST(volumes) {
        _cleanup_json_ cJSON *json = data_json("engine/volume-20.10.json"), *list = data_json("engine/volumes-20.10.json");
        _cleanup_json_ cJSON *bad = json_of("{}");
        EngineVolume v;

        CHECK_INT(engine_volume_parse(json, &v, NULL), 0);
        CHECK_STR(v.name, "rec-vol");
        CHECK(v.labels.managed && v.labels.generation == 7);
        engine_volume_done(&v);
        CHECK_INT(engine_volume_parse(cJSON_GetArrayItem(json_get(list, "Volumes"), 0), &v, NULL), 0);
        CHECK_STR(v.name, "rec-vol");
        engine_volume_done(&v);
        CHECK_INT(engine_volume_parse(bad, &v, NULL), -EBADMSG);
}

TEST(a_volume_that_is_empty) {
        static const struct { const char *name, *size, *users; bool empty; } cases[] = {
                { "ws-one", "0", "0", true }, { "ws-two", "0", "0", false }, { "ws-one", "1", "0", false }, { "ws-one", "0", "1", false },
                { "ws-one", "-1", "0", false }, { "ws-one", "0", "-1", false }, { "ws-one", "null", "0", false }, { "ws-one", "0", "\"0\"", false },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *text = str_printf("{\"Volumes\":[{\"Name\":\"%s\",\"UsageData\":{\"Size\":%s,\"RefCount\":%s}}]}",
                                                       cases[i].name, cases[i].size, cases[i].users);
                _cleanup_json_ cJSON *json = json_of(text);

                if (!CHECK(engine_volume_is_empty(json, "ws-one") == cases[i].empty))
                        printf("#   %s\n", text);
        }
        CHECK(!engine_volume_is_empty(NULL, "ws-one"));
}

TEST(a_volume_that_is_plain) {
        static const struct { const char *more; bool plain; } cases[] = {
                { "", true }, { ",\"Labels\":null,\"Options\":null", true }, { ",\"Labels\":{},\"Options\":{}", true },
                { ",\"Labels\":{\"whose\":\"\"}", false }, { ",\"Options\":{\"type\":\"nfs\"}", false },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *text = str_printf("{\"Name\":\"ws-one\"%s}", cases[i].more);
                _cleanup_json_ cJSON *json = json_of(text);
                EngineVolume v;

                CHECK_INT(engine_volume_parse(json, &v, NULL), 0);
                if (!CHECK(v.plain == cases[i].plain))
                        printf("#   %s\n", text);
                engine_volume_done(&v);
        }
}

TEST(info) {
        static const struct { const char *version, *info, *name, *own, *driver, *cgroup, *floor; bool live; } cases[] = {
                { "engine/version-20.10.json", "engine/info-20.10.json", "docker", "20.10.24+dfsg1", "overlay2", "cgroupfs",
                  "1.12", false },
                { "engine/version-29.json", "engine/info-29.json", "docker", "29.0.1", "overlayfs", "systemd", "1.44", true },
                { "engine/version-podman.json", "engine/info-29.json", "podman", "4.3.1", "overlayfs", "systemd", "1.24", true },
        };
        _cleanup_json_ cJSON *empty = json_of("{}"), *list = json_of("[]");
        EngineInfo i;

        for (size_t k = 0; k < ELEMENTS(cases); k++) {
                _cleanup_json_ cJSON *version = data_json(cases[k].version), *info = data_json(cases[k].info);

                CHECK_INT(engine_info_parse(version, info, &i, NULL), 0);
                CHECK_STR(i.name, cases[k].name);
                CHECK_STR(i.version, cases[k].own);
                CHECK_STR(i.driver, cases[k].driver);
                CHECK_STR(i.cgroup_driver, cases[k].cgroup);
                CHECK_STR(i.min_api_version, cases[k].floor);
                CHECK_STR(i.root_dir, "/var/lib/docker");
                CHECK_INT(i.live_restore, cases[k].live);
                CHECK_INT(engine_info_parse(version, list, &(EngineInfo) {}, NULL), -EBADMSG);
                engine_info_done(&i);
        }
        CHECK_INT(engine_info_parse(empty, empty, &i, NULL), -EBADMSG);
        CHECK(i.version == NULL);
}

TEST(the_api_version_is_the_newest_both_know) {
        static const struct { const char *theirs, *floor; int r; const char *chosen; } cases[] = {
                { "1.41", "1.12", 0,                "1.41" },
                { "1.44", "1.24", 0,                "1.44" },
                { "1.47", "1.24", 0,                "1.47" },
                { "1.52", "1.44", 0,                "1.47" },
                { "2.0",  "1.44", 0,                "1.47" },
                { "1.41", NULL,   0,                "1.41" },
                { "1.52", "1.48", -EPROTONOSUPPORT, NULL },
                { "1.40", "1.12", -EPROTONOSUPPORT, NULL },
                { "1.9",  "1.0",  -EPROTONOSUPPORT, NULL },
                { NULL,   "1.12", -EBADMSG,         NULL },
                { "",     NULL,   -EBADMSG,         NULL },
                { "1",    NULL,   -EBADMSG,         NULL },
                { "1.x",  NULL,   -EBADMSG,         NULL },
                { "1.41/../..", NULL, -EBADMSG,     NULL },
                { " 1.41", NULL,  -EBADMSG,         NULL },
                { "-1.41", NULL,  -EBADMSG,         NULL },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char chosen[16] = "unset";
                Fault f = {};

                CHECK_INT(engine_api_choose(cases[i].theirs, cases[i].floor, chosen, &f), cases[i].r);
                CHECK_STR(chosen, cases[i].chosen ?: "unset");
                CHECK(f.set == (cases[i].r < 0));
                if (cases[i].r == -EPROTONOSUPPORT)
                        CHECK_INT(f.code, FAULT_ENGINE_TOO_OLD);
        }
}

TEST(events_of_20_10) {
        static const struct { const char *action; int64_t exit_code; } wanted[] = {
                { "start", -1 }, { "health_status: healthy", -1 }, { "start", -1 }, { "die", 3 }, { "die", 137 }, { "stop", -1 },
                { "destroy", -1 }, { "destroy", -1 },
        };
        _cleanup_free_ char *text = data_read("engine/events-20.10.jsonl", NULL);
        uint64_t last = 0;
        size_t n = 0;

        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), n++) {
                EngineEvent e;

                if (!CHECK_INT(engine_event_parse(line, strlen(line), &e, NULL), 0) || n >= ELEMENTS(wanted))
                        break;
                CHECK_STR(e.action, wanted[n].action);
                CHECK_INT(e.exit_code, wanted[n].exit_code);
                CHECK_STR(e.workspace, "6f1c2d3e-0000-4000-8000-000000000003");
                CHECK_INT(strlen(e.container_id), 64);
                CHECK(e.time_nsec > last && e.time_nsec % 1000 > 0);    /* to the nanosecond: no double holds that */
                last = e.time_nsec;
                engine_event_done(&e);
        }
        CHECK_INT(n, ELEMENTS(wanted));
}

TEST(events_that_make_no_sense) {
        static const struct { const char *line; int r; uint64_t time; } cases[] = {
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\",\"Attributes\":null},\"timeNano\":1795423029658956191}", 0,
                  UINT64_C(1795423029658956191) },
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\"},\"timeNano\": 12}", 0, 12 },
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\"}}", 0, 0 },
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\"},\"x\":\"\\\"timeNano\\\":99\"}", 0, 0 },
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\"},\"timeNano\":99999999999999999999999}", -EBADMSG, 0 },
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\"},\"timeNano\":\"5\"}", 0, 0 },
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\",\"Attributes\":{\"timeNano\":\"7\",\"x\\\"timeNano\":\"\"}},\"timeNano\":1795423029658956191}", 0,
                  UINT64_C(1795423029658956191) },            /* found by tests/fuzz/engine: a label hid the event */
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\"},\"timeNano\":-5}", 0, 0 },
                { "{\"Action\":\"die\"}", -EBADMSG, 0 },
                { "{\"Actor\":{\"ID\":\"a\"}}", -EBADMSG, 0 },
                { "{\"Action\":\"die\",\"Actor\":{\"ID\":\"a\"", -EBADMSG, 0 },
                { "", -EBADMSG, 0 },
                { "\"timeNano\":", -EBADMSG, 0 },
                { "\"timeNano\":1", -EBADMSG, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                EngineEvent e;

                if (!CHECK_INT(engine_event_parse(cases[i].line, strlen(cases[i].line), &e, NULL), cases[i].r))
                        printf("#   case %zu\n", i);
                CHECK_INT(e.time_nsec, cases[i].time);
                CHECK_INT(e.exit_code, -1);
                CHECK(e.workspace == NULL);
                engine_event_done(&e);
        }
}

TEST_MAIN
