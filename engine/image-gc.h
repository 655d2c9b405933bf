/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Removing images that nothing needs, the least recently needed first, one at a time, for as long as there is a reason to. The engine has the last word: what
 * a container uses, it keeps. */

#include "engine/engine.h"
#include "engine/image-own.h"

typedef struct ImageGc ImageGc;

typedef struct ImageGcEvents {
        bool (*wants)(void *userdata);          /* more is to go; asked before each removal */
        void (*ended)(void *userdata);          /* nothing is wanted any more, or there is nothing left that could go, or the engine went away */
        void *userdata;
} ImageGcEvents;

/* own is owned from here, also when it fails; keeps is asked about digests with keeps_userdata. -ENOMEM. */
int      image_gc_new(Engine *engine, ImageOwn *own, ImageKeeps keeps, void *keeps_userdata, const ImageGcEvents *events, ImageGc **ret);
ImageGc *image_gc_free(ImageGc *g);
DEFINE_CLEANUP(ImageGc *, image_gc_free)

void image_gc_run(ImageGc *g);          /* ended() follows, also at once; nothing new where a round runs already */
void image_gc_stop(ImageGc *g);         /* no ended() */
ImageOwn *image_gc_own(ImageGc *g);
