/* SPDX-License-Identifier: Apache-2.0 */

/* engine/ against a real engine: the whole life of a container, in the order of the file. MOLECULE_TEST_ENGINE names the engine's socket,
 * MOLECULE_TEST_IMAGE an image there that serves HTTP and has a shell (busybox); without them there is nothing to test against. */

#include <errno.h>

#include "engine/engine.h"
#include "engine/image.h"
#include "engine/tar.h"
#include "tests/server.h"

#define NAME    "molecule-test-one"
#define RENAMED "molecule-test-two"
#define VOLUME  "molecule-test-volume"
#define NETWORK "molecule-test-network"

typedef struct Result {
        int       done, r;
        long      status;
        FaultCode code;
        char      words[400];
        cJSON    *json;
        char     *body;
        size_t    size;
} Result;

static sd_event *event;
static Http *http;
static Engine *engine;
static int ups, downs, starts, dies, destroys;
static char *image_id, *container_id;

static void on_state(EngineState state, const Fault *fault, void *userdata) {
        (void) userdata;
        ups += state == ENGINE_UP;
        downs += state != ENGINE_UP;
        if (fault)
                printf("# %s\n", fault->text);
}

static void on_event(const EngineEvent *e, void *userdata) {
        (void) userdata;
        starts += str_equal(e->action, "start") && str_equal(e->workspace, "w1");
        dies += str_equal(e->action, "die");
        destroys += str_equal(e->action, "destroy");
}

static void result_done(Result *r) {
        cJSON_Delete(r->json);
        free(r->body);
        *r = (Result) {};
}

static void on_done(const EngineAnswer *a, void *userdata) {
        Result *r = userdata;

        r->done++;
        r->r = a->r;
        r->status = a->status;
        r->code = a->fault.code;
        r->json = a->json ? cJSON_Duplicate(a->json, true) : NULL;
        r->body = malloc(a->size + 1);
        memcpy(r->body, a->body, a->size);
        r->body[a->size] = 0;
        r->size = a->size;
        (void) snprintf(r->words, sizeof r->words, "%s", a->fault.set ? a->fault.text : "");
}

#define RUN(result, call, wanted) do { \
        result_done(&(result)); \
        CHECK_INT((call), 0); \
        CHECK(loop_until(event, &(result).done, 1, 40000)); \
        if (!CHECK_INT((result).r, wanted)) \
                printf("#   %s\n", (result).words); \
        } while (0)

#define _result_ _cleanup_(result_done) Result

static const EnginePair labels[] = {
        { LABEL_MANAGED, "true" }, { LABEL_WORKSPACE, "w1" }, { LABEL_GENERATION, "7" }, { LABEL_INSTANCE, "test" },
};

#define NEEDS_ENGINE() do { if (!engine) SKIP("MOLECULE_TEST_ENGINE and MOLECULE_TEST_IMAGE are not set"); } while (0)

/* ── the way up ──────────────────────────────────────────────────────────────────────────────────────────────── */

TEST(it_is_found) {
        NEEDS_ENGINE();
        CHECK_INT(engine_start(engine), 0);
        CHECK(loop_until(event, &ups, 1, 10000));
        CHECK_INT(engine_state(engine), ENGINE_UP);
        CHECK(engine_info(engine)->version && engine_info(engine)->driver && engine_info(engine)->root_dir);
        printf("# %s %s, API %s\n", engine_info(engine)->name, engine_info(engine)->version, engine_info(engine)->api_version);
}

TEST(what_a_former_run_left_is_removed) {
        static const char *const names[] = { NAME, RENAMED };
        _result_ r = {};

        NEEDS_ENGINE();
        for (size_t i = 0; i < ELEMENTS(names); i++)
                RUN(r, engine_container_remove(engine, names[i], on_done, &r, NULL), 0);
        RUN(r, engine_volume_remove(engine, VOLUME, on_done, &r, NULL), 0);
}

TEST(the_image) {
        EngineImage image;
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_image_inspect(engine, getenv("MOLECULE_TEST_IMAGE"), on_done, &r, NULL), 0);
        CHECK_INT(engine_image_parse(r.json, &image, NULL), 0);
        image_id = strdup(image.id ?: "");
        CHECK(strncmp(image_id, "sha256:", 7) == 0 && image.size_bytes > 0);
        engine_image_done(&image);
        RUN(r, engine_image_inspect(engine, "registry.example.com/none@sha256:"
                                    "0000000000000000000000000000000000000000000000000000000000000000", on_done, &r, NULL), -ENOENT);
}

