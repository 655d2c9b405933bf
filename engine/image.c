/* SPDX-License-Identifier: Apache-2.0 */

/* One pull per digest, however many wait for it.
 *
 *      LOOKING ──there──────────────────────────────> told
 *         └absent─> space? ─yes─> PULLING ─> VERIFYING ─> told
 *                     └no─> MAKING_ROOM ─┘ ^
 *                   passing trouble    v │ back-off
 *                                    WAITING
 *
 * Nothing is said of a pull by how long it takes, only by whether it moves: the time since the last sign of progress is measured over all
 * tries together, so a dead registry and a dead connection end alike. A window without stall_bytes is no progress, a layer that ends or is
 * unpacked is. What was pulled is looked at again, and only its digest makes it the right image. */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/metrics.h"
#include "base/retry.h"
#include "base/text.h"
#include "engine/disk.h"
#include "engine/image-gc.h"
#include "engine/image.h"
#include "engine/registry-auth.h"

#define WATCH_USEC        (5 * USEC_PER_SEC)
#define WATCH_LEAST_USEC  (20 * USEC_PER_MSEC)
#define TELL_USEC         USEC_PER_SEC
#define BACKOFF_BASE_USEC USEC_PER_SEC
#define BACKOFF_CAP_USEC  (15 * USEC_PER_SEC)
#define MIB(bytes)        ((bytes) >> 20)

typedef enum PullState { PULL_LOOKING,
                         PULL_MAKING_ROOM,
                         PULL_PULLING,
                         PULL_WAITING,
                         PULL_VERIFYING,
                         PULL_TELLING } PullState;

typedef struct Pull Pull;
TAILQ_HEAD(WaitList, ImageWait);
TAILQ_HEAD(PullList, Pull);

struct Images {
        sd_event       *event;
        Engine         *engine;
        ImageOptions    options;
        struct PullList pulls;
        ImageGc *gc; /* NULL: nothing is ever removed */
        ImageKeeps keeps;
        void *keeps_userdata;
        bool asked;    /* somebody wants all gone that nothing needs */
        bool pressure; /* the round that runs was begun for the disk's fill, not for a pull */
};

struct Pull {
        Images            *images;
        TAILQ_ENTRY(Pull)  link;
        struct WaitList    waits;
        PullState          state;
        char              *ref;
        uint64_t           size_bytes;
        EngineCall        *call;
        sd_event_source   *timer;               /* PULLING: watches; WAITING: tries again */
        Backoff            backoff;
        Fault              last;                /* what the last try said */
        uint64_t           mark_usec, mark_bytes, mark_steps;           /* the last sign of progress */
        uint64_t           told_usec, round;
        bool               telling, dropped;    /* inside on_progress(); dropped meanwhile */
        bool               pulled;
        PullProgress       progress;
};

struct ImageWait {
        Pull                  *pull;
        TAILQ_ENTRY(ImageWait) link;
        ImageProgress          on_progress;
        ImageDone              done;
        void                  *userdata;
        uint64_t               round;
        bool                   telling;
};

/* ── the life of a pull ──────────────────────────────────────────────────────────────────────────────────────── */

static Pull *pull_free(Pull *p) {
        ImageWait *w;

        if (!p)
                return NULL;
        while ((w = TAILQ_FIRST(&p->waits))) {
                TAILQ_REMOVE(&p->waits, w, link);
                free(w);
        }
        (void) engine_call_cancel(p->call);
        sd_event_source_disable_unref(p->timer);
        if (p->images)
                TAILQ_REMOVE(&p->images->pulls, p, link);
        free(p->ref);
        free(p);
        return NULL;
}
DEFINE_CLEANUP(Pull *, pull_free)

/* Of the try that is over. */
static void count_bytes(Pull *p) { metric_add(METRIC_PULL_BYTES, 0, 0, (double) TAKE(p->progress.bytes, 0)); }

