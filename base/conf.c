/* SPDX-License-Identifier: Apache-2.0 */

/* Reading agent.conf: line after line, each judged by itself. What a line holds may be a secret put in the wrong place, so words
 * give its number and the reason, never its text. */

#include "base/conf.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/text.h"

typedef struct Reader {
        const char *file, *section;
        unsigned    line;
        bool        inside;                             /* a section header was seen */
        ConfSet     set;
        void       *userdata;
} Reader;

static int refuse(const Reader *c, const char *why, Fault *reterr) {
        return fault(reterr, -EBADMSG, FAULT_CONFIG_INVALID, "%s:%u: %s", c->file, c->line, why);
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

char *conf_trim(char *s) {
        size_t n;

        while (is_blank(*s))
                s++;
        n = strlen(s);
        while (n > 0 && is_blank(s[n - 1]))
                n--;
        s[n] = 0;
        return s;
}

/* NULL, or the reason. Tabs are judged later: they may stand around a value, not in it. */
static const char *bytes_check(const char *s, size_t size) {
        for (size_t i = 0, n; i < size; i += n) {
                unsigned char ch = (unsigned char) s[i];

                n = utf8_length(s + i, size - i);
                if (n == 0)
                        return "broken UTF-8";
                if (ch == 0x7f || (ch < 0x20 && ch != '\t'))
                        return "a control character";
        }
        return NULL;
}

const char *conf_value_refused(const char *key, const char *value) {
        if (strlen(key) + strlen(" = ") + strlen(value) > CONF_LINE_MAX)
                return "is longer than a line may be";
        return bytes_check(value, strlen(value)) || strchr(value, '\t') ? "holds a control character or broken UTF-8" : NULL;
}

static int read_section(Reader *c, char *text, Fault *reterr) {
        size_t n = strlen(text);

        if (text[n - 1] != ']')
                return refuse(c, "a section without its closing bracket", reterr);
        text[n - 1] = 0;
        if (!str_equal(text + 1, c->section))
                return refuse(c, "an unknown section", reterr);
        c->inside = true;
        return 0;
}

static int read_setting(Reader *c, char *text, Fault *reterr) {
        char *equals = strchr(text, '='), *key, *value;

        if (!equals)
                return refuse(c, "no '='", reterr);
        *equals = 0;
        key = conf_trim(text);
        value = conf_trim(equals + 1);
        if (!*key || key[strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_")])
                return refuse(c, "a key is made of a-z, 0-9 and '_'", reterr);
        if (strchr(value, '\t'))
                return refuse(c, "a tab inside a value", reterr);
        return c->set(c->file, c->line, key, value, c->userdata, reterr);
}

static int read_line(Reader *c, const char *line, size_t size, Fault *reterr) {
        char copy[CONF_LINE_MAX + 1], *text;
        const char *why;

        if (size > CONF_LINE_MAX)
                return refuse(c, "the line is longer than 4096 bytes", reterr);
        why = bytes_check(line, size);
        if (why)
                return refuse(c, why, reterr);
        if (size > 0 && line[0] == '#')
                return 0;

        memcpy(copy, line, size);
        copy[size] = 0;
        text = conf_trim(copy);
        if (!*text)
                return 0;
        if (*text == '[')
                return read_section(c, text, reterr);
        if (!c->inside)
                return refuse(c, "text before a section", reterr);
        return read_setting(c, text, reterr);
}

int conf_parse(const char *file, const char *text, size_t size, const char *section, ConfSet set, void *userdata, Fault *reterr) {
        Reader c = { .file = file, .section = section, .set = set, .userdata = userdata };
        const char *end = text + size;

        if (size > CONF_FILE_MAX)
                return fault(reterr, -EFBIG, FAULT_CONFIG_INVALID, "%s: larger than %i bytes", file, CONF_FILE_MAX);

        while (text < end) {
                const char *newline = memchr(text, '\n', (size_t) (end - text)), *stop = newline ?: end;
                int r;

                c.line++;
                r = read_line(&c, text, (size_t) (stop - text), reterr);
                if (r < 0)
                        return r;
                text = stop + (newline ? 1 : 0);
        }
        return 0;
}
