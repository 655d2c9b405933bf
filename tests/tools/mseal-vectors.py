#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mseal-vectors.py [DIRECTORY]: writes the test vectors of sealed files (docs/sealed-files.md), tests/data/mseal unless told otherwise.

Every key and nonce is BLAKE2b of its own label, so the files come out the same each time. The writer here knows nothing of docs/mseal.py:
it takes key derivation, padding and sealing from libsodium. derive.json is of another shape than the other files.

{"about": words, "vectors": [{"name", "type" asked for, "expect": {"org", "workspace", "name", "generation"}, "roots": {epoch: hex},
"workspace_key": hex for types 2 to 4, "file": hex, then "error": word, or "plaintext": hex with the "nonce" and "epoch" that a writer
needs to make exactly this file}]}. Long ones have {"byte", "count"} in "plaintext_repeat" and no "file": "file_from" says what to seal, as
expected and with which nonce and epoch; with "pad" false the plaintext is taken as padded already."""

import ctypes
import ctypes.util
import hashlib
import json
import pathlib
import struct
import sys

try:
    sodium = ctypes.CDLL("libsodium.so.23")
except OSError:
    sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so")
assert sodium.sodium_init() >= 0
size_t, u64 = ctypes.c_size_t, ctypes.c_ulonglong

MAGIC = b"MSEAL1\r\n"
KEYS = {1: (1, b"wswrap_1"), 2: (1, b"wsaead_1"), 3: (2, b"wsmani_1"), 4: (3, b"wspayl_1"), 5: (1, b"wswrap_1")}
LIMITS = {2: 65536, 3: 262144, 4: 33554432}
ORG, WORKSPACE = "acme", "5f0c2b9e-7d41-4a8e-9c3b-1e6a0d2f4b77"
DEFAULT = {1: (WORKSPACE, "", 0), 2: (WORKSPACE, "API_TOKEN", 7), 3: (WORKSPACE, "", 7), 4: (WORKSPACE, "payload", 7), 5: ("host", "", 0)}


def fixed(label, size=32):
    """Bytes that are always the same for a label."""
    return hashlib.blake2b(label.encode(), digest_size=size, key=b"molecule-agent mseal test vectors").digest()


ROOTS = {1: fixed("root 1"), 2: fixed("root 2")}
KEY, OTHER_KEY, HOST = fixed("workspace key"), fixed("another workspace's key"), fixed("host secret key")


# --- the writer -------------------------------------------------------------------------------------------------------------------------

def kdf(key, number, context):
    out = ctypes.create_string_buffer(32)
    assert sodium.crypto_kdf_derive_from_key(out, size_t(32), ctypes.c_uint64(number), context, key) == 0
    return out.raw


def padded(plain):
    room, size = ctypes.create_string_buffer(plain, len(plain) + 64), size_t()
    assert sodium.sodium_pad(ctypes.byref(size), room, size_t(len(plain)), size_t(64), size_t(len(plain) + 64)) == 0
    return room.raw[:size.value]


def aead(key, nonce, header, plain):
    out = ctypes.create_string_buffer(len(plain) + 16)
    assert sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
        out, None, plain, u64(len(plain)), header, u64(len(header)), None, nonce, key) == 0
    return out.raw


def seal(kind, plain, *, nonce, key, org=ORG, workspace=None, name=None, generation=None, epoch=1, pad=None, magic=MAGIC, found=None,
         flags=0, length=None, lengths=None):
    """A whole file. key: the root for types 1 and 5, else the workspace's. None is what a good file has; the last row is for bad ones:
    another magic, type, flags, header length and lengths of strings than the file is due."""
    usual = DEFAULT[kind]
    workspace, name = usual[0] if workspace is None else workspace, usual[1] if name is None else name
    strings = [text if isinstance(text, bytes) else text.encode() for text in (org, workspace, name)]
    tail = b"".join(struct.pack("<H", len(s) if n is None else n) + s for s, n in zip(strings, lengths or (None,) * 3))
    header = struct.pack("<8sBBHIQ24s", magic, kind if found is None else found, flags, 48 + len(tail) if length is None else length, epoch,
                         usual[2] if generation is None else generation, nonce) + tail
    if kind in LIMITS if pad is None else pad:
        plain = padded(plain)
    return header + aead(kdf(key, *KEYS[kind]), nonce, header, plain)


def box(label, plain, secret):
    """crypto_box_seal with a sender's key that is always the same for a label."""
    receiver, ephemeral, own = (ctypes.create_string_buffer(32) for _ in range(3))
    assert sodium.crypto_scalarmult_base(receiver, secret) == 0
    assert sodium.crypto_box_seed_keypair(ephemeral, own, fixed("sender: " + label)) == 0
    nonce = hashlib.blake2b(ephemeral.raw + receiver.raw, digest_size=24).digest()
    out = ctypes.create_string_buffer(len(plain) + 16)
    assert sodium.crypto_box_easy(out, plain, u64(len(plain)), nonce, receiver, own) == 0
    return ephemeral.raw + out.raw