TEST(a_pull_from_nowhere) {
        static PullProgress p;
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_image_pull(engine, "127.0.0.1:1/x/y@sha256:"
                                 "0000000000000000000000000000000000000000000000000000000000000000", NULL, &p, NULL, on_done, &r,
                NULL), -EREMOTEIO);
        CHECK_STR(fault_code_name(r.code), "image_unreachable");
}

typedef struct Ensured { int done, r; bool pulled; char words[400]; } Ensured;

static void on_ensured(int r, const Fault *fault, const EngineImage *image, bool pulled, void *userdata) {
        Ensured *e = userdata;

        e->done++;
        e->r = r;
        e->pulled = pulled && image;
        (void) snprintf(e->words, sizeof e->words, "%s", fault ? fault->text : "");
}

/* MOLECULE_TEST_REF: NAME@sha256:…, in a registry that the engine reaches. */
TEST(a_pull_from_a_registry) {
        const char *ref = getenv("MOLECULE_TEST_REF");
        Images *images = NULL;
        Ensured e;

        NEEDS_ENGINE();
        if (!ref)
                SKIP("MOLECULE_TEST_REF is not set");
        CHECK_INT(images_new(event, engine, &(ImageOptions) { .stall_usec = 20 * USEC_PER_SEC, .stall_bytes = 1, .unknown_size_bytes = 1 },
                             &images), 0);
        for (unsigned i = 0; i < 2; i++) {
                e = (Ensured) {};
                CHECK_INT(images_ensure(images, ref, 0, NULL, on_ensured, &e, NULL), 0);
                CHECK(loop_until(event, &e.done, 1, 40000));
                if (!CHECK_INT(e.r, 0))
                        printf("#   %s\n", e.words);
                if (i == 1)
                        CHECK(!e.pulled);
        }
        (void) images_free(images);
}

TEST(network_and_volume) {
        EngineVolume v;
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_network_ensure(engine, NETWORK, labels, ELEMENTS(labels), on_done, &r, NULL), 0);
        RUN(r, engine_network_ensure(engine, NETWORK, labels, ELEMENTS(labels), on_done, &r, NULL), 0);
        RUN(r, engine_volume_inspect(engine, VOLUME, on_done, &r, NULL), -ENOENT);
        RUN(r, engine_volume_create(engine, VOLUME, labels, ELEMENTS(labels), on_done, &r, NULL), 0);
        RUN(r, engine_volume_create(engine, VOLUME, labels, ELEMENTS(labels), on_done, &r, NULL), 0);
        RUN(r, engine_volume_inspect(engine, VOLUME, on_done, &r, NULL), 0);
        CHECK_INT(engine_volume_parse(r.json, &v, NULL), 0);
        CHECK(v.labels.managed && v.labels.generation == 7);
        CHECK_STR(v.labels.workspace, "w1");
        engine_volume_done(&v);
        RUN(r, engine_volume_list(engine, LABEL_INSTANCE "=test", on_done, &r, NULL), 0);
        CHECK_INT(cJSON_GetArraySize(json_get(r.json, "Volumes")), 1);
        RUN(r, engine_volume_list(engine, LABEL_INSTANCE "=another", on_done, &r, NULL), 0);
        CHECK_INT(cJSON_GetArraySize(json_get(r.json, "Volumes")), 0);
}

/* ── a container ─────────────────────────────────────────────────────────────────────────────────────────────── */

static const EnginePair env[] = { { "GREETING", "good \"day\" \\ = \xc3\xa4" } };
static const EngineMount mounts[] = { { "volume", VOLUME, "/configs", false } };

static ContainerSpec spec(void) {
        return (ContainerSpec) {
                .image_id = image_id, .env = env, .n_env = 1, .labels = labels, .n_labels = ELEMENTS(labels),
                .mounts = mounts, .n_mounts = 1,
                .network = NETWORK, .alias = "alias-one", .host_port = 28731, .memory_bytes = UINT64_C(64) << 20, .nano_cpus = 500000000,
                .read_only_root = true, .tmpfs_tmp = true, .drop_net_raw = true, .no_new_privileges = true,
        };
}

TEST(create) {
        static const EngineMount nowhere[] = { { "bind", "/no/such/source", "/x", true } };
        ContainerSpec s = spec(), bad = spec();
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_container_create(engine, NAME, &s, on_done, &r, NULL), 0);
        container_id = strdup(json_get_string(r.json, "Id") ?: "");
        CHECK_INT(strlen(container_id), 64);
        RUN(r, engine_container_create(engine, NAME, &s, on_done, &r, NULL), -EEXIST);
        CHECK_STR(fault_code_name(r.code), "name_conflict");
        bad.image_id = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
        RUN(r, engine_container_create(engine, RENAMED, &bad, on_done, &r, NULL), -ENOENT);
        bad = spec();
        bad.mounts = nowhere;
        RUN(r, engine_container_create(engine, RENAMED, &bad, on_done, &r, NULL), -EREMOTEIO);
        CHECK(strstr(r.words, "/no/such/source"));
}

