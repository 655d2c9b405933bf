/* SPDX-License-Identifier: Apache-2.0 */

/* The measure the agent is held against: the engine calls a workspace needs and nothing else. No records, no control plane, no events, no
 * judgement; the same client (engine/, base/http) and the same create body, so that the difference is what the agent adds. The first call
 * that fails ends the program with 1.
 *
 *      bench-bare provision SOCKET IMAGE NETWORK ORG FIRST-PORT COUNT PARALLEL     prints "wall SECONDS", "cpu SECONDS", "id ID" of each
 *      bench-bare swap      SOCKET IMAGE NETWORK ORG PORT                          the same, and "stop|seed|start SECONDS" of the swap
 *
 * In the environment: MOLECULE_LAUNCH, the launcher; BENCH_HANDOVER, a directory with its file env, which all containers share. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/text.h"
#include "engine/engine.h"
#include "engine/tar.h"

#define PROBES_APART_USEC (2 * USEC_PER_SEC)
#define PAUSE_USEC        (25 * USEC_PER_MSEC)
#define CALL_USEC         (60 * USEC_PER_SEC)
#define OWNER             1000
#define FILE_NAME         "config.yaml"

typedef struct Item Item;
typedef int (*Begin)(Item *i);

typedef struct Bench {
        sd_event   *event;
        Http       *http;
        Engine     *engine;
        const char *image, *network, *org;
        const Begin *way;               /* ends in NULL */
        Item       *items;
        size_t      n_items, n_begun, n_over, parallel;
        unsigned    first_port;
        uint64_t    began;
} Bench;

struct Item {
        Bench           *bench;
        size_t           at;            /* in the way */
        char             id[UUID_SIZE], name[64], *image_id, *container, *old;
        char             url[64];
        unsigned         port, version;
        sd_event_source *timer;
        uint64_t         since;         /* when the call in flight was made */
        uint64_t         good_since;    /* 0: no good answer yet */
        bool             one_will_do;   /* a single good answer ends the wait */
        uint64_t         took[3];       /* stop, seed, start */
};

static void next(Item *i);

static int stop_with(Item *i, int r, const char *words) {
        (void) fprintf(stderr, "bench-bare: step %zu of %s: %s (%s)\n", i->at, i->name, words, strerror(-r));
        return sd_event_exit(i->bench->event, 1);
}

static void sent(Item *i, int r) {
        if (r < 0)
                (void) stop_with(i, r, "the call could not be made");
}

static bool answered(Item *i, const EngineAnswer *a) {
        if (a->r < 0)
                (void) stop_with(i, a->r, a->fault.text);
        return a->r == 0;
}

static void on_done(const EngineAnswer *a, void *userdata) {
        if (answered(userdata, a))
                next(userdata);
}

/* ── create ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_image(const EngineAnswer *a, void *userdata) {
        Item *i = userdata;
        const char *id;

        if (!answered(i, a))
                return;
        id = json_get_string(a->json, "Id");
        i->image_id = id ? strdup(id) : NULL;
        if (i->image_id)
                next(i);
        else
                (void) stop_with(i, -EBADMSG, "no image id");
}

static int begin_image(Item *i) { return engine_image_inspect(i->bench->engine, i->bench->image, on_image, i, NULL); }

static void on_created(const EngineAnswer *a, void *userdata) {
        Item *i = userdata;
        const char *id;

        if (!answered(i, a))
                return;
        id = json_get_string(a->json, "Id");
        i->old = i->container;
        i->container = id ? strdup(id) : NULL;
        if (i->container)
                next(i);
        else
                (void) stop_with(i, -EBADMSG, "no container id");
}

/* What provision/container.c asks for at tier 2, value by value; bench.py compares what the engine made of both. */
static int begin_create(Item *i) {
        const Bench *b = i->bench;
        char generation[21], url[64], configs[80], workspace[80], alias[64];
        const EnginePair env[] = {
                { "WORKSPACE_ID", i->id }, { "WORKSPACE_CONFIG_PATH", "/configs" }, { "PLATFORM_URL", "https://platform.example.com" },
                { "MOLECULE_URL", "https://platform.example.com" }, { "TIER", "2" }, { "PLUGINS_DIR", "/plugins" },
                { "PYTHONPATH", "/app" }, { "MOLECULE_WORKSPACE_URL", url }, { "DEMO_BENCH", "1" },
        };
        const EnginePair labels[] = {
                { LABEL_MANAGED, "true" }, { LABEL_INSTANCE, i->id }, { LABEL_ORG, b->org }, { LABEL_WORKSPACE, i->id },
                { LABEL_GENERATION, u64_text(++i->version, generation) }, { LABEL_JOB, i->id }, { LABEL_HOST, i->id },
                { LABEL_SPEC, "00000000000000000000000000000000" },
        };
        const EngineMount mounts[] = {
                { .type = "volume", .source = configs, .target = "/configs" },
                { .type = "volume", .source = workspace, .target = "/workspace" },
                { .type = "bind", .source = getenv("BENCH_HANDOVER"), .target = "/run/molecule", .read_only = true },
                { .type = "bind", .source = getenv("MOLECULE_LAUNCH"), .target = "/.molecule-launch", .read_only = true },
        };
        static const char *const entrypoint[] = { "/.molecule-launch", NULL }, *const cmd[] = { "/run.sh", NULL };
        const ContainerSpec spec = {
                .image_id = i->image_id, .entrypoint = entrypoint, .cmd = cmd, .env = env, .n_env = ELEMENTS(env), .labels = labels, .n_labels = ELEMENTS(labels),
                .mounts = mounts, .n_mounts = ELEMENTS(mounts), .network = b->network, .alias = alias, .host_port = (uint16_t) i->port,
                .memory_bytes = UINT64_C(512) << 20, .nano_cpus = UINT64_C(1000000000), .drop_net_raw = true, .no_new_privileges = true,
        };

        (void) snprintf(url, sizeof url, "http://127.0.0.1:%u", i->port);
        (void) snprintf(configs, sizeof configs, "ws-%s-configs", i->id);
        (void) snprintf(workspace, sizeof workspace, "ws-%s-workspace", i->id);
        (void) snprintf(alias, sizeof alias, "ws-%s", i->id);
        (void) snprintf(i->name, sizeof i->name, "ws-%s%s", i->id, i->container ? ".next" : "");
        return engine_container_create(b->engine, i->name, &spec, on_created, i, NULL);
}