/* Nobody waits any more. Where the pull is on the stack, it goes once that is left. */
static void pull_drop(Pull *p) {
        if (p->state == PULL_TELLING)
                return;
        count_bytes(p);
        p->call = engine_call_cancel(p->call);
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        p->dropped = true;
        if (!p->telling)
                pull_free(p);
}

static void pull_end(Pull *p, int r, const Fault *why, const EngineImage *image) {
        ImageWait *w;

        if (p->pulled || (r < 0 && p->state != PULL_LOOKING))
                metric_add(METRIC_PULLS, r < 0 ? METRIC_RESULT_FAILED : METRIC_RESULT_SUCCEEDED, 0, 1);
        count_bytes(p);
        p->state = PULL_TELLING;
        p->call = engine_call_cancel(p->call);
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        while ((w = TAILQ_FIRST(&p->waits))) {
                TAILQ_REMOVE(&p->waits, w, link);
                w->telling = true;
                w->done(r, r < 0 ? why : NULL, r < 0 ? NULL : image, p->pulled, w->userdata);
                free(w);
        }
        pull_free(p);
}

static void timer_arm(Pull *p, uint64_t usec) {
        (void) sd_event_source_set_time_relative(p->timer, usec);
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
}

/* ── space ───────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Space that cannot be judged is not held against anyone. */
static int space_check(const Images *images, const char *what, uint64_t want, Fault *reterr) {
        const char *root = engine_info(images->engine)->root_dir;
        uint64_t keep = images->options.min_free_bytes;
        Disk disk;

        if (disk_look(root, &disk) < 0 || (disk.free_bytes >= keep && disk.free_bytes - keep >= want))
                return 0;
        return fault(reterr, -ENOSPC, FAULT_NO_SPACE,
                     "No room for %s: below %s %" PRIu64 " MiB are free, it needs %" PRIu64 " MiB, and min_free_bytes keeps %" PRIu64 " MiB.", what,
                     root, MIB(disk.free_bytes), MIB(want), MIB(keep));
}

int images_room(const Images *i, uint64_t bytes, Fault *reterr) { return space_check(i, "the workspace", bytes, reterr); }

/* ── steps ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static const struct { FaultCode code; int r; bool passing; } troubles[] = {
        { FAULT_IMAGE_AUTH,             -EACCES,        false },
        { FAULT_IMAGE_NOT_FOUND,        -ENOENT,        false },
        { FAULT_IMAGE_DIGEST_MISMATCH,  -EBADMSG,       false },
        { FAULT_NO_SPACE,               -ENOSPC,        false },
        { FAULT_IMAGE_RATE_LIMITED,     -EAGAIN,        true  },
        { FAULT_IMAGE_UNREACHABLE,      -EHOSTUNREACH,  true  },
        { FAULT_ENGINE_ERROR,           -EREMOTEIO,     true  },
};

static void pull_begin(Pull *p);

static void mark(Pull *p) {
        p->mark_usec = now_boottime();
        p->mark_bytes = p->progress.bytes;
        p->mark_steps = p->progress.steps;
}

static bool stalled(const Pull *p) {
        return now_boottime() - p->mark_usec >= p->images->options.stall_usec;
}

static void on_looked(const EngineAnswer *a, void *userdata) {
        Pull *p = userdata;
        EngineImage image = {};
        Fault why = a->fault;
        int r = a->r;

        p->call = NULL;
        if (r == 0)
                r = engine_image_parse(a->json, &image, &why);
        if (r == 0 && engine_image_has_digest(&image, image_ref_digest(p->ref))) {
                if (p->images->gc)
                        image_own_used(image_gc_own(p->images->gc), image_ref_digest(p->ref), now_realtime());
                pull_end(p, 0, NULL, &image);
        } else if (r < 0 && r != -ENOENT)
                pull_end(p, r, &why, NULL);
        else if (p->state == PULL_LOOKING)
                pull_begin(p);
        else {
                why = (Fault) {};
                r = fault(&why, -EBADMSG, FAULT_IMAGE_DIGEST_MISMATCH, "what was pulled for %s does not have that digest", p->ref);
                pull_end(p, r, &why, NULL);
        }
        engine_image_done(&image);
}

/* Takes a failure to begin a call as the pull's end; returns r. */
static int pull_look(Pull *p, PullState state) {
        p->state = state;
        return engine_image_inspect(p->images->engine, p->ref, on_looked, p, &p->call);
}

