/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Changes that this tool makes by itself get into the audit record: through the agent where it runs, else straight. Each is noted before it is made, and made
 * also where it cannot be noted, which is said on stderr. */

#include <stdbool.h>

/* Makes it printable. false, and it was said: it is too long; or required, where there is none and stdin is no terminal. */
bool note_reason(const char *verb, char *reason, bool required);

void ctl_note(const char *verb, const char *reason);            /* nothing where no agent has ever run here */
void ctl_note_locked(int state_fd, const char *verb, const char *reason);       /* the caller has the state's lock */
