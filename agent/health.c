/* SPDX-License-Identifier: Apache-2.0 */

/* The hash covers all that means something; what flickers by itself (disk, memory, load, uptime, ages, loops) rides along in full beats only, so
 * that an idle host costs a few hundred bytes a beat. */

#include "agent/health.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/host.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"

#define FULL_USEC   (600 * USEC_PER_SEC)
#define SOON_USEC   (1 * USEC_PER_SEC)
#define SLACK_USEC  (2 * USEC_PER_SEC)
#define CROWD_USEC  (30 * USEC_PER_SEC)         /* the beats of a fleet that came back are spread over this behind its polls */
#define JITTER_PERCENT 20

struct Health {
        Cp              *cp;
        const Identity  *identity;
        Loops           *loops;
        HealthSources    sources;
        sd_event_source *timer;
        CpCall          *call;
        CpPace           pace;
        uint64_t         heartbeat_usec;
        char             sent[HASH_TEXT_SIZE], acked[HASH_TEXT_SIZE];
        bool             sent_full;
        uint64_t         full_at;               /* boottime of the last acked full beat */
        uint64_t         due;                   /* boottime of the next beat that comes without a change */
        bool             open, changed, failing, put_off;
};

static void arm(Health *h, uint64_t usec, uint64_t slack) {
        (void) sd_event_source_set_time_relative(h->timer, usec);
        (void) sd_event_source_set_time_accuracy(h->timer, slack);
        (void) sd_event_source_set_enabled(h->timer, SD_EVENT_ONESHOT);
        loops_tick(h->loops, LOOP_HEALTH, usec + slack);
}

/* ── the view ────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool add_nullable(cJSON *json, const char *name, const char *value) {
        return value ? json_add_string(json, name, value) : cJSON_AddNullToObject(json, name) != NULL;
}

static cJSON *engine_view(const Engine *e) {
        static const char *const names[] = { [ENGINE_DOWN] = "down", [ENGINE_UP] = "up", [ENGINE_REFUSED] = "refused" };
        const EngineInfo *i = engine_info(e);
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        const Fault *f = engine_fault(e);
        cJSON *error = f && f->set ? cJSON_CreateObject() : cJSON_CreateNull();

        if (!json_add_item(json, "last_error", error) ||
            (f && f->set && (!json_add_string(error, "code", fault_code_name(f->code)) || !json_add_string(error, "message", f->text))) ||
            !json_add_string(json, "state", names[engine_state(e)]) || !add_nullable(json, "name", i->name) ||
            !add_nullable(json, "version", i->version) || !add_nullable(json, "api_version", i->api_version) ||
            !add_nullable(json, "driver", i->driver) || !add_nullable(json, "root_dir", i->root_dir))
                return NULL;
        return TAKE_PTR(json);
}

static cJSON *full_view(const Health *h) {
        _cleanup_json_ cJSON *json = cJSON_CreateObject();
        const HealthSources *s = &h->sources;
        double skew = 0;
        bool has_skew = cp_clock_skew(h->cp, &skew);

        if (!json || !json_add_item(json, "host", host_health_view(engine_info(s->engine)->root_dir, s->state_fd, has_skew, skew)) ||
            !json_add_item(json, "agent", s->agent(s->userdata)) || !json_add_item(json, "engine", engine_view(s->engine)) ||
            !json_add_item(json, "pins", s->pins(s->userdata)) || !json_add_item(json, "foreign", s->foreign(s->userdata)) ||
            !json_add_item(json, "workspaces", s->workspaces(s->userdata)))
                return NULL;
        return TAKE_PTR(json);
}

static const struct { const char *object, *member; } flickering[] = {
        { "host", "disk" }, { "host", "memory" }, { "host", "load" }, { "host", "uptime_seconds" }, { "host", "clock_skew_seconds" },
        { "agent", "memory_bytes" }, { "agent", "loops" }, { "agent", "outbox_depth" }, { "pins", "age_seconds" },
};

static int hash_view(const cJSON *view, char ret[static HASH_TEXT_SIZE]) {
        _cleanup_json_ cJSON *steady = cJSON_Duplicate(view, true);
        _cleanup_free_ char *text = NULL;

        if (!steady)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTS(flickering); i++)
                cJSON_DeleteItemFromObjectCaseSensitive((cJSON *) json_get(steady, flickering[i].object), flickering[i].member);
        text = json_print(steady);
        if (!text)
                return -ENOMEM;
        hash_text(text, strlen(text), ret);
        return 0;
}

/* ── the beat ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void next_beat(Health *h, uint64_t wait) {
        uint64_t beat = jitter_around(h->heartbeat_usec, JITTER_PERCENT, random_u64()), first = h->changed ? SOON_USEC : beat;

        h->due = now_boottime() + (wait > beat ? wait : beat);
        arm(h, wait > first ? wait : first, h->changed || wait ? USEC_PER_MSEC : SLACK_USEC);
}

/* A beat with nothing new: before its time, where what changed has left nothing to tell, or once where a fleet comes back from an outage. */
static bool waits(Health *h) {
        uint64_t now = now_boottime(), crowded = cp_crowded(h->cp);

        if (h->sent_full)
                return false;
        if (now + SLACK_USEC < h->due)
                arm(h, h->due - now, SLACK_USEC);
        else if (crowded && !TAKE(h->put_off, true)) {
                h->due = now + crowded + jitter_uniform(0, CROWD_USEC, random_u64());
                arm(h, h->due - now, USEC_PER_MSEC);
        } else
                return false;
        return true;
}

