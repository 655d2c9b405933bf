/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The agent's five calls. */

#include "tests/devcp/server.h"

/* What every call below /hosts/{id} must bring besides credentials: the protocol's number, a host of this tenant, and the boot id that
 * registered last. 0; 1 when it has answered; negative errno. *ret_host may be NULL. */
int host_check(Server *s, Request *q, cJSON **ret_host);

/* 0, or 1 when the request's protocol header is not ours (426 answered). */
int host_check_protocol(Request *q);

/* What the platform calls a workspace that the agent's health or holding shows with this status. NULL for an unknown word. */
const char *workspace_state(const char *status);

int host_register(Server *s, Request *q);       /* register.c */
int host_jobs(Server *s, Request *q);           /* deliver.c */
int host_reports(Server *s, Request *q);        /* reports.c */
int host_health(Server *s, Request *q);         /* health.c */
int host_pins(Server *s, Request *q);           /* pins.c */

/* pins.c: the table as a host sees it, and its ETag with the quotes. */
#define ETAG_SIZE 40
int pins_table(Server *s, char **ret_text, char ret_etag[static ETAG_SIZE]);
