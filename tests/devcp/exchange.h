/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The stages of one request, for server.c and park.c. */

#include "tests/devcp/server.h"

#define RETRY_SECONDS 2                 /* said with 503 */

/* When the head is there: finds the route, checks the credentials; q->status is set when that is already the end. */
int request_begin(Server *s, Request *q, const char *method, const char *path);

int request_take_body(Request *q, const char *data, size_t size);       /* -ENOMEM */

/* Calls the handler inside one transaction. Afterwards the request is answered or parked, whatever happened. */
void request_run(Server *s, Request *q, Handler handle);

int request_send(Request *q);           /* enum MHD_Result */

/* park.c: sets a parked request aside, and lets it go on. */
int  request_suspend(Server *s, Request *q);         /* negative: it waits for nothing */
void request_unpark(Server *s, Request *q);
