/* SPDX-License-Identifier: Apache-2.0 */

/* The guard in front of cJSON: one pass over the bytes, no recursion, no allocation.
 *
 * Names are found twice by an open-addressing table (static: there is one thread) that holds only the names of objects that are still
 * open: at most JSON_DEPTH_MAX × JSON_NAMES_MAX. They come and go like the objects themselves, last in first out, so taking them out
 * again is clearing their slots in reverse order, without tombstones. What is compared are decoded characters ("a" is "\u0061"). The
 * hash is a polynomial over the prime field 2^61-1 at a random point: whoever writes the document cannot make names collide, hence
 * names are compared in full only when they are (but for 1 in 2^32) equal, and the whole check takes time linear in its size. */

#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/retry.h"
#include "base/text.h"

#define NAMES_OPEN_MAX (JSON_DEPTH_MAX * JSON_NAMES_MAX)
#define SLOTS_MAX      (2 * NAMES_OPEN_MAX)
#define NUMBER_MAX     63                               /* as many characters as cJSON takes for one number */
#define INTEGER_MAX    (UINT64_C(1) << 53)
#define PRIME          ((UINT64_C(1) << 61) - 1)

_Static_assert(NAMES_OPEN_MAX < UINT16_MAX, "a slot holds 1 + the index of a name");
_Static_assert((SLOTS_MAX & (SLOTS_MAX - 1)) == 0, "slots are found by masking");

typedef struct Name {
        uint32_t offset;                                /* of the first byte behind the opening quote */
        uint32_t tag;                                   /* upper part of the hash; the lower one chose the slot */
        uint32_t slot;
} Name;

typedef struct Check {
        const char *start, *at, *end;
        const char *why;                                /* the first reason to refuse; at points to the place */
        size_t      values, values_max;
        unsigned    depth;
        struct { bool object; uint32_t first_name; } open[JSON_DEPTH_MAX];
        uint64_t    point;                              /* where the polynomial is taken */
        uint32_t    n_names, mask;
        Name        names[NAMES_OPEN_MAX];
        uint16_t    slots[SLOTS_MAX];                   /* only mask + 1 of them are in use */
} Check;

static bool refuse(Check *c, const char *at, const char *why) {
        c->at = at;
        c->why = why;
        return false;
}

static void skip_space(Check *c) {
        while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
                c->at++;
}

static bool take(Check *c, char wanted) {
        if (c->at >= c->end || *c->at != wanted)
                return false;
        c->at++;
        return true;
}

/* ── strings ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool take_hex4(const char **p, const char *end, uint32_t *ret) {
        uint32_t v = 0;

        if (end - *p < 4)
                return false;
        for (int i = 0; i < 4; i++, (*p)++) {
                char ch = **p, low = ch | 0x20;

                if (ch >= '0' && ch <= '9')
                        v = v << 4 | (uint32_t) (ch - '0');
                else if (low >= 'a' && low <= 'f')
                        v = v << 4 | (uint32_t) (low - 'a' + 10);
                else
                        return false;
        }
        *ret = v;
        return true;
}

/* What follows a backslash. NULL, or the reason. */
static const char *take_escape(const char **p, const char *end, uint32_t *ret) {
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        const char *known;
        uint32_t high, low;

        if (*p >= end)
                return "the text ends inside a string";
        if (**p != 'u') {
                known = memchr(names, **p, sizeof names - 1);
                if (!known)
                        return "an unknown escape";
                *ret = (unsigned char) values[known - names];
                (*p)++;
                return NULL;
        }

        (*p)++;
        if (!take_hex4(p, end, &high))
                return "\\u without four hexadecimal digits";
        if (high == 0)
                return "U+0000";
        if (high >= 0xdc00 && high <= 0xdfff)
                return "half a surrogate pair";
        if (high >= 0xd800 && high <= 0xdbff) {
                if (end - *p < 2 || (*p)[0] != '\\' || (*p)[1] != 'u')
                        return "half a surrogate pair";
                *p += 2;
                if (!take_hex4(p, end, &low) || low < 0xdc00 || low > 0xdfff)
                        return "half a surrogate pair";
                high = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        }
        *ret = high;
        return NULL;
}

#define STRING_END UINT32_MAX

