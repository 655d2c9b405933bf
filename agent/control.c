/* SPDX-License-Identifier: Apache-2.0 */

/* One request at a time, one timer, one place that decides what a failure means (trouble()). Everything the control plane may say is a row of
 * CpKind; what is not understood is trouble that passes. */

#include "agent/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "provision/job.h"

#define FIRST_POLL_USEC     (5 * USEC_PER_SEC)          /* spread of the first request after start */
#define RACE_WINDOW_USEC    (90 * USEC_PER_SEC)         /* after the very first start the org's row may not be committed yet */
#define RACE_PAUSE_USEC     (1 * USEC_PER_SEC)
#define AUTH_PAUSE_USEC     (300 * USEC_PER_SEC)
#define REVOKED_PAUSE_USEC  (3600 * USEC_PER_SEC)
#define REGISTER_EVERY_USEC (UINT64_C(86400) * USEC_PER_SEC)
#define CONFLICT_USEC       (300 * USEC_PER_SEC)        /* until an operator has settled whose sealing key counts */
#define PINS_PAUSE_USEC     (60 * USEC_PER_SEC)
#define POLL_SLACK_USEC     (15 * USEC_PER_SEC)
#define ASK_USEC            (30 * USEC_PER_SEC)
#define QUICK_USEC          (1 * USEC_PER_SEC)
#define QUICK_MAX           8                           /* so many answers in a row may come within a second */
#define REGISTER_MAX        (1024 * 1024)
#define PINS_MAX            (1024 * 1024)
#define MAX_JOBS            16
#define WAIT_SECONDS        50
#define AGAIN_SECONDS       20                          /* the first poll after trouble: that all is well again must not wait for its end */

struct Control {
        Cp              *cp;
        Pins            *pins;
        const Identity  *identity;
        Loops           *loops;
        ControlEvents    events;
        sd_event_source *timer;
        CpCall          *call;
        CpPace           pace;
        ControlState     state;
        Fault            fault, key_fault;              /* the second: registered, but with another sealing key than is known */
        bool             once, refresh_tried, proof_sent;
        bool hanging; /* call is a poll that may wait for long */
        bool now;     /* someone on the host waits for all that the control plane has */
        ControlRounds rounds;
        uint64_t         started, register_again_at, sent_at, pins_retry_at;
        uint64_t         fault_since;                   /* microseconds since the epoch */
        unsigned         wait_seconds, max_jobs, quick;
        unsigned         asked;                         /* how many jobs the poll has asked for at most */
        char             pins_etag[256];                /* what the control plane says its table has */
        char pins_told[256];                            /* the ETag whose table was not taken and said to be so */
        char             pins_none[256];                /* the ETag of a table without a row, where none was ever had: nothing to fetch */
        char             pins_bad[256];                 /* the ETag whose table could not be taken; not before pins_retry_at again */
        cJSON           *jobs;                          /* delivered, waiting for the pins that came with them */
};

static void step(Control *c);

static void drop_call(Control *c) {
        c->call = cp_call_cancel(c->call);
        c->hanging = false;
}

static void arm(Control *c, uint64_t usec) {
        (void) sd_event_source_set_time_relative(c->timer, usec);
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
        loops_tick(c->loops, LOOP_CONTROL, usec + 1);
}

static void set_fault(Control *c, const Fault *f) {
        bool changed = c->fault.set != (f && f->set) || (f && f->set && (c->fault.code != f->code));

        if (!f || !f->set)
                c->fault_since = 0;
        else if (!c->fault_since)
                c->fault_since = now_realtime();
        c->fault = f ? *f : (Fault) {};
        if (!changed)
                return;
        if (c->fault.set)
                log_write(LOG_WARNING, &(LogFields) { .event = EVENT_CONTROL_LOST, .fault = &c->fault }, "%s", c->fault.text);
        else
                log_write(LOG_NOTICE, &(LogFields) { .event = EVENT_CONTROL_BACK }, "The control plane answers.");
        c->events.changed(c->events.userdata);
}

static void set_state(Control *c, ControlState state) {
        if (c->state == state)
                return;
        c->state = state;
        c->events.changed(c->events.userdata);
}

/* Every request of this loop: in flight it is due when it must have ended, a second later when it could not even be made. */
static void ask(Control *c, const CpRequest *q, CpDone done) {
        if (cp_send(c->cp, q, done, c, &c->call) < 0)
                arm(c, USEC_PER_SEC);
        else
                loops_tick(c->loops, LOOP_CONTROL, (q->timeout_usec ?: ASK_USEC) + cp_held_back(c->cp));
}

