/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api.h"
#include "agent/ctl/ctl.h"
#include "base/file.h"
#include "base/text.h"

#define RUNTIME_DEFAULT "/run/molecule-agent"
#define ANSWER_MAX      (8 * 1024 * 1024)
#define TIMEOUT_USEC    (30 * USEC_PER_SEC)

typedef struct Exchange {
        Client *client;
        cJSON **ret;
        Fault *why;
        int code;
        bool done;
        ClientPart on_part;             /* of a stream; with userdata */
        void *userdata;
        bool begun, stopped;            /* something came of it; on_part ended it */
} Exchange;

/* The login that this process descends from, and what it runs: the agent takes them down as our word. */
void client_claims(char **ret_loginuid, char **ret_executable) {
        char executable[256];
        ssize_t n = readlink("/proc/self/exe", executable, sizeof executable - 1);
        size_t size;

        *ret_loginuid = *ret_executable = NULL;
        (void) file_read_path("/proc/self/loginuid", 16, ret_loginuid, &size);
        if (n <= 0)
                return;
        executable[n] = 0;
        text_make_printable(executable);
        *ret_executable = strdup(executable);
}

static void claim(Client *c) {
        _cleanup_free_ char *loginuid = NULL, *executable = NULL;
        size_t at = 0;

        client_claims(&loginuid, &executable);
        if (loginuid && (c->claims[at] = str_printf(API_CLAIMED_LOGINUID ": %s", loginuid)))
                at++;
        if (executable)
                c->claims[at] = str_printf(API_CLAIMED_EXECUTABLE ": %s", executable);
}

int client_open(Client *c) {
        _cleanup_free_ char *socket = str_printf("%s/" API_SOCKET, getenv("RUNTIME_DIRECTORY") ?: RUNTIME_DEFAULT);

        return client_open_at(c, socket ?: "");
}

int client_open_at(Client *c, const char *socket) {
        *c = (Client){ .socket = strdup(socket), .timeout_usec = TIMEOUT_USEC };
        if (c->socket && sd_event_new(&c->event) >= 0 && http_new(c->event, &c->http) >= 0) {
                claim(c);
                return CTL_OK;
        }
        client_close(c);
        fputs("Out of memory.\n", stderr);
        return CTL_FAILED;
}

void client_close(Client *c) {
        http_free(c->http);
        sd_event_unref(c->event);
        free(c->socket);
        for (size_t i = 0; i < ELEMENTS(c->claims); i++)
                free(c->claims[i]);
        *c = (Client){};
}

static int not_reached(const Exchange *x, const HttpAnswer *a) {
        const char *socket = x->client->socket;

        if (x->begun) {
                (void) fault(x->why, a->error, FAULT_INTERNAL, "The answer broke off.");
                return CTL_NOT_RUNNING;
        }

        switch (a->error) {
        case -ENOENT:
        case -ECONNREFUSED:
                (void) fault(x->why, a->error, FAULT_INTERNAL, "The agent does not run: nobody listens on %s. systemctl status molecule-agentd says more.", socket);
                return CTL_NOT_RUNNING;
        case -EACCES:
                (void) fault(x->why, a->error, FAULT_INTERNAL, "You may not speak to the agent through %s: that is for root and the agent's group.", socket);
                return CTL_REFUSED;
        case -ETIMEDOUT:
                (void) fault(x->why, a->error, FAULT_INTERNAL, "The agent did not answer on %s in time.", socket);
                return CTL_TIMED_OUT;
        default:
                (void) fault(x->why, a->error, FAULT_INTERNAL, "The agent could not be asked through %s: %s", socket, a->words);
                return CTL_FAILED;
        }
}

