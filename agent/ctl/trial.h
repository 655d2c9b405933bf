/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Credentials are tried on the control plane before they are kept: with calls that change nothing there. */

#include "agent/config.h"
#include "agent/credentials.h"

/* CTL_OK when the control plane takes both for this organization; else an exit code, with the words in why: 75 where it could not be asked, 1 where it
 * refuses one (auth_rejected) or is none (control_plane_misrouted). */
int trial(const Config *config, const Credentials *credentials, Fault *why);
