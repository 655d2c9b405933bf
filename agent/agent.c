/* SPDX-License-Identifier: Apache-2.0 */

/* The daemon's life. Order of start: config (or the last good one), state and identity, records; READY; then the engine and every settled
 * workspace; and only then credentials and the control plane. Order of end: no new step, engine changes in flight awaited, exit. */

#include "agent/agent-internal.h"
#include "agent/format.h"
#include "agent/imds.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include "base/ballast.h"
#include "base/hash.h"
#include "base/log.h"

#define HOLD_DEFAULT    "/etc/molecule-agent/hold"
#define STATE_DEFAULT   "/var/lib/molecule-agent"
#define FALLBACK_USEC   (5 * USEC_PER_SEC)      /* the engine is away: the control plane hears of it all the same */
#define GIVE_UP_USEC    (20 * USEC_PER_SEC)     /* of SIGTERM */
#define ONCE_MAX_USEC   (3600 * USEC_PER_SEC)
#define EXIT_TRY_AGAIN  75
#define EXIT_TIMED_OUT  5

const char *agent_state_path(void) { return getenv("STATE_DIRECTORY") ?: STATE_DEFAULT; }

void agent_exit(Agent *a, int code) { (void) sd_event_exit(a->event, code); }

/* ── --once ──────────────────────────────────────────────────────────────────────────────────────────────────── */

void agent_once_check(Agent *a) {
        const Fault *f = a->control ? control_fault(a->control) : NULL;

        if (!a->options.once || a->stopping)
                return;
        if (a->enrol_fault.set || (f && f->set)) {
                log_error("The round ends without the control plane: %s", a->enrol_fault.set ? a->enrol_fault.text : f->text);
                agent_exit(a, EXIT_TRY_AGAIN);
        } else if (a->polled_once && queue_is_idle(a->queue) && outbox_is_empty(a->outbox) && health_is_current(a->health)) {
                if (a->host_keys_fault.set)
                        log_error("The round ends without jobs: %s", a->host_keys_fault.text);
                else
                        log_info("The round is done.");
                agent_exit(a, a->host_keys_fault.set ? EXIT_TRY_AGAIN : 0);
        }
}

static int on_once_too_long(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        log_error("The round did not end in time.");
        agent_exit(userdata, EXIT_TIMED_OUT);
        return 0;
}

/* ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int on_give_up(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        log_warning("The engine did not answer in time; what is in flight is taken up at the next start.");
        agent_exit(userdata, 0);
        return 0;
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        Agent *a = userdata;

        (void) s;
        (void) si;
        if (a->stopping)
                return 0;
        a->stopping = true;
        (void) sd_notify(0, "STOPPING=1\nSTATUS=Stopping.");
        log_write(LOG_INFO, &(LogFields) { .event = EVENT_AGENT_STOPPING }, "Stopping.");
        control_stop(a->control);
        reporter_open(a->reporter, false);
        health_open(a->health, false, 0);
        a->give_up = sd_event_source_disable_unref(a->give_up);
        (void) sd_event_add_time_relative(a->event, &a->give_up, CLOCK_BOOTTIME, GIVE_UP_USEC, 0, on_give_up, a);
        queue_stop(a->queue);
        return 0;
}

static void use_config(Agent *a, Config *c) {
        Config *old = a->config;
        bool engine_moved = !str_equal(old->engine_socket, c->engine_socket) || old->engine_timeout_seconds != c->engine_timeout_seconds;
        EngineOptions eo;
        ImageOptions io;

        bool org_moved = !str_equal(old->org_id, c->org_id);

        a->config = c;
        agent_settings(a);
        audit_limit(a->audit, c->audit_max_bytes);
        pins_trust(a->pins, a->settings.trusted);
        if (org_moved)
                agent_org_changed(a);
        (void) log_set_level(c->log_level);
        eo = agent_engine_options(a);
        io = agent_image_options(a);
        images_configure(a->images, &io);
        if (engine_moved && engine_configure(a->engine, &eo) < 0)
                log_error("Out of memory for another engine.");
        if (!a->options.once)
                agent_metrics_open(a);
        control_stop(a->control);
        a->started_control = false;
        agent_start_control(a);
        config_free(old);
}

static void notify_reloading(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        (void) sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                          (unsigned long long) ts.tv_sec * 1000000 + (unsigned long long) ts.tv_nsec / 1000);
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        Agent *a = userdata;
        Config *c;
        Fault why = {};

        (void) s;
        (void) si;
        if (a->stopping)
                return 0;
        notify_reloading();
        if (config_load(a->options.config_path, true, &c, &why) < 0) {
                a->config_fault = why;
                log_write(LOG_ERR, &(LogFields) { .event = EVENT_CONFIG_REFUSED, .fault = &why }, "The configuration stays as it was: %s", why.text);
        } else {
                a->config_fault = (Fault) {};
                agent_config_taken(a, c);
                use_config(a, c);
                log_write(LOG_NOTICE, &(LogFields) { .event = EVENT_CONFIG_READ }, "The configuration was read anew.");
        }
        health_changed(a->health);
        (void) sd_notify(0, "READY=1");
        return 0;
}

static int catch(Agent *a, int signo, sd_event_signal_handler_t handler) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, signo);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        return sd_event_add_signal(a->event, NULL, signo, handler, a);
}

/* ── watchdog ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int on_watchdog(sd_event_source *s, uint64_t usec, void *userdata) {
        Agent *a = userdata;
        uint64_t every = 0;
        Loop overdue;

        (void) usec;
        if (loops_alive(&a->loops, &overdue))
                (void) sd_notify(0, "WATCHDOG=1");
        else
                log_error("The loop '%s' makes no progress: the watchdog is not fed.", loops_name(overdue));
        (void) sd_watchdog_enabled(0, &every);
        (void) sd_event_source_set_time_relative(s, every / 2);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int start_watchdog(Agent *a) {
        uint64_t every;

        if (sd_watchdog_enabled(0, &every) <= 0)
                return 0;
        return sd_event_add_time_relative(a->event, &a->watchdog, CLOCK_BOOTTIME, every / 2, every / 10, on_watchdog, a);
}

/* ── start ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static int on_fallback(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        agent_start_control(userdata);
        return 0;
}

/* A bad file does not stop a host that once had a good one. */
static int load_config(Agent *a, Fault *reterr) {
        Fault good = {};
        int r = config_load(a->options.config_path, true, &a->config, &a->config_fault);

        if (r >= 0)
                return 0;
        if (config_load_good(a->state_fd, &a->config, &good) < 0)
                return fault(reterr, -EBADMSG, FAULT_CONFIG_INVALID, "%s", a->config_fault.text);
        log_write(LOG_ERR, &(LogFields) { .event = EVENT_CONFIG_REFUSED, .fault = &a->config_fault }, "%s The last good configuration is in force.", a->config_fault.text);
        return 0;
}

/* The cloud's id for this machine: asked for before any state is believed. For seconds at most, and only where there is somebody to ask. */
static void ask_metadata(Agent *a) {
        Fault why = {};
        Imds i = {};
        int r;

        if (strcmp(a->config->imds, "off") == 0 || !imds_is_expected(a->config->imds_url))
                return;
        r = imds_open(&i, a->config->imds_url, &why);
        if (r >= 0)
                r = imds_document(&i, &why);
        imds_close(&i);
        if (r < 0) {
                log_warning("%s Whether this disk is another machine's is judged without it.", why.text);
                return;
        }
        memcpy(a->identity.instance_id, i.instance_id, sizeof i.instance_id);
        memcpy(a->identity.region, i.region, sizeof i.region);
        memcpy(a->identity.image_id, i.image_id, sizeof i.image_id);
}

/* `hold` beside the configuration: a person under pressure makes it with touch. */
static char *hold_file(const AgentOptions *options) {
        const char *slash = options->config_path ? strrchr(options->config_path, '/') : NULL;

        if (!options->config_path)
                return strdup(HOLD_DEFAULT);
        return slash ? str_printf("%.*s/hold", (int) (slash - options->config_path), options->config_path) : strdup("hold");
}

