/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Why something failed: a stable code and one sentence, fit for the log, the operator and the control plane.
 * Made once, at the place that knows; carried up untouched. A fault's words never hold a value of env, secret, token,
 * config file or foreign body: names, lengths, codes and digests only. */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

/* Every code that may leave the process: X(symbol, wire name, passing trouble, what it means, what to do).
 * The wire names are the platform's (protocol.md, "Error codes"): never renamed, never reused. */
#define FAULT_CODES(X) \
        X(BAD_JSON, "bad_json", false, "The text is not the JSON it should be: malformed, repeated, mistyped or missing fields.", "Mend the sender; a corrected job is a new job.") \
        X(UNSUPPORTED_TYPE, "unsupported_type", false, "This agent does not know the job's type.", "Upgrade the agent, or send a type that register's features name.") \
        X(UNSUPPORTED_FIELD, "unsupported_field", false, "The job has a field this agent does not know or does not carry out.", "Upgrade the agent, or leave the field out.") \
        X(BAD_SIGNATURE, "bad_signature", false, "No trusted key signed the job.", "Compare signing_keys on the host with the control plane's key.") \
        X(WRONG_TENANT, "wrong_tenant", false, "The job is for another organization.", "Look for a routing mistake in the control plane.") \
        X(WRONG_HOST, "wrong_host", false, "The job is for another host.", "Look for a routing mistake in the control plane.") \
        X(UNKNOWN_WORKSPACE, "unknown_workspace", false, "This host has never seen the workspace.", "Provision it first.") \
        X(PRIVILEGED_ENV_FORBIDDEN, "privileged_env_forbidden", false, "The env names a key that must never reach a workspace.", "Take the named keys out of the env.") \
        X(MISSING_REQUIRED_ENV, "missing_required_env", false, "A required env name is absent or empty.", "Set the named keys and send the job again.") \
        X(BAD_ENV, "bad_env", false, "An env name or value breaks the rules, or names what the agent sets itself.", "Mend the named keys.") \
        X(BAD_SECRET, "bad_secret", false, "A secret is no usable value (for example a disclosure marker).", "Set the real value and send the job again.") \
        X(BAD_PATH, "bad_path", false, "A file name would leave its place or overwrite what the workspace owns.", "Mend the named file.") \
        X(TOO_LARGE, "too_large", false, "Something is larger than the limit.", "Send less; the message names the limit.") \
        X(TIER_NOT_ALLOWED, "tier_not_allowed", false, "The tier is above this host's max_tier.", "Use a lower tier, or raise max_tier knowing that tiers 3 and 4 give a workspace the host.") \
        X(RUNTIME_PIN_MISSING, "RUNTIME_PIN_MISSING", false, "No pin names an image for the runtime.", "Promote a pin for the runtime, or send image_ref.") \
        X(IMAGE_REF_NOT_PINNED, "image_ref_not_pinned", false, "The image reference has no sha256 digest.", "Send NAME@sha256:DIGEST.") \
        X(REGISTRY_NOT_ALLOWED, "registry_not_allowed", false, "The image's registry is not in the allow-list.", "Add it to registries, or use an allowed one.") \
        X(IMAGE_AUTH, "image_auth", false, "The registry refused the credentials.", "Refresh registry_auth_file and retry.") \
        X(IMAGE_NOT_FOUND, "image_not_found", false, "The registry does not have that digest.", "Push the image, or correct the pin.") \
        X(IMAGE_RATE_LIMITED, "image_rate_limited", true, "The registry limits the rate of pulls.", "Wait, or use credentials with a higher limit.") \
        X(IMAGE_UNREACHABLE, "image_unreachable", true, "The registry could not be reached.", "Look at the network and the registry; the job may be sent again.") \
        X(IMAGE_DIGEST_MISMATCH, "image_digest_mismatch", false, "What was pulled, or what runs, is not the digest that was asked for.", "Look at the registry: something rewrites images.") \
        X(PULL_STALLED, "pull_stalled", true, "The pull made no progress for too long.", "Look at the network to the registry; the job may be sent again.") \
        X(NO_SPACE, "no_space", true, "There is not enough free disk space.", "molecule-agentctl df shows the disks, gc removes images that nothing needs; else free space or grow the disk. min_free_bytes is kept free.") \
        X(PORT_UNAVAILABLE, "port_unavailable", true, "No port of port_range could be published.", "See which processes hold ports of the range.") \
        X(ENGINE_UNREACHABLE, "engine_unreachable", true, "The container engine does not answer on its socket.", "systemctl status docker; journalctl -u docker.") \
        X(ENGINE_TOO_OLD, "engine_too_old", false, "The engine does not speak API 1.41 or newer.", "Upgrade the engine.") \
        X(ENGINE_ERROR, "engine_error", true, "The engine refused a call or gave an answer that makes no sense.", "Read the engine's words in the message; journalctl -u docker.") \
        X(NAME_CONFLICT, "name_conflict", false, "A container or volume of that name exists and is not ours.", "Remove or rename the stranger.") \
        X(START_FAILED, "start_failed", false, "The container was created but could not be started.", "Read the engine's words; try the image by hand.") \
        X(READINESS_TIMEOUT, "readiness_timeout", false, "The workspace did not become ready in time.", "molecule-agentctl logs WORKSPACE shows its last words; look at what the image does at start.") \
        X(CRASH_LOOP, "crash_loop", false, "The workspace's process keeps ending.", "molecule-agentctl logs WORKSPACE shows its last words; look at the exit code.") \
        X(ROLLED_BACK, "rolled_back", false, "The new version failed and the old one is running again.", "Read the cause in the message.") \
        X(ROLLBACK_FAILED, "rollback_failed", true, "The new version failed and the old one does not run yet; every sweep tries again.", "Read the cause in the message; look at the engine.") \
        X(SECRET_UNDECRYPTABLE, "secret_undecryptable", true, "A secret or a sealed file could not be opened with this host's keys.", "Seal it to the key that register names; for files on the host, molecule-agentctl secrets verify.") \
        X(SEALING_KEY_CONFLICT, "sealing_key_conflict", false, "The control plane knows another sealing key for this host.", "Settle it with an operator's word on the control plane.") \
        X(DRAINING, "draining", true, "The host accepts no new workspaces.", "Undrain it, or place the workspace elsewhere.") \
        X(HELD, "held", true, "A hold forbids changes.", "molecule-agentctl status gives the reason; release ends it.") \
        X(TOO_LATE, "too_late", false, "The job is past the point where it can be cancelled.", "Wait for its outcome.") \
        X(DEADLINE_EXCEEDED, "deadline_exceeded", true, "The job did not end in its time and was undone.", "Look at which step took long; the job may be sent again.") \
        X(STOPPED_EXTERNALLY, "stopped_externally", true, "Someone else stopped the container.", "It is started again after 5 minutes unless held.") \
        X(AUTH_REJECTED, "auth_rejected", true, "The control plane refuses the credentials.", "Compare the provision secret and the admin token with the control plane's.") \
        X(HOST_REVOKED, "host_revoked", false, "The control plane has revoked this host.", "Enrol it again if that was a mistake.") \
        X(HOST_ID_IN_USE, "host_id_in_use", false, "Another machine registered with this host id.", "A cloned disk? Reset the identity of one of the two.") \
        X(UNSUPPORTED_CONTROL_PLANE, "unsupported_control_plane", false, "The control plane lacks the agent protocol.", "Upgrade the control plane.") \
        X(CONTROL_PLANE_MISROUTED, "control_plane_misrouted", true, "The URL is not a control plane's, or its provision secret is unset.", "Check cp_url and cp_prefix; check the control plane's secret.") \
        X(CONTROL_PLANE_UNREACHABLE, "control_plane_unreachable", true, "The control plane could not be asked, or answered what makes no sense.", "Check network, DNS, proxy and TLS; the agent goes on trying, workspaces run on.") \
        X(CLOCK_SUSPECT, "clock_suspect", true, "The clock looks wrong.", "timedatectl; mend time synchronisation.") \
        X(CONFIG_INVALID, "config_invalid", false, "The configuration is not valid.", "molecule-agentd --check names file, line and reason.") \
        X(CREDENTIALS_FOREIGN, "credentials_foreign", false, "The credentials were made for another machine.", "Enrol this host.") \
        X(NOT_ENROLLED, "not_enrolled", false, "There are no credentials for the control plane.", "molecule-agentctl enroll.") \
        X(TORN_DOWN, "torn_down", false, "This host was torn down.", "Enrol it again to use it.") \
        X(STATE_DEGRADED, "state_degraded", true, "The agent cannot write its own state, or the secrets' place in memory; it takes no new jobs, workspaces run on.", "Free disk space or mend the disk below the state directory; for secrets, the tmpfs of the runtime directory.") \
        X(INTERNAL, "internal", true, "The agent itself failed.", "Report it with the log.")

typedef enum FaultCode {
#define X(symbol, name, passing, meaning, advice) FAULT_##symbol,
        FAULT_CODES(X)
#undef X
        _FAULT_CODE_MAX,
} FaultCode;

typedef struct Fault {
        bool      set;
        FaultCode code;
        char      text[400];
} Fault;

/* Fills *f unless it is NULL or already set (the first words win) and returns r, a negative errno. %m speaks of r.
 * The text is made printable: control characters and broken UTF-8 become '?'. */
int fault(Fault *f, int r, FaultCode code, const char *fmt, ...) _printf_(4, 5);

/* Puts words in front of a fault that is set ("while …: "; the ": " is added unless they end in a space); code and r stay. Returns r. */
int fault_prefix(Fault *f, int r, const char *fmt, ...) _printf_(3, 4);

const char *fault_code_name(FaultCode code);            /* the wire name; never NULL */
const char *fault_code_meaning(FaultCode code);
const char *fault_code_advice(FaultCode code);
bool        fault_code_retryable(FaultCode code);       /* passing trouble: the same job may succeed later */
int         fault_code_find(const char *name, FaultCode *ret);  /* -ENOENT */
