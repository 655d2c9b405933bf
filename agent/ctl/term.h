/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a terminal shows: colour only where it is one and NO_COLOR does not forbid it, ages and sizes in one unit that is enough to act on, tables whose
 * columns are as wide as what is in them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"

typedef enum TermTone { TONE_PLAIN, TONE_GOOD, TONE_WARN, TONE_BAD, TONE_FAINT, _TONE_MAX } TermTone;

bool        term_is_live(void);                 /* stdout is a terminal on which lines can be painted over */
unsigned    term_columns(void);                 /* of stdout; 80 where that is not known */
const char *term_on(TermTone t);                /* the escape that begins it, and the one that ends any; "" where there is no colour */
const char *term_off(void);
TermTone    term_tone(const char *state);       /* of a status, a state of a job, a verdict; NULL is plain */

#define TERM_TEXT_SIZE 32
const char *term_age(uint64_t seconds, char ret[static TERM_TEXT_SIZE]);        /* "14 min" */
const char *term_bytes(uint64_t bytes, char ret[static TERM_TEXT_SIZE]);        /* "3.2 GB" */
bool        term_age_of(const char *rfc3339, char ret[static TERM_TEXT_SIZE]);  /* how long ago; false, and "" in ret: no time */
const char *term_clock(const char *rfc3339, char ret[static TERM_TEXT_SIZE]);   /* "12:03:41" here; of now where NULL */

#define TABLE_COLUMNS_MAX 8
typedef struct Table Table;

/* Titles, NULL-terminated; the column `tone` (-1: none) is coloured by what stands in it. NULL: out of memory; then the rest does nothing. */
Table *table_new(const char *const *titles, int tone);
void   table_row(Table *t, const char *const *cells);   /* as many as there are titles; NULL: "-". Copied */
int    table_print(Table *t);                           /* and frees it; 0, -ENOMEM where something did not fit in memory */