/* ── seed, start, look ───────────────────────────────────────────────────────────────────────────────────────── */

static int content(const Item *i, char *ret, size_t size) { return snprintf(ret, size, "version: %u\n", i->version); }

static void took(Item *i, size_t which) { i->took[which] = now_boottime() - i->since; }

static void on_put(const EngineAnswer *a, void *userdata) {
        took(userdata, 1);
        on_done(a, userdata);
}

static int begin_put(Item *i) {
        _cleanup_(tar_done) Tar t = {};
        char text[64];
        int n = content(i, text, sizeof text), r;

        r = tar_add_dir(&t, "/", 0755, OWNER, OWNER);
        if (r >= 0)
                r = tar_add_file(&t, FILE_NAME, 0644, OWNER, OWNER, text, (size_t) n);
        if (r >= 0)
                r = tar_end(&t);
        if (r < 0)
                return r;
        return engine_archive_put(i->bench->engine, i->container, "/configs", t.data, t.size, on_put, i, NULL);
}

static void on_read(const EngineAnswer *a, void *userdata) {
        Item *i = userdata;
        TarEntry e = {};
        size_t offset = 0;
        char text[64];
        int n = content(i, text, sizeof text);

        if (!answered(i, a))
                return;
        if (tar_next(a->body, a->size, &offset, &e, NULL) == 1 && e.size == (size_t) n && memcmp(e.data, text, e.size) == 0)
                next(i);
        else
                (void) stop_with(i, -EIO, "the file reads back different");
}

static int begin_read(Item *i) {
        return engine_archive_get(i->bench->engine, i->container, "/configs/" FILE_NAME, 65536, on_read, i, NULL);
}

static void on_started(const EngineAnswer *a, void *userdata) {
        took(userdata, 2);
        on_done(a, userdata);
}

static int begin_start(Item *i) { return engine_container_start(i->bench->engine, i->container, on_started, i, NULL); }

static void on_look(const EngineAnswer *a, void *userdata) {
        Item *i = userdata;

        if (!answered(i, a))
                return;
        if (json_get_bool(json_get_path(a->json, "State"), "Running", false))
                next(i);
        else
                (void) stop_with(i, -EIO, "it does not run");
}

static int begin_look(Item *i) { return engine_container_inspect(i->bench->engine, i->container, on_look, i, NULL); }

/* ── probes ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void probe_after(Item *i, uint64_t usec) {
        (void) sd_event_source_set_time_relative(i->timer, usec);
        (void) sd_event_source_set_enabled(i->timer, SD_EVENT_ONESHOT);
}

static void on_probe(const HttpAnswer *a, void *userdata) {
        Item *i = userdata;
        uint64_t now = now_boottime();

        if (a->error || a->status >= 500) {
                i->good_since = 0;
                probe_after(i, PAUSE_USEC);
        } else if (!i->good_since && !i->one_will_do) {
                i->good_since = now;
                probe_after(i, PROBES_APART_USEC);
        } else
                next(i);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Item *i = userdata;
        HttpRequest q = { .url = i->url, .timeout_usec = 5 * USEC_PER_SEC, .flags = HTTP_PLAIN_LOOPBACK|HTTP_NO_PROXY|HTTP_FRESH };

        (void) s;
        (void) usec;
        sent(i, http_send(i->bench->http, &q, on_probe, i, NULL));
        return 0;
}

static int begin_gate(Item *i) {
        i->good_since = 0;
        probe_after(i, 0);
        return 0;
}

static int begin_answer(Item *i) {
        i->one_will_do = true;
        return begin_gate(i);
}

/* ── the old one ─────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_stopped(const EngineAnswer *a, void *userdata) {
        took(userdata, 0);
        on_done(a, userdata);
}

static int begin_stop(Item *i) { return engine_container_stop(i->bench->engine, i->old, 10, on_stopped, i, NULL); }

/* ── the ways ────────────────────────────────────────────────────────────────────────────────────────────────── */

