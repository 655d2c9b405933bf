/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* libmicrohttpd on our event loop: it brings its own epoll descriptor, our loop watches that and microhttpd's timer. And answers that go on for as long
 * as their reader stays. */

#include <microhttpd.h>
#include <systemd/sd-event.h>

#include "agent/api.h"

typedef struct ApiServer ApiServer;

typedef struct ApiServerOptions {
        int      fd;                    /* listens; owned from here, also on failure */
        unsigned connections_max, streams_max;
        unsigned address_max;           /* connections of one IP address; 0: not counted */
        MHD_AccessHandlerCallback     request;
        MHD_RequestCompletedCallback  completed;
        void    *userdata;
} ApiServerOptions;

int        api_server_start(sd_event *event, const ApiServerOptions *o, ApiServer **ret);      /* -ENOMEM, -EIO */
ApiServer *api_server_stop(ApiServer *s);       /* NULL is fine; returns NULL */

/* A whole answer. text: owned from here; NULL: out of memory, and the connection ends. */
enum MHD_Result api_server_text(struct MHD_Connection *connection, unsigned status, const char *type, char *text);

/* Begins a long answer; source and state as ApiAnswer has them, state owned from here. streams_max are told 503 by the caller, who asks first. */
bool            api_server_has_room(const ApiServer *s);
enum MHD_Result api_server_stream(ApiServer *s, struct MHD_Connection *connection, const char *type, const ApiSource *source, void *state);

unsigned api_server_streams(const ApiServer *s);          /* long answers under way */
void api_server_wake(ApiServer *s);             /* sources may have something to read */
