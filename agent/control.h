/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The conversation with the control plane that brings work: register, then one hanging poll after the other, pins when they change. */

#include "agent/cp.h"
#include "agent/loops.h"
#include "provision/pins.h"

typedef struct Control Control;

typedef enum ControlState {
        CONTROL_IDLE,                   /* not enrolled, or stopping */
        CONTROL_REGISTERING,
        CONTROL_POLLING,                /* registered */
        CONTROL_PARKED,                 /* host_id_in_use: not again in this boot */
} ControlState;

typedef struct ControlEvents {
        cJSON *(*register_body)(void *userdata);                        /* all but what control knows itself; owned by control */
        unsigned (*room)(unsigned max, void *userdata);                 /* how many jobs may be delivered now; 0: none can be stored */
        void (*delivery)(const cJSON *delivery, void *userdata);        /* one job, in order */
        void (*registered)(uint64_t heartbeat_usec, void *userdata);
        void (*told_slug)(const char *slug, void *userdata);            /* NULL is fine: the organization's slug, as register says it */
        void (*refreshed)(const char *secret, void *userdata);          /* another provision secret was handed out */
        int  (*challenged)(const char *challenge, Fault *ret, void *userdata);  /* it knows another sealing key: 0 when register_body() can prove ours now */
        void (*changed)(void *userdata);                                /* state() or fault() changed */
        void (*polled)(void *userdata);                                 /* a poll was answered and its jobs were handed on */
        void *userdata;
} ControlEvents;

/* How often control_poll_now() was answered in full, and how often a request was not. Counted from the time of the start, so that no number comes
 * again after another one. */
typedef struct ControlRounds { uint64_t done, failed; } ControlRounds;

/* Everything is borrowed. */
int      control_new(sd_event *event, Cp *cp, Pins *pins, const Identity *identity, Loops *loops, const ControlEvents *events, Control **ret);
Control *control_free(Control *c);
DEFINE_CLEANUP(Control *, control_free)

void         control_start(Control *c, bool once);      /* credentials are there; once: poll without waiting */
void         control_register(Control *c);              /* again, now: the sealing key is another one */
/* Asks at once for all there is, in place of a poll that hangs and of a pause after a failure. Done when rounds.done, or for now failed when
 * rounds.failed, is greater than in the rounds that are returned. */
ControlRounds control_poll_now(Control *c);
ControlRounds control_rounds(const Control *c);

void         control_stop(Control *c);
void         control_answered(Control *c, const CpAnswer *a);   /* what another loop got: unknown host, in use, revoked, auth */
ControlState control_state(const Control *c);
const Fault *control_fault(const Control *c);           /* what stands between us and the control plane; NULL: nothing */
uint64_t     control_fault_since(const Control *c);     /* since when something does, whatever it was first: microseconds since the epoch; 0: nothing */
bool         control_pins_behind(const Control *c);     /* the control plane has spoken of another pin table than the one here; not of one without a row, where none ever was */
uint64_t     control_next_try(const Control *c);        /* microseconds from now; 0: it is at it, or rests */
