/* SPDX-License-Identifier: Apache-2.0 */

/* Every value that is sealed on this host, and the credentials, against everything that is to leave it: as it is, line by line, as it would stand in a JSON
 * string or in the journal, in base64, and in a text out of which URLs' escapes were taken. A value shorter than VALUE_MIN would be found in every other
 * word. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/credentials.h"
#include "agent/ctl/bundle.h"
#include "agent/ctl/creds.h"
#include "agent/ctl/ctl.h"
#include "agent/ctl/store.h"
#include "base/file.h"
#include "base/text.h"

#define VALUE_MIN  6
#define BASE64_MIN 5                    /* of six bytes at an odd place */

typedef struct Search {
        const Bundle *b;
        char        **unescaped;        /* of each part: %XX and + taken out; NULL where there is neither */
        size_t       *unescaped_size;
        const char   *workspace;        /* whose set is at work; NULL: a credential */
        const char   *name;             /* of the secret at work */
        unsigned      hits, unreadable;
} Search;

/* ── texts without escapes ───────────────────────────────────────────────────────────────────────────────────── */

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

static size_t unescape(const char *text, size_t size, char *to) {
        size_t n = 0;

        for (size_t i = 0; i < size; i++) {
                int high = text[i] == '%' && i + 2 < size ? digit(text[i + 1]) : -1, low = high >= 0 ? digit(text[i + 2]) : -1;

                to[n++] = low >= 0 ? (char) (high * 16 + low) : text[i] == '+' ? ' ' : text[i];
                i += low >= 0 ? 2 : 0;
        }
        return n;
}

static int unescape_all(Search *s) {
        s->unescaped = calloc(s->b->n + 1, sizeof *s->unescaped);
        s->unescaped_size = calloc(s->b->n + 1, sizeof *s->unescaped_size);
        if (!s->unescaped || !s->unescaped_size)
                return -ENOMEM;
        for (size_t i = 0; i < s->b->n; i++) {
                const Part *p = &s->b->parts[i];

                if (!memchr(p->text, '%', p->size) && !memchr(p->text, '+', p->size))
                        continue;
                s->unescaped[i] = malloc(p->size + 1);
                if (!s->unescaped[i])
                        return -ENOMEM;
                s->unescaped_size[i] = unescape(p->text, p->size, s->unescaped[i]);
        }
        return 0;
}

static void search_done(Search *s) {
        for (size_t i = 0; s->unescaped && i < s->b->n; i++)
                free(s->unescaped[i]);
        free(s->unescaped);
        free(s->unescaped_size);
}

/* ── forms of one value ──────────────────────────────────────────────────────────────────────────────────────── */

static void found(Search *s, size_t i, const char *form) {
        s->hits++;
        fprintf(stderr, "%s holds the value of %s%s%s%s.\n", s->b->parts[i].name, s->name, s->workspace ? " of workspace " : "", s->workspace ?: "", form);
}

static void look_for(Search *s, const char *form, const char *needle, size_t n) {
        for (size_t i = 0; i < s->b->n; i++) {
                const Part *p = &s->b->parts[i];

                if (memmem(p->text, p->size, needle, n))
                        found(s, i, form);
        }
}

static void look_for_plain(Search *s, const char *value, size_t n) {
        look_for(s, "", value, n);
        for (size_t i = 0; i < s->b->n; i++)
                if (s->unescaped[i] && !memmem(s->b->parts[i].text, s->b->parts[i].size, value, n) && memmem(s->unescaped[i], s->unescaped_size[i], value, n))
                        found(s, i, ", as part of a URL");
}

/* As it would stand inside a JSON string; as the journal's part has it. */
static void look_for_changed(Search *s, const char *value, size_t n) {
        _cleanup_free_ char *copy = strndup(value, n);
        _cleanup_json_ cJSON *json = copy ? cJSON_CreateString(copy) : NULL;
        _cleanup_free_ char *text = json ? json_print(json) : NULL;

        if (text && strlen(text) > n + 2)
                look_for(s, ", in JSON", text + 1, strlen(text) - 2);
        if (copy)
                text_make_printable(copy);
        if (copy && memcmp(copy, value, n) != 0)
                look_for(s, ", with its control characters changed", copy, n);
}

/* At each of the three places that it may have among the bytes before it; what depends on the neighbours is left out. */
static void look_for_base64(Search *s, const char *value, size_t n) {
        char *padded = calloc(1, n + 2);

        for (size_t skip = 0; padded && skip < 3; skip++) {
                _cleanup_free_ char *text = NULL;
                size_t from = (skip * 4 + 2) / 3, whole = (skip + n) * 4 / 3;

                memset(padded, 0, skip);
                memcpy(padded + skip, value, n);
                text = base64_encode(padded, skip + n);
                if (!text || whole < from + BASE64_MIN)
                        continue;
                look_for(s, ", in base64", text + from, whole - from);
                if (!strpbrk(text, "+/"))
                        continue;
                for (char *c = text; *c; c++)
                        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
                look_for(s, ", in base64url", text + from, whole - from);
        }
        free(padded);
}

/* Each line of its own, too: a key of several lines is printed line by line. */
static void look_for_lines(Search *s, const char *value, size_t n) {
        const char *line = value, *end = value + n;

        while (line < end) {
                const char *stop = memchr(line, '\n', (size_t) (end - line)) ?: end;

                if (stop - line >= VALUE_MIN && strncmp(line, "-----", 5) != 0)
                        look_for_plain(s, line, (size_t) (stop - line));
                line = stop + 1;
        }
}