static void pull_fail(Pull *p, int r) {
        Fault why = {};

        (void) fault(&why, r, FAULT_INTERNAL, "cannot ask the engine about %s: %m", p->ref);
        pull_end(p, r, &why, NULL);
}

/* Passing trouble is tried again while there was progress lately; what the last try said counts in the end. */
static void pull_trouble(Pull *p, const Fault *why) {
        uint64_t wait, left, age;
        size_t i = 0;

        while (i < ELEMENTS(troubles) && troubles[i].code != why->code)
                i++;
        if (i == ELEMENTS(troubles) || !troubles[i].passing || stalled(p)) {
                pull_end(p, i == ELEMENTS(troubles) ? -EREMOTEIO : troubles[i].r, why, NULL);
                return;
        }
        p->last = *why;
        p->state = PULL_WAITING;
        age = now_boottime() - p->mark_usec;
        left = p->images->options.stall_usec > age ? p->images->options.stall_usec - age : 0;
        wait = backoff_failure(&p->backoff, random_u64());
        timer_arm(p, wait < left ? wait : left);
}

static void on_pulled(const EngineAnswer *a, void *userdata) {
        Pull *p = userdata;
        int r;

        p->call = NULL;
        count_bytes(p);
        if (a->r == -ENOTCONN || a->r == -ENOMEM) {
                pull_end(p, a->r, &a->fault, NULL);
                return;
        }
        if (a->r < 0) {
                pull_trouble(p, &a->fault);
                return;
        }
        p->pulled = true;
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        r = pull_look(p, PULL_VERIFYING);
        if (r < 0)
                pull_fail(p, r);
}

/* Tells each who waits, who may cancel himself and others meanwhile: after each, the list is read anew. */
static void progress_tell(Pull *p) {
        ImageWait *w;

        p->told_usec = now_boottime();
        p->round++;
        p->telling = true;
        do {
                TAILQ_FOREACH(w, &p->waits, link)
                        if (w->round != p->round)
                                break;
                if (w) {
                        w->round = p->round;
                        if (w->on_progress)
                                w->on_progress(p->progress.bytes, p->progress.total, w->userdata);
                }
        } while (w && !p->dropped);
        p->telling = false;
        if (p->dropped)
                pull_free(p);
}

static void on_progress(void *userdata) {
        Pull *p = userdata;
        uint64_t enough = p->images->options.stall_bytes ?: 1;

        if (p->progress.steps > p->mark_steps || p->progress.bytes >= p->mark_bytes + enough)
                mark(p);
        if (now_boottime() - p->told_usec >= TELL_USEC)
                progress_tell(p);
}

static void watch_arm(Pull *p) {
        uint64_t quarter = p->images->options.stall_usec / 4;

        quarter = quarter < WATCH_LEAST_USEC ? WATCH_LEAST_USEC : quarter;
        timer_arm(p, quarter < WATCH_USEC ? quarter : WATCH_USEC);
}

static int ask_for_it(Pull *p, Fault *reterr) {
        char *auth;
        int r = registry_auth_header(p->images->options.auth_file, p->ref, &auth, reterr);

        if (r < 0)
                return r;
        r = engine_image_pull(p->images->engine, p->ref, auth, &p->progress, on_progress, on_pulled, p, &p->call);
        free(auth); /* wiped: base/heap */
        return r;
}

static int room_check(const Pull *p, Fault *reterr) {
        return space_check(p->images, "the image", p->size_bytes ?: p->images->options.unknown_size_bytes, reterr);
}

static void pull_start(Pull *p);

/* Room is made once for a pull, before it is refused. */
static void pull_begin(Pull *p) {
        if (p->images->gc && room_check(p, NULL) < 0) {
                p->state = PULL_MAKING_ROOM;
                image_gc_run(p->images->gc);
        } else
                pull_start(p);
}

