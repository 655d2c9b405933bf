/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A queue with everything it stands on, but for an engine: jobs come in, are judged, wait, end; and its own words are heard. A disk that takes no more
 * is a limit on the size of files; the clock of the control plane is the test's. */

#include <errno.h>
#include <sys/resource.h>

#include "base/log.h"
#include "provision/flow-internal.h"
#include "provision/host-run.h"
#include "tests/sealed-kit.h"

#define KIT_CODEX  "registry.example/codex@" KIT_DIGEST
#define KIT_CODEX2 "registry.example/codex@" KIT_DIGEST_2
#define KIT_NOW    (UINT64_C(1800000000) * USEC_PER_SEC)

typedef struct QueueKit {
        SealedKit   k;
        sd_event   *event;
        Http       *http;
        Engine     *engine;
        Images     *images;
        Pins       *pins;
        Settings    settings;
        char        runtime[48], hold[48];
        Queue      *q;
        char        told[4000];                 /* "state[:code] …", durable and not */
        int         changed, stopped, pulling, torn_down;
        uint64_t    time;
        const char *slug;
} QueueKit;

static const char *const kit_registries[] = { "registry.example", NULL };

/* ── what is heard ───────────────────────────────────────────────────────────────────────────────────────────── */

static inline void kit_note(QueueKit *k, const char *prefix, cJSON *report) {
        const char *code = json_get_string(report, "error/code");
        size_t n = strlen(k->told);

        (void) snprintf(k->told + n, sizeof k->told - n, "%s%s%s%s%s", n ? " " : "", prefix, json_get_string(report, "state"), code ? ":" : "",
                        code ?: "");
        cJSON_Delete(report);
}

static inline void kit_on_report(cJSON *report, bool durable, void *userdata) {
        CHECK(durable == !str_equal(json_get_string(report, "state"), "running"));
        kit_note(userdata, "", report);
}

static inline void kit_on_again(cJSON *report, void *userdata) { kit_note(userdata, "again:", report); }
static inline void kit_on_changed(void *userdata) { ((QueueKit *) userdata)->changed++; }
static inline void kit_on_stopped(void *userdata) { ((QueueKit *) userdata)->stopped++; }
static inline void kit_on_nothing(void *userdata) { (void) userdata; }
static inline uint64_t kit_on_time(void *userdata) { return ((QueueKit *) userdata)->time; }
static inline const char *kit_on_slug(void *userdata) { return ((QueueKit *) userdata)->slug; }
static inline bool kit_on_torn_down(void *userdata) { return ++((QueueKit *) userdata)->torn_down > 0; }

static inline void kit_on_pulling(const JobPull *pull, void *userdata) {
        CHECK(pull->bytes <= pull->total);
        ((QueueKit *) userdata)->pulling++;
}

/* All that was said since it was asked last. Valid until the next call. */
static inline const char *kit_told(QueueKit *k) {
        static char told[sizeof k->told];

        memcpy(told, k->told, sizeof told);
        k->told[0] = 0;
        return told;
}

/* ── the queue ───────────────────────────────────────────────────────────────────────────────────────────────── */

static inline void kit_engine_state(EngineState state, const Fault *f, void *userdata) {
        (void) f;
        queue_engine_state(((QueueKit *) userdata)->q, state);
}

static inline void kit_engine_event(const EngineEvent *e, void *userdata) { queue_engine_event(((QueueKit *) userdata)->q, e); }

static inline int kit_open(QueueKit *k, Fault *f) {
        QueueOptions o = { .event = k->event, .http = k->http, .engine = k->engine, .images = k->images, .pins = k->pins, .vault = k->k.vault,
                           .settings = &k->settings, .state_fd = k->k.d.fd, .hold_file = k->hold, .userdata = k,
                           .events = { kit_on_report, kit_on_pulling, kit_on_again, kit_on_changed, kit_on_nothing, kit_on_stopped,
                                       kit_on_nothing, kit_on_nothing, kit_on_time, kit_on_slug, kit_on_torn_down } };

        return queue_new(&o, &k->q, f);
}

static inline void kit_pin(QueueKit *k, const char *digest) {
        _cleanup_free_ char *body = str_printf("{\"pins\":[{\"template_name\":\"codex\",\"region\":\"global\",\"image_digest\":\"%s\","
                                               "\"image_ref\":\"registry.example/codex@%s\",\"image_size_bytes\":\"1000\"}]}", digest, digest);

        if (pins_replace(k->pins, body, strlen(body), "e", KIT_NOW, NULL) < 0)
                abort();
}

