/* SPDX-License-Identifier: Apache-2.0 */

/* The order of the pairs is in their names, so that no second file has to agree with them. A box carries no context of its own: what is sealed
 * begins with whom it is for, and the rest is the value. */

#include "secrets/hostkey.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"

#define KEYS_DIR   "keys"
#define PAIRS_MAX  2
#define HEX_DIGITS 16
#define BOX_WORDS  "molecule.secret.v1"

_Static_assert(crypto_box_SECRETKEYBYTES == KEY_SIZE && crypto_box_PUBLICKEYBYTES == KEY_SIZE, "keys are of one size");

typedef struct Pair {
        uint64_t number;
        char     id[HOST_KEY_ID_SIZE], text[HOST_KEY_TEXT_SIZE];
        uint8_t  public[KEY_SIZE];
        Secret  *secret;
} Pair;

struct HostKeys {
        int         state_fd, fd;               /* fd: keys/ */
        const Keys *keys;
        char        org[UUID_SIZE];
        Pair        pairs[PAIRS_MAX];           /* the current one first */
        size_t      n;
        uint64_t    last;                       /* the highest number there ever was */
};

static SealContext context(const HostKeys *h) { return (SealContext) { .type = SEAL_HOST_KEY, .org = h->org, .workspace = "host", .name = "" }; }

static void file_name(const char *id, char ret[static 64]) { (void) snprintf(ret, 64, "host.%s.seal", id); }

/* What follows from number and secret. */
static void pair_fill(Pair *p) {
        char hex[HASH_TEXT_SIZE];

        (void) crypto_scalarmult_base(p->public, p->secret->data);
        (void) sodium_bin2base64(p->text, sizeof p->text, p->public, sizeof p->public, sodium_base64_VARIANT_ORIGINAL);
        hash_text(p->public, sizeof p->public, hex);
        (void) snprintf(p->id, sizeof p->id, "h%llu-%.*s", (unsigned long long) p->number, HEX_DIGITS, hex);
}

/* Keeps the highest two. */
static void pairs_add(HostKeys *h, Pair *p) {
        size_t at = h->n > 0 && p->number < h->pairs[0].number ? 1 : 0;

        if (at == PAIRS_MAX - 1 && h->n == PAIRS_MAX && p->number < h->pairs[at].number) {
                secret_free(p->secret);
                return;
        }
        if (h->n == PAIRS_MAX)
                secret_free(h->pairs[PAIRS_MAX - 1].secret);
        else
                h->n++;
        if (at == 0)
                h->pairs[1] = h->pairs[0];
        h->pairs[at] = *p;
}

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* "host.h<N>-<16 hex>.seal" */
static bool number_of(const char *name, uint64_t *ret) {
        char digits[24] = {};
        const char *dash = strchr(name, '-');
        size_t n;

        if (strncmp(name, "host.h", 6) != 0 || !dash || strlen(dash) != 1 + HEX_DIGITS + 5 || strcmp(dash + 1 + HEX_DIGITS, ".seal") != 0)
                return false;
        n = (size_t) (dash - name) - 6;
        if (n >= sizeof digits)
                return false;
        memcpy(digits, name + 6, n);
        return u64_parse(digits, ret) == 0 && *ret > 0;
}

typedef struct Reading { HostKeys *host; Fault *damaged; uint64_t unread; int error; } Reading;  /* unread: the highest number of those that cannot be read */

static int read_pair(HostKeys *h, int dirfd, const char *name, Pair *p, Fault *why) {
        SealContext c = context(h);
        SealKeys keys = keys_for(h->keys, NULL);
        _cleanup_free_ char *file = NULL;
        char expected[64];
        size_t size;
        int r = file_read(dirfd, name, SEAL_KEY_MAX, &file, &size);

        if (r < 0)
                return r == -EFBIG ? fault(why, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "bad_size: The file is too large.") : r;
        r = seal_open(&c, &keys, (const uint8_t *) file, size, keys_arena(h->keys), &p->secret, why);
        if (r < 0)
                return r;
        pair_fill(p);
        file_name(p->id, expected);
        if (strcmp(expected, name) == 0)
                return 0;
        p->secret = secret_free(p->secret);
        return fault(why, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "wrong_name: The key in the file is not the one that its name says.");
}

