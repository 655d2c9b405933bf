/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What changed on this host, as it changes: a ring of the newest events in memory, each ready as one server-sent event, read by any number of followers at
 * their own pace. One who is too slow is told how many it lost. Format: docs/openapi/local.yaml, /v1/events. */

#include <sys/types.h>

#include "base/json.h"

#define EVENTS_KEPT     256
#define EVENT_SIZE_MAX  4096            /* bytes; of a longer one followers are told that they missed it */

typedef struct Events Events;

typedef struct EventCursor { uint64_t next; size_t offset; } EventCursor;       /* whose turn it is, and how much of it was read */

int     events_new(Events **ret);       /* -ENOMEM */
Events *events_free(Events *e);         /* returns NULL */

void    events_add(Events *e, const char *kind, const cJSON *json);     /* json NULL: out of memory, and followers are told that they missed one */
EventCursor events_cursor(const Events *e, size_t newest);      /* before the newest so many, as far as they are kept */
uint64_t    events_next(const Events *e);                       /* the number of the one that comes next */
EventCursor events_from(const Events *e, uint64_t number);      /* before that one; those that are no longer kept are told as lost */
ssize_t events_read(const Events *e, EventCursor *c, char *to, size_t room);    /* bytes; 0: nothing new; -ESTALE: not to be gone on with */
