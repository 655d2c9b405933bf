/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a bundle is made of while it is made: named texts, all in memory, each of a kind that holds no value of a secret by what it is; and then searched for
 * every value there is, because a program may have printed one. */

#include <systemd/sd-event.h>

#include "agent/config.h"
#include "agent/ctl/client.h"

#define BUNDLE_MAX ((size_t) 64 * 1024 * 1024)

typedef struct Part { char *name, *text; size_t size; } Part;

typedef struct Bundle {
        Part   *parts;
        size_t  n, size;                /* bytes of all texts */
        char  **without;                /* beginnings of names that were not wanted; NULL-terminated, borrowed */
        cJSON  *missing;                /* array of words: what could not be had, and why */
} Bundle;

int  bundle_add(Bundle *b, const char *name, char *text, size_t size);  /* owns text (NULL: out of memory); 0, -ENOMEM, -EFBIG */
int  bundle_add_json(Bundle *b, const char *name, const cJSON *json);
void bundle_missing(Bundle *b, const char *name, const char *why);
void bundle_done(Bundle *b);

int bundle_collect(Bundle *b, Client *client, const Config *c, int state_fd);   /* bundle-parts.c */

/* bundle-journal.c: journal.txt, and timeline/WORKSPACE.txt of what it, the outcomes and the containers say, in the order of time. */
int bundle_journal(Bundle *b, const cJSON *workspaces, const cJSON *outcomes, const cJSON *inspects);

/* bundle-search.c: 0: no value of a secret of this host stands in any part, in clear, in JSON, in base64 or as part of a URL. 1: one does; where was said on
 * stderr by its name. Negative: it could not be found out, and why was said. */
int bundle_search(const Bundle *b, const Config *c, int state_fd);