static bool in_race_window(const Control *c) { return !c->identity->registered_at && now_boottime() - c->started < RACE_WINDOW_USEC; }

/* ── trouble ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_sibling(const CpAnswer *a, void *userdata) {
        Control *c = userdata;
        Fault f = {};

        c->call = NULL;
        if (a->status == 401)
                (void) fault(&f, -EPROTO, FAULT_UNSUPPORTED_CONTROL_PLANE, "%s is a control plane, but without the agent protocol.",
                             cp_host(c->cp));
        else if (a->status == 404 || a->kind == CP_OK)
                (void) fault(&f, -EPROTO, FAULT_CONTROL_PLANE_MISROUTED,
                             "%s has no provision routes: wrong cp_url or cp_prefix, or its secret is unset.", cp_host(c->cp));
        set_fault(c, f.set ? &f : &a->fault);
        arm(c, cp_pace(c->cp, &c->pace, CP_UNREACHABLE));
}

/* Which kind of 404 is it? A sibling route that is known to exist answers 401 without credentials. */
static void probe_sibling(Control *c) {
        static const CpRequest q = { .path = "/workspaces/00000000-0000-0000-0000-000000000000/status", .auth = CP_AUTH_NONE };

        ask(c, &q, on_sibling);
}

static void on_refresh(const CpAnswer *a, void *userdata) {
        Control *c = userdata;
        const char *secret = a->kind == CP_OK ? json_get_string(a->json, "MOLECULE_CP_SHARED_SECRET") : NULL;

        c->call = NULL;
        if (secret)
                c->events.refreshed(secret, c->events.userdata);
        c->refresh_tried = !cp_is_unsent(a);
        arm(c, in_race_window(c) ? RACE_PAUSE_USEC : 0);
}

static void refresh(Control *c) {
        static const CpRequest q = { .path = "/tenants/config", .auth = CP_AUTH_TENANT };

        c->refresh_tried = true;
        ask(c, &q, on_refresh);
}

static void park(Control *c, const Fault *f) {
        set_state(c, CONTROL_PARKED);
        set_fault(c, f);
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        loops_tick(c->loops, LOOP_CONTROL, 0);
}

static void trouble(Control *c, const CpAnswer *a) {
        uint64_t wait = cp_pace(c->cp, &c->pace, a->kind);
        bool race = in_race_window(c) && (a->kind == CP_AUTH || a->kind == CP_NOT_FOUND);

        c->rounds.failed++;
        if (!race && a->kind != CP_NOT_FOUND)
                set_fault(c, &a->fault);
        switch (a->kind) {
        case CP_AUTH:
                if (!c->refresh_tried) {
                        refresh(c);
                        return;
                }
                c->refresh_tried = false;               /* each round may refresh once */
                arm(c, race ? RACE_PAUSE_USEC : AUTH_PAUSE_USEC);
                return;
        case CP_NOT_FOUND:
                if (race)
                        arm(c, RACE_PAUSE_USEC);
                else
                        probe_sibling(c);
                return;
        case CP_HOST_UNKNOWN:
                set_state(c, CONTROL_REGISTERING);
                arm(c, wait);
                return;
        case CP_IN_USE:
                park(c, &a->fault);
                return;
        case CP_REVOKED:
                arm(c, REVOKED_PAUSE_USEC);
                return;
        case CP_PROTOCOL:
                arm(c, AUTH_PAUSE_USEC);
                return;
        default:
                arm(c, wait);
        }
}

static void went_well(Control *c) {
        (void) cp_pace(c->cp, &c->pace, CP_OK);
        c->refresh_tried = false;
        set_fault(c, NULL);
}

/* ── register ────────────────────────────────────────────────────────────────────────────────────────────────── */

static unsigned bounded(int64_t v, unsigned low, unsigned high) { return v < low ? low : v > high ? high : (unsigned) v; }

static void registered(Control *c, uint64_t heartbeat_usec, uint64_t again_usec) {
        c->register_again_at = now_boottime() + again_usec;
        went_well(c);
        set_state(c, CONTROL_POLLING);
        c->events.registered(heartbeat_usec, c->events.userdata);
        step(c);
}