static int on_file(int dirfd, const char *name, void *userdata) {
        Reading *reading = userdata;
        HostKeys *h = reading->host;
        Pair p = {};
        Fault why = {};
        int r, damaged;

        if (!number_of(name, &p.number))
                return 0;
        if (p.number > h->last)
                h->last = p.number;
        r = read_pair(h, dirfd, name, &p, &why);
        if (r == 0) {
                pairs_add(h, &p);
                return 0;
        }
        if (r == -EXDEV)                        /* nothing is wrong with it, and org_id may come back to what it was */
                return 0;
        if (r != -EBADMSG && r != -ENOKEY) {    /* unreadable now is not damaged; every root that counts is here */
                if (p.number > reading->unread) {
                        reading->unread = p.number;
                        reading->error = r;
                }
                return 0;
        }
        damaged = r;
        r = file_set_aside(h->state_fd, dirfd, name, name, why.text);
        if (r >= 0 || faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                (void) fault(reading->damaged, damaged, FAULT_SECRET_UNDECRYPTABLE, "The host's key '%s' is set aside: %s", name, why.text);
        return r;
}

typedef struct Verify { HostKeys *host; SealedBad bad; void *userdata; unsigned n, n_bad; } Verify;

static int on_verify(int dirfd, const char *name, void *userdata) {
        Verify *y = userdata;
        Pair p = {};
        Fault why = {};
        char path[300];
        int r;

        if (!number_of(name, &p.number))
                return 0;
        y->n++;
        r = read_pair(y->host, dirfd, name, &p, &why);
        secret_free(p.secret);
        if (r == 0 || r == -EXDEV)
                return 0;
        y->n_bad++;
        (void) snprintf(path, sizeof path, KEYS_DIR "/%s", name);
        y->bad(path, why.set ? why.text : strerror(-r), y->userdata);
        return 0;
}

unsigned host_keys_verify(int state_fd, const Keys *keys, const char *org, SealedBad bad, void *userdata, unsigned *ret_files) {
        HostKeys h = { .state_fd = state_fd, .keys = keys,
                       .fd = TEMP_FAILURE_RETRY(openat(state_fd, KEYS_DIR, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW)) };
        Verify y = { .host = &h, .bad = bad, .userdata = userdata };

        (void) snprintf(h.org, sizeof h.org, "%s", org);
        if (h.fd >= 0) {
                (void) file_each(h.fd, on_verify, &y);
                (void) close(h.fd);
        }
        *ret_files = y.n;
        return y.n_bad;
}

/* ── making ──────────────────────────────────────────────────────────────────────────────────────────────────── */

static int make(HostKeys *h, Fault *reterr) {
        _cleanup_free_ uint8_t *file = NULL;
        Arena *arena = keys_arena(h->keys);
        Pair p = { .number = h->last + 1, .secret = secret_alloc(arena, KEY_SIZE) };
        SealContext c = context(h);
        uint32_t epoch = keys_epoch(h->keys);
        char name[64];
        size_t size;
        int r = -ENOMEM;

        if (p.secret) {
                randombytes_buf(p.secret->data, KEY_SIZE);
                pair_fill(&p);
                r = seal_make(&c, epoch, keys_root(epoch, h->keys), p.secret->data, KEY_SIZE, arena, &file, &size, reterr);
        }
        if (r >= 0) {
                file_name(p.id, name);
                r = file_write_atomic(h->fd, name, file, size);
        }
        if (r < 0) {
                secret_free(p.secret);
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot store a new host key: %m");
        }
        h->last = p.number;
        pairs_add(h, &p);
        return 0;
}

/* Removed only now that the newer ones are durable. */
static int remove_old(int dirfd, const char *name, void *userdata) {
        HostKeys *h = userdata;
        Pair p = {};

        if (!number_of(name, &p.number) || h->n < PAIRS_MAX || p.number >= h->pairs[PAIRS_MAX - 1].number)
                return 0;
        if (read_pair(h, dirfd, name, &p, NULL) == 0)   /* of this organization */
                (void) file_remove(dirfd, name);        /* ignoring: the next start finds it again */
        secret_free(p.secret);
        return 0;
}

int host_keys_rotate(HostKeys *h, Fault *reterr) {
        int r = make(h, reterr);

        return r < 0 ? r : file_each(h->fd, remove_old, h);
}

int host_keys_open(int state_fd, const Keys *keys, const char *org, HostKeys **ret, Fault *ret_damaged, Fault *reterr) {
        _cleanup_(host_keys_freep) HostKeys *h = NULL;
        Reading reading = { .damaged = ret_damaged };
        int r;

        if (keys_fault(keys))
                return fault(reterr, -ENOKEY, FAULT_SECRET_UNDECRYPTABLE, "%s", keys_fault(keys)->text);
        h = calloc(1, sizeof *h);
        if (!h)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        *h = (HostKeys) { .state_fd = state_fd, .keys = keys, .fd = file_open_dir(state_fd, KEYS_DIR) };
        (void) snprintf(h->org, sizeof h->org, "%s", org);
        reading.host = h;
        r = h->fd < 0 ? h->fd : file_each(h->fd, on_file, &reading);
        if (r < 0)
                return fault(reterr, r, FAULT_STATE_DEGRADED, "Cannot read the host's keys: %m");
        if (reading.unread > 0 && (h->n == 0 || reading.unread > h->pairs[0].number))
                return fault(reterr, reading.error, FAULT_STATE_DEGRADED, "Cannot read the host's key h%llu: %m", (unsigned long long) reading.unread);
        if (reading.unread > 0)                 /* a box to it is refused until then, and may be made anew */
                (void) fault(ret_damaged, reading.error, FAULT_STATE_DEGRADED, "The host's former key h%llu is not used, it cannot be read: %m",
                             (unsigned long long) reading.unread);
        if (h->n == 0)
                r = make(h, reterr);
        else if (TEMP_FAILURE_RETRY(fsync(h->fd)) < 0)          /* it may be of a making whose last fsync failed */
                r = fault(reterr, -errno, FAULT_STATE_DEGRADED, "Cannot store the host's keys: %m");
        if (r < 0)
                return r;
        (void) file_each(h->fd, remove_old, h);
        *ret = TAKE_PTR(h);
        return 0;
}

HostKeys *host_keys_free(HostKeys *h) {
        if (!h)
                return NULL;
        for (size_t i = 0; i < h->n; i++)
                secret_free(h->pairs[i].secret);
        if (h->fd >= 0)
                (void) close(h->fd);
        free(h);
        return NULL;
}

const char *host_keys_id(const HostKeys *h) { return h->pairs[0].id; }
const char *host_keys_public(const HostKeys *h) { return h->pairs[0].text; }

/* ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static const Pair *pair_find(const HostKeys *h, const char *id) {
        for (size_t i = 0; i < h->n; i++)
                if (str_equal(h->pairs[i].id, id))
                        return &h->pairs[i];
        return NULL;
}

static int unbox(const HostKeys *h, const Pair *p, const uint8_t *box, size_t size, Secret **ret) {
        Secret *s = size < crypto_box_SEALBYTES ? NULL : secret_alloc(keys_arena(h->keys), size - crypto_box_SEALBYTES);

        if (!s)
                return size < crypto_box_SEALBYTES ? -EBADMSG : -ENOMEM;
        if (crypto_box_seal_open(s->data, box, size, p->public, p->secret->data) != 0) {
                secret_free(s);
                return -EBADMSG;
        }
        *ret = s;
        return 0;
}

/* The length of what stands in front of the value; 0: it is not for this place. */
static size_t preamble(const HostKeys *h, const char *workspace, const char *name, const Secret *s) {
        const char *parts[] = { BOX_WORDS, h->org, workspace, name };
        size_t at = 0;

        for (size_t i = 0; i < ELEMENTS(parts); i++) {
                size_t n = strlen(parts[i]) + 1;        /* with its NUL */

                if (n > s->size - at || memcmp(s->data + at, parts[i], n) != 0)
                        return 0;
                at += n;
        }
        return at;
}

int host_keys_open_box(const HostKeys *h, const char *sealed_to, const char *workspace, const char *name, const uint8_t *box, size_t size,
                       Secret **ret, Fault *reterr) {
        const Pair *p = pair_find(h, sealed_to);
        _cleanup_(secret_freep) Secret *s = NULL;
        size_t at;
        int r;

        if (!p)
                return fault(reterr, -ENOKEY, FAULT_SECRET_UNDECRYPTABLE, "The secrets are sealed to a key that is none of this host's; "
                             "the current one is %s.", host_keys_id(h));
        r = unbox(h, p, box, size, &s);
        if (r == -ENOMEM)
                return fault(reterr, r, FAULT_INTERNAL, "The arena of secrets is full.");
        if (r < 0)
                return fault(reterr, r, FAULT_SECRET_UNDECRYPTABLE, "The secret %s does not open with the host's key %s.", name, p->id);
        at = preamble(h, workspace, name, s);
        if (at == 0)
                return fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE,
                             "The secret %s was sealed for another organization, workspace or name.", name);
        *ret = secret_new(s->arena, s->data + at, s->size - at);
        return *ret ? 0 : fault(reterr, -ENOMEM, FAULT_INTERNAL, "The arena of secrets is full.");
}