/* The next character of a string, decoded, or STRING_END behind the closing quote. NULL, or the reason. */
static const char *take_char(const char **p, const char *end, uint32_t *ret) {
        unsigned char ch;
        uint32_t v;
        size_t n;

        if (*p >= end)
                return "the text ends inside a string";
        ch = (unsigned char) **p;
        if (ch == '\\') {
                (*p)++;
                return take_escape(p, end, ret);
        }
        if (ch < 0x20)
                return "a raw control character in a string";
        if (ch < 0x80) {
                (*p)++;
                *ret = ch == '"' ? STRING_END : ch;
                return NULL;
        }

        n = utf8_length(*p, (size_t) (end - *p));
        if (n == 0)
                return "broken UTF-8";
        v = ch & (0x7fU >> n);
        for (size_t i = 1; i < n; i++)
                v = v << 6 | ((unsigned char) (*p)[i] & 0x3f);
        *p += n;
        *ret = v;
        return NULL;
}

static bool skip_string(Check *c) {
        const char *p = c->at, *why;
        uint32_t ch;

        do {
                why = take_char(&p, c->end, &ch);
                if (why)
                        return refuse(c, p, why);
        } while (ch != STRING_END);
        c->at = p;
        return true;
}

/* ── names ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static uint64_t hash_step(uint64_t hash, uint64_t point, uint32_t ch) {
        unsigned __int128 v = (unsigned __int128) hash * point + ch + 1;
        uint64_t folded = (uint64_t) (v & PRIME) + (uint64_t) (v >> 61);

        return folded >= PRIME ? folded - PRIME : folded;
}

/* Both have been read before, so both are well-formed. */
static bool name_equal(const Check *c, const char *a, const char *b) {
        uint32_t x, y;

        do
                if (take_char(&a, c->end, &x) || take_char(&b, c->end, &y) || x != y)
                        return false;
        while (x != STRING_END);
        return true;
}

/* Reads a name behind its opening quote and remembers it in the innermost object. */
static bool take_name(Check *c) {
        uint32_t first = c->open[c->depth - 1].first_name, ch, tag, slot;
        uint64_t hash = c->depth;                       /* the same names in parent and child do not crowd each other */
        const char *name = c->at, *p = name, *why;

        for (;;) {
                why = take_char(&p, c->end, &ch);
                if (why)
                        return refuse(c, p, why);
                if (ch == STRING_END)
                        break;
                hash = hash_step(hash, c->point, ch);
        }
        if (c->n_names - first >= JSON_NAMES_MAX)
                return refuse(c, name, "too many names in an object");

        tag = (uint32_t) (hash >> 29);
        for (slot = (uint32_t) hash & c->mask; c->slots[slot]; slot = (slot + 1) & c->mask) {
                uint32_t i = c->slots[slot] - 1U;

                if (i >= first && c->names[i].tag == tag && name_equal(c, c->start + c->names[i].offset, name))
                        return refuse(c, name, "a name given twice in an object");
        }
        c->names[c->n_names] = (Name) { (uint32_t) (name - c->start), tag, slot };
        c->slots[slot] = (uint16_t) ++c->n_names;
        c->at = p;
        return true;
}

/* The innermost object is closed. */
static void forget_names(Check *c) {
        while (c->n_names > c->open[c->depth - 1].first_name)
                c->slots[c->names[--c->n_names].slot] = 0;
}

/* A text of n bytes has fewer than n / 4 names, so a small one needs only the beginning of the table. */
static void prepare_names(Check *c, size_t size) {
        uint32_t slots = 64;

        while (slots < SLOTS_MAX && slots < size / 2)
                slots *= 2;
        memset(c->slots, 0, slots * sizeof c->slots[0]);
        c->mask = slots - 1;
        c->n_names = 0;
        c->point = random_u64() % (PRIME - 1) + 1;
}

/* ── the other values ────────────────────────────────────────────────────────────────────────────────────────── */

static size_t skip_digits(const char **p, const char *end) {
        const char *from = *p;

        while (*p < end && **p >= '0' && **p <= '9')
                (*p)++;
        return (size_t) (*p - from);
}

static bool number_is_good(const char *text, size_t size, bool whole) {
        char copy[NUMBER_MAX + 1];
        unsigned long long v;

        memcpy(copy, text, size);
        copy[size] = 0;
        if (!whole)
                return isfinite(strtod(copy, NULL));
        errno = 0;
        v = strtoull(copy + (*copy == '-'), NULL, 10);
        return errno == 0 && v <= INTEGER_MAX;
}