static void pull_start(Pull *p) {
        Fault why = {};
        int r = room_check(p, &why);

        /* On disk before the first byte comes: an image that is not known as ours is never removed. */
        if (r == 0 && p->images->gc)
                r = image_own_add(image_gc_own(p->images->gc), p->ref, now_realtime(), &why);
        if (r < 0) {
                pull_end(p, r, &why, NULL);
                return;
        }
        if (p->mark_usec == 0)
                p->mark_usec = now_boottime();
        p->mark_bytes = p->mark_steps = 0;      /* each try counts from nothing; the time does not */
        p->progress = (PullProgress) {};
        p->state = PULL_PULLING;
        r = ask_for_it(p, &why);
        if (r < 0 && why.set)
                pull_end(p, r, &why, NULL);
        else if (r < 0)
                pull_fail(p, r);
        else
                watch_arm(p);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Pull *p = userdata;
        Fault why = {};
        int r = 0;

        (void) s;
        (void) usec;
        if (p->state == PULL_WAITING) {
                if (stalled(p)) {
                        Fault last = p->last;

                        pull_trouble(p, &last);
                } else
                        pull_begin(p);
                return 0;
        }
        if (p->state != PULL_PULLING)
                return 0;
        r = space_check(p->images, "the image", 0, &why);
        if (r == 0 && stalled(p))
                r = fault(&why, -ETIMEDOUT, FAULT_PULL_STALLED, "the pull of %s made no progress for %" PRIu64 " s", p->ref,
                          p->images->options.stall_usec / USEC_PER_SEC);
        if (r < 0)
                pull_end(p, r, &why, NULL);
        else
                watch_arm(p);
        return 0;
}

/* ── room ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool is_too_full(const Images *i, uint64_t percent) {
        Disk disk;

        return disk_look(engine_info(i->engine)->root_dir, &disk) == 0 && disk.used_percent > percent;
}

static bool wants_room(void *userdata) {
        const Images *i = userdata;
        const Pull *p;

        TAILQ_FOREACH(p, &i->pulls, link)
        if (p->state == PULL_MAKING_ROOM && room_check(p, NULL) < 0)
                return true;
        return i->asked || (i->pressure && is_too_full(i, i->options.gc_low_percent));
}

static void on_room(void *userdata) {
        Images *i = userdata;
        Pull *p = NULL;

        i->pressure = i->asked = false;
        do {
                TAILQ_FOREACH(p, &i->pulls, link)
                if (p->state == PULL_MAKING_ROOM)
                        break;
                if (p)
                        pull_start(p); /* which may end it */
        } while (p);
}

void images_collect(Images *i) {
        if (!i->gc || i->pressure || !is_too_full(i, i->options.gc_high_percent))
                return;
        i->pressure = true;
        image_gc_run(i->gc);
}

void images_collect_all(Images *i) {
        if (!i->gc)
                return;
        i->asked = true;
        image_gc_run(i->gc);
}

bool images_is_collecting(const Images *i) { return i->asked || i->pressure; }

/* What is being made present is needed, whoever else says so. */
static bool keeps(const char *digest, void *userdata) {
        const Images *i = userdata;
        const Pull *p;

        TAILQ_FOREACH(p, &i->pulls, link)
        if (str_equal(image_ref_digest(p->ref), digest))
                return true;
        return i->keeps(digest, i->keeps_userdata);
}

int images_own(Images *i, ImageOwn *own, ImageKeeps others_keep, void *userdata) {
        i->keeps = others_keep;
        i->keeps_userdata = userdata;
        return image_gc_new(i->engine, own, keeps, i, &(ImageGcEvents){ .wants = wants_room, .ended = on_room, .userdata = i }, &i->gc);
}