/* What a process is made of, over what the disk holds. */
static inline void kit_up(QueueKit *k, const char *engine_socket) {
        const TrustedKeys nobody = {};

        if (sd_event_new(&k->event) < 0 || http_new(k->event, &k->http) < 0 ||
            engine_new(k->event, k->http, &(EngineOptions) { .socket_path = engine_socket, .timeout_usec = 60 * USEC_PER_SEC }, kit_engine_state,
                       kit_engine_event, k, &k->engine) < 0 ||
            images_new(k->event, k->engine, &(ImageOptions) { .stall_usec = 60 * USEC_PER_SEC, .stall_bytes = 1, .min_free_bytes = 1,
                                                              .unknown_size_bytes = 1 }, &k->images) < 0 ||
            pins_open(k->k.d.fd, &nobody, &k->pins, NULL) < 0 || kit_open(k, NULL) < 0)
                abort();
}

static inline void kit_down(QueueKit *k) {
        k->q = queue_free(k->q);
        k->pins = pins_free(k->pins);
        k->images = images_free(k->images);
        k->engine = engine_free(k->engine);
        k->http = http_free(k->http);
        k->event = sd_event_unref(k->event);
}

static inline void kit_start_at(QueueKit *k, const char *engine_socket) {
        (void) log_set_level("error");          /* thousands of jobs end here */
        *k = (QueueKit) { .k = sealed_kit(), .time = KIT_NOW, .slug = "acme" };
        (void) snprintf(k->runtime, sizeof k->runtime, "%.30s/run", k->k.d.path);
        (void) snprintf(k->hold, sizeof k->hold, "%.30s/hold", k->k.d.path);
        k->settings = (Settings) { .org_id = KIT_ORG, .host_id = KIT_HOST, .network = "n", .advertise_host = "host.example",
                                   .engine_socket = engine_socket, .host_keys = k->k.host, .runtime_path = k->runtime, .launcher = "/bin/true",
                                   .port_low = 21000, .port_high = 21200, .max_parallel_jobs = 4, .max_workspaces = 20, .max_tier = 4,
                                   .tier_memory_mb = { 0, 64, 64, 64, 64 }, .tier_cpu_shares = { 0, 512, 512, 512, 512 },
                                   .stop_timeout_seconds = 1, .probe_path = "/healthz", .probe_timeout_seconds = 30, .crash_loop_restarts = 5,
                                   .crash_loop_window_seconds = 600, .volume_grace_seconds = 3600, .job_deadline_seconds = 900,
                                   .engine_wait_seconds = 600, .registries = kit_registries };
        if (mkdirat(k->k.d.fd, "run", 0700) < 0)
                abort();
        kit_up(k, engine_socket);
        kit_pin(k, KIT_DIGEST);
}

/* An engine that is not there answers nothing: what needs it waits. */
static inline void kit_start(QueueKit *k) { kit_start_at(k, "/nowhere"); }

static inline void kit_stop(QueueKit *k) {
        if (!k->event)
                return;
        kit_down(k);
        sealed_kit_done(&k->k);
}
#define _cleanup_queue_ _cleanup_(kit_stop)

/* As a restart of the agent finds it. */
static inline void kit_restart(QueueKit *k) {
        k->q = queue_free(k->q);
        CHECK_INT(kit_open(k, NULL), 0);
}

static inline void kit_disk_full(bool full) {
        struct rlimit l;

        (void) signal(SIGXFSZ, SIG_IGN);
        (void) getrlimit(RLIMIT_FSIZE, &l);
        l.rlim_cur = full ? 0 : l.rlim_max;
        (void) setrlimit(RLIMIT_FSIZE, &l);
}

/* ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* One job in words. type and spec always; the rest where it is not the usual. */
typedef struct Say {
        const char *type, *spec;
        unsigned    job;                        /* its number below 1000; 0: the next, from there on */
        uint64_t    generation;                 /* 0: none */
        const char *workspace;                  /* NULL: KIT_WORKSPACE, where the type names one */
        const char *expires_at;
        bool        dry;
} Say;

static unsigned kit_jobs;

static inline const char *kit_job_id(unsigned n) {
        static char id[UUID_SIZE];

        (void) snprintf(id, sizeof id, "44444444-4444-4444-8444-%012u", n);
        return id;
}

