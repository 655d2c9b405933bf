/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTTP for the control plane: libmicrohttpd driven by our event loop, a table of routes, and requests that can wait.
 *
 * A handler looks at the request and the database and either answers (request_answer, request_error, …) or parks the request
 * (request_park) and returns 0; it returns a negative errno when something of ours failed, which becomes 503. It runs inside one
 * transaction (exchange.c). A parked request is level-triggered: its resume function is called again, in a transaction of its own, after
 * server_wake() for its key, at its time, or both, and answers or parks anew. Nobody hands anything to a waiting request: it looks for
 * itself, so nothing is lost however wake-ups and deadlines fall together. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "base/fault.h"
#include "base/json.h"
#include "base/text.h"
#include "tests/devcp/store.h"

#define BODY_MAX        (UINT64_C(1) << 20)
#define BODY_MAX_LARGE  (UINT64_C(32) << 20)           /* a provision's body, and the answer to a poll */

typedef struct Options {
        const char *listen;             /* ADDRESS:PORT, loopback only; port 0 = the kernel chooses */
        const char *database;
        const char *ack_log;            /* NULL: none */
        const char *registry;           /* prefix of image references that a promote leaves out */
        char       *provision_secret;   /* NULL: the provision family is not mounted */
        char       *admin_bearer;
        char       *tls_cert, *tls_key; /* PEM texts; NULL: plain http */
        char       *signing_seed;       /* base64; NULL: nothing is signed */
        bool        pins_unsigned;      /* signs jobs only */
        unsigned    heartbeat_seconds, wait_seconds;
        unsigned    lost_seconds;       /* a host that is not heard of for so long is not waited for */
        unsigned    settle_seconds;     /* after a redeploy's end health must show it */
} Options;

typedef struct Request Request;
typedef struct Server Server;
typedef int (*Handler)(Server *s, Request *q);

struct Signer;
struct MHD_Daemon;
struct MHD_Connection;

struct Server {
        const Options      *options;
        Store              *store;
        struct Signer      *signer;                     /* NULL: nothing is signed */
        sd_event           *event;
        struct Http        *http;                       /* to registries */
        struct Resolve     *resolves;
        sd_event_source    *roll_timer;
        uint64_t            started;                    /* CLOCK_BOOTTIME, microseconds */
        struct MHD_Daemon  *mhd;
        sd_event_source    *io, *timer, *again;         /* microhttpd's epoll, its timer and its "once more at once" */
        int                 listen_fd, ack_fd;
        LIST_HEAD(Parked, Request) parked;
        char                url[64];                    /* where we answer: https://127.0.0.1:PORT */
};

/* Who may call; auth.c says what each means on the wire. */
typedef enum Tier {
        TIER_PUBLIC,
        TIER_CP_ADMIN,
        TIER_TENANT,
        TIER_PROVISION,
        TIER_HOST,
} Tier;

typedef struct Route {
        const char *method;
        const char *path;               /* below the prefix; "*" stands for one part, which becomes Request.parameter */
        Tier        tier;
        Handler     handle;
        uint64_t    body_max;
} Route;

extern const Route routes[];            /* routes.c; ends with {} */

struct Request {
        Server                *server;
        struct MHD_Connection *connection;
        const Route           *route;
        char                   parameter[64];
        char                   org_id[UUID_SIZE];       /* of the tenant whose token came; "" for other tiers */
        bool                   old_prefix;              /* came through /cp */

        char                  *body;                    /* NUL behind it */
        size_t                 size, room;

        int                    status;                  /* 0 until answered */
        char                  *answer;
        char                   etag[40];
        char                   allow[32];               /* with 405 */
        unsigned               retry_after;
        char                  *ack_lines;               /* for the acknowledgement log, written before the answer leaves */

        Handler                resume;                  /* set while parked */
        char                   key[UUID_SIZE];
        uint64_t               wake_at;                 /* CLOCK_BOOTTIME, microseconds */
        bool                   due, gone;               /* gone: the client has hung up */
        sd_event_source       *timer, *hangup;
        LIST_ENTRY(Request)    parked;

        uint64_t               until;                   /* the waiting handler's own: when it gives up, */
        char                   job_id[UUID_SIZE];       /* and which job it follows */
};

int     server_start(const Options *options, Store *store, sd_event *event, Server **ret, Fault *reterr);
Server *server_stop(Server *s);         /* answers everyone who waits with 503 first */
DEFINE_CLEANUP(Server *, server_stop)

/* All parked requests with this key (a host's or a workspace's id), or everyone (NULL), look again in the loop's next turn. */
void server_wake(Server *s, const char *key);

/* request.c: what handlers use. Each returns 0, or -ENOMEM, so that a handler can end with it. */
int request_answer(Request *q, int status, cJSON *json);        /* owns json */
int request_error(Request *q, int status, const char *code, const char *words);         /* words may be NULL */
int request_fault(Request *q, int status, const Fault *f);
int request_park(Request *q, const char *key, uint64_t wake_at, Handler resume);

/* For a function below the handler that has answered: 1 tells its caller that nothing is left to do. */
static inline int answered(int r) {
        return r < 0 ? r : 1;
}

const char *request_header(const Request *q, const char *name);         /* NULL where absent */
const char *request_query(const Request *q, const char *name);
int request_query_u32(const Request *q, const char *name, uint32_t otherwise, uint32_t *ret);     /* -EINVAL */

/* The body as an object of this table. Answers 400 itself and returns 1 when it is not; 0; -ENOMEM. *ret_tree may be NULL. */
int request_body(Request *q, const JsonField table[], JsonStrictness strictness, void *dest, cJSON **ret_tree);

/* auth.c: 0; 1 when it has answered 401; negative errno. Sets q->org_id where the tier names a tenant. */
int auth_check(Server *s, Request *q);
