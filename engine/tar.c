/* SPDX-License-Identifier: Apache-2.0 */

/* ustar in memory, written plainly and read with suspicion.
 *
 * Written: one header block per entry with everything that could vary fixed (mtime 0, no owner names), so that equal content gives equal
 * bytes. Read: what other writers make of the same format, including pax and GNU long names, because an engine answers with whatever its
 * own library prefers. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/tar.h"

#define BLOCK 512

typedef struct Header {
        char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8], user[32], group[32],
             major[8], minor[8], prefix[155], pad[12];
} Header;
_Static_assert(sizeof(Header) == BLOCK, "a tar header is one block");

void tar_done(Tar *t) {
        free(t->data);
        *t = (Tar) {};
}

/* ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static char *tar_grow(Tar *t, size_t n) {
        if (n > SIZE_MAX / 2 - t->size)
                return NULL;
        if (t->size + n > t->allocated) {
                size_t want = t->allocated ?: 8 * BLOCK;
                char *data;

                while (want < t->size + n)
                        want *= 2;
                data = realloc(t->data, want);
                if (!data)
                        return NULL;
                t->data = data;
                t->allocated = want;
        }
        memset(t->data + t->size, 0, n);
        t->size += n;
        return t->data + t->size - n;
}

/* A field of the header that is exactly full needs no NUL. */
static void put_name(char *field, size_t size, const char *s, size_t n) {
        memcpy(field, s, n < size ? n : size);
}

static void put_octal(char *field, size_t size, uint64_t v) {
        char text[32];

        (void) snprintf(text, sizeof text, "%0*llo", (int) size - 1, (unsigned long long) v);
        memcpy(field, text, size - 1);
}

static unsigned checksum(const Header *h) {
        const unsigned char *p = (const unsigned char *) h;
        unsigned sum = 0;

        for (size_t i = 0; i < BLOCK; i++)
                sum += i >= offsetof(Header, checksum) && i < offsetof(Header, type) ? ' ' : p[i];
        return sum;
}

/* Where the name is cut between prefix and name: at the last '/' that leaves both within their fields; 0: no cut is needed. */
static int name_cut(const char *name, size_t n, size_t *ret) {
        if (n <= sizeof ((Header *) NULL)->name) {
                *ret = 0;
                return 0;
        }
        for (size_t i = n - 1; i > 0; i--)
                if (name[i] == '/' && i <= sizeof ((Header *) NULL)->prefix && i + 1 < n && n - i - 1 <= sizeof ((Header *) NULL)->name) {
                        *ret = i;
                        return 0;
                }
        return -ENAMETOOLONG;
}

static int tar_add(Tar *t, char type, const char *name, unsigned mode, unsigned uid, unsigned gid, const void *data, size_t size) {
        size_t n = strlen(name), cut, padded = (size + BLOCK - 1) / BLOCK * BLOCK;
        Header *h;
        char *place;
        int r;

        if (n == 0 || n > 255)
                return -ENAMETOOLONG;
        if (size > UINT64_C(077777777777) || mode > 07777 || uid > 07777777 || gid > 07777777)
                return -EINVAL;
        r = name_cut(name, n, &cut);
        if (r < 0)
                return r;
        place = tar_grow(t, BLOCK + padded);
        if (!place)
                return -ENOMEM;
        h = (Header *) place;
        put_name(h->prefix, sizeof h->prefix, name, cut);
        put_name(h->name, sizeof h->name, name + cut + (cut > 0), n - cut - (cut > 0));
        put_octal(h->mode, sizeof h->mode, mode);
        put_octal(h->uid, sizeof h->uid, uid);
        put_octal(h->gid, sizeof h->gid, gid);
        put_octal(h->size, sizeof h->size, size);
        put_octal(h->mtime, sizeof h->mtime, 0);
        h->type = type;
        memcpy(h->magic, "ustar\00000", 8);
        put_octal(h->checksum, 7, checksum(h));
        h->checksum[7] = ' ';
        if (size > 0)
                memcpy(place + BLOCK, data, size);
        return 0;
}

int tar_add_dir(Tar *t, const char *name, unsigned mode, unsigned uid, unsigned gid) {
        return tar_add(t, '5', name, mode, uid, gid, NULL, 0);
}

int tar_add_file(Tar *t, const char *name, unsigned mode, unsigned uid, unsigned gid, const void *data, size_t size) {
        return tar_add(t, '0', name, mode, uid, gid, data, size);
}

int tar_end(Tar *t) {
        return tar_grow(t, (size_t) 2 * BLOCK) ? 0 : -ENOMEM;
}

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int damaged(Fault *reterr, size_t offset, const char *why) {
        return fault(reterr, -EBADMSG, FAULT_ENGINE_ERROR, "damaged archive at byte %zu: %s", offset, why);
}

/* Octal text, or GNU's binary form for what does not fit it. */
static int get_number(const char *field, size_t size, uint64_t *ret) {
        uint64_t v = 0;
        size_t i = 0;

        if ((unsigned char) field[0] == 0x80) {
                for (i = 1; i < size; i++) {
                        if (v >> 56)
                                return -EBADMSG;
                        v = v << 8 | (unsigned char) field[i];
                }
                *ret = v;
                return 0;
        }
        while (i < size && field[i] == ' ')
                i++;
        for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
                if (v >> 60)
                        return -EBADMSG;
                v = v << 3 | (uint64_t) (field[i] - '0');
        }
        for (; i < size; i++)
                if (field[i] != ' ' && field[i] != 0)
                        return -EBADMSG;
        *ret = v;
        return 0;
}

