/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who this host is, and which start of the agent this is. Made once, kept in the state directory; `boot_epoch` grows with every start. */

#include "base/fault.h"
#include "base/text.h"
#include "secrets/keys.h"

typedef struct Identity {
        char     host_id[UUID_SIZE];
        char     machine_id[33];                /* application-specific: never the raw one */
        char     instance_id[64];               /* the cloud's; "": there is none, or it is not known */
        char     region[32], image_id[64];      /* beside it, of this start only */
        char     boot_id[UUID_SIZE];            /* of the kernel's boot */
        uint64_t boot_epoch;
        char     parked_boot_id[UUID_SIZE];     /* the boot in which another machine took this host id over; "" */
        RootChecks roots;                       /* which root keys seal what lies here */
        uint64_t registered_at;                 /* microseconds since the epoch of the first register that was taken; 0: never */
} Identity;

/* Opens the state directory, takes its lock (-EBUSY when another agent has it), sweeps temp files. Returns a descriptor that holds the lock. */
int state_open(const char *path, Fault *reterr);

/* Reads or makes the identity and moves the epoch on, durably. The caller has set instance_id and what is beside it, as far as they are known. A state
 * that was copied from another machine is set aside whole in quarantine/ and a new identity is made; *ret_foreign says so. */
int identity_load(int state_fd, Identity *ret, bool *ret_foreign, Fault *reterr);
int identity_read(int state_fd, Identity *ret, Fault *reterr);          /* as the record has it, and nothing changed: for the tool. -ENOENT */
int identity_save(int state_fd, const Identity *id, Fault *reterr);     /* after roots changed */
/* An operator's word, while the agent does not run. adopt: the state of that host, if it lies in quarantine/, comes back (what is here now goes there), and
 * this machine is that host. reset: what is here goes to quarantine/, and there is a new identity. Both durable when they return 0. */
int identity_adopt(int state_fd, const char *host_id, Fault *reterr);
int identity_reset(int state_fd, Identity *ret, Fault *reterr);

int identity_parked(int state_fd, Identity *id, Fault *reterr);         /* not again in this boot */
int identity_registered(int state_fd, Identity *id, uint64_t now_realtime_usec, Fault *reterr);
