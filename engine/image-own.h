/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Which images are ours to remove, and when each was last needed: those that this agent pulled (the record `images`), and those that the baking of this
 * host's image put there (a file of its own, {"images":["NAME@sha256:…"]}). Any other image on the host is someone else's. */

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/json.h"

#define IMAGE_OWN_MAX 1000              /* beyond it the one that was not needed for longest is no longer known as ours */

typedef struct ImageOwn ImageOwn;
typedef bool (*ImageKeeps)(const char *digest, void *userdata);         /* something needs it */

/* A damaged record, or a preloaded file that makes no sense, is told in *damaged and starts empty: then nothing of it is removed. state_fd is borrowed;
 * preloaded_path may be NULL. -ENOMEM. */
int       image_own_open(int state_fd, const char *preloaded_path, ImageOwn **ret, Fault *damaged);
ImageOwn *image_own_free(ImageOwn *o);
DEFINE_CLEANUP(ImageOwn *, image_own_free)

/* Before a pull begins: what comes is ours. Durable when 0. */
int  image_own_add(ImageOwn *o, const char *ref, uint64_t now_realtime_usec, Fault *reterr);
void image_own_used(ImageOwn *o, const char *digest, uint64_t now_realtime_usec);       /* where it is ours; on disk within the hour */
void image_own_forget(ImageOwn *o, const char *ref);                    /* it is not there any more */
void image_own_tried(ImageOwn *o, const char *ref);                     /* it could not be removed now: not again in this round */
void image_own_begin_round(ImageOwn *o, ImageKeeps keeps, uint64_t now_realtime_usec, void *userdata);    /* what is kept is used now */

cJSON *image_own_view(const ImageOwn *o, ImageKeeps keeps, void *userdata);     /* [{image_ref, used_at?, needed}]; NULL when out of memory */
/* The one that nothing needs and that was not needed for longest, among those not yet tried in this round; NULL: none. Borrowed until the next call. */
const char *image_own_oldest(const ImageOwn *o, ImageKeeps keeps, void *userdata);
