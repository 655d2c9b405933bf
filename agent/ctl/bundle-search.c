/* SPDX-License-Identifier: Apache-2.0 */

/* Every value that is sealed on this host, and both credentials, against everything that is to leave it. A value shorter than VALUE_MIN would be found in
 * every other word. */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/credentials.h"
#include "agent/ctl/bundle.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/store.h"
#include "base/text.h"

#define VALUE_MIN 6

typedef struct Search {
        const Bundle *b;
        const char   *workspace;        /* whose set is at work; NULL: a credential */
        const char   *name;             /* of the secret at work */
        unsigned      hits, unreadable;
} Search;

/* ── forms of one value ──────────────────────────────────────────────────────────────────────────────────────── */

static void look_for(Search *s, const char *form, const char *needle, size_t n) {
        if (n < VALUE_MIN)
                return;
        for (size_t i = 0; i < s->b->n; i++) {
                const Part *p = &s->b->parts[i];

                if (!memmem(p->text, p->size, needle, n))
                        continue;
                s->hits++;
                fprintf(stderr, "%s holds the value of %s%s%s%s.\n", p->name, s->name, s->workspace ? " of workspace " : "", s->workspace ?: "", form);
        }
}

/* As it would stand inside a JSON string. */
static void look_for_json(Search *s, const Secret *value) {
        _cleanup_json_ cJSON *json = cJSON_CreateString(secret_text(value));
        _cleanup_free_ char *text = json ? json_print(json) : NULL;
        size_t n = text ? strlen(text) : 0;

        if (n > 2 && n - 2 != value->size)      /* else it is as in clear */
                look_for(s, ", in JSON", text + 1, n - 2);
}

/* At each of the three places that it may have among the bytes before it; what depends on the neighbours is left out. */
static void look_for_base64(Search *s, const Secret *value) {
        char *padded = calloc(1, value->size + 2);

        for (size_t skip = 0; padded && skip < 3; skip++) {
                _cleanup_free_ char *text = NULL;
                size_t from = (skip * 4 + 2) / 3, whole = (skip + value->size) / 3 * 4;

                memcpy(padded + skip, value->data, value->size);
                text = base64_encode(padded, skip + value->size);
                if (!text || whole <= from)
                        continue;
                look_for(s, ", in base64", text + from, whole - from);
                for (char *c = text; *c; c++)
                        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
                if (strpbrk(text, "-_"))
                        look_for(s, ", in base64url", text + from, whole - from);
                explicit_bzero(padded, value->size + 2);
        }
        free(padded);
}

/* As a query of a URL has it, in both spellings of its digits; what most programs leave unescaped is left so. */
static void look_for_url(Search *s, const Secret *value) {
        _cleanup_free_ char *text = malloc(value->size * 3 + 1);
        bool same = true;

        for (int upper = 0; text && upper < 2; upper++) {
                char *to = text;

                for (size_t i = 0; i < value->size; i++) {
                        unsigned char c = ((const unsigned char *) value->data)[i];

                        if (isalnum(c) || strchr("-._~", c))
                                *to++ = (char) c;
                        else {
                                same = false;
                                to += sprintf(to, upper ? "%%%02X" : "%%%02x", c);
                        }
                }
                if (!same)
                        look_for(s, ", as part of a URL", text, (size_t) (to - text));
        }
}

static void look_for_value(Search *s, const char *name, const Secret *value) {
        size_t whole = value->size;
        const char *v = secret_text(value);

        while (whole > 0 && (v[whole - 1] == '\n' || v[whole - 1] == '\r'))
                whole--;
        if (whole < VALUE_MIN)
                return;
        s->name = name;
        look_for(s, "", v, whole);
        look_for_json(s, value);
        look_for_base64(s, value);
        look_for_url(s, value);
}

/* ── every value ─────────────────────────────────────────────────────────────────────────────────────────────── */

static int search_set(Vault *v, const char *workspace, uint64_t generation, void *userdata) {
        _cleanup_(secret_set_done) SecretSet set = {};
        Search *s = userdata;
        Fault why = {};

        if (vault_set_open(v, workspace, generation, &set, &why) < 0) {
                s->unreadable++;
                fprintf(stderr, "A set of workspace %s cannot be opened, so nobody can say whether a value of it is in the bundle: %s\n", workspace, why.text);
                return 0;
        }
        s->workspace = workspace;
        for (size_t i = 0; i < set.n; i++)
                look_for_value(s, set.items[i].name, set.items[i].value);
        return 0;
}

static int search_workspace(Vault *v, const char *workspace, void *userdata) { return vault_each_set(v, workspace, search_set, userdata); }

static void search_credentials(Search *s, const Store *store, const Config *c) {
        CredentialsEnv none = {};
        Credentials found = {};

        s->workspace = NULL;
        if (!c || credentials_load(c, store->arena, &none, &found, NULL) < 0)
                return;
        (void) credentials_restore(store->state_fd, store->vault, &found, NULL);
        look_for_value(s, "the provision secret", found.provision_secret);
        look_for_value(s, "the admin token", found.admin_token);
        credentials_done(&found);
}

int bundle_search(const Bundle *b, const Config *c) {
        _cleanup_(store_done) Store store;
        Search s = { .b = b };
        int code;

        code = store_open(&store);
        if (code != CTL_OK) {
                fputs("What is sealed here cannot be opened, so it cannot be ruled out that a value is in the bundle. Nothing is written.\n", stderr);
                return -ENOKEY;
        }
        if (vault_each(store.vault, search_workspace, &s) < 0)
                s.unreadable++;
        search_credentials(&s, &store, c);
        if (s.hits)
                fputs("Nothing is written. Change these secrets, since they were printed; or leave the part out with --without NAME.\n", stderr);
        return s.hits ? 1 : s.unreadable ? -ENOKEY : 0;
}