static inline cJSON *kit_payload(const Say *s) {
        cJSON *json = kit_json("{\"org_id\":\"" KIT_ORG "\",\"host_id\":\"" KIT_HOST "\",\"issued_at\":\"2026-01-02T03:04:05Z\"}");
        JobType t = JOB_PROVISION;

        (void) job_type_find(s->type, &t);
        if (!json_add_string(json, "type", s->type) || !json_add_string(json, "job_id", kit_job_id(s->job ?: 1000 + ++kit_jobs)) ||
            (s->generation && !json_add_u64_text(json, "generation", s->generation)) ||
            (job_type_names_workspace(t) && !json_add_string(json, "workspace_id", s->workspace ?: KIT_WORKSPACE)) ||
            (s->expires_at && !json_add_string(json, "expires_at", s->expires_at)))
                abort();
        kit_set(json, "spec", s->spec);
        return json;
}

static inline cJSON *kit_delivery(const Say *s) {
        cJSON *delivery = kit_json("{\"delivery_id\":\"55555555-5555-4555-8555-555555555555\",\"envelope\":{\"payloadType\":\"" JOB_PAYLOAD_TYPE
                                   "\",\"signatures\":[]}}");
        _cleanup_json_ cJSON *payload = kit_payload(s);
        _cleanup_free_ char *text = json_print(payload), *base64 = base64_encode(text, strlen(text));

        if (!json_add_string((cJSON *) json_get(delivery, "envelope"), "payload", base64))
                abort();
        return delivery;
}

/* What is said of it at once. */
static inline const char *kit_say(QueueKit *k, const Say *s) {
        _cleanup_json_ cJSON *json = s->dry ? kit_payload(s) : kit_delivery(s);
        cJSON *report = NULL;
        Fault f = {};

        if (!s->dry) {
                queue_admit(k->q, json, k->time);
                return kit_told(k);
        }
        CHECK_INT(queue_apply(k->q, json, true, k->time, &report, &f), 0);
        CHECK_STR(k->told, "");                 /* nobody else hears of it */
        if (report)
                kit_note(k, "dry:", report);
        return kit_told(k);
}

#define SAY(...) kit_say(&k, &(Say) { __VA_ARGS__ })

#define KIT_CANCEL(n) "{\"job_id\":\"44444444-4444-4444-8444-0000000000" #n "\"}"

static inline Version *kit_version(const char *ref) {
        Version *v = calloc(1, sizeof *v);

        v->generation = 1;
        v->tier = 2;
        strcpy(v->job_id, KIT_JOB);
        v->runtime = strdup("codex");
        v->image_ref = strdup(ref);
        v->container_id = strdup("c0ffee");
        return v;
}

static inline Work *kit_work(JobType t, const char *ref) {
        Work *w = calloc(1, sizeof *w);

        w->type = t;
        w->generation = w->spec_generation = 1;
        w->image_ref = strdup(ref);
        strcpy(w->job_id, KIT_JOB);
        strcpy(w->accepted_report_id, KIT_OTHER);
        return w;
}

static inline Entry *kit_put(QueueKit *k, const char *id) {
        Workspace *w = workspace_new(id, 1);

        w->port = 21000;
        return queue_add(k->q, w);
}

/* As if it had been carried out. */
static inline void kit_settle(QueueKit *k, const char *id) {
        Workspace *w = queue_find(k->q, id)->w;

        w->settled = version_copy(w->wanted);
        w->settled->container_id = strdup("c0ffee");
        free(w->settled->image_ref);
        w->settled->image_ref = strdup(KIT_CODEX);
        w->work = work_free(w->work);
        CHECK_INT(queue_save(k->q, queue_find(k->q, id), NULL), 0);
}

/* What a round leaves behind would make the next one longer, without end. */
static inline void kit_forget(QueueKit *k) {
        Queue *q = k->q;

        while (q->host->n_jobs > 0)
                host_job_free(q->host->jobs[--q->host->n_jobs]);
        cJSON_Delete(q->host->finals);
        q->host->finals = cJSON_CreateArray();
        q->outcomes = outcomes_free(q->outcomes);
        (void) unlinkat(k->k.d.fd, "outcomes", 0);
        CHECK_INT(outcomes_open(k->k.d.fd, &q->outcomes, NULL), 0);
        q->degraded = (Fault) {};
        q->write_failures = 0;
}
