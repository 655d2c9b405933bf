/* SPDX-License-Identifier: Apache-2.0 */

#include "agent/ctl/span.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

bool span_parse(const char *text, uint64_t *ret) {
        static const struct {
                char unit;
                uint64_t seconds;
        } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
        size_t n = strspn(text, "0123456789");
        char digits[12] = {};
        uint64_t each = text[n] ? 0 : 1;

        if (n == 0 || n >= sizeof digits || (text[n] && text[n + 1]))
                return false;
        memcpy(digits, text, n);
        for (size_t i = 0; i < ELEMENTS(units); i++)
                if (units[i].unit == text[n])
                        each = units[i].seconds;
        if (!each || u64_parse(digits, ret) < 0)
                return false;
        *ret *= each;
        return *ret > 0;
}
