/* SPDX-License-Identifier: Apache-2.0 */

/* Reading goes in one order, and the first thing wrong is what is said: sizes and head, key, tag, and only then whether an authentic file is the
 * one that was asked for. A key is never used for two purposes: each type has its own, derived. */

#include "secrets/seal.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define MAGIC      "MSEAL1\r\n"
#define NONCE_SIZE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_SIZE   crypto_aead_xchacha20poly1305_ietf_ABYTES
#define STRINGS_AT 48
#define HEADER_MIN (STRINGS_AT + 3 * 2)
#define PAD        64
#define ID_MAX     64
#define NAME_MAX_  128

_Static_assert(NONCE_SIZE == 24 && TAG_SIZE == 16 && KEY_SIZE == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "as the format says");
_Static_assert(KEY_SIZE == crypto_kdf_KEYBYTES, "one size of key throughout");

static const struct Kind {
        uint64_t    subkey;
        const char *context;            /* of the key derivation: 8 characters */
        bool        by_root, named;
        size_t      max;                /* of plaintext; exactly KEY_SIZE for keys */
} kinds[_SEAL_TYPE_MAX] = {
        [SEAL_WORKSPACE_KEY] = { 1, "wswrap_1", true,  false, KEY_SIZE },
        [SEAL_SECRET]        = { 1, "wsaead_1", false, true,  SEAL_SECRET_MAX },
        [SEAL_MANIFEST]      = { 2, "wsmani_1", false, false, SEAL_MANIFEST_MAX },
        [SEAL_BLOB]          = { 3, "wspayl_1", false, true,  SEAL_BLOB_MAX },
        [SEAL_HOST_KEY]      = { 1, "wswrap_1", true,  false, KEY_SIZE },
};

/* A view into a file's bytes. */
typedef struct Head {
        SealType       type;
        size_t         size;            /* of the whole head */
        uint32_t       epoch;
        uint64_t       generation;
        const uint8_t *nonce;
        struct { const char *text; size_t n; } org, workspace, name;
        size_t         sealed;          /* bytes of ciphertext without its tag */
} Head;

static int bad(Fault *reterr, const char *word, const char *why) {
        return fault(reterr, -EBADMSG, FAULT_SECRET_UNDECRYPTABLE, "%s: %s.", word, why);
}

static uint64_t number(const uint8_t *p, size_t bytes) {
        uint64_t v = 0;

        while (bytes-- > 0)
                v = v << 8 | p[bytes];
        return v;
}

static void put_number(uint8_t *p, size_t bytes, uint64_t v) {
        for (size_t i = 0; i < bytes; i++)
                p[i] = (uint8_t) (v >> 8 * i);
}

/* ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* One string at *at; false where it does not end within the head or its length is none that is allowed. */
static bool take_string(const uint8_t *file, size_t end, size_t *at, size_t min, size_t max, const char **ret, size_t *ret_n) {
        size_t n;

        if (end - *at < 2)
                return false;
        n = number(file + *at, 2);
        *at += 2;
        if (n < min || n > max || n > end - *at)
                return false;
        *ret = (const char *) file + *at;
        *ret_n = n;
        *at += n;
        return true;
}

static int head_strings(const uint8_t *file, Head *h, Fault *reterr) {
        size_t at = STRINGS_AT;

        if (!take_string(file, h->size, &at, 1, ID_MAX, &h->org.text, &h->org.n) ||
            !take_string(file, h->size, &at, 1, ID_MAX, &h->workspace.text, &h->workspace.n) ||
            !take_string(file, h->size, &at, kinds[h->type].named, kinds[h->type].named ? NAME_MAX_ : 0, &h->name.text, &h->name.n) ||
            at != h->size)
                return bad(reterr, "bad_header", "The head is not as long as its strings say");
        return 0;
}

static int head_read(SealType asked, const uint8_t *file, size_t size, Head *h, Fault *reterr) {
        if (size < HEADER_MIN)
                return bad(reterr, "truncated", "The file is shorter than any head");
        if (memcmp(file, MAGIC, 8) != 0)
                return bad(reterr, "bad_magic", "The file is not a sealed one, or was treated as text");
        if (file[8] != asked || file[8] < SEAL_WORKSPACE_KEY || file[8] >= _SEAL_TYPE_MAX)
                return bad(reterr, "bad_type", "The file is of another type");
        if (file[9] != 0)
                return bad(reterr, "bad_flags", "The file has flags that this version does not know");
        *h = (Head) { .type = file[8],
                      .size = number(file + 10, 2),
                      .epoch = (uint32_t) number(file + 12, 4),
                      .generation = number(file + 16, 8),
                      .nonce = file + 24 };
        if (h->size < HEADER_MIN || h->size > SEAL_HEADER_MAX)
                return bad(reterr, "bad_header", "The head has an impossible length");
        if (h->size + TAG_SIZE > size)
                return bad(reterr, "truncated", "The file ends before its content does");
        h->sealed = size - h->size - TAG_SIZE;
        return head_strings(file, h, reterr);
}

