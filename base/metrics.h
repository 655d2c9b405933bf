/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What is counted and measured, as numbers in one static table. Labels are enumerations, so the number of series is known when this is compiled: it is
 * checked in metrics.c. Names get the prefix molecule_agent_. */

#include <stdint.h>
#include <stdio.h>

#define METRIC_PREFIX "molecule_agent_"
#define METRIC_SERIES_MAX     400       /* of one host */
#define METRIC_WORKSPACES_MAX 256       /* with a series of their own */

/* The labels: X(symbol, value). */
#define METRIC_JOB_TYPES(X) \
        X(PROVISION, "workspace.provision") X(DEPROVISION, "workspace.deprovision") X(RESTART, "workspace.restart") X(REDEPLOY, "host.redeploy") \
        X(IMAGE, "image.ensure") X(OTHER, "other")
#define METRIC_OUTCOMES(X) X(SUCCEEDED, "succeeded") X(FAILED, "failed") X(REFUSED, "refused") X(SUPERSEDED, "superseded") X(CANCELLED, "cancelled")
#define METRIC_STEPS(X)    X(IMAGE, "image") X(PREPARE, "prepare") X(SWAP, "swap") X(GATE, "gate") X(UNDO, "undo") X(REMOVE, "remove")
#define METRIC_RESULTS(X)  X(SUCCEEDED, "succeeded") X(FAILED, "failed")
#define METRIC_CALLS(X)    X(REGISTER, "register") X(POLL, "poll") X(REPORTS, "reports") X(HEALTH, "health") X(PINS, "pins")
#define METRIC_STATUSES(X) X(OK, "ok") X(4XX, "4xx") X(5XX, "5xx") X(ERROR, "error")
#define METRIC_STATES(X)   X(PROVISIONING, "provisioning") X(ONLINE, "online") X(DEGRADED, "degraded") X(FAILED, "failed")
#define METRIC_LOOPS(X)    X(CONTROL, "control") X(REPORTS, "reports") X(HEALTH, "health") X(SWEEP, "sweep")
#define METRIC_CODES(X) \
        X(CONFIG_INVALID, "config_invalid") X(STATE_DEGRADED, "state_degraded") X(TORN_DOWN, "torn_down") X(ENGINE_UNREACHABLE, "engine_unreachable") \
        X(ENGINE_TOO_OLD, "engine_too_old") X(SECRET_UNDECRYPTABLE, "secret_undecryptable") X(SEALING_KEY_CONFLICT, "sealing_key_conflict") X(OTHER, "other")

#define METRIC_ENUM(set, list) enum { list(METRIC_ENUM_##set) METRIC_##set##_N }
#define METRIC_ENUM_JOB(symbol, value)     METRIC_JOB_##symbol,
#define METRIC_ENUM_OUTCOME(symbol, value) METRIC_OUTCOME_##symbol,
#define METRIC_ENUM_STEP(symbol, value)    METRIC_STEP_##symbol,
#define METRIC_ENUM_RESULT(symbol, value)  METRIC_RESULT_##symbol,
#define METRIC_ENUM_CALL(symbol, value)    METRIC_CALL_##symbol,
#define METRIC_ENUM_STATUS(symbol, value)  METRIC_STATUS_##symbol,
#define METRIC_ENUM_STATE(symbol, value)   METRIC_STATE_##symbol,
#define METRIC_ENUM_LOOP(symbol, value)    METRIC_LOOP_##symbol,
#define METRIC_ENUM_CODE(symbol, value)    METRIC_CODE_##symbol,
METRIC_ENUM(JOB, METRIC_JOB_TYPES);
METRIC_ENUM(OUTCOME, METRIC_OUTCOMES);
METRIC_ENUM(STEP, METRIC_STEPS);
METRIC_ENUM(RESULT, METRIC_RESULTS);
METRIC_ENUM(CALL, METRIC_CALLS);
METRIC_ENUM(STATUS, METRIC_STATUSES);
METRIC_ENUM(STATE, METRIC_STATES);
METRIC_ENUM(LOOP, METRIC_LOOPS);
METRIC_ENUM(CODE, METRIC_CODES);
#define METRIC_NONE_N 1

