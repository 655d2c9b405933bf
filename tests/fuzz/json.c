/* SPDX-License-Identifier: Apache-2.0 */

/* base/json: the strict check against a second judgement of the same rules, made from RFC 8259 in another way (recursive, allocating, names compared one by
 * one); and what the check takes, cJSON reads as the same values, no string cut short. */

#include <errno.h>
#include <math.h>

#include "base/json.h"
#include "tests/fuzz/fuzz.h"

#define FEW_VALUES 40

typedef struct Reader {
        const uint8_t *at, *end;
        size_t         values, bytes;           /* of all strings and names, decoded */
        unsigned       depth;
} Reader;

typedef struct Text {
        struct Text *next;                      /* of the names of an object */
        size_t       n;
        uint8_t      bytes[];
} Text;

static bool value(Reader *r);

static bool next_is(Reader *r, char c) {
        if (r->at == r->end || *r->at != (uint8_t) c)
                return false;
        r->at++;
        return true;
}

static void space(Reader *r) {
        while (r->at < r->end && memchr(" \t\r\n", *r->at, 4))
                r->at++;
}

static bool word(Reader *r, const char *w) {
        size_t n = strlen(w);

        if ((size_t) (r->end - r->at) < n || memcmp(r->at, w, n) != 0)
                return false;
        r->at += n;
        return true;
}

/* ── strings ── */

/* As UTF-8; the reverse of it is not needed, since raw bytes are copied. */
static void put(Text *t, uint32_t c) {
        static const uint8_t lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
        unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

        for (unsigned i = n; i-- > 1; c >>= 6)
                t->bytes[t->n + i] = (uint8_t) (0x80 | (c & 0x3f));
        t->bytes[t->n] = (uint8_t) (lead[n] | c);
        t->n += n;
}

static bool hex(Reader *r, uint32_t *ret) {
        char copy[5] = {};

        if (r->end - r->at < 4)
                return false;
        memcpy(copy, r->at, 4);
        if (strspn(copy, "0123456789abcdefABCDEF") != 4)
                return false;
        *ret = (uint32_t) strtoul(copy, NULL, 16);
        r->at += 4;
        return true;
}

static bool escape(Reader *r, Text *t) {
        static const char of[] = "b\bf\fn\nr\rt\t\"\"\\\\//";
        uint32_t c, low;

        if (next_is(r, 'u')) {
                if (!hex(r, &c) || c == 0 || (c & 0xfc00) == 0xdc00)
                        return false;
                if ((c & 0xfc00) == 0xd800) {
                        if (!word(r, "\\u") || !hex(r, &low) || (low & 0xfc00) != 0xdc00)
                                return false;
                        c = 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff));
                }
                put(t, c);
                return true;
        }
        for (const char *p = of; *p; p += 2)
                if (next_is(r, *p)) {
                        put(t, (uint8_t) p[1]);
                        return true;
                }
        return false;
}

/* The table of RFC 3629, section 4. */
static bool raw(Reader *r, Text *t) {
        static const struct { uint8_t first, last, n, low, high; } rows[] = {
                { 0x20, 0x7f, 1, 0, 0 },          { 0xc2, 0xdf, 2, 0x80, 0xbf }, { 0xe0, 0xe0, 3, 0xa0, 0xbf }, { 0xe1, 0xec, 3, 0x80, 0xbf }, { 0xed, 0xed, 3, 0x80, 0x9f },
                { 0xee, 0xef, 3, 0x80, 0xbf },    { 0xf0, 0xf0, 4, 0x90, 0xbf }, { 0xf1, 0xf3, 4, 0x80, 0xbf }, { 0xf4, 0xf4, 4, 0x80, 0x8f },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                if (*r->at < rows[i].first || *r->at > rows[i].last || r->end - r->at < rows[i].n)
                        continue;
                if (rows[i].n > 1 && (r->at[1] < rows[i].low || r->at[1] > rows[i].high))
                        return false;
                for (unsigned k = 2; k < rows[i].n; k++)
                        if ((r->at[k] & 0xc0) != 0x80)
                                return false;
                memcpy(t->bytes + t->n, r->at, rows[i].n);
                t->n += rows[i].n;
                r->at += rows[i].n;
                return true;
        }
        return false;
}

/* malloc'd: no longer decoded than it is written; NULL: none. */
static Text *string(Reader *r) {
        Text *t = malloc(sizeof *t + (size_t) (r->end - r->at) + 4);

        if (!t)
                abort();
        t->n = 0;
        while (!next_is(r, '"'))
                if (r->at == r->end || !(next_is(r, '\\') ? escape(r, t) : raw(r, t))) {
                        free(t);
                        return NULL;
                }
        r->bytes += t->n;
        return t;
}