# --- vectors ----------------------------------------------------------------------------------------------------------------------------

groups = {}


def group(name, about):
    groups[name] = {"about": about, "vectors": []}


def add(kind, title, error=None, plain=None, *, expect=None, asked=None, roots=None, reader_key=KEY, after=lambda data: data, **fields):
    """One vector of the newest group. fields: how the file is made; expect, asked, roots, reader_key: what its reader has; after: the
    damage. Without expect it expects what the file says."""
    if plain is None:
        plain = KEY if kind == 1 else HOST if kind == 5 else b"correct horse battery staple"
    epoch, nonce = fields.get("epoch", 1), fixed("nonce: " + title, 24)
    if "key" not in fields:
        fields["key"] = KEY if kind in LIMITS else ROOTS.get(epoch, ROOTS[1])
    usual = dict(zip(("org", "workspace", "name", "generation"), (ORG,) + DEFAULT[asked or kind]))
    usual |= {k: v for k, v in fields.items() if k in usual} | (expect or {})
    vector = {"name": title, "type": asked or kind, "expect": usual | {"generation": str(usual["generation"])},
              "roots": {str(e): r.hex() for e, r in (ROOTS if roots is None else roots).items()}}
    if vector["type"] in LIMITS:
        vector["workspace_key"] = reader_key.hex()
    data = after(seal(kind, plain, nonce=nonce, **fields))
    repeated = {"byte": plain[:1].hex(), "count": len(plain)}
    long = len(plain) > 4096
    if long:
        vector["file_from"] = {"plaintext_repeat": repeated, "nonce": nonce.hex(), "epoch": epoch, "pad": fields.get("pad", True)}
    else:
        vector["file"] = data.hex()
    if error:
        vector["error"] = error
    else:
        vector |= {"plaintext_repeat": repeated} if long else {"plaintext": plain.hex()}
        vector |= {"nonce": nonce.hex(), "epoch": epoch}
    newest = list(groups.values())[-1]["vectors"]
    assert all(title != v["name"] for g in groups.values() for v in g["vectors"]), title
    newest.append(vector)


def cut(size):
    return lambda data: data[:size]


def flip(at, bit=1):
    return lambda data: data[:at % len(data)] + bytes([data[at] ^ bit]) + data[at % len(data) + 1:]


def good():
    group("good", "files that open, and what a writer makes of the same plaintext, nonce and epoch")
    add(1, "a workspace's key")
    add(1, "a workspace's key under the second root", epoch=2)
    add(5, "a host key")
    add(5, "a host key under the second root", epoch=2)
    add(2, "a secret")
    add(2, "a secret of bytes that are no text", plain=bytes(range(256)))
    add(2, "a secret that looks like padding", plain=b"\x80" + bytes(20))
    add(2, "a secret that ends in zeros", plain=b"x" + bytes(62))
    add(3, "a manifest", plain=json.dumps({"generation": "7", "files": {"API_TOKEN": fixed("some file").hex()}}).encode())
    add(4, "a payload", plain=b'{"job_id":"1"}')
    add(4, "an undo set", plain=b"\x00\x01binary\xff", name="undo")
    add(2, "the epoch of a secret is not judged: no root at all", roots={}, epoch=9)
    add(3, "the epoch of a manifest is not judged", plain=b"{}", epoch=0xffffffff)
    add(4, "the epoch of a payload is not judged", plain=b"{}", epoch=0)
    add(1, "the greatest epoch", epoch=0xffffffff, key=ROOTS[1], roots={0xffffffff: ROOTS[1]})
    add(2, "generation 0", generation=0)
    add(2, "generation 2^63", generation=1 << 63)
    add(2, "generation 2^64-1", generation=(1 << 64) - 1)
    add(2, "org of 1 byte", org="a")
    add(2, "org of 64 bytes", org="o" * 64)
    add(1, "workspace of 1 byte", workspace="w")
    add(1, "workspace of 64 bytes", workspace="w" * 64)
    add(2, "name of 1 byte", name="N")
    add(2, "name of 128 bytes", name="N" * 128)
    add(2, "the longest header there is", org="o" * 64, workspace="w" * 64, name="N" * 128)


