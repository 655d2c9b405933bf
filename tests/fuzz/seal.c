/* SPDX-License-Identifier: Apache-2.0 */

/* secrets/seal: no file opens that the key did not seal; and of those that it did seal, with whatever head and padding, exactly those open that are what was asked
 * for. The target seals by itself, after docs/sealed-files.md, so that what lies behind the tag is reached; then a changed byte anywhere keeps a file shut.
 *
 * Input: type, how (bits below), at (2 bytes), with; then what head and content are made of. */

#include <errno.h>
#include <sodium.h>

#include "secrets/seal.h"
#include "tests/fuzz/fuzz.h"

#define HEAD_FIXED 48
#define TAG        crypto_aead_xchacha20poly1305_ietf_ABYTES
#define PAD        64

enum { HEAD_STRINGS = 1, HEAD_RAW = 2, CONTENT_RAW = 4, DAMAGED = 8 };         /* how */

static const uint8_t root[2][KEY_SIZE] = { { 1 }, { 2 } }, workspace_key[KEY_SIZE] = { 3 };

static const struct { const char *name, *kdf; uint64_t id, generation, max; } kinds[] = {
        [SEAL_WORKSPACE_KEY] = { "", "wswrap_1", 1, 0, 32 },
        [SEAL_SECRET]        = { "API_TOKEN", "wsaead_1", 1, 7, 65536 },
        [SEAL_MANIFEST]      = { "", "wsmani_1", 2, 7, 262144 },
        [SEAL_BLOB]          = { "payload", "wspayl_1", 3, 7, 33554432 },
        [SEAL_HOST_KEY]      = { "", "wswrap_1", 1, 0, 32 },
};

typedef struct Bytes { size_t n; uint8_t at[16384]; } Bytes;

static bool by_root(SealType t) { return t == SEAL_WORKSPACE_KEY || t == SEAL_HOST_KEY; }
static const uint8_t *root_of(uint32_t epoch, const void *userdata) { return (void) userdata, epoch == 1 || epoch == 2 ? root[epoch - 1] : NULL; }

static SealContext context(SealType t) {
        return (SealContext) { .type = t, .org = "acme", .workspace = "33333333-3333-4333-8333-333333333333", .name = kinds[t].name, .generation = kinds[t].generation };
}

static void put(Bytes *b, const void *data, size_t n) {
        n = n < sizeof b->at - b->n ? n : sizeof b->at - b->n;
        memcpy(b->at + b->n, data, n);
        b->n += n;
}

static void put_string(Bytes *b, const void *s, size_t n) {
        put(b, (const uint8_t[]) { (uint8_t) n, (uint8_t) (n >> 8) }, 2);
        put(b, s, n);
}

/* Epoch 1, a nonce of zeros. */
static void head_begin(Bytes *b, SealType t, uint64_t generation) {
        put(b, "MSEAL1\r\n", 8);
        put(b, (const uint8_t[]) { (uint8_t) t, 0, 0, 0, 1, 0, 0, 0 }, 8);
        for (unsigned i = 0; i < 8; i++)
                put(b, (const uint8_t[]) { (uint8_t) (generation >> 8 * i) }, 1);
        put(b, (const uint8_t[24]) {}, 24);
}

static void head_end(Bytes *b) {
        b->at[10] = (uint8_t) b->n;
        b->at[11] = (uint8_t) (b->n >> 8);
}

static void head_expected(Bytes *b, SealType t) {
        const SealContext c = context(t);

        head_begin(b, t, c.generation);
        put_string(b, c.org, strlen(c.org));
        put_string(b, c.workspace, strlen(c.workspace));
        put_string(b, c.name, strlen(c.name));
        head_end(b);
}

static void take_string(Bytes *b, const uint8_t **data, size_t *size) {
        size_t n = fuzz_byte(data, size);

        n = n < *size ? n : *size;
        put_string(b, *data, n);
        *data += n;
        *size -= n;
}

static void head_make(Bytes *b, SealType t, uint8_t how, const uint8_t **data, size_t *size) {
        size_t n;

        if (how & HEAD_RAW) {
                n = *size < HEAD_FIXED + 60 ? *size : HEAD_FIXED + 60;
                put(b, *data, n);
                *data += n;
                *size -= n;
        } else if (how & HEAD_STRINGS) {
                head_begin(b, t, fuzz_byte(data, size));
                for (int i = 0; i < 3; i++)
                        take_string(b, data, size);
                head_end(b);
        } else
                head_expected(b, t);
}

/* ── what has to come of it ── */

/* Epoch and nonce may be any; but a root must be known. */
static bool is_asked_for(const Bytes *head, SealType t) {
        Bytes expected;

        expected.n = 0;
        head_expected(&expected, t);
        return head->n == expected.n && memcmp(head->at, expected.at, 12) == 0 && memcmp(head->at + 16, expected.at + 16, 8) == 0 &&
               memcmp(head->at + HEAD_FIXED, expected.at + HEAD_FIXED, head->n - HEAD_FIXED) == 0 &&
               (!by_root(t) || ((head->at[12] == 1 || head->at[12] == 2) && !head->at[13] && !head->at[14] && !head->at[15]));
}