TEST(what_was_asked_for_is_what_is_there) {
        EngineContainer c;
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_container_inspect(engine, NAME, on_done, &r, NULL), 0);
        CHECK_INT(engine_container_parse(r.json, NETWORK, &c, NULL), 0);
        CHECK_STR(c.id, container_id);
        CHECK_STR(c.name, NAME);
        CHECK_STR(c.status, "created");
        CHECK_STR(c.image_id, image_id);
        CHECK(!c.running && c.labels.managed && c.labels.generation == 7);
        engine_container_done(&c);
        CHECK_INT(json_get_i64(r.json, "HostConfig/Memory", 0), 64 << 20);
        CHECK_INT(json_get_i64(r.json, "HostConfig/MemorySwap", 0), 64 << 20);
        CHECK_INT(json_get_i64(r.json, "HostConfig/NanoCpus", 0), 500000000);
        CHECK_INT(json_get_i64(r.json, "HostConfig/PidsLimit", 0), 1024);
        CHECK(json_get_bool(r.json, "HostConfig/ReadonlyRootfs", false));
        CHECK_STR(json_get_string(r.json, "HostConfig/RestartPolicy/Name"), "unless-stopped");
        CHECK_STR(json_get_string(r.json, "HostConfig/LogConfig/Config/max-size"), "10m");
        CHECK_STR(json_get_string(r.json, "HostConfig/NetworkMode"), NETWORK);
        CHECK_STR(cJSON_GetStringValue(json_get(json_get_path(r.json, "HostConfig/Tmpfs"), "/tmp")), "rw,noexec,nosuid,size=64m");
        CHECK_STR(cJSON_GetStringValue(cJSON_GetArrayItem(json_get_path(r.json, "Config/Env"), 0)), "GREETING=good \"day\" \\ = \xc3\xa4");
        CHECK_STR(cJSON_GetStringValue(cJSON_GetArrayItem(json_get_path(r.json, "HostConfig/CapDrop"), 0)), "NET_RAW");
        CHECK_STR(cJSON_GetStringValue(cJSON_GetArrayItem(json_get_path(r.json, "HostConfig/SecurityOpt"), 0)), "no-new-privileges");
}

TEST(files_go_in_and_come_out) {
        _cleanup_(tar_done) Tar t = {};
        size_t at = 0;
        int files = 0;
        TarEntry e;
        _result_ r = {};

        NEEDS_ENGINE();
        CHECK_INT(tar_add_dir(&t, "/", 0755, 1000, 1000), 0);
        CHECK_INT(tar_add_dir(&t, "prompts", 0755, 1000, 1000), 0);
        CHECK_INT(tar_add_file(&t, "prompts/a.md", 0644, 1000, 1000, "hello", 5), 0);
        CHECK_INT(tar_add_file(&t, ".auth_token", 0600, 1000, 1000, "t", 1), 0);
        CHECK_INT(tar_end(&t), 0);
        RUN(r, engine_archive_put(engine, NAME, "/configs", t.data, t.size, on_done, &r, NULL), 0);

        RUN(r, engine_archive_get(engine, NAME, "/configs", 1 << 20, on_done, &r, NULL), 0);
        while (tar_next(r.body, r.size, &at, &e, NULL) > 0) {
                if (!CHECK(e.uid == 1000 && e.gid == 1000))
                        printf("#   %s is of %u:%u\n", e.name, e.uid, e.gid);
                if (strcmp(e.name, "configs/prompts/a.md") == 0)
                        files += e.mode == 0644 && e.size == 5 && memcmp(e.data, "hello", 5) == 0;
                if (strcmp(e.name, "configs/.auth_token") == 0)
                        files += e.mode == 0600 && e.size == 1;
        }
        CHECK_INT(files, 2);
        RUN(r, engine_archive_get(engine, NAME, "/configs/none of that", 1 << 20, on_done, &r, NULL), -ENOENT);
        RUN(r, engine_archive_get(engine, NAME, "/configs", 600, on_done, &r, NULL), -EFBIG);
        RUN(r, engine_archive_get(engine, RENAMED, "/configs", 600, on_done, &r, NULL), -ENOENT);
}