int host_keys_prove(const HostKeys *h, const char *challenge, char ret[static HOST_KEY_TEXT_SIZE], Fault *reterr) {
        _cleanup_free_ uint8_t *box = NULL;
        uint8_t proof[KEY_SIZE];
        size_t size = 0;

        if (!challenge || base64_decode(challenge, KEY_SIZE + crypto_box_SEALBYTES, &box, &size) < 0 || size != KEY_SIZE + crypto_box_SEALBYTES)
                return fault(reterr, -EBADMSG, FAULT_SEALING_KEY_CONFLICT, "The control plane knows another sealing key of this host, "
                             "and its challenge is malformed.");
        for (size_t i = 0; i < h->n; i++) {
                _cleanup_(secret_freep) Secret *s = NULL;

                if (unbox(h, &h->pairs[i], box, size, &s) < 0)
                        continue;
                (void) crypto_generichash(proof, sizeof proof, h->pairs[0].public, KEY_SIZE, s->data, s->size);
                (void) sodium_bin2base64(ret, HOST_KEY_TEXT_SIZE, proof, sizeof proof, sodium_base64_VARIANT_ORIGINAL);
                return 0;
        }
        return fault(reterr, -ENOKEY, FAULT_SEALING_KEY_CONFLICT, "The control plane knows another sealing key of this host, and this host "
                     "cannot prove that it held it: an operator of the control plane has to accept %s.", host_keys_id(h));
}
