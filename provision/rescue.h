/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a container said, redacted: for a person who asks (console), and the last words of one that failed, kept in <state>/rescue/, one file each,
 * the 16 newest. */

#include "engine/engine.h"
#include "provision/settings.h"
#include "provision/workspace.h"

#define RESCUE_FILES_MAX 16
#define RESCUE_LINES     500
#define RESCUE_BYTES     ((size_t) 256 * 1024)
#define RESCUE_TOLD      ((size_t) 64 * 1024)   /* as much of it goes into a report */

/* How much of the last bytes of a log to leave out when it was cut to max: a line that lost its beginning may be the end of a secret, which would not be
 * found any more. Pure. */
size_t rescue_cut(const char *text, size_t size, size_t max);

/* The engine's answer to a log call, asked with the same max, as text fit to be told; generation says whose secrets to look for. NULL and words where it cannot be made
 * fit (secret_undecryptable: what cannot be redacted is not told). malloc'd. */
char *rescue_text(const WorkspaceDir *d, const char *workspace, uint64_t generation, const EngineAnswer *logs, size_t max, Fault *reterr);

/* Keeps it; the oldest give way. Failure is logged and nothing more: it is a help, not a promise. */
void rescue_keep(const WorkspaceDir *d, const char *workspace, const char *text);