static size_t padded(size_t size) { return (size / PAD + 1) * PAD; }

static int check_size(const Head *h, Fault *reterr) {
        const struct Kind *k = &kinds[h->type];

        if (k->by_root ? h->sealed != KEY_SIZE : h->sealed == 0 || h->sealed % PAD != 0)
                return bad(reterr, "bad_size", "The content has an impossible length");
        if (!k->by_root && h->sealed > padded(k->max))
                return bad(reterr, "too_large", "The content is larger than its type allows");
        return 0;
}

static int check_context(const SealContext *c, const Head *h, Fault *reterr) {
#define DIFFERS(part, text_) (h->part.n != strlen(text_) || memcmp(h->part.text, (text_), h->part.n) != 0)
        if (DIFFERS(org, c->org)) {
                (void) bad(reterr, "wrong_org", "The file is authentic, but another organization's");
                return kinds[h->type].by_root ? -EXDEV : -EBADMSG;
        }
        if (DIFFERS(workspace, c->workspace))
                return bad(reterr, "wrong_workspace", "The file is authentic, but another workspace's");
        if (DIFFERS(name, c->name))
                return bad(reterr, "wrong_name", "The file is authentic, but of another name");
        if (h->generation != c->generation)
                return bad(reterr, "wrong_generation", "The file is authentic, but of another generation");
        return 0;
#undef DIFFERS
}

static void derive(const struct Kind *k, const uint8_t *key, uint8_t ret[static KEY_SIZE]) {
        (void) crypto_kdf_derive_from_key(ret, KEY_SIZE, k->subkey, k->context, key);
}

static int decrypt(const Head *h, const uint8_t *key, const uint8_t *file, uint8_t *to, Fault *reterr) {
        uint8_t subkey[KEY_SIZE];
        int r;

        derive(&kinds[h->type], key, subkey);
        r = crypto_aead_xchacha20poly1305_ietf_decrypt(to, NULL, NULL, file + h->size, h->sealed + TAG_SIZE, file, h->size, h->nonce, subkey);
        sodium_memzero(subkey, sizeof subkey);
        return r == 0 ? 0 : bad(reterr, "bad_tag", "The key is another one, or the file was changed");
}

/* *n comes in as the bytes that were sealed and goes out as the bytes of content. */
static int unpad(const Head *h, const uint8_t *data, size_t *n, Fault *reterr) {
        if (kinds[h->type].by_root)
                return 0;
        if (sodium_unpad(n, data, *n, PAD) != 0)
                return bad(reterr, "bad_padding", "The file is authentic, but its padding is none");
        return *n <= kinds[h->type].max ? 0 : bad(reterr, "too_large", "The content is larger than its type allows");
}

/* Everything that can be judged before there is a place for the content. *ret_key is borrowed from *keys. */
static int judge(const SealContext *c, const SealKeys *keys, const uint8_t *file, size_t size, Head *h, const uint8_t **ret_key, Fault *reterr) {
        int r = head_read(c->type, file, size, h, reterr);

        if (r < 0)
                return r;
        *ret_key = kinds[h->type].by_root ? keys->root(h->epoch, keys->userdata) : keys->workspace;
        if (!*ret_key)
                return fault(reterr, -ENOKEY, FAULT_SECRET_UNDECRYPTABLE, "unknown_epoch: There is no root key of epoch %u.", h->epoch);
        return check_size(h, reterr);
}

static int open_into(const SealContext *c, const uint8_t *key, const uint8_t *file, const Head *h, uint8_t *to, size_t *ret_n, Fault *reterr) {
        int r = decrypt(h, key, file, to, reterr);

        if (r < 0 || (r = check_context(c, h, reterr)) < 0)
                return r;
        *ret_n = h->sealed;
        return unpad(h, to, ret_n, reterr);
}

int seal_open(const SealContext *c, const SealKeys *keys, const uint8_t *file, size_t size, Arena *arena, Secret **ret, Fault *reterr) {
        _cleanup_(secret_freep) Secret *s = NULL;
        const uint8_t *key;
        size_t n;
        Head h;
        int r;

        r = judge(c, keys, file, size, &h, &key, reterr);
        if (r < 0)
                return r;
        s = secret_alloc(arena, h.sealed);
        if (!s)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "The arena of secrets is full.");
        r = open_into(c, key, file, &h, s->data, &n, reterr);
        if (r < 0)
                return r;
        sodium_memzero(s->data + n, s->size - n);       /* the padding; a NUL follows the content */
        s->size = n;
        *ret = TAKE_PTR(s);
        return 0;
}

