/* SPDX-License-Identifier: Apache-2.0 */

/* Who hears of what. Each callback here is one or two lines of passing on: the parts know nothing of each other. */

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "agent/agent-internal.h"
#include "agent/format.h"
#include "base/log.h"

#define UNKNOWN_SIZE_BYTES (UINT64_C(10) << 30)
#define RUNTIME_DEFAULT    "/run/molecule-agent"
#define STALL_BYTES        (UINT64_C(1) << 20) /* within STALL_SECONDS; of a shorter pull_stall_seconds, its part */
#define STALL_SECONDS      UINT64_C(120)

void agent_settings(Agent *a) {
        const Config *c = a->config;
        Settings *s = &a->settings;

        *s = (Settings) { .cgroup_parent = s->cgroup_parent,
                          .org_id = c->org_id ?: "",
                          .host_id = a->identity.host_id,
                          .network = c->network,
                          .advertise_host = c->advertise_host,
                          .engine_socket = c->engine_socket,
                          .port_low = (uint16_t) c->port_low,
                          .port_high = (uint16_t) c->port_high,
                          .max_parallel_jobs = (unsigned) c->max_parallel_jobs,
                          .max_workspaces = (unsigned) c->max_workspaces,
                          .max_tier = (unsigned) c->max_tier,
                          .stop_timeout_seconds = (unsigned) c->stop_timeout_seconds,
                          .probe_path = c->probe_path,
                          .probe_timeout_seconds = (unsigned) c->probe_timeout_seconds,
                          .crash_loop_restarts = (unsigned) c->crash_loop_restarts,
                          .crash_loop_window_seconds = (unsigned) c->crash_loop_window_seconds,
                          .volume_grace_seconds = (unsigned) c->volume_grace_seconds,
                          .prefetch_spread_seconds = (unsigned) c->prefetch_spread_seconds,
                          .prefetch = c->prefetch,
                          .job_deadline_seconds = (unsigned) c->job_deadline_seconds,
                          .engine_wait_seconds = (unsigned) c->engine_wait_seconds,
                          .registries = (const char *const *) c->registry_list,
                          .host_keys = a->host_keys,
                          .trusted = &c->trusted,
                          .runtime_path = getenv("RUNTIME_DIRECTORY") ?: RUNTIME_DEFAULT,
                          .launcher = c->launcher };
        for (int t = 1; t <= 4; t++) {
                s->tier_memory_mb[t] = (unsigned) c->tier_memory_mb[t];
                s->tier_cpu_shares[t] = (unsigned) c->tier_cpu_shares[t];
        }
}

EngineOptions agent_engine_options(const Agent *a) {
        return (EngineOptions) { .socket_path = a->config->engine_socket,
                                 .timeout_usec = a->config->engine_timeout_seconds * USEC_PER_SEC };
}

ImageOptions agent_image_options(const Agent *a) {
        uint64_t stall = a->config->pull_stall_seconds;

        return (ImageOptions) { .stall_usec = stall * USEC_PER_SEC,
                                .stall_bytes = stall < STALL_SECONDS ? STALL_BYTES * stall / STALL_SECONDS : STALL_BYTES,
                                .min_free_bytes = a->config->min_free_bytes,
                                .auth_file = a->config->registry_auth_file,
                                .gc_high_percent = a->config->gc_high_percent,
                                .gc_low_percent = a->config->gc_low_percent,
                                .unknown_size_bytes = UNKNOWN_SIZE_BYTES };
}

/* ── engine ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_engine_state(EngineState state, const Fault *f, void *userdata) {
        Agent *a = userdata;

        /* The ceiling for all workspaces: only systemd's driver knows slices. */
        a->settings.cgroup_parent = str_equal(engine_info(a->engine)->cgroup_driver, "systemd") ? "molecule.slice" : NULL;
        if (state == ENGINE_UP)
                log_write(LOG_INFO, &(LogFields) { .event = EVENT_ENGINE_UP }, "The engine answers: %s, API %s.", engine_info(a->engine)->version ?: "?",
                         engine_info(a->engine)->api_version ?: "?");
        else if (f && f->set)
                log_write(LOG_WARNING, &(LogFields) { .event = EVENT_ENGINE_LOST, .fault = f }, "%s", f->text);
        queue_engine_state(a->queue, state);
}

static void on_engine_event(const EngineEvent *event, void *userdata) { queue_engine_event(((Agent *) userdata)->queue, event); }

/* ── queue ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void keep_report(Agent *a, cJSON *report, bool durable) {
        Fault why = {};

        int r;

        agent_tell_job(a, report);
        r = outbox_add(a->outbox, report, durable, &why);

        if (r < 0)
                log_write(LOG_ERR, &(LogFields) { .fault = &why }, "A report is kept in memory only: %s", why.text);
        if (durable && a->queue)
                queue_wrote(a->queue, r, &why);
        if (a->reporter)
                reporter_wake(a->reporter, durable);
}

static void on_pulling(const JobPull *pull, void *userdata) { agent_tell_pull(userdata, pull); }

static void on_again(cJSON *report, void *userdata) { keep_report(userdata, report, true); }

/* What a start finds in the records and in the outbox was told, and so recorded, before. */
static void on_report(cJSON *report, bool durable, void *userdata) {
        Agent *a = userdata;

        if (durable && !outbox_knows(a->outbox, json_get_string(report, "report_id")))
                agent_audit_report(a, report);
        keep_report(a, report, durable);
}

