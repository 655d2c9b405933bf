/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A workspace's secrets on their way: out of the job, judged, sealed as its generation's set, and handed over in memory. */

#include "provision/settings.h"
#include "provision/workspace.h"

/* Opens every box of the spec and takes its secret-named env, and judges the values: not empty, no NUL, at most 64 KiB each and 256 KiB in sum, no
 * disclosure marker. Nothing is written. secret_undecryptable, bad_secret, too_large. */
int secrets_open(const WorkspaceSpec *s, const Settings *settings, const char *workspace, Arena *arena, SecretSet *ret, Fault *reterr);

/* Makes the hand-over of a generation say what its set says. A set that is absent, damaged or not this spec's is made (anew) from spec, or from the
 * stored payload where spec is NULL. Everything durable before it returns 0. */
int secrets_hand_over(const WorkspaceDir *d, const Settings *settings, const char *workspace, uint64_t generation, const WorkspaceSpec *spec,
                      Fault *reterr);

/* The same before a container that ran already is started again: where its sealed files are damaged but the hand-over is still whole, it may run. */
int secrets_hand_over_again(const WorkspaceDir *d, const Settings *settings, const char *workspace, uint64_t generation, Fault *reterr);

/* The rules for a payload that was accepted before: whose it must be, and nothing that was judged then. */
JobRules secrets_payload_rules(const Settings *settings);