def header():
    group("header", "headers that break one rule each, and files cut at each border")
    add(2, "empty file", "truncated", after=cut(0))
    for at, what in ((1, "first byte"), (8, "magic"), (9, "type"), (10, "flags"), (12, "header length"), (16, "epoch"), (24, "generation"),
                     (48, "nonce"), (50, "length of the org"), (53, "53rd byte")):
        add(2, f"cut after the {what}", "truncated", after=cut(at))
    whole = 48 + 6 + len(ORG) + len(WORKSPACE) + len("API_TOKEN")
    for at, what in ((54, "54th byte"), (50 + len(ORG), "org"), (52 + len(ORG), "length of the workspace"),
                     (52 + len(ORG) + len(WORKSPACE), "workspace"), (54 + len(ORG) + len(WORKSPACE), "length of the name"),
                     (whole - 1, "name but one byte"), (whole, "header"), (whole + 15, "header and 15 bytes")):
        add(2, f"cut after the {what}", "truncated", after=cut(at))
    add(1, "a key's file cut after the header and 15 bytes", "truncated", after=cut(48 + 6 + len(ORG) + len(WORKSPACE) + 15))
    add(2, "first byte of the magic changed", "bad_magic", after=flip(0))
    add(2, "version 2", "bad_magic", magic=b"MSEAL2\r\n")
    add(2, "magic in lower case", "bad_magic", magic=b"mseal1\r\n")
    add(2, "magic after text mode: CR lost", "bad_magic", after=lambda data: data[:6] + data[7:])
    add(2, "magic after text mode: LF became CR LF", "bad_magic", after=lambda data: data[:7] + b"\r" + data[7:])
    for kind in (0, 6, 255):
        add(2, f"type {kind}", "bad_type", found=kind)
    for kind in (1, 3, 4, 5):
        add(2, f"a secret where type {kind} is asked for", "bad_type", asked=kind)
    add(1, "a workspace's key where a host key is asked for", "bad_type", asked=5)
    add(1, "a workspace's key where a secret is asked for", "bad_type", asked=2)
    add(2, "a secret under the type of a payload", "bad_type", found=4)
    for flags in (1, 2, 0x80, 0xff):
        add(2, f"flags {flags:#04x}", "bad_flags", flags=flags)
    add(1, "flags of a key's file", "bad_flags", flags=1)
    add(2, "header length 0", "bad_header", length=0)
    add(2, "header length 48", "bad_header", length=48)
    add(2, "header length 53", "bad_header", length=53)
    add(2, "header length 54", "bad_header", length=54)
    add(2, "header length 53 in a file of 60 bytes", "bad_header", length=53, after=cut(60))
    add(2, "header length 54 in a file of 60 bytes", "truncated", length=54, after=cut(60))
    add(2, "header length 1024, no room for it", "truncated", length=1024)
    add(2, "header length 1024, with room", "bad_header", length=1024, after=lambda data: data + bytes(1024))
    add(2, "header length 1025, no room for it", "bad_header", length=1025)
    add(2, "header length 1025, with room", "bad_header", length=1025, after=lambda data: data + bytes(1024))
    add(2, "header length 65535", "bad_header", length=65535)
    add(2, "header length one less than its strings", "bad_header", length=whole - 1)
    add(2, "header length one more than its strings", "bad_header", length=whole + 1)
    add(2, "header length one less than the room", "bad_header", length=whole + 63)
    add(2, "header length all the room", "bad_header", length=whole + 64)
    add(2, "header length one more than the room", "truncated", length=whole + 65)
    add(2, "org of 0 bytes", "bad_header", org="", expect={"org": ORG})
    add(2, "org of 65 bytes", "bad_header", org="o" * 65, expect={"org": "o" * 64})
    add(2, "workspace of 0 bytes", "bad_header", workspace="", expect={"workspace": WORKSPACE})
    add(2, "workspace of 65 bytes", "bad_header", workspace="w" * 65, expect={"workspace": "w" * 64})
    add(2, "name of 129 bytes", "bad_header", name="N" * 129, expect={"name": "N" * 128})
    add(4, "name of a payload of 129 bytes", "bad_header", name="N" * 129, expect={"name": "payload"})
    add(2, "name of a secret of 0 bytes", "bad_header", name="", expect={"name": "API_TOKEN"})
    for kind, what in ((1, "workspace's key"), (3, "manifest"), (5, "host key")):
        add(kind, f"name of a {what} of 1 byte", "bad_header", name="N", expect={"name": ""})
    add(2, "length of the org 65535", "bad_header", lengths=(65535, None, None))
    add(2, "length of the org one more", "bad_header", lengths=(len(ORG) + 1, None, None))
    add(2, "length of the workspace one less", "bad_header", lengths=(None, len(WORKSPACE) - 1, None))
    add(2, "length of the name one more", "bad_header", lengths=(None, None, 10))
    add(2, "length of the name one less", "bad_header", lengths=(None, None, 8))
    add(2, "length of the name reaches past the file", "bad_header", lengths=(None, None, 120))
    add(2, "lengths big-endian", "bad_header", lengths=(len(ORG) << 8, len(WORKSPACE) << 8, 9 << 8))


