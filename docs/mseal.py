#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mseal.py: reads the sealed files of molecule-agent. docs/sealed-files.md is the format; this is its small reader in another language.

    mseal.py STATE_DIRECTORY [--root-key EPOCH=FILE ...] [--org ORG] list
    mseal.py STATE_DIRECTORY ... cat WORKSPACE GENERATION NAME       one secret's value, as it is
    mseal.py STATE_DIRECTORY ... payload WORKSPACE GENERATION        the job's payload, as it is
    mseal.py STATE_DIRECTORY ... verify                              opens everything; exit 1 when a file is bad

It reads only. Python cannot wipe its memory: this is for people who look after a host, not for services."""

import argparse
import ctypes.util
import functools
import hashlib
import json
import pathlib
import re
import struct
import sys

MAGIC = b"MSEAL1\r\n"
SMALLEST, TAG, BLOCK = 48 + 3 * 2, 16, 64           # smallest: the fixed part and the lengths of three strings
WORKSPACE_KEY, SECRET, MANIFEST, PAYLOAD, HOST_KEY = 1, 2, 3, 4, 5
KDF = {1: (1, b"wswrap_1"), 2: (1, b"wsaead_1"), 3: (2, b"wsmani_1"), 4: (3, b"wspayl_1"), 5: (1, b"wswrap_1")}
LIMIT = {2: 65536, 3: 262144, 4: 33554432}          # of the plaintext; the other types hold a key of 32 bytes
NAME = {1: (0, 0), 2: (1, 128), 3: (0, 0), 4: (1, 128), 5: (0, 0)}
PLACE = {                                           # below the state directory; manifest.seal is never a secret's file
    1: r"sealed/(?P<workspace>[^/]+)/key\.seal",
    3: r"sealed/(?P<workspace>[^/]+)/g(?P<generation>0|[1-9][0-9]*)/manifest\.seal",
    2: r"sealed/(?P<workspace>[^/]+)/g(?P<generation>0|[1-9][0-9]*)/(?P<name>[^/]+)\.seal",
    4: r"ws/(?P<workspace>[^/]+)\.g(?P<generation>0|[1-9][0-9]*)\.(?P<name>payload|undo)",
    5: r"keys/host\.h[1-9][0-9]*-[0-9a-f]{16}\.seal"}
SHOWN = {"cat": "sealed/{}/g{}/{}.seal", "payload": "ws/{}.g{}.payload"}

class SealError(Exception):
    """A file that is not what was expected. Its word is stable, see docs/sealed-files.md."""
    word = property(lambda self: self.args[0])

def check(truth, word):
    if not truth:
        raise SealError(word)

@functools.cache
def sodium():
    try:
        library = ctypes.CDLL("libsodium.so.23")
    except OSError:
        library = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so")
    check(library.sodium_init() >= 0, "libsodium does not start")
    return library

def derive(key, number, context):
    """crypto_kdf_derive_from_key for 32 bytes: BLAKE2b of nothing, keyed; the number is the salt, the context the personalisation."""
    return hashlib.blake2b(b"", digest_size=32, key=key, salt=struct.pack("<QQ", number, 0), person=context.ljust(16, b"\0")).digest()

def blake2b(data, key=b""):
    return hashlib.blake2b(data, digest_size=32, key=key).hexdigest()

def root_check(root):                               # mk_check of the identity record
    return blake2b(b"mseal/1/check", key=root)

def key_hash(secret):
    """The hexadecimal half of a host key's id: of the public key that belongs to this secret one."""
    public = ctypes.create_string_buffer(32)
    sodium().crypto_scalarmult_base(public, secret)
    return blake2b(public.raw)[:16]

def parse(data, kind):
    """The header: its length, epoch, generation, nonce and three strings. Nothing of it is authentic before the tag is checked."""
    check(len(data) >= SMALLEST, "truncated")
    magic, found, flags, length, epoch, generation, nonce = struct.unpack_from("<8sBBHIQ24s", data)
    check(magic == MAGIC, "bad_magic")
    check(found in KDF and found == kind, "bad_type")
    check(flags == 0, "bad_flags")
    check(SMALLEST <= length <= 1024, "bad_header")
    check(length + TAG <= len(data), "truncated")
    strings, at = [], 48
    for low, high in ((1, 64), (1, 64), NAME[kind]):
        size = int.from_bytes(data[at:at + 2], "little")
        check(low <= size <= high, "bad_header")
        strings.append(data[at + 2:at + 2 + size])
        at += 2 + size
    check(at == length, "bad_header")
    return length, epoch, generation, nonce, strings

