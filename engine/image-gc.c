/* SPDX-License-Identifier: Apache-2.0 */

#include "engine/image-gc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"

struct ImageGc {
        Engine *engine;
        ImageOwn *own;
        ImageKeeps keeps;
        void *keeps_userdata;
        ImageGcEvents events;
        EngineCall *call;
        char *removing; /* the reference in call */
        bool running;
};

static void next(ImageGc *g);

static void end(ImageGc *g) {
        g->running = false;
        g->events.ended(g->events.userdata);
}

static void on_removed(const EngineAnswer *a, void *userdata) {
        ImageGc *g = userdata;
        _cleanup_free_ char *ref = TAKE_PTR(g->removing);

        g->call = NULL;
        if (a->r == 0) {
                log_write(LOG_NOTICE, &(LogFields) { .event = EVENT_IMAGE_REMOVED }, "Removed the image %s: nothing needs it.", ref);
                image_own_forget(g->own, ref);
        } else if (a->r == -ENOTCONN) {
                end(g);
                return;
        } else {
                log_info("The image %s stays: %s", ref, a->fault.text);
                image_own_tried(g->own, ref);
        }
        next(g);
}

static void next(ImageGc *g) {
        const char *ref = g->events.wants(g->events.userdata) ? image_own_oldest(g->own, g->keeps, g->keeps_userdata) : NULL;

        g->removing = (free(g->removing), ref ? strdup(ref) : NULL);
        if (!ref || !g->removing || engine_image_remove(g->engine, ref, on_removed, g, &g->call) < 0)
                end(g);
}

void image_gc_run(ImageGc *g) {
        if (g->running)
                return;
        g->running = true;
        image_own_begin_round(g->own, g->keeps, now_realtime(), g->keeps_userdata);
        next(g);
}

void image_gc_stop(ImageGc *g) {
        g->call = engine_call_cancel(g->call);
        g->removing = (free(g->removing), NULL);
        g->running = false;
}

ImageOwn *image_gc_own(ImageGc *g) { return g->own; }

ImageGc *image_gc_free(ImageGc *g) {
        if (!g)
                return NULL;
        image_gc_stop(g);
        image_own_free(g->own);
        free(g);
        return NULL;
}

int image_gc_new(Engine *engine, ImageOwn *own, ImageKeeps keeps, void *keeps_userdata, const ImageGcEvents *events, ImageGc **ret) {
        ImageGc *g = calloc(1, sizeof *g);

        if (!g) {
                image_own_free(own);
                return -ENOMEM;
        }
        *g = (ImageGc){ .engine = engine, .own = own, .keeps = keeps, .keeps_userdata = keeps_userdata, .events = *events };
        *ret = g;
        return 0;
}
