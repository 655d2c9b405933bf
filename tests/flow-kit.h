/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A queue whose engine is a world behind a socket: a job is said, time goes on where nothing happens, and it ends. */

#include "tests/clock.h"
#include "tests/queue-kit.h"
#include "tests/world-kit.h"

#define FLOW_SPEC(files) \
        "{\"runtime\":\"codex\",\"platform_url\":\"https://p.example\",\"restart\":true,\"env\":{\"MY_TOKEN\":\"x\"}," \
                    "\"config_files\":{\"config.yaml\":\"" files "\",\"b.md\":\"" files "\"},\"template_assets\":{\"prompts/deep/a.md\":\"eA==\",\"prompts/deep/c.md\":\"eA==\",\"prompts/d.md\":\"\"}}"

static Server server;
static QueueKit k;

static inline Entry *entry(void) { return queue_find(k.q, KIT_WORKSPACE); }

/* Time goes on where nothing happens: a second in a hundredth of it, so that a machine that is busy misses no deadline of ours. Who has none may have
 * it go faster. */
static uint64_t flow_second = 10000;            /* microseconds */

static inline bool turn_until(bool (*done)(void)) {
        for (int idle = 0; idle < 3000 && !done();) {
                int r = sd_event_run(k.event, flow_second);

                if (r < 0)
                        return false;
                if (r == 0) {
                        idle++;
                        clock_push(USEC_PER_SEC);
                }
        }
        return done();
}

static inline bool is_recovered(void) { return k.q->recovered; }

static inline bool is_final(void) {
        static const char *const finals[] = { "succeeded", "failed", "refused", "superseded", "cancelled" };

        for (size_t i = 0; i < ELEMENTS(finals); i++)
                if (strstr(k.told, finals[i]))
                        return true;
        return false;
}

static inline unsigned running(void) {
        unsigned n = 0;

        for (int i = 0; i < WORLD_THINGS; i++)
                n += world->containers[i].there && world->containers[i].running;
        return n;
}

static inline bool is_settled_running(void) {
        const Version *s = entry()->w->settled;
        const WorldThing *t = s ? world_find(world->containers, s->container_id) : NULL;

        return t && t->running && running() == 1;
}

static inline bool is_swapping(void) { return entry()->w->work && entry()->w->work->phase == WORK_SWAPPING; }

/* No job is left, and just one container runs, the settled one; or none where nothing is settled. */
static inline bool is_over(void) {
        const Entry *e = entry();

        return e && !e->flow && !e->w->work && !e->w->next && !e->final && (e->w->settled ? is_settled_running() : running() == 0);
}

static inline bool is_at_rest(void) { return is_final() && !entry()->flow && !entry()->w->work && !entry()->final; }

static inline void fresh(void) {
        world->page_status = 200;
        world->present = true;
        world->no_command = world->crash = world->other_image = world->large = world->bare = world->restarting =
                world->other_listed = world->entrypoint = false;
        world->late = world->barred = world->taken = 0;
        for (int i = 0; i < WORLD_THINGS; i++)
                world->containers[i].dead = world->containers[i].barred = false;
        world->wrong_at = world->wrong_left = world->wrongs = world->asked = 0;
}

/* The world and the queue as at first: nothing of any workspace, and a port where the world's own page answers. */
static inline void begin_anew(void) {
        while (k.q->n_entries > 0) {
                (void) unlinkat(k.q->dir.fd, k.q->entries[0]->w->id, 0);
                queue_remove(k.q, k.q->entries[0]);
        }
        memset(world, 0, sizeof *world);
        fresh();
        CHECK(queue_add(k.q, workspace_new(KIT_WORKSPACE, 1)) != NULL);
        entry()->w->port = (uint16_t) server.port;
        (void) kit_told(&k);
}

static inline void start(void) {
        world_prepare();
        server_prepare(&server);
        server_start(&server, world_serve);
        kit_start_at(&k, server.socket);
        k.settings.engine_wait_seconds = 30;
        k.settings.probe_timeout_seconds = k.settings.job_deadline_seconds = 7200;
        fresh();
        CHECK_INT(engine_start(k.engine), 0);
        CHECK(turn_until(is_recovered));
        begin_anew();
}

/* The process ends where it stands, and a new one finds what is on the disk. */
static inline void start_anew(void) {
        kit_down(&k);
        kit_up(&k, server.socket);
        CHECK_INT(engine_start(k.engine), 0);
}

/* The same, where the engine is known at once. */
static inline void start_again(void) {
        kit_restart(&k);
        queue_engine_state(k.q, engine_state(k.engine));
}

static inline void stop(void) {
        kit_stop(&k);
        server_end(&server);
}

static uint64_t generation;

static inline void say(const char *type, const char *spec) {
        uint64_t next = ++generation;
        _cleanup_json_ cJSON *delivery = kit_delivery(&(Say) { .type = type, .spec = spec, .generation = next });

        entry()->w->port = (uint16_t) server.port;
        queue_admit(k.q, delivery, k.time);
}

static inline const char *last_told(void) { return strrchr(k.told, ' ') ? strrchr(k.told, ' ') + 1 : k.told; }

static inline const char *ended(const char *type, const char *spec) {
        (void) kit_told(&k);
        say(type, spec);
        CHECK(turn_until(is_at_rest));
        return last_told();
}

/* What is made ends at once, and what is there does not come up again. */
static inline void prepare_crash_for_good(void) {
        world->crash = true;
        for (int i = 0; i < WORLD_THINGS; i++)
                world->containers[i].dead = world->containers[i].there;
}
