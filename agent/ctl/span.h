/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

bool span_parse(const char *text, uint64_t *ret_seconds);       /* 90, 90s, 30m, 2h, 1d; false: none of these, or 0 */