static void on_changed(void *userdata) {
        Agent *a = userdata;

        agent_audit_hold_file(a);
        agent_watch_changed(a);
        if (a->health)
                health_changed(a->health);
}

static void on_recovered(void *userdata) {
        log_info("The settled workspaces are looked after.");
        agent_start_control(userdata);
}

static uint64_t on_time(void *userdata) {
        const Cp *cp = ((Agent *) userdata)->cp;
        return cp ? cp_time(cp) : 0;
}

static const char *on_slug(void *userdata) {
        const Agent *a = userdata;
        return a->slug[0] ? a->slug : a->config->org_slug;
}

static bool on_torn_down(void *userdata) { return agent_destroy_keys(userdata); }

static void on_stopped(void *userdata) { agent_exit(userdata, ((Agent *) userdata)->exit_code); }

static void on_sweeping(void *userdata) { loops_tick(&((Agent *) userdata)->loops, LOOP_SWEEP, 120 * USEC_PER_SEC); }

static void on_swept(void *userdata) {
        Agent *a = userdata;

        on_sweeping(a);
        format_tick(a->state_fd, a->config->finalize_seconds,
                    engine_state(a->engine) == ENGINE_UP && !queue_is_degraded(a->queue, NULL) && (!config_can_enrol(a->config) || health_is_heard(a->health)));
        (void) malloc_trim(0);                  /* what jobs left in the middle of the heap */
        agent_audit_hold_file(a);
        agent_audit_retry(a);
        agent_retry_host_keys(a);
        agent_once_check(a);
}

/* ── control plane ───────────────────────────────────────────────────────────────────────────────────────────── */

static unsigned on_room(unsigned max, void *userdata) {
        Agent *a = userdata;
        return a->stopping || outbox_is_full(a->outbox) || queue_is_degraded(a->queue, NULL) || vault_fault(a->vault) || a->host_keys_fault.set ? 0 : max;
}

static void on_delivery(const cJSON *delivery, void *userdata) {
        Agent *a = userdata;
        queue_admit(a->queue, delivery, cp_time(a->cp));
}

/* Whether the other loops may speak: only while nothing stands between us and the control plane that speaking would not mend. */
static void open_loops(Agent *a, uint64_t heartbeat_usec) {
        const Fault *f = control_fault(a->control);
        bool open = control_state(a->control) == CONTROL_POLLING &&
                    (!f || f->code == FAULT_CONTROL_PLANE_UNREACHABLE || f->code == FAULT_SEALING_KEY_CONFLICT);

        reporter_open(a->reporter, open);
        health_open(a->health, open, heartbeat_usec);
}

static void on_registered(uint64_t heartbeat_usec, void *userdata) {
        Agent *a = userdata;
        const Fault *f = control_fault(a->control);
        Fault why = {};

        a->key_proof[0] = 0;
        if (a->host_keys && !a->host_keys_told)
                control_register(a->control);   /* they came while it was on its way */
        else if (!f || f->code != FAULT_SEALING_KEY_CONFLICT)
                agent_rotate_host_key(a);
        if (identity_registered(a->state_fd, &a->identity, now_realtime(), &why) < 0)
                log_write(LOG_WARNING, &(LogFields) { .fault = &why }, "%s", why.text);
        open_loops(a, heartbeat_usec);
}

static void on_told_slug(const char *slug, void *userdata) {
        Agent *a = userdata;
        (void) snprintf(a->slug, sizeof a->slug, "%s", slug);
}

static void on_refreshed(const char *secret, void *userdata) {
        agent_secret_refreshed(userdata, secret);
}

static int on_challenged(const char *challenge, Fault *ret, void *userdata) { return agent_prove_key(userdata, challenge, ret); }

static void on_control_changed(void *userdata) {
        Agent *a = userdata;
        Fault why = {};

        if (!a->health)
                return;
        if (control_state(a->control) == CONTROL_PARKED && identity_parked(a->state_fd, &a->identity, &why) < 0)
                log_write(LOG_WARNING, &(LogFields) { .fault = &why }, "%s", why.text);
        open_loops(a, 0);
        agent_watch_changed(a);
        health_changed(a->health);
        agent_once_check(a);
}

static void on_polled(void *userdata) {
        Agent *a = userdata;

        a->polled_once = true;
        queue_pins_changed(a->queue);
        agent_once_check(a);
}

