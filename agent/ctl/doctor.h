/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of doctor share: what was found out once for all checks, and the checks themselves, one small function each. A check changes nothing, says
 * in one line what is so and what to do, and never a value of a secret. */

#include "agent/config.h"
#include "agent/imds.h"
#include "base/json.h"
#include "engine/engine-json.h"

typedef enum Verdict { FINE, WARNING, BAD, NOT_HERE, _VERDICT_MAX } Verdict;

/* What the control plane answered when it was asked without a credential. */
typedef struct CpLook {
        bool     asked;
        int      error;                         /* as HttpReply has it; -EKEYREJECTED: its certificate is not to be trusted */
        long     status;
        bool     is_json, no_ca;                /* no_ca: ca_file cannot be read */
        uint64_t date_usec, here_usec;          /* its clock and ours at one moment; 0: it does not say */
        uint64_t from_usec, until_usec;         /* its certificate; 0: there is none */
        long     org_status;                    /* of the organization's own page; 0: not asked, or no answer */
        char     org_id[40];                    /* as that page has it; "" */
        char     words[160];
} CpLook;

typedef struct Doctor {
        uint64_t    until;                      /* by now_boottime(): when the round is to be over */
        const char *store;                      /* where the encrypted credentials lie */
        Config     *config;                     /* NULL: it is not valid */
        Fault       config_fault;
        bool        metadata;                   /* there is a metadata service to ask */
        Imds        imds;
        CpLook      cp;
        EngineInfo  engine;                     /* version NULL: it does not answer, or is too old */
        cJSON      *status;                     /* of the daemon; NULL: it does not answer */
        int         pid;                        /* of the daemon; 0 */
        const char *code;                       /* of the check at work; NULL: it has none */
        char        words[400];                 /* and what is so, and what to do */
} Doctor;

/* Fills in the words, with a code or without; returns v. */
Verdict say(Doctor *d, Verdict v, const char *format, ...) __attribute__((format(printf, 3, 4)));
Verdict blame(Doctor *d, Verdict v, const char *code, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* How long a check may wait that would wait for so long: what the round has left, and half a second at least. However many places are dead, it ends. */
uint64_t doctor_patience(const Doctor *d, uint64_t usec);

const char *doctor_state_directory(void);
const char *doctor_runtime_directory(void);

/* doctor-own.c: what this host was given */
Verdict look_configuration(Doctor *d);
Verdict look_credentials(Doctor *d);
Verdict look_identity(Doctor *d);

/* doctor-cloud.c */
Verdict look_metadata(Doctor *d);
Verdict look_hop_limit(Doctor *d);
Verdict look_user_data(Doctor *d);

/* doctor-cp.c */
Verdict look_proxy(Doctor *d);
Verdict look_control_plane(Doctor *d);
Verdict look_certificate(Doctor *d);
Verdict look_clock(Doctor *d);
Verdict look_organization(Doctor *d);

/* doctor-engine.c */
Verdict look_engine(Doctor *d);
Verdict look_live_restore(Doctor *d);
Verdict look_cgroups(Doctor *d);

/* doctor-host.c: after the engine's, which say where the engine keeps things */
Verdict look_disk(Doctor *d);
Verdict look_inodes(Doctor *d);
Verdict look_ballast(Doctor *d);
Verdict look_runtime(Doctor *d);
Verdict look_swap(Doctor *d);
Verdict look_unit(Doctor *d);

/* doctor-agent.c: the daemon's own word; look_agent() is the first of them */
Verdict look_agent(Doctor *d);
Verdict look_memory(Doctor *d);
Verdict look_session(Doctor *d);
Verdict look_pins(Doctor *d);
Verdict look_outbox(Doctor *d);
Verdict look_held(Doctor *d);
