/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/audit.h"
#include "agent/config.h"
#include "agent/ctl/client.h"
#include "agent/ctl/ctl.h"
#include "base/hash.h"
#include "base/text.h"
#include "provision/job.h"

#define MAX_BYTES (UINT64_C(64) << 20)  /* of a host that never had a good configuration */

bool note_reason(const char *verb, char *reason, bool required) {
        if (reason && strlen(reason) > JOB_REASON_MAX) {
                fprintf(stderr, "The reason is longer than %d bytes.\n", JOB_REASON_MAX);
                return false;
        }
        if (reason)
                text_make_printable(reason);
        if (reason || !required || isatty(STDIN_FILENO))
                return true;
        fprintf(stderr, "Where stdin is no terminal, %s takes --reason TEXT: it goes into the record of who did what.\n", verb);
        return false;
}

static void not_noted(const char *why) { fprintf(stderr, "This is not in the audit record, and goes on: %s\n", why); }

/* ── straight ────────────────────────────────────────────────────────────────────────────────────────────────── */

static int append(int state_fd, cJSON *entry, Fault *why) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(audit_freep) Audit *audit = NULL;
        bool known = config_load_good(state_fd, &config, NULL) >= 0;
        int r = audit_open(state_fd, known ? config->audit_max_bytes : MAX_BYTES,
                           faccessat(state_fd, "boot_epoch", F_OK, AT_SYMLINK_NOFOLLOW) == 0, &audit);

        if (r < 0) {
                cJSON_Delete(entry);
                return r;
        }
        return audit_add(audit, "local", entry, why);
}

/* What is made there is to be the agent's. */
void ctl_note_locked(int state_fd, const char *verb, const char *reason) {
        _cleanup_free_ char *loginuid = NULL, *executable = NULL;
        Fault why = {};
        struct stat st;
        uid_t uid = geteuid();
        gid_t gid = getegid();

        client_claims(&loginuid, &executable);
        if (fstat(state_fd, &st) < 0 || hash_init() < 0)
                return not_noted("The state directory cannot be looked at.");
        if (setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0)
                (void) fault(&why, -errno, FAULT_STATE_DEGRADED, "Cannot become the state's owner: %m");
        else
                (void) append(state_fd, audit_local(&(AuditLocal){ .verb = verb, .reason = reason, .uid = getuid(), .claimed_loginuid = loginuid,
                                                                   .claimed_executable = executable }), &why);
        if (seteuid(uid) < 0 || setegid(gid) < 0)
                (void) fault(&why, -errno, FAULT_INTERNAL, "Cannot go back to what this process was: %m");
        if (why.set)
                not_noted(why.text);
}

/* ── through the agent ───────────────────────────────────────────────────────────────────────────────────────── */

static void tell_agent(const char *verb, const char *reason) {
        _cleanup_client_ Client client = {};
        _cleanup_json_ cJSON *body = cJSON_CreateObject(), *answer = NULL;
        Fault why = {};

        if (!body || !json_add_string(body, "verb", verb) || (reason && !json_add_string(body, "reason", reason)) || client_open(&client) != CTL_OK)
                not_noted("There is no memory for it.");
        else if (client_post_json(&client, "/v1/note", body, &answer, &why) != CTL_OK)
                not_noted(why.text);
}

void ctl_note(const char *verb, const char *reason) {
        _cleanup_close_ int state = open(ctl_state_path(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_close_ int lock = state < 0 ? -ENOENT : ctl_lock(state);

        if (lock >= 0)
                ctl_note_locked(state, verb, reason);
        else if (lock == -EWOULDBLOCK)
                tell_agent(verb, reason);
        else if (lock != -ENOENT)
                not_noted(strerror(-lock));
}
