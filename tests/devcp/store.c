/* SPDX-License-Identifier: Apache-2.0 */

/* Rows become JSON objects: nearly every row is on its way to an answer, and the rest is read as easily. Statements are prepared once,
 * when first used. */

#include "tests/devcp/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"

static const char *const statement_text[] = {
#define X(symbol, text) [SQL_##symbol] = text,
        STATEMENTS(X)
#undef X
};

struct Store {
        sqlite3      *db;
        sqlite3_stmt *prepared[_STATEMENT_MAX];
};

Store *store_close(Store *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < _STATEMENT_MAX; i++)
                (void) sqlite3_finalize(s->prepared[i]);
        (void) sqlite3_close(s->db);
        free(s);
        return NULL;
}

int store_open(const char *path, Store **ret, Fault *reterr) {
        _cleanup_(store_closep) Store *s = calloc(1, sizeof *s);

        if (!s)
                return -ENOMEM;
        if (sqlite3_open(path, &s->db) != SQLITE_OK || sqlite3_exec(s->db, STORE_SCHEMA, NULL, NULL, NULL) != SQLITE_OK)
                return fault(reterr, -EIO, FAULT_INTERNAL, "cannot open the database '%s': %s", path, sqlite3_errmsg(s->db));
        (void) sqlite3_busy_timeout(s->db, 1000);       /* someone looks at the file with another program */
        *ret = TAKE_PTR(s);
        return 0;
}

static int store_error(Store *s, Statement which) {
        int code = sqlite3_extended_errcode(s->db);

        if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
                return -EEXIST;
        log_error("database: %s (%d), in: %.60s", sqlite3_errmsg(s->db), code, statement_text[which]);
        return -EIO;
}

static int store_bind(Store *s, Statement which, const char *types, va_list ap) {
        sqlite3_stmt *stmt;
        int r = SQLITE_OK;

        if (!s->prepared[which] && sqlite3_prepare_v3(s->db, statement_text[which], -1, SQLITE_PREPARE_PERSISTENT,
                                                      &s->prepared[which], NULL) != SQLITE_OK)
                return store_error(s, which);
        stmt = s->prepared[which];
        for (int i = 1; types[i - 1] && r == SQLITE_OK; i++)
                switch (types[i - 1]) {
                case 's':
                        r = sqlite3_bind_text(stmt, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
                        break;
                case 'i':
                        r = sqlite3_bind_int64(stmt, i, va_arg(ap, int64_t));
                        break;
                case 'b': {
                        const void *data = va_arg(ap, const void *);

                        r = sqlite3_bind_blob64(stmt, i, data, va_arg(ap, size_t), SQLITE_TRANSIENT);
                        break;
                }
                default:
                        r = SQLITE_MISUSE;
                }
        return r == SQLITE_OK ? 0 : store_error(s, which);
}

static bool is_json_column(const char *name) {
        size_t length = strlen(name);

        return length > strlen("_json") && strcmp(name + length - strlen("_json"), "_json") == 0;
}

/* A parsed column keeps its name without the suffix. */
static int row_add_json(cJSON *row, const char *name, const char *text) {
        _cleanup_free_ char *key = strndup(name, strlen(name) - strlen("_json"));
        _cleanup_json_ cJSON *tree = text ? NULL : cJSON_CreateNull();

        if (text && json_parse(text, strlen(text), &tree, NULL) < 0)
                return -EIO;
        return key && tree && json_add_item(row, key, TAKE_PTR(tree)) ? 0 : -ENOMEM;
}

static int row_add(cJSON *row, sqlite3_stmt *stmt, int column) {
        const char *name = sqlite3_column_name(stmt, column);

        if (is_json_column(name))
                return row_add_json(row, name, (const char *) sqlite3_column_text(stmt, column));
        switch (sqlite3_column_type(stmt, column)) {
        case SQLITE_INTEGER:
                return json_add_i64(row, name, sqlite3_column_int64(stmt, column)) ? 0 : -ENOMEM;
        case SQLITE_TEXT:
                return json_add_string(row, name, (const char *) sqlite3_column_text(stmt, column)) ? 0 : -ENOMEM;
        case SQLITE_BLOB: {
                _cleanup_free_ char *text = base64_encode(sqlite3_column_blob(stmt, column), (size_t) sqlite3_column_bytes(stmt, column));

                return text && json_add_string(row, name, text) ? 0 : -ENOMEM;
        }
        default:
                return json_add_string(row, name, NULL) ? 0 : -ENOMEM;
        }
}

static int row_make(sqlite3_stmt *stmt, cJSON **ret) {
        _cleanup_json_ cJSON *row = cJSON_CreateObject();
        int r;

        if (!row)
                return -ENOMEM;
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
                r = row_add(row, stmt, i);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(row);
        return 0;
}

/* Steps to the end, or to max rows, which are added to rows unless that is NULL. */
static int store_step(Store *s, Statement which, cJSON *rows, unsigned max) {
        sqlite3_stmt *stmt = s->prepared[which];
        int code = SQLITE_ROW, r = 0;

        for (unsigned n = 0; n < max && r == 0; n++) {
                _cleanup_json_ cJSON *row = NULL;

                code = sqlite3_step(stmt);
                if (code != SQLITE_ROW)
                        break;
                if (!rows)
                        continue;
                r = row_make(stmt, &row);
                if (r == 0 && !cJSON_AddItemToArray(rows, TAKE_PTR(row)))
                        r = -ENOMEM;
        }
        if (r == 0 && code != SQLITE_ROW && code != SQLITE_DONE)
                r = store_error(s, which);
        (void) sqlite3_reset(stmt);
        (void) sqlite3_clear_bindings(stmt);
        return r;
}

int store_do(Store *s, Statement which, const char *types, ...) {
        va_list ap;
        int r;

        va_start(ap, types);
        r = store_bind(s, which, types, ap);
        va_end(ap);
        return r < 0 ? r : store_step(s, which, NULL, UINT32_MAX);
}

static int store_rows(Store *s, Statement which, unsigned max, cJSON **ret, const char *types, va_list ap) {
        _cleanup_json_ cJSON *rows = cJSON_CreateArray();
        int r;

        if (!rows)
                return -ENOMEM;
        r = store_bind(s, which, types, ap);
        if (r < 0)
                return r;
        r = store_step(s, which, rows, max);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(rows);
        return 0;
}

int store_get(Store *s, Statement which, cJSON **ret_row, const char *types, ...) {
        _cleanup_json_ cJSON *rows = NULL;
        va_list ap;
        int r;

        va_start(ap, types);
        r = store_rows(s, which, 2, &rows, types, ap);          /* 2: so that an UPDATE … RETURNING is stepped to its end */
        va_end(ap);
        if (r < 0)
                return r;
        if (cJSON_GetArraySize(rows) == 0)
                return -ENOENT;
        cJSON_Delete(*ret_row);
        *ret_row = cJSON_DetachItemFromArray(rows, 0);
        return 0;
}

int store_list(Store *s, Statement which, cJSON **ret_rows, const char *types, ...) {
        va_list ap;
        int r;

        va_start(ap, types);
        r = store_rows(s, which, UINT32_MAX, ret_rows, types, ap);
        va_end(ap);
        return r;
}