static void on_acked(const char *report_id, void *userdata) { queue_report_acked(((Agent *) userdata)->queue, report_id); }
static void on_answered(const CpAnswer *answer, void *userdata) {
        control_answered(((Agent *) userdata)->control, answer);
        agent_once_check(userdata);
}
static void on_outbox_idle(void *userdata) { agent_once_check(userdata); }
static cJSON *foreign_view(void *userdata) { return queue_foreign(((Agent *) userdata)->queue); }
static cJSON *workspaces_view(void *userdata) { return queue_view(((Agent *) userdata)->queue); }

void agent_start_control(Agent *a) {
        Fault why = {};
        int r;

        if (a->started_control || a->stopping)
                return;
        if (strcmp(a->identity.parked_boot_id, a->identity.boot_id) == 0)
                r = fault(&why, -EEXIST, FAULT_HOST_ID_IN_USE, "Another machine took this host's id over in this boot.");
        else if (!config_can_enrol(a->config))
                r = fault(&why, -ENOKEY, FAULT_NOT_ENROLLED, "cp_url or org_id is not set.");
        else
                r = agent_load_credentials(a, &why);
        if (r >= 0)
                r = cp_configure(a->cp, a->config, &a->credentials, &why);
        a->enrol_fault = why;
        if (r < 0) {
                log_write(LOG_WARNING, &(LogFields) { .fault = &why }, "Not speaking to a control plane: %s", why.text);
                agent_once_check(a);
                return;
        }
        a->started_control = true;
        control_start(a->control, a->options.once);
}

/* ── making the parts ────────────────────────────────────────────────────────────────────────────────────────── */

static bool keeps_image(const char *digest, void *userdata) { return queue_keeps_image(userdata, digest); }

static int wire_images(Agent *a, Fault *reterr) {
        Fault damaged = {};
        ImageOwn *own;
        int r = image_own_open(a->state_fd, a->config->preloaded_file, &own, &damaged);

        if (r >= 0)
                r = images_own(a->images, own, keeps_image, a->queue);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Out of memory.");
        if (damaged.set)
                log_warning("Which images are the agent's own is not known in full, so fewer are removed when the disk fills up: %s", damaged.text);
        return 0;
}

static int wire_provision(Agent *a, Fault *reterr) {
        EngineOptions eo = agent_engine_options(a);
        ImageOptions io = agent_image_options(a);
        QueueOptions qo;
        Fault damaged = {};
        int r;

        r = engine_new(a->event, a->http, &eo, on_engine_state, on_engine_event, a, &a->engine);
        if (r >= 0)
                r = images_new(a->event, a->engine, &io, &a->images);
        if (r >= 0)
                r = pins_open(a->state_fd, a->settings.trusted, &a->pins, &damaged);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot set up: %m");
        if (damaged.set)
                log_warning("The cached pin table is left out: %s", damaged.text);
        vault_watch(a->vault, agent_audit_sealed, a);
        qo = (QueueOptions) { .event = a->event,
                              .http = a->http,
                              .engine = a->engine,
                              .images = a->images,
                              .pins = a->pins,
                              .vault = a->vault,
                              .settings = &a->settings,
                              .state_fd = a->state_fd,
                              .hold_file = a->hold_file,
                              .userdata = a,
                              .events = { .report = on_report,
                                          .pulling = on_pulling,
                                          .again = on_again,
                                          .changed = on_changed,
                                          .recovered = on_recovered,
                                          .stopped = on_stopped,
                                          .sweeping = on_sweeping,
                                          .swept = on_swept,
                                          .time = on_time,
                                          .slug = on_slug,
                                          .torn_down = on_torn_down } };
        r = queue_new(&qo, &a->queue, reterr);
        return r < 0 ? r : wire_images(a, reterr);
}

static int wire_control(Agent *a) {
        ControlEvents ce = { .register_body = agent_register_body, .room = on_room, .delivery = on_delivery, .registered = on_registered,
                             .told_slug = on_told_slug,
                             .refreshed = on_refreshed, .challenged = on_challenged, .changed = on_control_changed, .polled = on_polled, .userdata = a };
        ReporterEvents re = { .acked = on_acked, .answered = on_answered, .idle = on_outbox_idle, .userdata = a };
        HealthSources hs = { .agent = agent_health_view, .pins = agent_pins_view, .foreign = foreign_view, .workspaces = workspaces_view,
                             .answered = on_answered, .userdata = a, .engine = a->engine, .state_fd = a->state_fd };
        int r = cp_new(a->event, a->http, &a->identity, &a->cp);

        if (r >= 0)
                r = control_new(a->event, a->cp, a->pins, &a->identity, &a->loops, &ce, &a->control);
        if (r >= 0)
                r = reporter_new(a->event, a->cp, a->outbox, &a->identity, &a->loops, &re, &a->reporter);
        if (r >= 0)
                r = health_new(a->event, a->cp, &a->identity, &a->loops, &hs, &a->health);
        return r;
}

int agent_wire(Agent *a, Fault *reterr) {
        int r = agent_watch_open(a);

        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot set up: %m");
        r = wire_provision(a, reterr);
        if (r < 0)
                return r;
        r = wire_control(a);
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot set up: %m");
        queue_replay_reports(a->queue);
        return 0;
}
