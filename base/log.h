/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Words to the journal where stderr is the journal (with fields to filter by), else to stderr as lines with a time. Library folders
 * never log above debug: they return a fault, and the one who changes a state because of it logs it, once. */

#include <stdbool.h>
#include <syslog.h>

#include "base/fault.h"

/* What a line says has happened, for programs: the journal's MESSAGE_ID, and with it the entry in units/molecule-agent.catalog. Ids never change and are
 * never used again. */
#define LOG_EVENTS(X) \
        X(AGENT_STARTED, "b23033c8b1706c8b01873a80737b0ba3") \
        X(AGENT_STOPPING, "8081468027fe047be4ae5762d8c74007") \
        X(CONFIG_READ, "418087644ff9628d5d144e9e59ffe2cc") \
        X(CONFIG_REFUSED, "fd51b49b6c294b34c5753225bba39f8d") \
        X(FOREIGN_STATE, "1ba1eb9f13d0b8ffaec2ef721c4581f9") \
        X(JOB_ACCEPTED, "80295b5183d311c9e6e65217a2ad91f2") \
        X(JOB_STAGE, "8eadd4635fa51b6ea387d52db130bbd2") \
        X(JOB_ENDED, "7db0268843a6232e2dcf840bf51cc143") \
        X(JOB_FAILED, "ec838cb2376a93ef68d4c29056852725") \
        X(WORKSPACE_STARTED, "b5fcba32ea7ca70fa67cc5d539c25957") \
        X(WORKSPACE_MADE_AGAIN, "134a7ef1212c728f4fc9e336afffa52c") \
        X(WORKSPACE_STOPPED, "b256b62f22a77c3f7c64253b901e09f5") \
        X(WORKSPACE_CRASHES, "eac6cb793dabe7fadd9c8d1c2148438e") \
        X(WORKSPACE_CALM, "6e4edfc55611e95642d12670d74cb862") \
        X(ENGINE_UP, "3099ed789590087af31591f1c0d40750") \
        X(ENGINE_LOST, "c3096fb86135cb12d22672c69b123842") \
        X(CONTROL_BACK, "57444d4f74256c339cbf7c7995a8a999") \
        X(CONTROL_LOST, "d490413b7016822ca18438830e3b7702") \
        X(STATE_LOST, "a4f90ea35541a1cdc18728311ed0b1a8") \
        X(STATE_BACK, "2da3df61f4c43bbc6ff4fc212aa8671d") \
        X(HELD, "ddae75ba5c4982c47c605857b4e13d75") \
        X(RELEASED, "8d5c3de0f03ce018754b133bba92cb7f") \
        X(LOCAL_CHANGE, "4f63d21691b7830238bb96038ceead5e") \
        X(IMAGE_REMOVED, "66668e34486f0e8fcf1ff86857243473")

#define LOG_EVENT_NAME(name, id) EVENT_##name,
typedef enum LogEvent { EVENT_NONE, LOG_EVENTS(LOG_EVENT_NAME) _EVENT_MAX } LogEvent;

/* What a line is about; every member may be NULL. Becomes MOLECULE_JOB_ID=, MOLECULE_WORKSPACE_ID=, MOLECULE_STAGE=,
 * MOLECULE_ERROR_CODE= in the journal and [ws … job …] on stderr. */
typedef struct LogFields {
        const char *workspace_id, *job_id, *stage;
        LogEvent event;
        const Fault *fault;             /* its code goes into the field; its words only where fmt says so */
} LogFields;

void log_open(const char *program);                     /* once, at start */
int  log_set_level(const char *name);                   /* "error", "warning", "notice", "info", "debug"; -EINVAL otherwise */
void log_write(int priority, const LogFields *fields, const char *fmt, ...) _printf_(3, 4);

#define log_error(...)   log_write(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...)  log_write(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_DEBUG, NULL, __VA_ARGS__)
