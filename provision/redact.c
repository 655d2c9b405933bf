/* SPDX-License-Identifier: Apache-2.0 */

#include "provision/redact.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "provision/env.h"

#define MASK     "***"
#define WORD_MAX 130

/* Every occurrence of a needle gives way to the mask, which is not longer. */
static size_t blank(char *text, size_t size, const char *needle, size_t n) {
        char *from = text, *to = text, *end = text + size, *hit;

        if (n < REDACT_VALUE_MIN)
                return size;
        while ((hit = memmem(from, (size_t) (end - from), needle, n))) {
                memmove(to, from, (size_t) (hit - from));
                to += hit - from;
                to = mempcpy(to, MASK, sizeof MASK - 1);
                from = hit + n;
        }
        memmove(to, from, (size_t) (end - from));
        to += end - from;
        *to = 0;
        return (size_t) (to - text);
}

/* A value of several lines is printed line by line. */
static size_t blank_lines(char *text, size_t size, const char *value, size_t n) {
        const char *line = value, *end = value + n;

        while (line < end) {
                const char *stop = memchr(line, '\n', (size_t) (end - line)) ?: end;

                if (stop - line >= 8)
                        size = blank(text, size, line, (size_t) (stop - line));
                line = stop + 1;
        }
        return size;
}

static ptrdiff_t blank_value(char *text, size_t size, const Secret *value) {
        _cleanup_free_ char *coded = NULL;
        const char *v = secret_text(value);
        size_t whole = value->size;

        while (whole > 0 && (v[whole - 1] == '\n' || v[whole - 1] == '\r'))
                whole--;
        size = blank(text, size, v, whole);
        if (memchr(v, '\n', whole))
                size = blank_lines(text, size, v, whole);
        coded = base64_encode(v, value->size);          /* the heap is wiped when it is freed */
        if (!coded)
                return -ENOMEM;
        return (ptrdiff_t) blank(text, size, coded, strcspn(coded, "="));
}

static bool is_name(char c) { return isalnum((unsigned char) c) || c == '_'; }

/* NAME=value and NAME: value, "NAME":"value": what is assigned to a secret's name goes, whoever gave it. */
static size_t blank_assignments(char *text, size_t size) {
        char *from = text, *to = text, *end = text + size;

        while (from < end) {
                char *name = from, word[WORD_MAX];
                size_t n, gap, value;

                if (!is_name(*from)) {
                        *to++ = *from++;
                        continue;
                }
                while (from < end && is_name(*from))
                        from++;
                n = (size_t) (from - name);
                memmove(to, name, n);
                to += n;
                if (n >= sizeof word)
                        continue;
                memcpy(word, to - n, n);
                word[n] = 0;
                gap = strspn(from, "\"' \t");
                if (!env_name_is_secret(word) || (from[gap] != '=' && from[gap] != ':'))
                        continue;
                gap++;
                gap += strspn(from + gap, "\"' \t");
                value = strcspn(from + gap, "\"' \t\r\n,;&");
                if (value < REDACT_VALUE_MIN)
                        continue;
                memmove(to, from, gap);
                to += gap;
                to = mempcpy(to, MASK, sizeof MASK - 1);
                from += gap + value;
        }
        *to = 0;
        return (size_t) (to - text);
}

static void make_printable(char *text, size_t size) {
        for (size_t i = 0, n; i < size; i += n) {
                n = utf8_length(text + i, size - i);
                if (n == 0 || (n == 1 && iscntrl((unsigned char) text[i]) && text[i] != '\n' && text[i] != '\t')) {
                        text[i] = '?';
                        n = 1;
                }
        }
}

ptrdiff_t redact(const SecretSet *set, char *text, size_t size) {
        ptrdiff_t n = (ptrdiff_t) size;

        for (size_t i = 0; i < set->n && n >= 0; i++)
                n = blank_value(text, (size_t) n, set->items[i].value);
        if (n < 0) {
                explicit_bzero(text, size);
                return n;
        }
        size = blank_assignments(text, (size_t) n);
        make_printable(text, size);
        return (ptrdiff_t) size;
}

const char *text_tail(const char *text, size_t size, size_t max) {
        const char *line;

        if (size <= max)
                return text;
        text += size - max;
        line = memchr(text, '\n', max / 4);
        if (line)
                return line + 1;
        while ((*text & 0xC0) == 0x80)          /* not in the middle of a character */
                text++;
        return text;
}
