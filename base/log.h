/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Words to the journal where stderr is the journal (with fields to filter by), else to stderr as lines with a time. Library folders
 * never log above debug: they return a fault, and the one who changes a state because of it logs it, once. */

#include <stdbool.h>
#include <syslog.h>

#include "base/fault.h"

/* What a line is about; every member may be NULL. Becomes MOLECULE_JOB_ID=, MOLECULE_WORKSPACE_ID=, MOLECULE_STAGE=,
 * MOLECULE_ERROR_CODE= in the journal and [ws … job …] on stderr. */
typedef struct LogFields {
        const char *workspace_id, *job_id, *stage;
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