def keys():
    group("keys", "roots that are not known or not the right ones, other keys, and changed bytes")
    add(1, "epoch of a workspace's key not known", "unknown_epoch", epoch=3)
    add(5, "epoch of a host key not known", "unknown_epoch", epoch=3)
    add(1, "epoch 0 not known", "unknown_epoch", epoch=0)
    add(1, "no root at all", "unknown_epoch", roots={})
    add(1, "only the other root known", "unknown_epoch", roots={2: ROOTS[2]})
    add(1, "epoch 2^32-1 not known", "unknown_epoch", epoch=0xffffffff)
    add(1, "epoch 256 is not epoch 1", "unknown_epoch", epoch=256)
    add(1, "wrong root of the right epoch", "bad_tag", roots={1: fixed("a stranger's root")})
    add(5, "wrong root for a host key", "bad_tag", roots={1: fixed("a stranger's root")})
    add(1, "roots interchanged", "bad_tag", roots={1: ROOTS[2], 2: ROOTS[1]})
    add(1, "epoch in the header changed to another that is known", "bad_tag", after=flip(12, 3))
    add(2, "another workspace's key", "bad_tag", reader_key=OTHER_KEY)
    add(2, "epoch of a secret changed", "bad_tag", after=flip(12))
    add(2, "generation changed", "bad_tag", after=flip(16))
    add(2, "nonce changed", "bad_tag", after=flip(24))
    add(2, "org changed", "bad_tag", after=flip(50))
    add(2, "name changed", "bad_tag", after=flip(48 + 6 + len(ORG) + len(WORKSPACE)))
    add(2, "first byte of the ciphertext changed", "bad_tag", after=flip(48 + 6 + len(ORG) + len(WORKSPACE) + 9))
    add(2, "last byte of the tag changed", "bad_tag", after=flip(-1, 0x80))
    add(1, "last byte of a key's tag changed", "bad_tag", after=flip(-1))
    add(2, "tag of zeros", "bad_tag", after=lambda data: data[:-16] + bytes(16))
    add(2, "type changed from payload to secret", "bad_tag", after=lambda data: data[:8] + b"\x02" + data[9:], found=4)
    add(1, "a host key under the type of a workspace's key", "bad_tag", found=5, after=lambda data: data[:8] + b"\x01" + data[9:])
    add(2, "a border between two strings moved", "bad_tag", expect={"org": "acm", "workspace": "e" + WORKSPACE},
        after=lambda data: data[:48] + struct.pack("<H", 3) + b"acm" + struct.pack("<H", 37) + b"e" + data[48 + 2 + 4 + 2:])
    add(2, "a block taken out of a long secret", "bad_tag", plain=b"x" * 150, after=lambda data: data[:-80] + data[-16:])