TEST(start) {
        EngineContainer c;
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_container_start(engine, NAME, on_done, &r, NULL), 0);
        CHECK_INT(r.status, 204);
        RUN(r, engine_container_start(engine, NAME, on_done, &r, NULL), 0);
        CHECK_INT(r.status, 304);
        CHECK(loop_until(event, &starts, 1, 5000));
        RUN(r, engine_container_inspect(engine, container_id, on_done, &r, NULL), 0);
        CHECK_INT(engine_container_parse(r.json, NETWORK, &c, NULL), 0);
        CHECK(c.running);
        CHECK_STR(c.status, "running");
        CHECK(c.ip_address && strchr(c.ip_address, '.'));
        engine_container_done(&c);
        RUN(r, engine_container_start(engine, RENAMED, on_done, &r, NULL), -ENOENT);
}

typedef struct Probe { int done; long status; } Probe;

static void on_probed(const HttpAnswer *a, void *userdata) {
        Probe *p = userdata;

        p->done++;
        p->status = a->error == 0 ? a->status : a->error;
}

TEST(its_port_answers) {
        Probe p = {};

        NEEDS_ENGINE();
        for (unsigned i = 0; i < 30 && p.status <= 0; i++) {
                p = (Probe) {};
                CHECK_INT(http_send(http, &(HttpRequest) { .url = "http://127.0.0.1:28731/", .flags = HTTP_PLAIN_LOOPBACK|HTTP_FRESH,
                                                           .timeout_usec = 2 * USEC_PER_SEC }, on_probed, &p, NULL), 0);
                CHECK(loop_until(event, &p.done, 1, 5000));
                loop_for(event, p.status <= 0 ? 100 : 0);
        }
        CHECK(p.status >= 200 && p.status < 500);
}

TEST(list_and_logs) {
        EngineContainers all;
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_container_list(engine, LABEL_INSTANCE "=test", on_done, &r, NULL), 0);
        CHECK_INT(engine_containers_parse(r.json, &all, NULL), 0);
        CHECK_INT(all.n, 1);
        if (all.n == 1) {
                CHECK_STR(all.items[0].id, container_id);
                CHECK_STR(all.items[0].name, NAME);
                CHECK(all.items[0].running && all.items[0].labels.generation == 7);
                CHECK_STR(all.items[0].image_id, image_id);
        }
        engine_containers_done(&all);
        RUN(r, engine_container_logs(engine, NAME, 50, 4096, on_done, &r, NULL), 0);
        CHECK_INT(r.size, strlen(r.body));
        RUN(r, engine_container_logs(engine, RENAMED, 50, 4096, on_done, &r, NULL), -ENOENT);
}

TEST(rename_and_stop) {
        EngineContainer c;
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_container_rename(engine, NAME, RENAMED, on_done, &r, NULL), 0);
        RUN(r, engine_container_inspect(engine, NAME, on_done, &r, NULL), -ENOENT);
        RUN(r, engine_container_stop(engine, RENAMED, 1, on_done, &r, NULL), 0);
        RUN(r, engine_container_stop(engine, RENAMED, 1, on_done, &r, NULL), 0);
        CHECK_INT(r.status, 304);
        CHECK(loop_until(event, &dies, 1, 5000));
        RUN(r, engine_container_inspect(engine, RENAMED, on_done, &r, NULL), 0);
        CHECK_INT(engine_container_parse(r.json, NETWORK, &c, NULL), 0);
        CHECK_STR(c.status, "exited");
        CHECK(!c.running);
        engine_container_done(&c);
}

TEST(remove) {
        _result_ r = {};

        NEEDS_ENGINE();
        RUN(r, engine_volume_remove(engine, VOLUME, on_done, &r, NULL), -EBUSY);
        RUN(r, engine_container_remove(engine, RENAMED, on_done, &r, NULL), 0);
        RUN(r, engine_container_remove(engine, RENAMED, on_done, &r, NULL), 0);
        CHECK(loop_until(event, &destroys, 1, 5000));
        RUN(r, engine_volume_inspect(engine, VOLUME, on_done, &r, NULL), 0);   /* it outlives its container */
        RUN(r, engine_volume_remove(engine, VOLUME, on_done, &r, NULL), 0);
        RUN(r, engine_volume_remove(engine, VOLUME, on_done, &r, NULL), 0);
        CHECK_INT(downs, 0);
}

int main(void) {
        const char *socket_path = getenv("MOLECULE_TEST_ENGINE");
        int bad;

        if (sd_event_new(&event) < 0 || http_new(event, &http) < 0)
                return 1;
        if (socket_path && getenv("MOLECULE_TEST_IMAGE") &&
            engine_new(event, http, &(EngineOptions) { .socket_path = socket_path, .timeout_usec = 30 * USEC_PER_SEC },
                       on_state, on_event, NULL, &engine) < 0)
                return 1;
        bad = test_run_all();
        (void) engine_free(engine);
        (void) http_free(http);
        (void) sd_event_unref(event);
        free(image_id);
        free(container_id);
        return bad;
}
