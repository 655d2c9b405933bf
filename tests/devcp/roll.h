/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A roll: one host.redeploy for each tenant, the canary first, then a soak, then batches. It lives in the database, is looked after by a timer, and does not
 * depend on whoever asked for it still being there. Its end is what health shows, not what a report claims.
 *
 * The row's JSON: {roll_id, state: running|succeeded|failed|cancelled, target_tag?, images, scoped, batch_size, max_stragglers, soak_seconds, soak_until?,
 * cancelled, pins_moved, error, stragglers[], tenants[]}; a tenant: {slug, instance_id, provider, phase, job_id?, since?, healthz_ok, verified_on_target,
 * running_image, ssm_status, ssm_exit_code, error}. Phases: waiting, rolling, settling, then verified, failed, straggler or cancelled. */

#include "tests/devcp/server.h"

typedef struct RollPlan {
        const char  *target_tag;        /* NULL: to the pins as they are */
        const cJSON *images;            /* runtime -> reference by digest */
        const cJSON *slugs;             /* in their order, the canary first */
        bool         canary;            /* the first one goes alone */
        bool         scoped;            /* only_slugs: pins stay where they are */
        uint32_t     soak_seconds, batch_size, max_stragglers;
} RollPlan;

/* Begins. -EBUSY: another one is under way. */
int roll_begin(Server *s, const RollPlan *plan, char ret_roll_id[static UUID_SIZE]);

int roll_get(Server *s, const char *roll_id, cJSON **ret);      /* -ENOENT */
int roll_cancel(Server *s, const char *roll_id);                /* no further tenant is begun, those at work are called off. -EALREADY: it has ended */
bool roll_is_open(Server *s);

cJSON *roll_result(const cJSON *tenant, bool dry_run);          /* a tenant as the platform's answer shows it */
cJSON *roll_tenant(Server *s, const char *slug);                /* one that waits; NULL when out of memory */

int  roll_watch(Server *s);                                     /* at start */
void roll_unwatch(Server *s);

int pin_move(Server *s, const char *runtime, const char *image_ref, const char *notes);         /* pins.c */
