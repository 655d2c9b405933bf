/* SPDX-License-Identifier: Apache-2.0 */

/* A delivered name is cleaned part by part into a fresh string; what remains is judged. Nothing is resolved on a file system: the engine
 * unpacks below /configs, and a name that could climb out or hit the workspace's own memory never gets that far. */

#include "provision/path.h"

#include <errno.h>
#include <string.h>

#define PATH_LENGTH_MAX 255
#define PATH_DEPTH_MAX  8

static const char *const workspace_owned[] = { "MEMORY.md", "USER.md", "CLAUDE.md" };
static const char *const token_like[] = { ".auth_token", ".platform_inbound_secret" };

static bool is_one_of(const char *name, const char *const *list, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(name, list[i]) == 0)
                        return true;
        return false;
}

static const char *last_part(const char *clean) {
        const char *slash = strrchr(clean, '/');
        return slash ? slash + 1 : clean;
}

static int check_bytes(const char *name, Fault *reterr) {
        size_t n = strlen(name);

        if (n == 0)
                return fault(reterr, -EINVAL, FAULT_BAD_PATH, "A file name is empty.");
        if (n > PATH_LENGTH_MAX)
                return fault(reterr, -EINVAL, FAULT_BAD_PATH, "A file name is %zu bytes long; %d are allowed.", n, PATH_LENGTH_MAX);
        for (const char *p = name; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return fault(reterr, -EINVAL, FAULT_BAD_PATH, "A file name holds a control character.");
        if (name[0] == '/' || name[0] == '\\')
                return fault(reterr, -EINVAL, FAULT_BAD_PATH, "The file name '%s' is absolute.", name);
        return 0;
}

static int clean_parts(char *text, char *out, const char *name, Fault *reterr) {
        unsigned depth = 0;
        char *save = NULL;

        out[0] = 0;
        for (char *part = strtok_r(text, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
                if (strcmp(part, ".") == 0)
                        continue;
                if (strcmp(part, "..") == 0)
                        return fault(reterr, -EINVAL, FAULT_BAD_PATH, "The file name '%s' climbs out of its place.", name);
                if (++depth > PATH_DEPTH_MAX)
                        return fault(reterr, -EINVAL, FAULT_BAD_PATH, "The file name '%s' is deeper than %d.", name, PATH_DEPTH_MAX);
                if (out[0])
                        strcat(out, "/");
                strcat(out, part);
        }
        if (!out[0])
                return fault(reterr, -EINVAL, FAULT_BAD_PATH, "The file name '%s' names nothing.", name);
        return 0;
}

int path_clean(const char *name, char **ret, Fault *reterr) {
        _cleanup_free_ char *text = NULL, *out = NULL;
        int r;

        r = check_bytes(name, reterr);
        if (r < 0)
                return r;
        text = strdup(name);
        out = malloc(strlen(name) + 1);
        if (!text || !out)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        for (char *p = text; *p; p++)
                if (*p == '\\')
                        *p = '/';
        r = clean_parts(text, out, name, reterr);
        if (r < 0)
                return r;
        if (is_one_of(last_part(out), workspace_owned, ELEMENTS(workspace_owned)) || strcmp(out, ".claude/sessions") == 0 ||
            strncmp(out, ".claude/sessions/", 17) == 0)
                return fault(reterr, -EINVAL, FAULT_BAD_PATH, "The file name '%s' belongs to the workspace itself.", name);
        *ret = TAKE_PTR(out);
        return 0;
}

bool path_collides(const char *a, const char *b) {
        size_t n = strlen(a), m = strlen(b), least = n < m ? n : m;

        if (strncmp(a, b, least) != 0)
                return false;
        return n == m || (n < m ? b[n] : a[m]) == '/';
}

bool path_is_template_asset(const char *clean) {
        return strcmp(clean, "config.yaml") == 0 || strcmp(clean, "system-prompt.md") == 0 || strncmp(clean, "prompts/", 8) == 0;
}

unsigned path_mode(const char *clean) {
        return is_one_of(last_part(clean), token_like, ELEMENTS(token_like)) ? 0600 : 0644;
}