/* ISO/IEC 7816-4 from its end. *ret: of the content. */
static bool is_padded(const Bytes *m, SealType t, size_t *ret) {
        size_t n = m->n;

        *ret = n;
        if (by_root(t))
                return n == KEY_SIZE;
        if (n == 0 || n % PAD != 0)
                return false;
        while (n > 0 && m->at[n - 1] == 0)
                n--;
        if (n == 0 || m->at[n - 1] != 0x80 || m->n - n >= PAD)
                return false;
        *ret = n - 1;
        return *ret <= kinds[t].max;
}

static void seal(const Bytes *head, SealType t, const Bytes *m, Bytes *file) {
        uint8_t subkey[KEY_SIZE];
        const uint8_t *key = by_root(t) ? root[head->n > 12 && head->at[12] == 2] : workspace_key;
        static const uint8_t none[24];

        (void) crypto_kdf_derive_from_key(subkey, sizeof subkey, kinds[t].id, kinds[t].kdf, key);
        put(file, head->at, head->n);
        (void) crypto_aead_xchacha20poly1305_ietf_encrypt(file->at + file->n, NULL, m->at, m->n, head->at, head->n, NULL, head->n >= HEAD_FIXED ? head->at + 24 : none, subkey);
        file->n += m->n + TAG;
}

/* Both ways of opening say the same. */
static void opened(SealType t, const uint8_t *data, size_t size, Arena *arena, const uint8_t *content, size_t n) {
        const SealKeys keys = { .root = root_of, .workspace = workspace_key };
        _cleanup_free_ uint8_t *file = malloc(size ?: 1);
        _cleanup_(secret_freep) Secret *s = NULL;
        _cleanup_free_ char *plain = NULL;
        const SealContext c = context(t);
        size_t plain_size = 0;
        Fault f = {};
        int r, q;

        if (!file)
                abort();
        memcpy(file, data, size);
        r = seal_open(&c, &keys, file, size, arena, &s, &f);
        q = seal_open_plain(&c, &keys, file, size, &plain, &plain_size, NULL);
        MUST(r == q && (r == 0) == (content != NULL) && (r == 0) == !f.set);
        if (!content) {
                MUST(r == -EBADMSG || r == -ENOKEY || (r == -EXDEV && by_root(t)));
                return;
        }
        MUST(s->size == n && memcmp(s->data, content, n) == 0 && s->data[n] == 0);
        MUST(plain_size == n && memcmp(plain, content, n) == 0 && plain[n] == 0);
}

/* What the library makes is what is made here. */
static void made(SealType t, const Bytes *head, const Bytes *m, size_t n, Arena *arena, const Bytes *file) {
        _cleanup_free_ uint8_t *own = NULL;
        const SealContext c = context(t);
        size_t size;

        MUST(seal_make_with(&c, head->at[12], by_root(t) ? root[0] : workspace_key, head->at + 24, m->at, n, arena, &own, &size, NULL) == 0);
        MUST(size == file->n && memcmp(own, file->at, size) == 0);
}

static Arena *the_arena(void) {
        static Arena *arena;

        if (!arena && (sodium_init() < 0 || arena_new(ARENA_SIZE, true, &arena, NULL) < 0))
                abort();
        return arena;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        SealType t = (SealType) (1 + fuzz_byte(&data, &size) % 5);
        uint8_t how = fuzz_byte(&data, &size), low = fuzz_byte(&data, &size), high = fuzz_byte(&data, &size), with = fuzz_byte(&data, &size);
        size_t at = low | (size_t) high << 8, n;
        Bytes head, m, file;
        bool good;

        head.n = m.n = file.n = 0;
        opened(t, data, size, the_arena(), NULL, 0);
        head_make(&head, t, how, &data, &size);
        if (!(how & DAMAGED) && head.n > 0)
                head.at[at % head.n] ^= with;
        put(&m, data, size < 8192 ? size : 8192);
        if (!(how & CONTENT_RAW) && !by_root(t)) {
                put(&m, "\x80", 1);
                put(&m, (const uint8_t[PAD]) {}, (PAD - m.n % PAD) % PAD);
        }
        seal(&head, t, &m, &file);
        MUST(file.n >= TAG);
        good = is_padded(&m, t, &n) && is_asked_for(&head, t);
        opened(t, file.at, file.n, the_arena(), good ? m.at : NULL, n);
        if (good && head.at[12] == 1 && !head.at[13] && !head.at[14] && !head.at[15])
                made(t, &head, &m, n, the_arena(), &file);
        file.at[at % file.n] ^= with | 1;
        opened(t, file.at, file.n, the_arena(), NULL, 0);
        return 0;
}