/* The proof once; after that, or without one, the agent works on without jobs that carry secrets, and asks again now and then. */
static void on_key_conflict(Control *c, const CpAnswer *a) {
        Fault why = {};

        if (!c->proof_sent && c->events.challenged(json_get_string(a->json, "challenge"), &why, c->events.userdata) == 0) {
                c->proof_sent = true;
                arm(c, 0);
                return;
        }
        if (!why.set)
                (void) fault(&why, -EKEYREJECTED, FAULT_SEALING_KEY_CONFLICT, "%s does not take this host's sealing key, nor the proof of the "
                             "one before.", cp_host(c->cp));
        if (!c->key_fault.set)
                log_write(LOG_ERR, &(LogFields) { .fault = &why }, "%s", why.text);
        c->key_fault = why;
        c->proof_sent = false;
        registered(c, 0, CONFLICT_USEC);
        c->events.changed(c->events.userdata);
}

static void on_register(const CpAnswer *a, void *userdata) {
        Control *c = userdata;

        c->call = NULL;
        if (a->kind == CP_CONFLICT && str_equal(json_get_string(a->json, "error"), "sealing_key_conflict")) {
                on_key_conflict(c, a);
                return;
        }
        if (a->kind != CP_OK) {
                trouble(c, a);
                return;
        }
        c->key_fault = (Fault) {};
        c->proof_sent = false;
        c->wait_seconds = bounded(json_get_i64(a->json, "wait_seconds", WAIT_SECONDS), 0, 300);
        c->max_jobs = bounded(json_get_i64(a->json, "max_jobs", MAX_JOBS), 1, 100);
        log_info("Registered with %s.", cp_host(c->cp));
        if (c->events.told_slug && json_get_string(a->json, "org_slug"))
                c->events.told_slug(json_get_string(a->json, "org_slug"), c->events.userdata);
        registered(c, bounded(json_get_i64(a->json, "heartbeat_seconds", 30), 1, 3600) * USEC_PER_SEC, REGISTER_EVERY_USEC);
}

static void send_register(Control *c) {
        _cleanup_json_ cJSON *json = c->events.register_body(c->events.userdata);
        _cleanup_free_ char *body = json ? json_print(json) : NULL;

        if (body)
                ask(c, &(CpRequest) { .method = "POST", .path = "/hosts", .body = body, .answer_max = REGISTER_MAX }, on_register);
        else
                arm(c, USEC_PER_SEC);
}

/* ── pins ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void forget_jobs(Control *c) {
        cJSON_Delete(c->jobs);
        c->jobs = NULL;
}

/* Only an answer without jobs says that there are no more. Each job costs writes that are waited for: what was not asked for is left out. */
static void hand_on(Control *c, const cJSON *jobs) {
        const cJSON *item;
        unsigned n = 0;

        if (c->now && cJSON_GetArraySize(jobs) == 0) {
                c->now = false;
                c->rounds.done++;
        }
        cJSON_ArrayForEach(item, jobs)
                if (n++ < c->asked)
                        c->events.delivery(item, c->events.userdata);
        if (n > c->asked)
                log_warning("%s delivers %u jobs where %u were asked for; the others are left out.", cp_host(c->cp), n, c->asked);
        c->events.polled(c->events.userdata);
}

/* A control plane may not have promoted anything yet. In place of pins that are here an empty table is as bad as a broken one. */
static bool is_none_yet(const Control *c, int r, const char *etag) {
        return r == -ENODATA && !pins_fetched_at(c->pins) && !pins_etag(c->pins)[0] && strcmp(c->pins_etag, etag) == 0;
}

static const char *etag_here(const Control *c) { return pins_etag(c->pins)[0] ? pins_etag(c->pins) : c->pins_none; }

static int take_pins(Control *c, const CpAnswer *a) {
        Fault why = {};
        bool told = strcmp(c->pins_told, c->pins_etag) == 0;    /* once for each table: it is asked for again and again */
        int r;

        pins_from(c->pins, cp_host(c->cp));
        r = pins_replace(c->pins, a->body, a->size, a->etag, now_realtime(), &why);
        if (r < 0)
                memcpy(c->pins_told, c->pins_etag, sizeof c->pins_told);
        else
                c->pins_told[0] = 0;
        if (r == 0)
                log_info("Pins: %s.", pins_etag(c->pins));
        else if (is_none_yet(c, r, a->etag)) {
                memcpy(c->pins_none, c->pins_etag, sizeof c->pins_none);
                r = 0;
                if (!told)
                        log_info("The control plane has no pins yet.");
        } else if (!told)
                log_write(LOG_WARNING, &(LogFields) { .fault = &why }, "The pin table is not taken, the old one stays: %s", why.text);
        c->events.changed(c->events.userdata);
        return r;
}

