/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The pair that the control plane seals secrets to: X25519, kept as keys/host.<key_id>.seal. key_id is "h<N>-<16 hex>": the highest N is the
 * current one, the next the previous, which still opens. Formats: docs/sealed-files.md, "In transit". */

#include "secrets/keys.h"

#define HOST_KEY_ID_SIZE     40
#define HOST_KEY_TEXT_SIZE   45                 /* base64 of 32 bytes */
#define SECRET_BOX_MAX       (SEAL_SECRET_MAX + 1024)   /* bytes of one box: value, context, and the box's own */

typedef struct HostKeys HostKeys;

/* Reads the pairs of this organization and makes the first; another one's stay as they are. Files that do not open are set aside in
 * quarantine; *ret_damaged then says so.
 * secret_undecryptable with the words of keys_fault() where nothing can be sealed. keys is borrowed. */
int       host_keys_open(int state_fd, const Keys *keys, const char *org, HostKeys **ret, Fault *ret_damaged, Fault *reterr);
HostKeys *host_keys_free(HostKeys *h);
DEFINE_CLEANUP(HostKeys *, host_keys_free)

const char *host_keys_id(const HostKeys *h);            /* of the current one */
const char *host_keys_public(const HostKeys *h);        /* base64 */
int         host_keys_rotate(HostKeys *h, Fault *reterr);       /* a new pair is current, the one before is previous, older ones go */

/* What is wrong with the files of the host's keys; returns how many are bad. For `secrets verify`. */
typedef void (*SealedBad)(const char *file, const char *reason, void *userdata);
unsigned    host_keys_verify(int state_fd, const Keys *keys, const char *org, SealedBad bad, void *userdata, unsigned *ret_files);

/* Opens a box and checks that it is for this organization, workspace and name. secret_undecryptable otherwise. */
int host_keys_open_box(const HostKeys *h, const char *sealed_to, const char *workspace, const char *name, const uint8_t *box, size_t size,
                       Secret **ret, Fault *reterr);

/* Answers the control plane's challenge (base64 of a box to a key of ours that it knows) with the proof that is sent as
 * previous_key_proof, base64. secret_undecryptable: it is to none of our keys. */
int host_keys_prove(const HostKeys *h, const char *challenge, char ret[static HOST_KEY_TEXT_SIZE], Fault *reterr);