int seal_open_plain(const SealContext *c, const SealKeys *keys, const uint8_t *file, size_t size, char **ret, size_t *ret_size, Fault *reterr) {
        _cleanup_free_ uint8_t *data = NULL;
        const uint8_t *key;
        size_t n;
        Head h;
        int r;

        r = judge(c, keys, file, size, &h, &key, reterr);
        if (r < 0)
                return r;
        data = malloc(h.sealed + 1);
        if (!data)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        r = open_into(c, key, file, &h, data, &n, reterr);
        if (r < 0)
                return r;
        data[n] = 0;
        *ret = (char *) TAKE_PTR(data);
        *ret_size = n;
        return 0;
}

int seal_epoch(const uint8_t *file, size_t size, uint32_t *ret) {
        if (size < HEADER_MIN || memcmp(file, MAGIC, 8) != 0)
                return -EBADMSG;
        *ret = (uint32_t) number(file + 12, 4);
        return 0;
}

/* ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool fits(const SealContext *c, size_t size) {
        size_t org = strlen(c->org), workspace = strlen(c->workspace), name = strlen(c->name);

        return org >= 1 && org <= ID_MAX && workspace >= 1 && workspace <= ID_MAX && name <= NAME_MAX_ &&
               kinds[c->type].named == (name > 0) && (kinds[c->type].by_root ? size == KEY_SIZE : size <= kinds[c->type].max);
}

static uint8_t *put_string(uint8_t *p, const char *s) {
        size_t n = strlen(s);

        put_number(p, 2, n);
        memcpy(p + 2, s, n);
        return p + 2 + n;
}

static void head_write(const SealContext *c, uint32_t epoch, const uint8_t *nonce, size_t size, uint8_t *p) {
        memcpy(p, MAGIC, 8);
        p[8] = (uint8_t) c->type;
        p[9] = 0;
        put_number(p + 10, 2, size);
        put_number(p + 12, 4, epoch);
        put_number(p + 16, 8, c->generation);
        memcpy(p + 24, nonce, NONCE_SIZE);
        (void) put_string(put_string(put_string(p + STRINGS_AT, c->org), c->workspace), c->name);
}

/* The content as it is encrypted: padded, in the arena where it fits. Large blobs are padded where they end up, and encrypted in place. */
static int encrypt(const SealContext *c, const uint8_t *key, const void *data, size_t size, size_t head, Arena *arena, uint8_t *file) {
        const struct Kind *k = &kinds[c->type];
        size_t full = k->by_root ? size : padded(size), n;
        _cleanup_(secret_freep) Secret *copy = c->type == SEAL_SECRET ? secret_alloc(arena, full) : NULL;
        uint8_t subkey[KEY_SIZE], *m = copy ? copy->data : file + head;

        if (c->type == SEAL_SECRET && !copy)
                return -ENOMEM;
        if (k->by_root)
                m = (uint8_t *) data;           /* only read */
        else {
                if (size > 0)
                        memcpy(m, data, size);
                (void) sodium_pad(&n, m, size, PAD, full);
        }
        derive(k, key, subkey);
        (void) crypto_aead_xchacha20poly1305_ietf_encrypt(file + head, NULL, m, full, file, head, NULL, file + 24, subkey);
        sodium_memzero(subkey, sizeof subkey);
        return 0;
}

int seal_make_with(const SealContext *c, uint32_t epoch, const uint8_t *key, const uint8_t *nonce, const void *data, size_t size, Arena *arena,
                   uint8_t **ret, size_t *ret_size, Fault *reterr) {
        size_t head = HEADER_MIN + strlen(c->org) + strlen(c->workspace) + strlen(c->name), total;
        _cleanup_free_ uint8_t *file = NULL;

        if (!fits(c, size))
                return fault(reterr, -E2BIG, FAULT_TOO_LARGE, "%zu bytes are more than a sealed file of its type may hold.", size);
        total = head + (kinds[c->type].by_root ? size : padded(size)) + TAG_SIZE;
        file = malloc(total);
        if (!file)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "Out of memory.");
        head_write(c, epoch, nonce, head, file);
        if (encrypt(c, key, data, size, head, arena, file) < 0)
                return fault(reterr, -ENOMEM, FAULT_INTERNAL, "The arena of secrets is full.");
        *ret = TAKE_PTR(file);
        *ret_size = total;
        return 0;
}

int seal_make(const SealContext *c, uint32_t epoch, const uint8_t *key, const void *data, size_t size, Arena *arena, uint8_t **ret,
              size_t *ret_size, Fault *reterr) {
        uint8_t nonce[NONCE_SIZE];

        randombytes_buf(nonce, sizeof nonce);
        return seal_make_with(c, epoch, key, nonce, data, size, arena, ret, ret_size, reterr);
}

void seal_root_check(const uint8_t *root, char ret[static ROOT_CHECK_SIZE]) {
        static const char message[] = "mseal/1/check";
        uint8_t digest[crypto_generichash_BYTES];

        (void) crypto_generichash(digest, sizeof digest, (const uint8_t *) message, strlen(message), root, KEY_SIZE);
        (void) sodium_bin2hex(ret, ROOT_CHECK_SIZE, digest, sizeof digest);
}
