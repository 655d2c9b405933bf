/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A world in one process, for one seed: virtual time and its loop (event.c), the door to the network (door.c), an engine (engine.c), a control plane
 * (cp.c), a judge (model.c), and what goes wrong in it (main.c). The agent in it is the real one, object by object: only base/http*.o and the functions
 * of sd-event, of the clocks and of randomness are others. All chance comes from the seed, so a seed is a history. */

#include <setjmp.h>
#include <sys/queue.h>
#include <systemd/sd-event.h>

#include "base/http.h"
#include "base/json.h"
#include "base/text.h"

#define SIM_ORG     "11111111-1111-4111-8111-111111111111"
#define SIM_SOCKET  "/sim/engine.sock"
#define SIM_CP      "https://cp.sim"
#define SIM_NETWORK "molecule-core-net"
#define SIM_START   UINT64_C(1790000000)        /* the wall clock's first second */
#define MINUTE      (60 * USEC_PER_SEC)
#define HOUR        (60 * MINUTE)

/* ── event.c: time, order, chance ── */

typedef struct Task Task;                       /* something that the world does later; the agent's end does not touch it */

extern uint64_t sim_now;                        /* boottime, microseconds */
extern int64_t  sim_wall_off;                   /* how wrong the host's wall clock is, microseconds */
extern bool     sim_loud;
extern jmp_buf  sim_life;                       /* where a killed agent's stack ends */
extern unsigned sim_kill_in_writes;             /* kill -9 before the so manyth change of the state directory; 0: not */
extern unsigned sim_disk_fails;                 /* of a thousand writes */

void     sim_seed(uint64_t seed);
uint64_t dice(uint64_t n);                      /* 0..n-1 */
uint64_t between(uint64_t low, uint64_t high);
bool     chance(unsigned permille);
uint64_t sim_true_time(void);                   /* microseconds since the epoch, by a clock that is right */
Task    *task_after(uint64_t usec, void (*fn)(void *userdata), void *userdata);
void     world_run(uint64_t until);             /* without an agent */
void     loop_forget(void);                     /* the agent is gone, its sources with it */
void     loop_signal(int signo);                /* from the loop */
_Noreturn void sim_kill(void);                  /* the agent ends here and now */
void     sim_boot(void);                        /* the machine starts anew: another boot id */
void     trace(const char *fmt, ...) _printf_(1, 2);
_Noreturn void wrong(const char *fmt, ...) _printf_(1, 2);      /* an invariant does not hold: the seed ends */

/* ── door.c: requests on their way ── */

typedef enum Side { SIDE_ENGINE, SIDE_CP, SIDE_PROBE, _SIDE_MAX } Side;

typedef struct Request {                        /* of the agent's; outlives its agent until it is answered */
        TAILQ_ENTRY(Request) link;
        unsigned    refs, number;
        Side        side;
        char       *method, *url, *etag;        /* etag: If-None-Match; "" */
        const char *path;                       /* in url, behind host and API version */
        char       *body;
        size_t      size, max;
        HttpDone    done;
        HttpChunk   chunk;
        HttpFlags   flags;
        void       *userdata;
        bool        gone;                       /* nobody waits for it any more */
        bool        telling, answered;
        bool        lose_answer;
        uint64_t    last;                       /* when the last piece of the answer comes: pieces do not overtake each other */
        uint64_t    until;                      /* the servers': end of a long poll */
} Request;

/* In so many of a thousand requests. */
typedef struct Weather { unsigned refuse, lose_request, lose_answer, fail, late, lie; uint64_t delay; } Weather;    /* lie: it says done, and is not */

extern Weather weather[_SIDE_MAX];

void answer(Request *q, int status, const char *etag, char *body /* owned */);
void answer_bytes(Request *q, const void *data, size_t size);
void answer_json(Request *q, int status, cJSON *json /* owned */);
void answer_words(Request *q, int status, const char *words);           /* as the engine refuses */
void answer_piece(Request *q, const char *text);                        /* of a stream that goes on */
void answer_break(Request *q, int error);                               /* the connection ends */
bool client_waits(const Request *q);
void door_forget(void);                         /* the agent is gone: nobody waits for anything */
const char *query_of(const Request *q, const char *name, char *ret, size_t size);       /* unescaped; "" */

