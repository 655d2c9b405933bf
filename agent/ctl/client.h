/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The other end of the local API: one question at a time over the daemon's socket. */

#include <systemd/sd-event.h>

#include "base/http.h"
#include "base/json.h"

typedef struct Client {
        sd_event *event;
        Http     *http;
        char     *socket;               /* $RUNTIME_DIRECTORY/control.sock */
        char     *claims[3];            /* header lines: who says to ask, for the audit record; NULL-terminated */
        uint64_t  timeout_usec;         /* of one question; 30 s unless somebody says otherwise */
} Client;

int  client_open(Client *c);            /* CTL_OK, or an exit code after the reason was printed */
int  client_open_at(Client *c, const char *socket);     /* the same for another server on a unix socket: the engine */
void client_close(Client *c);
#define _cleanup_client_ _cleanup_(client_close)

void client_claims(char **ret_loginuid, char **ret_executable);         /* of this process; NULL where it is not known */

/* body: NULL, or what to send. CTL_OK with the answer, owned by the caller; else an exit code, with the words in why, which has no code of its own where
 * the daemon was not reached. Nothing is printed. */
int client_get(Client *c, const char *path, cJSON **ret, Fault *why);
int client_post(Client *c, const char *path, const void *body, size_t size, cJSON **ret, Fault *why);
int client_post_json(Client *c, const char *path, const cJSON *json, cJSON **ret, Fault *why);

/* An answer that goes on; on_part gets it as it comes and ends it with a negative value, which is CTL_OK. CTL_NOT_RUNNING, too, where it broke off. */
typedef int (*ClientPart)(const char *data, size_t size, void *userdata);
int client_stream(Client *c, const char *path, ClientPart on_part, void *userdata, Fault *why);

void client_tame(cJSON *json);                  /* no text in it has anything that a terminal obeys; answers of client_get() and the like are so */
int client_print(const cJSON *json);            /* one line on stdout; an exit code */
int client_say(int code, const Fault *why);     /* prints the words on stderr and returns code */