static bool take_number(Check *c) {
        const char *p = c->at, *from;
        bool whole = true;

        p += *p == '-';
        from = p;
        if (skip_digits(&p, c->end) == 0)
                return refuse(c, p, "a number without digits");
        if (*from == '0' && p - from > 1)
                return refuse(c, from, "a number with a leading zero");
        if (p < c->end && *p == '.') {
                p++;
                whole = false;
                if (skip_digits(&p, c->end) == 0)
                        return refuse(c, p, "a number without digits behind the point");
        }
        if (p < c->end && (*p == 'e' || *p == 'E')) {
                p++;
                whole = false;
                p += p < c->end && (*p == '+' || *p == '-');
                if (skip_digits(&p, c->end) == 0)
                        return refuse(c, p, "a number without digits in the exponent");
        }
        if (p - c->at > NUMBER_MAX)
                return refuse(c, c->at, "a number of more than 63 characters");
        if (!number_is_good(c->at, (size_t) (p - c->at), whole))
                return refuse(c, c->at, whole ? "an integer beyond 2^53" : "a number that is not finite");
        c->at = p;
        return true;
}

static bool take_word(Check *c) {
        static const char *const words[] = { "true", "false", "null" };

        for (size_t i = 0; i < ELEMENTS(words); i++) {
                size_t n = strlen(words[i]);

                if ((size_t) (c->end - c->at) >= n && memcmp(c->at, words[i], n) == 0) {
                        c->at += n;
                        return true;
                }
        }
        return refuse(c, c->at, "something that is no JSON value");
}

/* ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────── */

static bool open_container(Check *c, bool object) {
        if (c->depth >= JSON_DEPTH_MAX)
                return refuse(c, c->at, "nested too deep");
        c->open[c->depth].object = object;
        c->open[c->depth++].first_name = c->n_names;
        c->at++;
        return true;
}

/* Where a value begins: reads a scalar, or steps into a container. *ret_opened says which. */
static bool take_value(Check *c, bool *ret_opened) {
        *ret_opened = false;
        if (c->at >= c->end)
                return refuse(c, c->at, "the text ends where a value should be");
        if (++c->values > c->values_max)
                return refuse(c, c->at, "too many values");

        switch (*c->at) {
        case '{':
        case '[':
                *ret_opened = true;
                return open_container(c, *c->at == '{');
        case '"':
                c->at++;
                return skip_string(c);
        case '-':
        case '0' ... '9':
                return take_number(c);
        default:
                return take_word(c);
        }
}

/* Inside an object, before a value: its name and the colon. */
static bool take_member_name(Check *c) {
        skip_space(c);
        if (!take(c, '"'))
                return refuse(c, c->at, "no name where one should be");
        if (!take_name(c))
                return false;
        skip_space(c);
        return take(c, ':') || refuse(c, c->at, "no colon behind a name");
}

/* Behind a value: closes what ends here. Afterwards a comma was read, or depth is 0. */
static bool close_containers(Check *c) {
        while (c->depth > 0) {
                bool object = c->open[c->depth - 1].object;

                skip_space(c);
                if (take(c, ','))
                        return true;
                if (!take(c, object ? '}' : ']'))
                        return refuse(c, c->at, object ? "neither ',' nor '}' behind a member" : "neither ',' nor ']' behind an element");
                forget_names(c);
                c->depth--;
        }
        return true;
}

static bool check_text(Check *c) {
        bool opened;

        do {
                if (c->depth > 0 && c->open[c->depth - 1].object && !take_member_name(c))
                        return false;
                skip_space(c);
                if (!take_value(c, &opened))
                        return false;
                if (opened) {
                        skip_space(c);
                        if (c->at >= c->end || *c->at != (c->open[c->depth - 1].object ? '}' : ']'))
                                continue;               /* its first member or element */
                        c->at++;
                        c->depth--;
                }
                if (!close_containers(c))
                        return false;
        } while (c->depth > 0);

        skip_space(c);
        return c->at == c->end || refuse(c, c->at, "text behind the value");
}

int json_check(const char *text, size_t size, Fault *reterr) { return json_check_values(text, size, JSON_VALUES_MAX, reterr); }

int json_check_values(const char *text, size_t size, size_t values_max, Fault *reterr) {
        static Check c;                                 /* large; a stack is probed, hence kept, page by page; here only what is used */

        if (size >= UINT32_MAX)
                return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "not valid JSON: larger than 4 GiB");
        c.start = c.at = text;
        c.end = text + size;
        c.why = NULL;
        c.values = c.depth = 0;
        c.values_max = values_max;
        prepare_names(&c, size);

        if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
                (void) refuse(&c, text, "a byte order mark");
        else
                (void) check_text(&c);
        if (!c.why)
                return 0;
        return fault(reterr, -EBADMSG, FAULT_BAD_JSON, "not valid JSON at byte %zu: %s", (size_t) (c.at - c.start), c.why);
}