static void on_answer(const CpAnswer *a, void *userdata) {
        Health *h = userdata;
        uint64_t wait = cp_pace(h->cp, &h->pace, a->kind);

        h->call = NULL;
        h->put_off = false;
        h->failing = a->kind != CP_OK;
        if (a->kind == CP_OK && !json_get_bool(a->json, "need_full", false)) {
                memcpy(h->acked, h->sent, sizeof h->acked);
                if (h->sent_full)
                        h->full_at = now_boottime();
        } else
                h->acked[0] = 0;                        /* the next beat is a whole one; in its time, for a fleet is asked all at once */
        next_beat(h, wait);
        h->sources.answered(a, h->sources.userdata);
}

static char *body_of(Health *h) {
        _cleanup_json_ cJSON *view = full_view(h), *json = NULL;
        char now[TIME_TEXT_SIZE];

        if (!view || hash_view(view, h->sent) < 0)
                return NULL;
        h->sent_full = strcmp(h->sent, h->acked) != 0 || now_boottime() - h->full_at >= FULL_USEC;
        if (h->sent_full)
                json = TAKE_PTR(view);
        else {
                json = cJSON_CreateObject();
                if (!json_add_bool(json, "unchanged", true))
                        return NULL;
        }
        if (!json_add_string(json, "state_hash", h->sent) || !json_add_u64_text(json, "boot_epoch", h->identity->boot_epoch) ||
            !json_add_string(json, "at", time_text(now_realtime(), now)))
                return NULL;
        return json_print(json);
}

static void beat(Health *h) {
        _cleanup_free_ char *body = NULL;
        char path[80];

        if (!h->open || h->call)
                return;
        h->changed = false;
        body = body_of(h);
        if (body && waits(h))
                return;
        (void) snprintf(path, sizeof path, "/hosts/%s/health", h->identity->host_id);
        if (!body || cp_send(h->cp, &(CpRequest) { .method = "POST", .path = path, .body = body, .call = METRIC_CALL_HEALTH }, on_answer, h, &h->call) < 0) {
                h->changed = true;              /* what there was to tell is not told */
                next_beat(h, USEC_PER_SEC);
        } else
                loops_tick(h->loops, LOOP_HEALTH, 60 * USEC_PER_SEC + cp_held_back(h->cp));
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) s;
        (void) usec;
        beat(userdata);
        return 0;
}

void health_hurry(Health *h) {
        if (health_is_current(h))
                return;
        h->failing = h->changed = false;
        health_changed(h);
}

void health_changed(Health *h) {
        uint64_t due;

        if (h->changed)
                return;
        h->changed = true;
        if (!h->open || h->call || h->failing)
                return;                         /* the beat in flight, or the pace after a failure, comes first */
        if (sd_event_source_get_time(h->timer, &due) >= 0 && due <= now_boottime() + SOON_USEC)
                return;
        arm(h, SOON_USEC, USEC_PER_MSEC);
}

void health_open(Health *h, bool open, uint64_t heartbeat_usec) {
        if (heartbeat_usec)
                h->heartbeat_usec = heartbeat_usec;
        if (open && !h->open) {
                h->due = 0;
                arm(h, 0, USEC_PER_MSEC);
        }
        if (!open) {
                h->call = cp_call_cancel(h->call);
                (void) sd_event_source_set_enabled(h->timer, SD_EVENT_OFF);
                loops_tick(h->loops, LOOP_HEALTH, 0);
        }
        h->open = open;
}

bool health_is_current(const Health *h) { return h->acked[0] && !h->changed && !h->call; }
bool health_is_heard(const Health *h) { return h->open && h->acked[0]; }

int health_new(sd_event *event, Cp *cp, const Identity *identity, Loops *loops, const HealthSources *sources, Health **ret) {
        _cleanup_(health_freep) Health *h = calloc(1, sizeof *h);
        int r;

        if (!h)
                return -ENOMEM;
        *h = (Health) { .cp = cp, .identity = identity, .loops = loops, .sources = *sources, .pace = CP_PACE_INIT, .heartbeat_usec = 30 * USEC_PER_SEC };
        r = sd_event_add_time_relative(event, &h->timer, CLOCK_BOOTTIME, 0, USEC_PER_MSEC, on_timer, h);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(h->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(h);
        return 0;
}

Health *health_free(Health *h) {
        if (!h)
                return NULL;
        (void) cp_call_cancel(h->call);
        sd_event_source_disable_unref(h->timer);
        free(h);
        return NULL;
}
