/* SPDX-License-Identifier: Apache-2.0 */

/* provision/path: which names may be written below /configs, and as what. */

#include <errno.h>

#include "provision/path.h"
#include "tests/kit.h"

static const struct { const char *name, *clean; } cases[] = {           /* clean NULL: bad_path */
        { "a", "a" },
        { "a/b", "a/b" },
        { "a\\b\\c", "a/b/c" },
        { "./a", "a" },
        { "a/./b/.", "a/b" },
        { "a//b///c", "a/b/c" },
        { "a/", "a" },
        { ".hidden", ".hidden" },
        { "..a/b..", "..a/b.." },
        { "...", "..." },
        { "a b\xc3\xa9", "a b\xc3\xa9" },
        { "1/2/3/4/5/6/7/8", "1/2/3/4/5/6/7/8" },
        { "1/2/3/4/5/6/7/./8", "1/2/3/4/5/6/7/8" },
        { ".claude/settings.json", ".claude/settings.json" },
        { ".claude/sessions.txt", ".claude/sessions.txt" },
        { "memory.md", "memory.md" },
        { "MEMORY.md.txt", "MEMORY.md.txt" },

        { "", NULL },
        { ".", NULL },
        { "./.", NULL },
        { "..", NULL },
        { "../a", NULL },
        { "a/../b", NULL },
        { "a/..", NULL },
        { "a\\..\\..\\b", NULL },
        { "/", NULL },
        { "/etc/passwd", NULL },
        { "\\etc", NULL },
        { "a\nb", NULL },
        { "a\x7f", NULL },
        { "\x01", NULL },
        { "1/2/3/4/5/6/7/8/9", NULL },
        { "MEMORY.md", NULL },
        { "notes/USER.md", NULL },
        { "a\\CLAUDE.md", NULL },
        { "./CLAUDE.md", NULL },
        { "CLAUDE.md/", NULL },
        { ".claude/sessions", NULL },
        { ".claude/sessions/x", NULL },
        { ".claude//./sessions/x", NULL },
        { ".claude\\sessions\\x", NULL },
};

TEST(every_name) {
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *clean = NULL;
                Fault f = {};
                int r = path_clean(cases[i].name, &clean, &f);

                if (!CHECK_STR(clean, cases[i].clean) || !CHECK_STR(kit_code(&f), cases[i].clean ? "" : "bad_path") ||
                    !CHECK((r == 0) == (clean != NULL)))
                        printf("#   in: '%s' %s\n", cases[i].name, f.text);
        }
}

TEST(length) {
        _cleanup_free_ char *most = kit_fill('a', 255), *more = kit_fill('a', 256), *clean = NULL;

        CHECK_INT(path_clean(most, &clean, NULL), 0);
        CHECK_STR(clean, most);
        CHECK_INT(path_clean(more, &clean, NULL), -EINVAL);
        CHECK_STR(clean, most);
}

TEST(template_assets) {
        static const struct { const char *name; bool is; } table[] = {
                { "config.yaml", true },   { "system-prompt.md", true }, { "prompts/x", true }, { "prompts/a/b.md", true },
                { "config.yml", false },   { "prompts", false },         { "promptsx", false }, { "a/config.yaml", false },
                { "a/prompts/x", false },  { "README.md", false },
        };

        for (size_t i = 0; i < ELEMENTS(table); i++)
                CHECK(path_is_template_asset(table[i].name) == table[i].is);
}

TEST(modes) {
        CHECK_INT(path_mode(".auth_token"), 0600);
        CHECK_INT(path_mode("a/b/.auth_token"), 0600);
        CHECK_INT(path_mode(".platform_inbound_secret"), 0600);
        CHECK_INT(path_mode("auth_token"), 0644);
        CHECK_INT(path_mode("config.yaml"), 0644);
        CHECK_INT(path_mode(".auth_token/x"), 0644);
}

TEST_MAIN
