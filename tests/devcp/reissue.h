/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The wanted state as a new job. */

#include "tests/devcp/server.h"

/* Ends the host's open jobs whose secrets are sealed to another key than the host has now, and issues anew what of them is wanted. body: a
 * register, whose open_jobs are left alone; NULL: only jobs of which the host has said nothing yet. */
int reissue_useless(Server *s, const char *org_id, const char *host_id, const cJSON *body);

/* Puts values that were secrets back into spec/env. */
int restore_env(cJSON *spec, const cJSON *secrets);

/* Then, for each workspace wanted on the host that the register's holding lacks or shows lower, a new job; while there is a conflict about
 * the host's key, only for those without secrets. */
int reissue_lost(Server *s, const char *org_id, const char *host_id, const cJSON *body);