int agent_new(const AgentOptions *options, Agent **ret, Fault *reterr) {
        _cleanup_(agent_freep) Agent *a = calloc(1, sizeof *a);
        const char *state = agent_state_path();
        int r;

        if (!a)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        a->options = *options;
        a->started_at = now_realtime();
        a->state_fd = state_open(state, reterr);
        if (a->state_fd < 0)
                return a->state_fd;
        r = ballast_make(a->state_fd);
        if (r < 0)
                log_warning("There is no room kept for a disk that fills up: %s", strerror(-r));
        r = load_config(a, reterr);
        if (r < 0)
                return r;
        (void) log_set_level(a->config->log_level);
        r = hash_init();
        if (r < 0)
                return fault(reterr, r, FAULT_INTERNAL, "libsodium cannot start.");
        r = format_open(a->state_fd, reterr);
        if (r < 0)
                return r;
        if (r > 0)
                log_notice("The state is the former version's, and is kept so until this one has proved itself.");
        ask_metadata(a);
        r = identity_load(a->state_fd, &a->identity, &a->foreign_state, reterr);
        if (r < 0)
                return r;
        if (a->foreign_state)
                log_write(LOG_ERR, &(LogFields) { .event = EVENT_FOREIGN_STATE }, "The state directory was another machine's; it was set aside and this host has a new identity.");
        agent_settings(a);
        a->hold_file = hold_file(options);
        if (!a->hold_file || agent_open_audit(a) < 0)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        if (!a->config_fault.set)
                agent_config_taken(a, a->config);
        r = agent_open_sealed(a, reterr);
        if (r < 0)
                return r;
        r = outbox_open(a->state_fd, &a->outbox, reterr);
        if (r < 0)
                return r;
        if ((r = sd_event_default(&a->event)) < 0 || (r = http_new(a->event, &a->http)) < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot set up the event loop: %m");
        r = agent_wire(a, reterr);
        if (r < 0)
                return r;
        queue_wrote(a->queue, 0, NULL);         /* on a disk that is full already, no job is taken first */
        if ((r = catch (a, SIGTERM, on_terminate)) < 0 || (r = catch (a, SIGINT, on_terminate)) < 0 ||
            (r = catch (a, SIGHUP, on_reload)) < 0 || (r = start_watchdog(a)) < 0)
                return fault(reterr, r, FAULT_INTERNAL, "Cannot set up signals: %m");
        *ret = TAKE_PTR(a);
        return 0;
}

/* A service manager that does not hear it waits, and then ends an agent that is well: what was only for a moment must not be the reason. */
static void tell_ready(void) {
        int r = -EAGAIN;

        for (unsigned i = 0; r < 0 && i < 3; i++)
                r = sd_notify(0, "READY=1\nSTATUS=Running.");
        if (r < 0)
                log_error("The service manager cannot be told that the agent runs: %s", strerror(-r));
}

int agent_run(Agent *a) {
        Fault why = {};
        int r;

        r = engine_start(a->engine);
        if (r >= 0)
                r = sd_event_add_time_relative(a->event, &a->fallback, CLOCK_BOOTTIME, FALLBACK_USEC, 0, on_fallback, a);
        if (r >= 0 && a->options.once)
                r = sd_event_add_time_relative(a->event, &a->give_up, CLOCK_BOOTTIME, ONCE_MAX_USEC, 0, on_once_too_long, a);
        if (r < 0) {
                log_error("Cannot start: %s", strerror(-r));
                return 1;
        }
        if (!a->options.once && api_start(a->event, a->settings.runtime_path, a->config->admin_group, a, &a->api, &why) < 0)
                log_write(LOG_ERR, &(LogFields){ .fault = &why }, "%s", why.text);
        if (!a->options.once)
                agent_metrics_open(a);
        loops_tick(&a->loops, LOOP_SWEEP, 120 * USEC_PER_SEC);
        log_write(LOG_NOTICE, &(LogFields) { .event = EVENT_AGENT_STARTED }, "molecule-agentd %s, host %s, start %llu.", VERSION, a->identity.host_id, (unsigned long long) a->identity.boot_epoch);
        tell_ready();
        r = sd_event_loop(a->event);
        if (r < 0) {
                log_error("The event loop failed: %s", strerror(-r));
                return 1;
        }
        return r;
}

Agent *agent_free(Agent *a) {
        if (!a)
                return NULL;
        agent_metrics_close(a);
        a->api = api_stop(a->api);
        health_free(a->health);
        reporter_free(a->reporter);
        control_free(a->control);
        cp_free(a->cp);
        queue_free(a->queue);
        agent_watch_close(a);
        outbox_free(a->outbox);
        audit_free(a->audit);
        pins_free(a->pins);
        images_free(a->images);
        engine_free(a->engine);
        http_free(a->http);
        sd_event_source_disable_unref(a->watchdog);
        sd_event_source_disable_unref(a->fallback);
        sd_event_source_disable_unref(a->give_up);
        sd_event_unref(a->event);
        agent_close_sealed(a);
        config_free(a->config);
        free(a->hold_file);
        if (a->state_fd > 0)
                (void) close(a->state_fd);
        free(a);
        return NULL;
}
