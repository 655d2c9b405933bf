/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Making an image present by exact digest, once at a time per digest however many wait for it. */

#include <systemd/sd-event.h>

#include "engine/engine.h"
#include "engine/image-own.h"

typedef struct Images Images;
typedef struct ImageWait ImageWait;     /* one who waits */

typedef struct ImageOptions {
        uint64_t stall_usec;            /* no progress for so long (over all tries of one pull): pull_stalled, or what the last try said */
        uint64_t stall_bytes;           /* … and at least so many bytes within it: 1 MiB */
        uint64_t min_free_bytes;        /* kept free on the engine's disk */
        const char *auth_file;          /* registry credentials, read before each pull; borrowed; NULL: none */
        uint64_t gc_high_percent, gc_low_percent;       /* of the engine's disk in use: images are removed above the first, down to the second */
        uint64_t unknown_size_bytes;    /* what an image of unknown size is taken for: 10 GiB */
} ImageOptions;

/* image: what the engine shows, its RepoDigests hold the digest; NULL when r < 0. pulled: bytes came over the network for it. Borrowed. */
typedef void (*ImageDone)(int r, const Fault *fault, const EngineImage *image, bool pulled, void *userdata);
typedef void (*ImageProgress)(uint64_t bytes, uint64_t total, void *userdata);  /* at most once a second */

int     images_new(sd_event *event, Engine *engine, const ImageOptions *options, Images **ret);
Images *images_free(Images *i);
DEFINE_CLEANUP(Images *, images_free)
void    images_configure(Images *i, const ImageOptions *options);

/* ref: name@sha256:…, already checked. size_bytes 0 = unknown. Looks first and pulls only what is absent; a present digest is never pulled.
 * Free space is checked before a pull (size + min_free_bytes must fit; else room is made, else no_space) and watched during it. Passing registry trouble
 * (unreachable, 429, 5xx, a cut stream) is tried again with back-off while progress is not older than stall_usec; image_auth, image_not_found
 * and image_digest_mismatch end at once. r of done: 0, -ENOTCONN (the engine went away: ask again when it is up), else the fault's.
 * After the last wait on a pull is cancelled, the pull is dropped. */
int        images_ensure(Images *i, const char *ref, uint64_t size_bytes, ImageProgress on_progress, ImageDone done, void *userdata,
                         ImageWait **ret);
ImageWait *image_wait_cancel(ImageWait *w);     /* NULL is fine; returns NULL */
void       images_cancel_all(Images *i);        /* at SIGTERM: pulls are dropped, no done() */

/* From now on images of own (owned from here, also when it fails) that keeps() does not name may be removed: by images_collect(), and before a pull is refused
 * with no_space. Pulls that are under way are kept by whoever waits for them. -ENOMEM. */
int  images_own(Images *i, ImageOwn *own, ImageKeeps keeps, void *userdata);
void images_collect_all(Images *i);             /* whatever the disk's fill: all that nothing needs */
bool images_is_collecting(const Images *i);
cJSON *images_view(const Images *i);            /* ours: [{image_ref, used_at?, needed}]; NULL when out of memory */
void images_collect(Images *i);                 /* where the disk is fuller than it should be */

/* Whether bytes fit on the engine's disk beside what is kept free: 0 or -ENOSPC (no_space). */
int images_room(const Images *i, uint64_t bytes, Fault *reterr);

/* Parts of a reference. */
bool        image_ref_is_pinned(const char *ref);               /* grammar NAME@sha256:64 hex, with a registry part */
const char *image_ref_digest(const char *ref);                  /* "sha256:…" inside ref; NULL without */
bool        image_ref_registry_allowed(const char *ref, const char *const *allowed);   /* an entry is "host[:port]" or "host[:port]/path": a whole-component prefix */