/* symbol, kind, name, two labels, help */
#define METRICS(X) \
        X(START_TIME, GAUGE, "start_time_seconds", NONE, NONE, "When the agent started, in seconds since the epoch.") \
        X(MEMORY, GAUGE, "process_resident_memory_bytes", NONE, NONE, "Resident memory of the agent.") \
        X(FDS, GAUGE, "process_open_fds", NONE, NONE, "File descriptors that the agent has open.") \
        X(FOLLOWERS, GAUGE, "events_followers", NONE, NONE, "Connections to the local API that follow events.") \
        X(LOOP_AGE, GAUGE, "loop_age_seconds", LOOP, NONE, "Time since the loop made progress last.") \
        X(LOOP_OVERDUE, GAUGE, "loop_overdue", LOOP, NONE, "1 while the loop makes no progress where it should; the watchdog ends the agent then.") \
        X(DEGRADED, GAUGE, "degraded", CODE, NONE, "1 for each reason for which the agent is degraded; other: a code without a series of its own.") \
        X(JOBS, COUNTER, "jobs_total", JOB, OUTCOME, \
          "Jobs that ended, a local repair as a provision; refused: nothing was touched, also for a conflict and an expired one.") \
        X(JOBS_RUNNING, GAUGE, "jobs_running", NONE, NONE, "Jobs at work.") \
        X(JOB_STEP, SLOW_HISTOGRAM, "job_step_duration_seconds", STEP, NONE, \
          "How long jobs spent in a group of steps: swap is from the stop of the old container to the start of the new, gate until that is ready.") \
        X(WORKSPACES, GAUGE, "workspaces", STATE, NONE, "Workspaces on this host.") \
        X(CRASH_LOOPING, GAUGE, "crash_looping_workspaces", NONE, NONE, "Workspaces whose process keeps ending.") \
        X(PIN_SKEW, GAUGE, "pin_skew_workspaces", NONE, NONE, "Workspaces that run another image than the one their runtime's pin names.") \
        X(PINS_AGE, GAUGE, "pins_age_seconds", NONE, NONE, "Age of the pin table; absent before the first.") \
        X(HELD, GAUGE, "held", NONE, NONE, "1 while a hold forbids changes of the whole host.") \
        X(HELD_WORKSPACES, GAUGE, "held_workspaces", NONE, NONE, "Workspaces that a hold forbids changes of, by their own or by the host's.") \
        X(DRAINING, GAUGE, "draining", NONE, NONE, "1 while the host takes no new workspaces.") \
        X(PULLS, COUNTER, "pulls_total", RESULT, NONE, "Pulls that ended, a pull with its retries being one.") \
        X(PULL_BYTES, COUNTER, "pull_bytes_total", NONE, NONE, "Bytes of image layers that pulls moved.") \
        X(ENGINE_UP, GAUGE, "engine_up", NONE, NONE, "1 while the container engine answers.") \
        X(ENGINE_CALL, FAST_HISTOGRAM, "engine_request_duration_seconds", NONE, NONE, \
          "How long the container engine took to answer, pulls and logs that are followed left out; a stop waits for its container.") \
        X(DISK_FREE, GAUGE, "disk_free_bytes", NONE, NONE, "Free space on the engine's disk.") \
        X(DISK_USED, GAUGE, "disk_used_ratio", NONE, NONE, "Part of the engine's disk that is in use, as df counts it.") \
        X(CP_UP, GAUGE, "control_plane_up", NONE, NONE, "1 while this host is registered and nothing stands between it and the control plane.") \
        X(AUTH_REJECTED, GAUGE, "auth_rejected", NONE, NONE, "1 while the control plane refuses the credentials.") \
        X(CLOCK_SKEW, GAUGE, "clock_skew_seconds", NONE, NONE, "This host's clock minus the control plane's; absent before its first answer.") \
        X(CP_REQUESTS, COUNTER, "cp_requests_total", CALL, STATUS, \
          "Requests to the control plane that ended; register also for what is asked around it, error for no answer or one that makes no sense.") \
        X(CP_RETRIES, COUNTER, "cp_retries_total", NONE, NONE, "Requests to the control plane that failed and are made again.") \
        X(OUTBOX_DEPTH, GAUGE, "outbox_depth", NONE, NONE, "Reports on disk that the control plane has not acknowledged.") \
        X(OUTBOX_OLDEST, GAUGE, "outbox_oldest_seconds", NONE, NONE, "Age of the oldest of them; 0 where there is none.") \
        X(REPORTS_REFUSED, COUNTER, "reports_refused_total", NONE, NONE, "Reports that the control plane would not take.")

typedef enum Metric {
#define X(symbol, kind, name, a, b, help) METRIC_##symbol,
        METRICS(X)
#undef X
        _METRIC_MAX,
} Metric;

/* a, b: the labels' values; 0 where there is no such label. A value out of its range is not counted. */
void   metric_add(Metric m, unsigned a, unsigned b, double n);
void   metric_set(Metric m, unsigned a, unsigned b, double value);      /* NAN: unknown, and left out of what is printed */
void   metric_observe(Metric m, unsigned a, uint64_t usec);     /* of a histogram */
unsigned metric_find(Metric m, const char *value);       /* its first label's value of that name; the last where there is none such */
double metric_get(Metric m, unsigned a, unsigned b);            /* of a histogram: how many were observed */

/* In Prometheus's text format 0.0.4. */
void metrics_print(FILE *to);
void metric_print_head(FILE *to, const char *name, const char *type, const char *help);         /* name: without the prefix */
void metric_print_escaped(FILE *to, const char *value);         /* a label's value, as it stands between the quotes */