static const Begin provision_way[] = { begin_image, begin_create, begin_put, begin_read, begin_start, begin_look, begin_gate, NULL };
static const Begin swap_way[] = { begin_image, begin_create, begin_put, begin_read, begin_start, begin_look, begin_gate,
                                  begin_create, begin_stop, begin_put, begin_start, begin_answer, NULL };

static void begin_more(Bench *b) {
        while (b->n_begun < b->n_items && b->n_begun - b->n_over < b->parallel) {
                Item *i = &b->items[b->n_begun++];

                sent(i, b->way[0](i));
        }
}

static void next(Item *i) {
        Bench *b = i->bench;

        i->since = now_boottime();
        if (b->way[++i->at]) {
                sent(i, b->way[i->at](i));
                return;
        }
        if (++b->n_over == b->n_items)
                (void) sd_event_exit(b->event, 0);
        else
                begin_more(b);
}

static void on_state(EngineState state, const Fault *fault, void *userdata) {
        Bench *b = userdata;

        (void) fault;
        if (state != ENGINE_UP || b->n_begun)
                return;
        b->began = now_boottime();
        begin_more(b);
}

static void on_event(const EngineEvent *event, void *userdata) {
        (void) event;
        (void) userdata;
}

static int items_make(Bench *b) {
        int r;

        b->items = calloc(b->n_items, sizeof *b->items);
        if (!b->items)
                return -ENOMEM;
        for (size_t k = 0; k < b->n_items; k++) {
                Item *i = &b->items[k];

                i->bench = b;
                i->port = b->first_port + (unsigned) k;
                (void) snprintf(i->url, sizeof i->url, "http://127.0.0.1:%u/", i->port);
                r = uuid_make(i->id);
                if (r >= 0)
                        r = sd_event_add_time_relative(b->event, &i->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, i);
                if (r >= 0)
                        r = sd_event_source_set_enabled(i->timer, SD_EVENT_OFF);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void print_result(const Bench *b) {
        static const char *const words[] = { "stop", "seed", "start" };
        struct rusage u;

        (void) getrusage(RUSAGE_SELF, &u);
        (void) printf("wall %.6f\ncpu %.6f\n", (double) (now_boottime() - b->began) / 1e6,
                      (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
        for (size_t k = 0; b->way == swap_way && k < ELEMENTS(words); k++)
                (void) printf("%s %.6f\n", words[k], (double) b->items[0].took[k] / 1e6);
        for (size_t k = 0; k < b->n_items; k++)
                (void) printf("id %s\n", b->items[k].id);
}

static void bench_done(Bench *b) {
        (void) engine_free(b->engine);
        (void) http_free(b->http);
        for (size_t k = 0; b->items && k < b->n_items; k++) {
                sd_event_source_disable_unref(b->items[k].timer);
                free(b->items[k].image_id);
                free(b->items[k].container);
                free(b->items[k].old);
        }
        free(b->items);
        sd_event_unref(b->event);
}

int main(int argc, char **argv) {
        _cleanup_(bench_done) Bench b = {};
        EngineOptions o = { .timeout_usec = CALL_USEC };
        bool swap = argc == 7 && strcmp(argv[1], "swap") == 0;
        int r;

        if ((!swap && !(argc == 9 && strcmp(argv[1], "provision") == 0)) || !getenv("BENCH_HANDOVER") || !getenv("MOLECULE_LAUNCH")) {
                (void) fprintf(stderr, "bench-bare: wrong words or environment, see the head of its source\n");
                return 2;
        }
        o.socket_path = argv[2];
        b.image = argv[3];
        b.network = argv[4];
        b.org = argv[5];
        b.first_port = (unsigned) atoi(argv[6]);
        b.n_items = swap ? 1 : (size_t) atoi(argv[7]);
        b.parallel = swap ? 1 : (size_t) atoi(argv[8]);
        b.way = swap ? swap_way : provision_way;
        r = sd_event_new(&b.event);
        if (r >= 0)
                r = http_new(b.event, &b.http);
        if (r >= 0)
                r = http_configure(b.http, &(HttpOptions) { .user_agent = "bench-bare", .connect_timeout_usec = 10 * USEC_PER_SEC });
        if (r >= 0)
                r = items_make(&b);
        if (r >= 0)
                r = engine_new(b.event, b.http, &o, on_state, on_event, &b, &b.engine);
        if (r >= 0)
                r = engine_start(b.engine);
        if (r >= 0)
                r = sd_event_loop(b.event);
        if (r == 0)
                print_result(&b);
        else if (r < 0)
                (void) fprintf(stderr, "bench-bare: %s\n", strerror(-r));
        return r == 0 ? 0 : 1;
}