/* ── numbers, containers ── */

static bool digits(Reader *r) {
        const uint8_t *from = r->at;

        while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
                r->at++;
        return r->at > from;
}

static bool number(Reader *r) {
        char copy[64] = {};
        const uint8_t *from = r->at, *whole;
        bool is_whole = true;

        (void) next_is(r, '-');
        whole = r->at;
        if (!digits(r) || (*whole == '0' && r->at - whole > 1))
                return false;
        if (next_is(r, '.') && (is_whole = false, !digits(r)))
                return false;
        if (next_is(r, 'e') || next_is(r, 'E')) {
                is_whole = false;
                if (!next_is(r, '-'))
                        (void) next_is(r, '+');
                if (!digits(r))
                        return false;
        }
        if (r->at - from >= (ptrdiff_t) sizeof copy)
                return false;
        memcpy(copy, from, (size_t) (r->at - from));
        if (!is_whole)
                return isfinite(strtod(copy, NULL));
        return r->at - whole < 16 || (r->at - whole == 16 && memcmp(whole, "9007199254740992", 16) <= 0);
}

/* One more name, in front of those so far, and none of them. */
static bool name(Reader *r, Text **names, size_t n) {
        Text *t = next_is(r, '"') && n < JSON_NAMES_MAX ? string(r) : NULL;

        if (!t)
                return false;
        t->next = *names;
        *names = t;
        for (const Text *other = t->next; other; other = other->next)
                if (other->n == t->n && memcmp(other->bytes, t->bytes, t->n) == 0)
                        return false;
        space(r);
        if (!next_is(r, ':'))
                return false;
        space(r);
        return true;
}

static bool members(Reader *r, char close, Text **names) {
        size_t n = 0;

        space(r);
        if (next_is(r, close))
                return true;
        do {
                space(r);
                if ((close == '}' && !name(r, names, n++)) || !value(r))
                        return false;
                space(r);
        } while (next_is(r, ','));
        return next_is(r, close);
}

static bool container(Reader *r, char close) {
        Text *names = NULL;
        bool good = ++r->depth <= JSON_DEPTH_MAX && members(r, close, &names);

        r->depth--;
        for (Text *next; names; names = next) {
                next = names->next;
                free(names);
        }
        return good;
}

static bool value(Reader *r) {
        r->values++;
        if (next_is(r, '{'))
                return container(r, '}');
        if (next_is(r, '['))
                return container(r, ']');
        if (next_is(r, '"')) {
                _cleanup_free_ Text *text = string(r);

                return text;
        }
        return word(r, "true") || word(r, "false") || word(r, "null") || number(r);
}

static bool judge(Reader *r) {
        space(r);
        if (!value(r))
                return false;
        space(r);
        return r->at == r->end;
}

/* ── the tree ── */

static void count(const cJSON *v, size_t *values, size_t *bytes, bool *printable) {
        const cJSON *child;

        ++*values;
        *bytes += (cJSON_IsString(v) ? strlen(v->valuestring) : 0) + (v->string ? strlen(v->string) : 0);
        if (cJSON_IsNumber(v) && fabs(v->valuedouble) > 9007199254740992.0)
                *printable = false;             /* written like an integer that is too large */
        cJSON_ArrayForEach(child, v)
                count(child, values, bytes, printable);
}

static void printed(const cJSON *json) {
        _cleanup_free_ char *text = json_print(json), *again = NULL;
        _cleanup_json_ cJSON *second = NULL;

        MUST(text && json_parse(text, strlen(text), &second, NULL) == 0);
        again = json_print(second);
        MUST(again && strcmp(text, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Reader r = { .at = data, .end = data + size };
        bool good = judge(&r), few = good && r.values <= FEW_VALUES, printable = true;
        _cleanup_json_ cJSON *json = NULL;
        size_t values = 0, bytes = 0;
        Fault f = {};

        good = good && r.values <= JSON_VALUES_MAX;
        MUST(json_check((const char *) data, size, &f) == (good ? 0 : -EBADMSG) && f.set == !good);
        MUST((json_check_values((const char *) data, size, FEW_VALUES, NULL) == 0) == few);
        if (!good)
                return 0;
        MUST(json_parse((const char *) data, size, &json, NULL) == 0);
        count(json, &values, &bytes, &printable);
        MUST(values == r.values && bytes == r.bytes);
        if (printable)
                printed(json);
        return 0;
}