static void on_pins(const CpAnswer *a, void *userdata) {
        Control *c = userdata;
        int r = 0;

        c->call = NULL;
        if (a->kind == CP_OK && a->status == 200)
                r = take_pins(c, a);
        else if (a->kind != CP_OK)
                log_write(LOG_WARNING, &(LogFields) { .fault = &a->fault }, "The pin table could not be fetched: %s", a->fault.text);
        c->pins_bad[0] = 0;
        /* Also when the table has another ETag than the poll said: a pin moved between the two, and the next poll will say so. */
        if (!cp_is_unsent(a) && (r < 0 || a->kind != CP_OK || control_pins_behind(c))) {
                memcpy(c->pins_bad, c->pins_etag, sizeof c->pins_bad);
                c->pins_retry_at = now_boottime() + PINS_PAUSE_USEC;
        }
        /* Without the table a job might be refused for a pin that is only away: the control plane hands it out again. */
        if (c->jobs && a->kind == CP_OK)
                hand_on(c, c->jobs);
        forget_jobs(c);
        if (c->quick > QUICK_MAX)
                arm(c, QUICK_USEC);             /* a table that is another at each poll must not make us spin */
        else
                step(c);
}

static bool is_bad_for_now(const Control *c) {
        return c->pins_bad[0] && strcmp(c->pins_bad, c->pins_etag) == 0 && now_boottime() < c->pins_retry_at;
}

static bool wants_pins(const Control *c) {
        return control_pins_behind(c) && !is_bad_for_now(c);
}

static void fetch_pins(Control *c) {
        char path[80];

        (void) snprintf(path, sizeof path, "/hosts/%s/pins", c->identity->host_id);
        ask(c, &(CpRequest) { .path = path, .if_none_match = pins_etag(c->pins), .answer_max = PINS_MAX, .call = METRIC_CALL_PINS }, on_pins);
}

/* ── poll ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_poll(const CpAnswer *a, void *userdata) {
        Control *c = userdata;
        const char *etag = json_get_string(a->json, "pins_etag");
        const cJSON *given = json_get(a->json, "jobs"), *jobs = cJSON_IsArray(given) ? given : NULL;
        bool quick = now_boottime() - c->sent_at < QUICK_USEC, empty;

        c->call = NULL;
        c->hanging = false;
        if (a->kind != CP_OK) {
                trouble(c, a);
                return;
        }
        went_well(c);
        (void) snprintf(c->pins_etag, sizeof c->pins_etag, "%s", etag ?: "");
        empty = cJSON_GetArraySize(jobs) == 0;
        c->quick = quick ? c->quick + 1 : 0;
        if (wants_pins(c)) {
                forget_jobs(c);
                c->jobs = cJSON_Duplicate(jobs, true);
                fetch_pins(c);
                return;
        }
        hand_on(c, jobs);
        if (c->quick > QUICK_MAX || (quick && empty))
                arm(c, QUICK_USEC);
        else
                step(c);
}

/* Everything but unreserved characters, so that a quoted ETag fits into a query. */
static void query_escape(const char *s, char *ret, size_t size) {
        static const char hex[] = "0123456789ABCDEF";
        size_t n = 0;

        for (; *s && n + 4 < size; s++) {
                if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("-._~", *s))
                        ret[n++] = *s;
                else {
                        ret[n++] = '%';
                        ret[n++] = hex[(unsigned char) *s >> 4];
                        ret[n++] = hex[*s & 15];
                }
        }
        ret[n] = 0;
}

static void poll_jobs(Control *c) {
        /* While a table cannot be fetched, or has no row, its ETag is named as if we had it, lest every poll be answered at once. */
        const char *etag = is_bad_for_now(c) ? c->pins_etag : etag_here(c);
        unsigned most = c->once || c->now ? 0 : c->wait_seconds;
        unsigned wait = c->fault.set && most > AGAIN_SECONDS ? (unsigned) jitter_uniform(0, AGAIN_SECONDS, random_u64()) : most;
        char escaped[800], path[1000];

        c->asked = c->events.room(c->max_jobs, c->events.userdata);
        query_escape(etag, escaped, sizeof escaped);
        (void) snprintf(path, sizeof path, "/hosts/%s/jobs?wait=%u&max=%u&pins_etag=%s", c->identity->host_id, wait,
                        c->asked, escaped);
        c->sent_at = now_boottime();
        c->hanging = true;
        ask(c, &(CpRequest) { .path = path, .answer_max = JOB_BODY_MAX, .timeout_usec = wait * USEC_PER_SEC + POLL_SLACK_USEC,
                                     .call = METRIC_CALL_POLL }, on_poll);
}

