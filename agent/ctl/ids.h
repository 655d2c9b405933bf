/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An id as a person gives it: whole, or a beginning that only one has. "ws-", as containers are called, may stand before it. */

#include "agent/ctl/client.h"
#include "base/text.h"

typedef enum IdKind { ID_WORKSPACE, ID_JOB } IdKind;

/* A whole id is not looked for. CTL_OK, or an exit code after the reason was printed. */
int id_find(Client *c, IdKind kind, const char *given, char ret[static UUID_SIZE]);

bool id_among(const char *given, const cJSON *list, const char *member);        /* one of the list begins so */

/* Whether it has the form of a beginning of an id, so that it may be one. */
bool id_is_likely(const char *given);

#define ID_SHORT_SIZE 9
const char *id_short(const char *id, char ret[static UUID_SIZE], bool whole);   /* the first 8; NULL is "-" */
void        id_print_all(const cJSON *list, const char *member);                /* one a line */
bool        id_short_will_do(const cJSON *list, const char *member);            /* the first 8 are unique in it */