def context():
    group("context", "good files that are not the one asked for")
    add(2, "another org", "wrong_org", expect={"org": "other"})
    add(2, "another workspace", "wrong_workspace", expect={"workspace": "5f0c2b9e-7d41-4a8e-9c3b-1e6a0d2f4b78"})
    add(2, "another name", "wrong_name", expect={"name": "API_TOKEM"})
    add(2, "another generation", "wrong_generation", expect={"generation": 8})
    add(2, "generation 2^32 apart", "wrong_generation", generation=(1 << 32) + 7, expect={"generation": 7})
    add(2, "generation 0 for 2^64-1", "wrong_generation", generation=0, expect={"generation": (1 << 64) - 1})
    add(1, "key of another org", "wrong_org", expect={"org": "other"})
    add(1, "key of another workspace", "wrong_workspace", expect={"workspace": "w"})
    add(1, "key with a generation", "wrong_generation", generation=1, expect={"generation": 0})
    add(5, "host key of another org", "wrong_org", expect={"org": "other"})
    add(5, "host key of another place", "wrong_workspace", workspace="host2", expect={"workspace": "host"})
    add(5, "host key with a generation", "wrong_generation", generation=1 << 63, expect={"generation": 0})
    add(3, "manifest of another generation", "wrong_generation", plain=b"{}", expect={"generation": 6})
    add(4, "undo set for a payload", "wrong_name", name="undo", expect={"name": "payload"})
    add(4, "payload for an undo set", "wrong_name", expect={"name": "undo"})
    add(2, "org is the beginning of the one asked for", "wrong_org", expect={"org": "acme2"})
    add(2, "org asked for is the beginning", "wrong_org", expect={"org": "acm"})
    add(2, "org with a NUL and more behind it", "wrong_org", org=b"acme\0x", expect={"org": ORG})
    add(2, "org in other letters", "wrong_org", org="Acme", expect={"org": ORG})
    add(2, "name with a NUL behind it", "wrong_name", name=b"API_TOKEN\0", expect={"name": "API_TOKEN"})
    add(2, "strings run together are the same", "wrong_org", org="acm", workspace="e" + WORKSPACE,
        expect={"org": ORG, "workspace": WORKSPACE})


def sizes():
    group("size", "padding, and sizes on both sides of each limit")
    for count in (0, 1, 62, 63, 64, 65, 127, 128):
        add(2, f"secret of {count} bytes", plain=b"s" * count)
    add(3, "manifest of 0 bytes", plain=b"")
    add(4, "payload of 0 bytes", plain=b"")
    for kind, what in ((2, "secret"), (3, "manifest"), (4, "payload")):
        limit = LIMITS[kind]
        if kind == 2:
            add(kind, f"{what} of {limit - 1} bytes", plain=b"a" * (limit - 1))
        add(kind, f"{what} of {limit} bytes", plain=b"a" * limit)
        add(kind, f"{what} of {limit + 1} bytes", "too_large", plain=b"a" * (limit + 1))
        if kind == 2:
            add(kind, f"{what} of {limit + 63} bytes, the last in the last block", "too_large", plain=b"a" * (limit + 63))
        add(kind, f"{what} of {limit + 64} bytes, one block more", "too_large", plain=b"a" * (limit + 64))
    add(2, "a padded size of 65600 bytes without padding", "bad_padding", plain=b"a" * 65600, pad=False)
    add(2, "a padded size of 65601 bytes", "bad_size", plain=b"a" * 65601, pad=False)
    add(2, "a padded size of 65664 bytes without padding", "too_large", plain=b"a" * 65664, pad=False)
    add(2, "secret with no ciphertext at all", "bad_size", plain=b"", pad=False)
    add(2, "secret of 63 padded bytes", "bad_size", plain=b"s" * 62 + b"\x80", pad=False)
    add(2, "secret of 65 padded bytes", "bad_size", plain=b"s" * 64 + b"\x80", pad=False)
    add(3, "manifest of 32 padded bytes", "bad_size", plain=b"{}\x80" + bytes(29), pad=False)
    add(4, "payload of 16 padded bytes", "bad_size", plain=b"{}\x80" + bytes(13), pad=False)
    add(2, "one byte behind the tag of a secret", "bad_size", after=lambda data: data + b"\0")
    add(2, "a block behind the tag of a secret", "bad_tag", after=lambda data: data + bytes(64))
    add(2, "tag of a secret one byte short", "bad_size", after=cut(-1))
    add(2, "tag of a secret cut off", "bad_size", after=cut(-16))
    add(2, "a block short", "bad_tag", plain=b"s" * 100, after=cut(-64))
    add(1, "one byte behind the tag of a key", "bad_size", after=lambda data: data + b"\0")
    add(1, "a newline behind the tag of a key", "bad_size", after=lambda data: data + b"\n")
    add(1, "tag of a key one byte short", "bad_size", after=cut(-1))
    add(1, "a key with no ciphertext at all", "bad_size", plain=b"")
    add(1, "a key of 31 bytes", "bad_size", plain=KEY[:31])
    add(1, "a key of 33 bytes", "bad_size", plain=KEY + b"\0")
    add(1, "a key that is padded", "bad_size", pad=True)
    add(5, "a host key of 31 bytes", "bad_size", plain=HOST[:31])
    add(5, "a host key that is padded", "bad_size", pad=True)
    add(2, "no padding: letters", "bad_padding", plain=b"s" * 64, pad=False)
    add(2, "no padding: zeros", "bad_padding", plain=bytes(64), pad=False)
    add(2, "padding begins a block too early", "bad_padding", plain=b"s" * 63 + b"\x80" + bytes(64), pad=False)
    add(2, "padding of a whole block", plain=b"s" * 64 + b"\x80" + bytes(63), pad=False)
    groups["size"]["vectors"][-1]["plaintext"] = (b"s" * 64).hex()
    add(2, "padding is 81", "bad_padding", plain=b"s" * 63 + b"\x81", pad=False)
    add(2, "padding as PKCS 7 has it", "bad_padding", plain=b"s" * 60 + b"\x04" * 4, pad=False)
    add(2, "a one behind the padding", "bad_padding", plain=b"s" * 32 + b"\x80" + bytes(30) + b"\1", pad=False)