static void step(Control *c) {
        if (c->call || c->state == CONTROL_IDLE || c->state == CONTROL_PARKED)
                return;
        if (c->state == CONTROL_POLLING && now_boottime() >= c->register_again_at)
                set_state(c, CONTROL_REGISTERING);
        if (c->state == CONTROL_REGISTERING)
                send_register(c);
        else if (wants_pins(c))
                fetch_pins(c);
        else
                poll_jobs(c);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        step(userdata);
        return 0;
}

/* ── from outside ────────────────────────────────────────────────────────────────────────────────────────────── */

void control_start(Control *c, bool once) {
        if (c->state == CONTROL_PARKED)
                return;
        c->once = once;
        drop_call(c);
        forget_jobs(c);
        c->state = CONTROL_REGISTERING;
        c->pace = (CpPace) CP_PACE_INIT;
        c->refresh_tried = false;
        c->pins_none[0] = 0;                    /* it may be another control plane's */
        arm(c, once ? 0 : jitter_uniform(0, FIRST_POLL_USEC, random_u64()));
        c->events.changed(c->events.userdata);
}

void control_register(Control *c) {
        if (c->state != CONTROL_POLLING)
                return;
        drop_call(c);
        forget_jobs(c);
        set_state(c, CONTROL_REGISTERING);
        arm(c, 0);
}

/* What was delivered into the poll that is dropped here comes again: nothing of it was accepted. */
ControlRounds control_poll_now(Control *c) {
        c->now = true;
        c->pins_bad[0] = 0;
        cp_hurry(c->cp);
        if (c->hanging)
                drop_call(c);
        step(c);
        return c->rounds;
}

ControlRounds control_rounds(const Control *c) { return c->rounds; }

void control_stop(Control *c) {
        if (c->state == CONTROL_PARKED)
                return;
        drop_call(c);
        forget_jobs(c);
        set_state(c, CONTROL_IDLE);
        (void) sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        loops_tick(c->loops, LOOP_CONTROL, 0);
}

void control_answered(Control *c, const CpAnswer *a) {
        if (c->state != CONTROL_POLLING)
                return;
        if (a->kind != CP_HOST_UNKNOWN && a->kind != CP_IN_USE && a->kind != CP_REVOKED && a->kind != CP_AUTH)
                return;
        drop_call(c);
        forget_jobs(c);
        trouble(c, a);
}

ControlState control_state(const Control *c) { return c->state; }
const Fault *control_fault(const Control *c) { return c->fault.set ? &c->fault : c->key_fault.set ? &c->key_fault : NULL; }
bool control_pins_behind(const Control *c) { return c->pins_etag[0] && strcmp(c->pins_etag, etag_here(c)) != 0; }

uint64_t control_fault_since(const Control *c) { return c->fault_since; }

uint64_t control_next_try(const Control *c) {
        uint64_t at = 0, now = now_boottime();
        int enabled = SD_EVENT_OFF;

        if (sd_event_source_get_enabled(c->timer, &enabled) < 0 || enabled == SD_EVENT_OFF || sd_event_source_get_time(c->timer, &at) < 0)
                return 0;
        return at > now ? at - now : 0;
}

int control_new(sd_event *event, Cp *cp, Pins *pins, const Identity *identity, Loops *loops, const ControlEvents *events, Control **ret) {
        _cleanup_(control_freep) Control *c = calloc(1, sizeof *c);
        int r;

        if (!c)
                return -ENOMEM;
        *c = (Control){ .cp = cp, .pins = pins, .identity = identity, .loops = loops, .events = *events, .pace = CP_PACE_INIT, .wait_seconds = WAIT_SECONDS, .max_jobs = MAX_JOBS, .started = now_boottime(), .rounds = { .done = now_boottime(), .failed = now_boottime() } };
        r = sd_event_add_time_relative(event, &c->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, c);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

Control *control_free(Control *c) {
        if (!c)
                return NULL;
        (void) cp_call_cancel(c->call);
        sd_event_source_disable_unref(c->timer);
        forget_jobs(c);
        free(c);
        return NULL;
}