/* ── the object ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* Pulls that are being told take nobody on any more. */
static Pull *pull_find(Images *i, const char *digest) {
        Pull *p;

        TAILQ_FOREACH(p, &i->pulls, link)
                if (p->state != PULL_TELLING && !p->dropped && str_equal(image_ref_digest(p->ref), digest))
                        return p;
        return NULL;
}

static int pull_new(Images *i, const char *ref, uint64_t size_bytes, Pull **ret) {
        _cleanup_(pull_freep) Pull *p = calloc(1, sizeof *p);
        uint64_t base = i->options.stall_usec / 32;     /* several tries fit, whatever the jitter */
        int r;

        if (!p)
                return -ENOMEM;
        TAILQ_INIT(&p->waits);
        p->size_bytes = size_bytes;
        p->backoff = (Backoff) { .base = base < BACKOFF_BASE_USEC ? base : BACKOFF_BASE_USEC, .cap = BACKOFF_CAP_USEC };
        p->ref = strdup(ref);
        if (!p->ref)
                return -ENOMEM;
        r = sd_event_add_time(i->event, &p->timer, CLOCK_BOOTTIME, UINT64_MAX, 50 * USEC_PER_MSEC, on_timer, p);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(p->timer, "image-pull");
        r = sd_event_source_set_enabled(p->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        p->images = i;
        TAILQ_INSERT_TAIL(&i->pulls, p, link);
        r = pull_look(p, PULL_LOOKING);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

int images_ensure(Images *i, const char *ref, uint64_t size_bytes, ImageProgress progress, ImageDone done, void *userdata,
                  ImageWait **ret) {
        _cleanup_free_ ImageWait *w = NULL;
        Pull *p;
        int r;

        assert(done);
        if (!image_ref_digest(ref))
                return -EINVAL;
        w = calloc(1, sizeof *w);
        if (!w)
                return -ENOMEM;
        p = pull_find(i, image_ref_digest(ref));
        if (!p) {
                r = pull_new(i, ref, size_bytes, &p);
                if (r < 0)
                        return r;
        }
        w->pull = p;
        w->on_progress = progress;
        w->done = done;
        w->userdata = userdata;
        w->round = p->round;
        TAILQ_INSERT_TAIL(&p->waits, w, link);
        if (ret)
                *ret = w;
        TAKE_PTR(w);
        return 0;
}

cJSON *images_view(const Images *i) { return i->gc ? image_own_view(image_gc_own(i->gc), keeps, (void *) i) : cJSON_CreateArray(); }

ImageWait *image_wait_cancel(ImageWait *w) {
        Pull *p;

        if (!w || w->telling)           /* inside its own done() it ends when that returns */
                return NULL;
        p = w->pull;
        TAILQ_REMOVE(&p->waits, w, link);
        free(w);
        if (TAILQ_EMPTY(&p->waits))
                pull_drop(p);
        return NULL;
}

void images_cancel_all(Images *i) {
        Pull *p, *next;

        if (i->gc)
                image_gc_stop(i->gc);
        i->pressure = i->asked = false;
        for (p = TAILQ_FIRST(&i->pulls); p; p = next) {
                ImageWait *w;

                next = TAILQ_NEXT(p, link);
                while ((w = TAILQ_FIRST(&p->waits))) {
                        TAILQ_REMOVE(&p->waits, w, link);
                        free(w);
                }
                if (!p->dropped)
                        pull_drop(p);
        }
}

void images_configure(Images *i, const ImageOptions *options) {
        i->options = *options;
}

Images *images_free(Images *i) {
        Pull *p;

        if (!i)
                return NULL;
        while ((p = TAILQ_FIRST(&i->pulls)))
                pull_free(p);
        image_gc_free(i->gc);
        sd_event_unref(i->event);
        free(i);
        return NULL;
}

int images_new(sd_event *event, Engine *engine, const ImageOptions *options, Images **ret) {
        Images *i = calloc(1, sizeof *i);

        if (!i)
                return -ENOMEM;
        i->event = sd_event_ref(event);
        i->engine = engine;
        i->options = *options;
        TAILQ_INIT(&i->pulls);
        *ret = i;
        return 0;
}