/* ── engine.c, engine-api.c ── */

enum { IMAGES_GOOD = 3, IMAGE_BAD = IMAGES_GOOD, IMAGES };
typedef enum BoxState { BOX_CREATED, BOX_RUNNING, BOX_RESTARTING, BOX_EXITED } BoxState;

typedef struct Container {                            /* a container */
        TAILQ_ENTRY(Container) link;
        char     id[65], name[80], workspace[UUID_SIZE], job[UUID_SIZE];
        uint64_t generation, started_at, ready_at;
        cJSON   *labels;
        char    *secrets;                       /* where its secrets are handed over, on the host */
        int      image, exit_code;
        unsigned run, restarts, port, probes;   /* probes: good ones of this run */
        BoxState state;
        bool     stopped;                       /* by somebody: the engine does not start it of itself */
        bool     was_good;                      /* model.c: it served as its job wanted it */
} Container;
TAILQ_HEAD(BoxList, Container);
extern struct BoxList boxes;
extern bool engine_is_up;

void        engine_handle(Request *q);
void        engine_asked(const Request *q);     /* at the moment when it is sent */
void        probe_handle(Request *q);
void        engine_down(bool with_boxes);       /* its socket goes, and what it runs */
void        engine_up(void);
void        engine_hit(void);                   /* somebody else stops, kills or removes a container */
const char *image_ref(int image);
bool        volume_has(const char *workspace, const char *file, const char *content);
unsigned    volumes_of(const char *workspace);
unsigned    boxes_of(const char *workspace, const Container **ret);     /* how many; the last of them, or NULL */
bool        box_has_secret(const Container *b, const char *value);      /* handed over to it now */
bool        box_is_up(const Container *b);

/* ── cp.c ── */

typedef enum JobKind { PROVISION, RESTART, DEPROVISION } JobKind;
typedef enum JobWhat { GOOD, BAD, REFUSED } JobWhat;

typedef struct SimJob {
        char     id[UUID_SIZE];
        unsigned workspace;
        JobKind  kind;
        JobWhat  what;
        uint64_t generation, issue_at, due, done_at;
        int      image;
        bool     prune, secret;
        char    *payload;
        unsigned handed;                        /* so many times */
        bool     reported, delivered;           /* at the control plane: a word of it, its end */
        bool     accepted, good, gone;          /* model.c: it said so; it was seen to serve; nothing was left of the workspace */
        bool     hit, stumbled;                 /* model.c: while it was open, somebody meddled; a call or a write of its workspace failed */
        char     end[16];                       /* as it was said first; "" */
} SimJob;

extern SimJob   sim_jobs[64];
extern unsigned n_sim_jobs, n_workspaces, cp_polls;
extern char     workspace_ids[8][UUID_SIZE];
extern bool     cp_is_up;

void  jobs_make(uint64_t span);
void  cp_handle(Request *q);
void  cp_outage(bool begins);
void  cp_forget(void);                          /* the host: it must register again */
void  file_content(const SimJob *j, char *ret, size_t size);
void  secret_value(const SimJob *j, char *ret, size_t size);

/* ── model.c: what must hold ── */

void model_said(const char *body);              /* reports leave the agent */
void model_engine(const char *what, const Container *b);      /* the engine did that; NULL: nothing that has a name */
void model_create(const char *workspace, uint64_t generation);  /* is asked for */
void model_hit(const Container *b);            /* by somebody else */
void model_stumbles(const char *what);         /* the engine or the disk says no to something with this in its name */
void model_stop(const Container *b);                  /* is asked for: stop, kill, remove */
void model_erase(const char *workspace);         /* is asked for: a volume goes */
bool model_is_settled(char *why, size_t size);  /* everything is as it should be in the end */