def order():
    group("order", "two things wrong at once: the first check wins")
    add(2, "magic before type", "bad_magic", magic=b"MSEAL2\r\n", found=9)
    add(2, "size before magic", "truncated", magic=b"MSEAL2\r\n", after=cut(53))
    add(2, "magic before the rest of a short file", "bad_magic", magic=b"MSEAL2\r\n", after=cut(54))
    add(2, "type before flags", "bad_type", found=3, flags=1)
    add(2, "type before header length", "bad_type", found=0, length=2000)
    add(2, "type before the rest of a short file", "bad_type", asked=3, after=cut(54))
    add(2, "flags before header length", "bad_flags", flags=1, length=2000)
    add(2, "flags before the rest of a short file", "bad_flags", flags=1, after=cut(54))
    add(2, "header length before the rest of a short file", "bad_header", length=2000, after=cut(54))
    add(2, "the rest of a short file before its strings", "truncated", lengths=(0, None, None), after=cut(60))
    add(1, "strings before the epoch", "bad_header", epoch=3, lengths=(0, None, None))
    add(2, "strings before the size", "bad_header", lengths=(None, None, 8), after=cut(-1))
    add(1, "epoch before the size", "unknown_epoch", epoch=3, after=cut(-1))
    add(1, "epoch before the tag", "unknown_epoch", epoch=3, after=flip(-1))
    add(1, "size before the tag", "bad_size", after=lambda data: flip(-1)(data) + b"\0")
    add(1, "epoch before the org", "unknown_epoch", epoch=3, expect={"org": "other"})
    add(2, "tag before the org", "bad_tag", after=flip(-1), expect={"org": "other"})
    add(2, "tag before the generation", "bad_tag", reader_key=OTHER_KEY, expect={"generation": 8})
    add(2, "org before workspace", "wrong_org", expect={"org": "other", "workspace": "w"})
    add(2, "workspace before name", "wrong_workspace", expect={"workspace": "w", "name": "N"})
    add(2, "name before generation", "wrong_name", expect={"name": "N", "generation": 8})
    add(2, "org before generation", "wrong_org", expect={"org": "other", "generation": 8})
    add(2, "generation before padding", "wrong_generation", plain=b"s" * 64, pad=False, expect={"generation": 8})
    add(2, "org before padding", "wrong_org", plain=bytes(64), pad=False, expect={"org": "other"})