static int refused(const Exchange *x, const HttpAnswer *a, const cJSON *json) {
        static const struct {
                const char *error;
                int code;
        } table[] = {
                { "forbidden", CTL_REFUSED },
                { "held", CTL_REFUSED },
                { "not_enrolled", CTL_CONFIG },
                { "credentials_foreign", CTL_CONFIG },
        };
        const char *error = json_get_string(json, "error") ?: "", *words = json_get_string(json, "message");
        FaultCode code;

        if (fault_code_find(error, &code) < 0)
                code = FAULT_INTERNAL;
        (void) fault(x->why, -EPROTO, code, "%s", words ?: "The agent's answer makes no sense.");
        for (size_t i = 0; i < ELEMENTS(table); i++)
                if (strcmp(table[i].error, error) == 0)
                        return table[i].code;
        return a->status == 503 ? CTL_TRY_AGAIN : CTL_FAILED;
}

void client_tame(cJSON *json) {
        cJSON *item;

        if (cJSON_IsString(json))
                text_make_printable(json->valuestring);
        cJSON_ArrayForEach(item, json)
                client_tame(item);
}

static void on_answer(const HttpAnswer *a, void *userdata) {
        Exchange *x = userdata;
        _cleanup_json_ cJSON *json = NULL;

        x->done = true;
        if (x->stopped)
                return;
        if (a->error < 0)
                x->code = not_reached(x, a);
        else if (x->on_part && a->status == 200)
                return;
        else if (json_parse_values(a->body, a->size, 10 * JSON_VALUES_MAX, &json, NULL) < 0 || a->status != 200)
                x->code = refused(x, a, json);
        else {
                client_tame(json);
                *x->ret = TAKE_PTR(json);
        }
}

static int exchange(Exchange *x, HttpRequest *q, const char *path) {
        Client *c = x->client;
        _cleanup_free_ char *url = str_printf("http://localhost%s", path);

        q->url = url;
        q->socket_path = c->socket;
        q->headers = (const char *const *) c->claims;
        q->answer_max = ANSWER_MAX;
        if (!url || http_send(c->http, q, on_answer, x, NULL) < 0) {
                (void) fault(x->why, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
                return CTL_FAILED;
        }
        while (!x->done)
                if (sd_event_run(c->event, UINT64_MAX) < 0)
                        return CTL_FAILED;
        return x->code;
}

static int call(Client *c, HttpRequest *q, const char *path, cJSON **ret, Fault *why) {
        Exchange x = { .client = c, .ret = ret, .why = why };

        *ret = NULL;
        q->timeout_usec = c->timeout_usec;
        return exchange(&x, q, path);
}

static int on_part(const void *data, size_t size, void *userdata) {
        Exchange *x = userdata;
        int r = x->on_part(data, size, x->userdata);

        x->begun = true;
        x->stopped |= r < 0;
        return r;
}

int client_stream(Client *c, const char *path, ClientPart part, void *userdata, Fault *why) {
        _cleanup_json_ cJSON *refusal = NULL;
        Exchange x = { .client = c, .ret = &refusal, .why = why, .on_part = part, .userdata = userdata };

        return exchange(&x, &(HttpRequest){ .chunk = on_part, .flags = HTTP_KEEP_BODY }, path);
}

int client_get(Client *c, const char *path, cJSON **ret, Fault *why) { return call(c, &(HttpRequest){}, path, ret, why); }

int client_post(Client *c, const char *path, const void *body, size_t size, cJSON **ret, Fault *why) {
        HttpRequest q = { .method = "POST", .content_type = "application/json", .body = body, .body_size = size };

        return call(c, &q, path, ret, why);
}

int client_post_json(Client *c, const char *path, const cJSON *json, cJSON **ret, Fault *why) {
        _cleanup_free_ char *text = json ? json_print(json) : NULL;

        *ret = NULL;
        if (!text) {
                (void) fault(why, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
                return CTL_FAILED;
        }
        return client_post(c, path, text, strlen(text), ret, why);
}

int client_print(const cJSON *json) {
        _cleanup_free_ char *text = json ? json_print(json) : NULL;

        if (!text) {
                fputs("Out of memory.\n", stderr);
                return CTL_FAILED;
        }
        puts(text);
        return CTL_OK;
}

int client_say(int code, const Fault *why) {
        if (why->set && why->code != FAULT_INTERNAL)
                fprintf(stderr, "%s: %s\n", fault_code_name(why->code), why->text);
        else if (why->set)
                fprintf(stderr, "%s\n", why->text);
        return code;
}