static int name_set(TarEntry *e, const char *s, size_t n) {
        while (n > 0 && s[n - 1] == 0)
                n--;
        if (n == 0 || n >= sizeof e->name || memchr(s, 0, n))
                return -EBADMSG;
        memcpy(e->name, s, n);
        e->name[n] = 0;
        return 0;
}

static int name_from_header(TarEntry *e, const Header *h) {
        bool posix = memcmp(h->magic, "ustar\0", 6) == 0;       /* GNU keeps other things where the prefix is */
        int prefix = posix ? (int) strnlen(h->prefix, sizeof h->prefix) : 0;
        int name = (int) strnlen(h->name, sizeof h->name);
        int n = snprintf(e->name, sizeof e->name, "%.*s%s%.*s", prefix, h->prefix, prefix > 0 ? "/" : "", name, h->name);

        return n > 0 && n < (int) sizeof e->name ? 0 : -EBADMSG;
}

typedef struct Pax {
        const char *name;               /* NULL: no long name */
        size_t      name_size;
        uint64_t    size;
        bool        has_size;
} Pax;

/* Records "LENGTH KEY=VALUE\n", LENGTH counting all of it. */
static int pax_read(const char *p, size_t size, Pax *pax) {
        for (size_t left = size; left > 0;) {
                const char *record = p + (size - left), *space = memchr(record, ' ', left), *equal, *end;
                size_t n = 0;

                if (!space || space == record || space - record > 9)
                        return -EBADMSG;
                for (const char *d = record; d < space; d++) {
                        if (*d < '0' || *d > '9')
                                return -EBADMSG;
                        n = n * 10 + (size_t) (*d - '0');
                }
                if (n > left || n <= (size_t) (space - record) + 1 || record[n - 1] != '\n')
                        return -EBADMSG;
                end = record + n - 1;
                equal = memchr(space + 1, '=', (size_t) (end - space - 1));
                if (!equal)
                        return -EBADMSG;
                if (equal - space - 1 == 4 && memcmp(space + 1, "path", 4) == 0) {
                        pax->name = equal + 1;
                        pax->name_size = (size_t) (end - equal - 1);
                } else if (equal - space - 1 == 4 && memcmp(space + 1, "size", 4) == 0) {
                        pax->size = 0;
                        for (const char *d = equal + 1; d < end; d++) {
                                if (*d < '0' || *d > '9' || pax->size > UINT64_MAX / 10 - 1)
                                        return -EBADMSG;
                                pax->size = pax->size * 10 + (uint64_t) (*d - '0');
                        }
                        pax->has_size = end > equal + 1;
                }
                left -= n;
        }
        return 0;
}

static bool all_zero(const char *p, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (p[i])
                        return false;
        return true;
}

static int entry_fill(const Header *h, const Pax *pax, const char *data, size_t size, TarEntry *ret) {
        TarEntry e = { .type = h->type ? h->type : '0', .data = data, .size = size };
        uint64_t mode, uid, gid;

        if (get_number(h->mode, sizeof h->mode, &mode) < 0 || get_number(h->uid, sizeof h->uid, &uid) < 0 ||
            get_number(h->gid, sizeof h->gid, &gid) < 0 || uid > UINT32_MAX || gid > UINT32_MAX)
                return -EBADMSG;
        e.mode = (unsigned) (mode & 07777);
        e.uid = (unsigned) uid;
        e.gid = (unsigned) gid;
        if ((pax->name ? name_set(&e, pax->name, pax->name_size) : name_from_header(&e, h)) < 0)
                return -EBADMSG;
        *ret = e;
        return 0;
}

int tar_next(const void *data, size_t size, size_t *offset, TarEntry *ret, Fault *reterr) {
        const char *base = data;
        Pax pax = {};

        for (;;) {
                const Header *h = (const Header *) (base + *offset);
                const char *content;
                uint64_t sum, n;

                if (*offset == size)
                        return pax.name ? damaged(reterr, *offset, "it ends behind a long name") : 0;
                if (size - *offset < BLOCK)
                        return damaged(reterr, *offset, "cut within a header");
                if (all_zero(base + *offset, BLOCK))
                        return 0;
                if (get_number(h->checksum, sizeof h->checksum, &sum) < 0 || sum != checksum(h))
                        return damaged(reterr, *offset, "wrong checksum");
                if (get_number(h->size, sizeof h->size, &n) < 0)
                        return damaged(reterr, *offset, "no size");
                if (pax.has_size && h->type != 'x' && h->type != 'g')
                        n = pax.size;
                if (h->type == '1' || h->type == '2' || h->type == '3' || h->type == '4' || h->type == '5' || h->type == '6')
                        n = 0;          /* links, devices and directories carry nothing, whatever their size says */
                content = base + *offset + BLOCK;
                if (n > size - *offset - BLOCK)
                        return damaged(reterr, *offset, "an entry reaches beyond the end");
                *offset += BLOCK + ((size_t) n + BLOCK - 1) / BLOCK * BLOCK;
                if (*offset > size)
                        *offset = size;         /* the last block's padding may be missing */

                if (h->type == 'x') {
                        if (pax_read(content, (size_t) n, &pax) < 0)
                                return damaged(reterr, *offset, "a pax header makes no sense");
                } else if (h->type == 'L') {
                        pax.name = content;
                        pax.name_size = (size_t) n;
                } else if (h->type != 'g' && h->type != 'K') {
                        if (entry_fill(h, &pax, content, (size_t) n, ret) < 0)
                                return damaged(reterr, *offset, "a name or number of an entry makes no sense");
                        return 1;
                }
        }
}