def derived():
    """derive.json: what is not a file."""
    public = ctypes.create_string_buffer(32)
    sodium.crypto_scalarmult_base(public, HOST)
    boxes, context = [], ["molecule.secret.v1", ORG, WORKSPACE, "API_TOKEN"]

    def sealed(title, value=b"correct horse", inside=None, text=None, secret=HOST, after=lambda data: data, bad=True):
        plain = b"\0".join(part.encode() for part in inside or context) + b"\0" + value if text is None else text
        one = {"about": title, "secret_key": HOST.hex(), "public_key": public.raw.hex(),
               "key_id_hex16": hashlib.blake2b(public.raw, digest_size=32).hexdigest()[:16],
               "org": ORG, "workspace": WORKSPACE, "name": "API_TOKEN"}
        box_hex = after(box(title, plain, secret)).hex()
        boxes.append(one | ({"box_hex": box_hex, "error": True} if bad else {"value_hex": value.hex(), "box_hex": box_hex}))

    sealed("a value", bad=False)
    sealed("an empty value", b"", bad=False)
    sealed("a value with newlines and bytes that are no text", b"-----BEGIN\n\xff\xfe=\r\n", bad=False)
    sealed("a value of 4096 bytes", b"v" * 4096, bad=False)
    for at, what in enumerate(("prefix", "org", "workspace", "name")):
        sealed(f"another {what}", inside=context[:at] + ["x" + context[at][1:]] + context[at + 1:])
        sealed(f"a longer {what}", inside=context[:at] + [context[at] + "x"] + context[at + 1:])
    sealed("a later version of the prefix", inside=["molecule.secret.v2"] + context[1:])
    sealed("org and workspace interchanged", inside=[context[0], WORKSPACE, ORG, context[3]])
    sealed("no org", inside=[context[0]] + context[2:])
    sealed("the value alone", text=b"correct horse")
    sealed("no NUL before the value", text=b"\0".join(part.encode() for part in context))
    sealed("no NUL at all", text="".join(context).encode() + b"correct horse")
    sealed("blanks for NUL", text=" ".join(context).encode() + b" correct horse")
    sealed("only the prefix", text=b"molecule.secret.v1")
    sealed("nothing in the box", text=b"")
    sealed("a NUL in the value", b"correct\0horse")
    sealed("a NUL behind the value", b"correct horse\0")
    sealed("for another key", secret=fixed("another host secret key"))
    sealed("cut by one byte", after=cut(-1))
    sealed("cut to 48 bytes", after=cut(48))
    sealed("cut to 47 bytes", after=cut(47))
    sealed("cut to nothing", after=cut(0))
    sealed("one byte more", after=lambda data: data + b"\0")
    sealed("first byte of the sender's key changed", after=flip(0))
    sealed("last byte changed", after=flip(-1))
    subkeys = [(KEY, *KEYS[kind]) for kind in (2, 3, 4)] + [(root, *KEYS[1]) for root in ROOTS.values()]
    checks = [{"root": root.hex(), "check": hashlib.blake2b(b"mseal/1/check", digest_size=32, key=root).hexdigest()}
              for root in (*ROOTS.values(), bytes(32), b"\xff" * 32)]
    return {"about": "subkeys, the check of a root, and boxes; these open or, with error, do not",
            "kdf": [{"key": key.hex(), "id": number, "context": text.decode(), "subkey": kdf(key, number, text).hex()}
                    for key, number, text in subkeys + [(bytes(32), 1, b"wswrap_1"), (bytes(32), (1 << 40) + 5, b"wswrap_1")]],
            "check": checks, "box": boxes}


def text(told):
    """JSON with one vector a line."""
    lists = [json.dumps(name) + ": [\n" + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in told.items() if name != "about"]
    return "{" + ",\n".join([f'"about": {json.dumps(told["about"])}', *lists]) + "}\n"


def files():
    """{file name: text}"""
    groups.clear()
    for make in (good, header, keys, context, sizes, order):
        make()
    return {f"{name}.json": text(told) for name, told in (groups | {"derive": derived()}).items()}


if __name__ == "__main__":
    home = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent / "data" / "mseal")
    home.mkdir(parents=True, exist_ok=True)
    for file, words in files().items():
        (home / file).write_text(words)
