/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the two files of the engine share: engine.c (what there is, and its life) and engine-api.c (what is asked of it). */

#include "engine/engine-json.h"
#include "tests/sim/sim.h"

#define FILES_HELD 16

typedef struct Kept { char name[64], *data; size_t size; } Kept;

typedef struct Volume {
        TAILQ_ENTRY(Volume) link;
        char   name[100];
        cJSON *labels;
        Kept   files[FILES_HELD];
        size_t n;
} Volume;
TAILQ_HEAD(VolumeList, Volume);

extern struct VolumeList volumes;
extern Request *listener;                       /* of the events; one is enough */

const char *image_digest(int image);
int         image_of(const char *text);         /* whose digest is in it; -1 */
Container  *box_find(const char *id_or_name);
Volume     *volume_find(const char *name);
Volume     *configs_of(const char *workspace);
Kept       *kept_find(Volume *v, const char *name);

void changed(const char *what, Container *b);   /* tells whom it concerns */
void box_begin(Container *b);
void box_end(Container *b, bool by_somebody);
void box_remove(Container *b);
bool has_mounts(const Container *b);            /* what is mounted into it must be there: after a reboot its secrets are not */
