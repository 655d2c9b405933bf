/* SPDX-License-Identifier: Apache-2.0 */

/* A pin that moved is fetched before a job asks for it, for each runtime that runs here, one at a time. When a host begins is spread over the fleet by
 * a hash of its id. What fails is not tried again before the pin moves once more or an hour has passed: a job will say why. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "provision/queue-internal.h"

#define AGAIN_USEC (UINT64_C(3600) * USEC_PER_SEC)
#define DONE_MAX   64                           /* digests that were looked for; beyond that the oldest is looked for again */

struct Prefetch {
        Queue           *q;
        sd_event_source *timer;                 /* until this host's turn */
        bool             due, armed;
        ImageWait       *wait;
        char             digest[80];            /* being fetched */
        struct { char digest[80]; uint64_t again_at; } done[DONE_MAX];
        size_t           n_done;
};

/* Where in the spread this host stands: the same place at every change of a pin. */
static uint64_t phase(const Prefetch *p) {
        const char *id = p->q->o.settings->host_id;
        uint64_t spread = p->q->o.settings->prefetch_spread_seconds * USEC_PER_SEC, h = 0;
        char hash[HASH_TEXT_SIZE];

        hash_text(id, strlen(id), hash);
        for (size_t i = 0; i < 12; i++)
                h = h * 16 + (uint64_t) (hash[i] <= '9' ? hash[i] - '0' : hash[i] - 'a' + 10);
        return spread ? h % spread : 0;
}

static bool is_done(const Prefetch *p, const char *digest) {
        for (size_t i = 0; i < ELEMENTS(p->done); i++)
                if (strcmp(p->done[i].digest, digest) == 0)
                        return now_boottime() < p->done[i].again_at;
        return false;
}

static void set_done(Prefetch *p, const char *digest, uint64_t again_at) {
        size_t at = p->n_done++ % DONE_MAX;

        (void) strncpy(p->done[at].digest, digest, sizeof p->done[at].digest - 1);
        p->done[at].again_at = again_at;
}

static void look(Prefetch *p);

static void on_image(int r, const Fault *why, const EngineImage *image, bool pulled, void *userdata) {
        Prefetch *p = userdata;

        (void) image;
        p->wait = NULL;
        if (r == -ENOTCONN)
                return;                         /* with the next look */
        set_done(p, p->digest, r < 0 ? now_boottime() + AGAIN_USEC : UINT64_MAX);
        if (r < 0)
                log_write(LOG_WARNING, &(LogFields) { .fault = why }, "A pinned image could not be fetched ahead: %s: %s",
                          fault_code_name(why->code), why->text);
        else if (pulled)
                log_info("The pinned image %s is here, ahead of its job.", p->digest);
        look(p);
}

/* A pin of a runtime that runs here and was not looked for yet. */
static const Pin *next_pin(const Prefetch *p) {
        const Queue *q = p->q;

        for (size_t i = 0; i < q->n_entries; i++) {
                const Version *v = q->entries[i]->w->settled;
                const Pin *pin = v ? pins_find(q->o.pins, v->runtime, q->o.settings->region) : NULL;

                if (pin && !str_equal(image_ref_digest(v->image_ref), pin->image_digest) && !is_done(p, pin->image_digest) &&
                    image_ref_registry_allowed(pin->image_ref, q->o.settings->registries))
                        return pin;
        }
        return NULL;
}

static void arm(Prefetch *p) {
        if (p->armed)
                return;
        p->armed = true;
        (void) sd_event_source_set_time_relative(p->timer, phase(p));
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
}

static void look(Prefetch *p) {
        Queue *q = p->q;
        const Pin *pin = q->o.settings->prefetch ? next_pin(p) : NULL;

        if (!pin || p->wait || q->stopping || !q->recovered || queue_holds(q, NULL) || queue_is_torn_down(q) ||
            engine_state(q->o.engine) != ENGINE_UP)
                return;
        if (!p->due) {
                arm(p);
                return;
        }
        (void) snprintf(p->digest, sizeof p->digest, "%s", pin->image_digest);
        if (images_ensure(q->o.images, pin->image_ref, pin->image_size_bytes, NULL, on_image, p, &p->wait) < 0)
                set_done(p, p->digest, now_boottime() + AGAIN_USEC);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Prefetch *p = userdata;

        (void) s;
        (void) usec;
        p->armed = false;
        p->due = true;
        look(p);
        return 0;
}

void prefetch_look(Prefetch *p) {
        if (p->due && !p->wait && !next_pin(p))
                p->due = false;                 /* nothing is left: the next change waits for its turn again */
        look(p);
}

int prefetch_new(Queue *q, Prefetch **ret) {
        Prefetch *p = calloc(1, sizeof *p);
        int r;

        if (!p)
                return -ENOMEM;
        p->q = q;
        r = sd_event_add_time_relative(q->o.event, &p->timer, CLOCK_BOOTTIME, 0, USEC_PER_SEC, on_timer, p);
        if (r >= 0)
                r = sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        if (r < 0)
                return prefetch_free(p), r;
        *ret = p;
        return 0;
}

Prefetch *prefetch_free(Prefetch *p) {
        if (!p)
                return NULL;
        (void) image_wait_cancel(p->wait);
        sd_event_source_disable_unref(p->timer);
        free(p);
        return NULL;
}