def open_sealed(data, *, type, org, workspace, name, generation, roots, workspace_key=None):  # pylint: disable=redefined-builtin
    """The plaintext. roots: {epoch: 32 bytes}, for types 1 and 5; workspace_key: 32 bytes, for types 2 to 4."""
    length, epoch, found, nonce, strings = parse(data, type)
    limit, size = LIMIT.get(type), len(data) - length - TAG
    if limit is None:
        check(epoch in roots, "unknown_epoch")
        check(size == 32, "bad_size")
    else:
        check(size and size % BLOCK == 0, "bad_size")
        check(size <= (limit // BLOCK + 1) * BLOCK, "too_large")
    key = derive(roots[epoch] if limit is None else workspace_key, *KDF[type])
    plain = ctypes.create_string_buffer(size)
    check(sodium().crypto_aead_xchacha20poly1305_ietf_decrypt(
        plain, None, None, data[length:], ctypes.c_ulonglong(size + TAG), data[:length], ctypes.c_ulonglong(length), nonce, key) == 0,
        "bad_tag")
    for got, wanted, word in zip(strings, (org, workspace, name), ("wrong_org", "wrong_workspace", "wrong_name")):
        check(got == wanted.encode(), word)
    check(found == generation, "wrong_generation")
    if limit is None:
        return plain.raw
    bare = plain.raw.rstrip(b"\0")                  # ISO/IEC 7816-4: one byte 80 and zeros, all in the last block
    check(bare.endswith(b"\x80") and len(bare) > size - BLOCK, "bad_padding")
    check(len(bare) - 1 <= limit, "too_large")
    return bare[:-1]

def read_workspace_key(data, *, org, workspace, roots):
    return open_sealed(data, type=WORKSPACE_KEY, org=org, workspace=workspace, name="", generation=0, roots=roots)

def open_box(box, *, secret_key, org, workspace, name):
    """A value as the control plane sends it: a sealed box whose plaintext says what it is for."""
    public, plain = ctypes.create_string_buffer(32), ctypes.create_string_buffer(max(len(box) - 48, 1))
    sodium().crypto_scalarmult_base(public, secret_key)
    check(sodium().crypto_box_seal_open(plain, box, ctypes.c_ulonglong(len(box)), public, secret_key) == 0, "secret_undecryptable")
    *told, value = plain.raw[:len(box) - 48].split(b"\0")
    check(told == [b"molecule.secret.v1", org.encode(), workspace.encode(), name.encode()], "secret_undecryptable")
    return value

class State:
    """A state directory and the keys to it. Its files go by their names below it."""
    def __init__(self, path, roots, org):
        self.path, self.roots, self.org, self.orgs, self.keys, self.bad = path, roots, org, {}, {}, {}

    def read(self, file):
        """The plaintext, for a key (org, plaintext). The place says what the file must be, --org or its key's header for whom."""
        kind = next((kind for kind, place in PLACE.items() if re.fullmatch(place, file)), None)
        check(kind, "unlisted")
        wanted = {"workspace": "host", "generation": "0", "name": ""} | re.fullmatch(PLACE[kind], file).groupdict()
        wanted |= {"type": kind, "generation": int(wanted["generation"]), "roots": self.roots}
        data = (self.path / file).read_bytes()
        if kind in LIMIT:
            org, key = self.key(wanted["workspace"])
            return open_sealed(data, org=org, workspace_key=key, **wanted)
        org = self.org or self.orgs.setdefault(file, parse(data, kind)[4][0].decode("utf-8", "replace"))
        plain = open_sealed(data, org=org, **wanted)
        check(kind == WORKSPACE_KEY or key_hash(plain) == file[-21:-5], "wrong_key_id")
        return org, plain

    def key(self, workspace):
        """A workspace's org and key."""
        if workspace not in self.keys:
            self.keys[workspace] = self.judge(f"sealed/{workspace}/key.seal", self.read)
        check(self.keys[workspace], "no_key")
        return self.keys[workspace]

    def manifest(self, file):
        """{NAME: hexadecimal digest}"""
        try:
            told = json.loads(self.read(file))
            check(told["generation"] == re.fullmatch(PLACE[MANIFEST], file)["generation"], "bad_manifest")
            return dict(told["files"])
        except (ValueError, KeyError, TypeError):
            raise SealError("bad_manifest") from None

    def judge(self, file, call, *arguments):
        """call(file, ...); None and a note in self.bad where it fails."""
        try:
            return call(file, *arguments)
        except (SealError, OSError) as error:
            self.bad[file] = getattr(error, "word", "missing" if isinstance(error, FileNotFoundError) else "unreadable")

    def listed(self, file, manifests):
        """Opens a file and compares it with its generation's manifest, where there is a good one."""
        self.read(file)
        folder, slash, name = file.removesuffix(".seal").rpartition("/")
        if (files := manifests.get(folder + slash)) is not None:
            check(name in files, "unlisted")
            check(blake2b((self.path / file).read_bytes()) == files[name], "changed")

    def verify(self):
        names = (p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())
        names = (name for name in names if not re.search(r"(^|/)\.", name))          # what a crash left of a write
        files = {name for name in names if re.match(r"sealed/|keys/host\.|ws/.*\.(payload|undo)$", name)}
        files |= {found[0] + "key.seal" for name in files if (found := re.match("sealed/[^/]+/", name))}
        folders = {found[0] for name in files if (found := re.match("sealed/[^/]+/g[0-9]+/", name))}
        manifests = {folder: self.judge(folder + "manifest.seal", self.manifest) for folder in sorted(folders)}
        files |= {f"{folder}{name}.seal" for folder, listed in manifests.items() for name in listed or ()}
        for file in sorted(file for file in files - self.bad.keys() if not file.endswith("/manifest.seal")):
            self.judge(file, self.listed, manifests)
        if not self.bad:
            print(f"{len(files)} files, all good")

    def list(self):
        for path in sorted(set(self.path.glob("sealed/*/g*/*.seal")) - set(self.path.glob("sealed/*/g*/manifest.seal"))):
            if (value := self.judge(path.relative_to(self.path).as_posix(), self.read)) is not None:
                print(path.parts[-3], path.parts[-2][1:], path.stem, len(value))

    def show(self, file):
        sys.stdout.buffer.write(self.judge(file, self.read) or b"")

def main():
    parser = argparse.ArgumentParser(description="Reads the sealed files of molecule-agent.")
    parser.add_argument("state", metavar="STATE_DIRECTORY", type=pathlib.Path)
    parser.add_argument("--root-key", metavar="EPOCH=FILE", action="append", default=[], help="instead of STATE_DIRECTORY/keys/root.e*")
    parser.add_argument("--org", help="the organization that the files must name")
    parser.add_argument("verb", choices=("list", "cat", "payload", "verify"))
    parser.add_argument("what", nargs="*", metavar="WORKSPACE GENERATION NAME", help="all three for cat, two for payload")
    told = parser.parse_intermixed_args()
    if len(told.what) != SHOWN.get(told.verb, "").count("{}"):
        parser.error(f"wrong number of words after {told.verb}")
    files = [text.partition("=")[::2] for text in told.root_key] or [(p.name[6:], p) for p in told.state.glob("keys/root.e*[0-9]")]
    try:
        state = State(told.state, {int(epoch): pathlib.Path(file).read_bytes() for epoch, file in files}, told.org)
        check(all(len(root) == 32 for root in state.roots.values()), "a root key is not 32 bytes long")
        check(told.state.is_dir(), "no such directory")
    except (SealError, OSError, ValueError) as error:
        sys.exit(f"mseal.py: {error}")
    {"list": state.list, "verify": state.verify}.get(told.verb, lambda: state.show(SHOWN[told.verb].format(*told.what)))()
    for file, org in sorted(state.orgs.items()):
        print(f"note: the org of {ascii(file)[1:-1]} is the one in its header: {ascii(org)}", file=sys.stderr)
    for file, word in sorted(state.bad.items()):
        print(f"{ascii(file)[1:-1]}: {word}", file=sys.stdout if told.verb == "verify" else sys.stderr)
    return 1 if state.bad else 0

if __name__ == "__main__":
    sys.exit(main())
