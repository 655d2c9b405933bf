/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The database: SQLite, write-ahead log, every commit fsynced. One request is one transaction, and its answer leaves after the commit
 * (exchange.c), so whatever the control plane has said is true is on disk. */

#include <stdint.h>

#include "base/json.h"
#include "tests/devcp/statements.h"

typedef enum Statement {
#define X(symbol, text) SQL_##symbol,
        STATEMENTS(X)
#undef X
        _STATEMENT_MAX,
} Statement;

typedef struct Store Store;

int    store_open(const char *path, Store **ret, Fault *reterr);
Store *store_close(Store *s);
DEFINE_CLEANUP(Store *, store_close)

/* Runs a statement. types has one letter per parameter: s (const char *, NULL is NULL), i (int64_t), b (const void *, size_t).
 * store_do:   for what it does. 0, or -EEXIST when a unique value is there already.
 * store_get:  its first row as an object; -ENOENT when there is none.
 * store_list: all rows as an array, which may be empty.
 * Otherwise -EIO (the words go to the log: they are ours to mend) or -ENOMEM. */
int store_do(Store *s, Statement which, const char *types, ...);
int store_get(Store *s, Statement which, cJSON **ret_row, const char *types, ...);
int store_list(Store *s, Statement which, cJSON **ret_rows, const char *types, ...);