static void look_for_value(Search *s, const char *name, const char *value, size_t n) {
        while (n > 0 && (value[n - 1] == '\n' || value[n - 1] == '\r'))
                n--;
        if (n < VALUE_MIN)
                return;
        s->name = name;
        if (memchr(value, '\n', n))
                look_for_lines(s, value, n);
        look_for_plain(s, value, n);
        look_for_changed(s, value, n);
        look_for_base64(s, value, n);
}

/* ── what is sealed ──────────────────────────────────────────────────────────────────────────────────────────── */

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
                look_for_value(s, set.items[i].name, secret_text(set.items[i].value), set.items[i].value->size);
        return 0;
}

static int search_workspace(Vault *v, const char *workspace, void *userdata) { return vault_each_set(v, workspace, search_set, userdata); }

static int count(int dirfd, const char *name, void *userdata) {
        (void) dirfd;
        (void) name;
        ++*(unsigned *) userdata;
        return 0;
}

static bool is_anything_sealed(int state_fd) {
        _cleanup_close_ int fd = openat(state_fd, "sealed", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        unsigned n = 0;

        return fd < 0 ? errno != ENOENT : file_each_dir(fd, count, &n) < 0 || n > 0;
}

/* The provision secret that the control plane handed out in place of the configured one. */
static void search_kept(Search *s, const Store *store, const Config *c) {
        CredentialsEnv none = {};
        Credentials kept = {};
        int r = credentials_check(store->state_fd, store->vault, NULL);

        if (r == -ENOENT)
                return;
        if (r >= 0)
                r = c ? credentials_load(c, store->arena, &none, &kept, NULL) : -ENOENT;
        if (r >= 0)
                r = credentials_restore(store->state_fd, store->vault, &kept, NULL);
        if (r > 0)
                look_for_value(s, "the provision secret that the control plane handed out", secret_text(kept.provision_secret), kept.provision_secret->size);
        else if (r < 0) {
                s->unreadable++;
                fputs("The provision secret that the control plane handed out cannot be had, so nobody can say whether it is in the bundle.\n", stderr);
        }
        credentials_done(&kept);
}

static void search_sealed(Search *s, const Config *c) {
        _cleanup_(store_done) Store store;

        if (store_open(&store) != CTL_OK) {
                s->unreadable++;
                fputs("What is sealed here cannot be opened, so nobody can say whether a value of it is in the bundle.\n", stderr);
                return;
        }
        if (vault_each(store.vault, search_workspace, s) < 0) {
                s->unreadable++;
                fputs("The directory of what is sealed cannot be read.\n", stderr);
        }
        s->workspace = NULL;
        search_kept(s, &store, c);
}

/* ── credentials ─────────────────────────────────────────────────────────────────────────────────────────────── */

static bool search_loaded(Search *s, const Config *c) {
        CredentialsEnv none = {};
        Credentials found_ones = {};
        Arena *arena = NULL;
        bool ok = arena_new(ARENA_SIZE, true, &arena, NULL) >= 0 && credentials_load(c, arena, &none, &found_ones, NULL) >= 0;

        if (ok) {
                look_for_value(s, "the provision secret", secret_text(found_ones.provision_secret), found_ones.provision_secret->size);
                look_for_value(s, "the admin token", secret_text(found_ones.admin_token), found_ones.admin_token->size);
        }
        credentials_done(&found_ones);
        arena_free(arena);
        return ok;
}

/* While the unit is down its credentials lie encrypted only. */
static void search_credentials(Search *s, const Config *c) {
        static const char *const names[] = { "provision-secret", "admin-token" };

        s->workspace = NULL;
        if (!c || !config_can_enrol(c) || search_loaded(s, c))
                return;
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *value = NULL;
                size_t size;

                if (creds_open(CREDSTORE, names[i], &value, &size) >= 0)
                        look_for_value(s, names[i], value, size);
                else {
                        s->unreadable++;
                        fprintf(stderr, "The credential %s cannot be had, so nobody can say whether it is in the bundle.\n", names[i]);
                }
        }
}

/* Of http://user:password@host. */
static void search_proxy(Search *s, const Config *c) {
        const char *at = c && c->proxy ? strrchr(c->proxy, '@') : NULL, *colon = at ? strstr(c->proxy, "://") : NULL;

        colon = colon ? strchr(colon + 3, ':') : at ? strchr(c->proxy, ':') : NULL;
        if (colon && colon < at)
                look_for_value(s, "the proxy's password", colon + 1, (size_t) (at - colon - 1));
}

int bundle_search(const Bundle *b, const Config *c, int state_fd) {
        _cleanup_(search_done) Search s = { .b = b };

        if (unescape_all(&s) < 0) {
                fputs("Out of memory.\n", stderr);
                return -ENOMEM;
        }
        if (is_anything_sealed(state_fd))
                search_sealed(&s, c);
        search_credentials(&s, c);
        search_proxy(&s, c);
        if (s.hits)
                fputs("Nothing is written. Change these secrets, since they were printed; or leave the part out with --without NAME.\n", stderr);
        else if (s.unreadable)
                fputs("Nothing is written.\n", stderr);
        return s.hits ? 1 : s.unreadable ? -ENOKEY : 0;
}
