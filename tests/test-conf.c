/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>

#include "base/conf.h"
#include "tests/test.h"

/* What was set, as one text: "line:key=value;". */
typedef struct Seen { char text[8192]; const char *stop_at; } Seen;

static int note(const char *file, unsigned line, const char *key, const char *value, void *userdata, Fault *reterr) {
        Seen *s = userdata;
        size_t n = strlen(s->text);

        if (s->stop_at && strcmp(key, s->stop_at) == 0)
                return fault(reterr, -ERANGE, FAULT_CONFIG_INVALID, "%s:%u: %s is out of range", file, line, key);
        (void) snprintf(s->text + n, sizeof s->text - n, "%u:%s=%s;", line, key, value);
        return 0;
}

#define T(s) (s), sizeof(s) - 1

static const struct { const char *text; size_t size; const char *seen; } good[] = {
        { T(""), "" },
        { T("\n\n"), "" },
        { T("# only words\n#\xc3\xa9"), "" },
        { T("[agent]"), "" },
        { T("[agent]\na=1"), "2:a=1;" },
        { T("# c\n\n[agent]\na = 1\nb_2=two words\n"), "4:a=1;5:b_2=two words;" },
        { T("  [agent]\t\n \t a \t=\t b \t\n"), "2:a=b;" },
        { T("[agent]\nempty=\nblank =  \n"), "2:empty=;3:blank=;" },
        { T("[agent]\na=b=c\nb==\n"), "2:a=b=c;3:b==;" },
        { T("[agent]\na=x # not a comment\nb=#\n#c=1\n"), "2:a=x # not a comment;3:b=#;" },
        { T("[agent]\na=\"q\"\nb=[x]\nc=;\n"), "2:a=\"q\";3:b=[x];4:c=;;" },
        { T("[agent]\na=caf\xc3\xa9\n"), "2:a=caf\xc3\xa9;" },
        { T("[agent]\na=1\n[agent]\na=2\n"), "2:a=1;4:a=2;" },          /* what twice means is the owner's to say */
};

static const struct { const char *text; size_t size; const char *words; } bad[] = {
        { T("a=1\n[agent]\n"), "f.conf:1: text before a section" },
        { T("\xef\xbb\xbf[agent]\n"), "f.conf:1: text before a section" },
        { T("[other]\n"), "f.conf:1: an unknown section" },
        { T("[agent]\n\n[Agent]\n"), "f.conf:3: an unknown section" },
        { T("[ agent]\n"), "f.conf:1: an unknown section" },
        { T("[]\n"), "f.conf:1: an unknown section" },
        { T("[agent\n"), "f.conf:1: a section without its closing bracket" },
        { T("[\n"), "f.conf:1: a section without its closing bracket" },
        { T("[agent] # c\n"), "f.conf:1: a section without its closing bracket" },
        { T("[agent]\nsesame\n"), "f.conf:2: no '='" },
        { T("[agent]\n  # sesame\n"), "f.conf:2: no '='" },             /* a comment begins where the line does */
        { T("[agent]\n=sesame\n"), "f.conf:2: a key is made of" },
        { T("[agent]\nSesame=1\n"), "f.conf:2: a key is made of" },
        { T("[agent]\nses ame=1\n"), "f.conf:2: a key is made of" },
        { T("[agent]\nses-ame=1\n"), "f.conf:2: a key is made of" },
        { T("[agent]\ncaf\xc3\xa9=1\n"), "f.conf:2: a key is made of" },
        { T("[agent]\na=ses\tame\n"), "f.conf:2: a tab inside a value" },
        { T("[agent]\na=sesame\r\n"), "f.conf:2: a control character" },
        { T("[agent]\na=ses\0ame\n"), "f.conf:2: a control character" },
        { T("[agent]\na=\x1b\n"), "f.conf:2: a control character" },
        { T("[agent]\na=\x7f\n"), "f.conf:2: a control character" },
        { T("# \0\n"), "f.conf:1: a control character" },
        { T("[agent]\na=sesame\xff\n"), "f.conf:2: broken UTF-8" },
        { T("[agent]\na=\xc3\n"), "f.conf:2: broken UTF-8" },
        { T("# \xed\xa0\x80\n"), "f.conf:1: broken UTF-8" },
};

static int parse_copy(const char *text, size_t size, Seen *s, Fault *f) {
        _cleanup_free_ char *copy = malloc(size > 0 ? size : 1);

        if (!copy)
                abort();
        memcpy(copy, text, size);
        return conf_parse("f.conf", copy, size, "agent", note, s, f);
}

TEST(good_files) {
        for (size_t i = 0; i < ELEMENTS(good); i++) {
                Seen s = {};
                Fault f = {};

                if (!CHECK_INT(parse_copy(good[i].text, good[i].size, &s, &f), 0) || !CHECK_STR(s.text, good[i].seen))
                        printf("#   case %zu: %s\n", i, f.text);
        }
}

TEST(bad_files) {
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                Seen s = {};
                Fault f = {};

                if (!CHECK(parse_copy(bad[i].text, bad[i].size, &s, &f) < 0) || !CHECK_INT(f.code, FAULT_CONFIG_INVALID) ||
                    !CHECK(strncmp(f.text, bad[i].words, strlen(bad[i].words)) == 0) ||
                    !CHECK(!strstr(f.text, "sesame")) || !CHECK_STR(s.text, ""))
                        printf("#   case %zu: %s\n", i, f.text);
        }
}

TEST(the_owner_may_stop) {
        Seen s = { .stop_at = "b" };
        Fault f = {};

        CHECK_INT(parse_copy(T("[agent]\na=1\nb=2\nc=3\n"), &s, &f), -ERANGE);
        CHECK_STR(f.text, "f.conf:3: b is out of range");
        CHECK_STR(s.text, "2:a=1;");
}

TEST(long_lines) {
        static char text[CONF_LINE_MAX + 100];
        Seen s = {}, t = {};
        Fault f = {};
        size_t n = (size_t) (stpcpy(text, "[agent]\nk=") - text);

        memset(text + n, 'v', CONF_LINE_MAX - 2);
        n += CONF_LINE_MAX - 2;
        text[n] = '\n';
        CHECK_INT(parse_copy(text, n + 1, &s, &f), 0);
        CHECK_INT(strlen(s.text), 2 + 2 + CONF_LINE_MAX - 2 + 1);
        text[n] = 'v';
        CHECK(parse_copy(text, n + 1, &t, &f) < 0);
        CHECK_STR(f.text, "f.conf:2: the line is longer than 4096 bytes");
}

TEST(large_files) {
        static char text[CONF_FILE_MAX + 1];
        Seen s = {};
        Fault f = {};

        memset(text, '\n', sizeof text);
        CHECK_INT(parse_copy(text, CONF_FILE_MAX, &s, NULL), 0);
        CHECK(parse_copy(text, CONF_FILE_MAX + 1, &s, &f) < 0);
        CHECK(strstr(f.text, "larger than 65536 bytes") != NULL);
}

TEST_MAIN
