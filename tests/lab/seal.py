# SPDX-License-Identifier: Apache-2.0
"""A host's sealing key and a signer's, through libsodium by ctypes: opens what a control plane sealed, checks what it signed."""

import base64
import ctypes
import ctypes.util
import hashlib

sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
SEAL_BYTES, CONTEXT = 48, b"molecule.secret.v1"


def b64(data):
    return base64.b64encode(data).decode()


def b64d(text):
    return base64.b64decode(text, validate=True)


class HostKey:
    """An X25519 pair, and how register names it."""

    def __init__(self, number=1):
        public, self.secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
        sodium.crypto_box_keypair(public, self.secret)
        self.public = public.raw
        self.key_id = f"h{number}-{hashlib.blake2b(self.public, digest_size=32).hexdigest()[:16]}"
        self.register = {"key_id": self.key_id, "algorithm": "x25519-sealedbox", "public_key": b64(self.public)}

    def open(self, box):
        """What was sealed to this key; None when it was not."""
        data = b64d(box)
        out = ctypes.create_string_buffer(max(len(data) - SEAL_BYTES, 0) + 1)
        if sodium.crypto_box_seal_open(out, data, ctypes.c_ulonglong(len(data)), self.public, self.secret.raw) != 0:
            return None
        return out.raw[:len(data) - SEAL_BYTES]

    def value(self, payload, name):
        """A secret of a job's payload, its context compared."""
        text = self.open(payload["spec"]["secrets"][name])
        assert text is not None, f"the box of {name} is not for {self.key_id}"
        context, org, workspace, said, value = text.split(b"\0", 4)
        want = CONTEXT, payload["org_id"].encode(), payload["workspace_id"].encode(), name.encode()
        assert (context, org, workspace, said) == want, f"the box of {name} says it is for something else"
        return value.decode()

    def prove(self, challenge, new):
        """previous_key_proof of the key `new` for a challenge sealed to this one."""
        return b64(hashlib.blake2b(new.public, key=self.open(challenge), digest_size=32).digest())


def seal(public_key, text):
    out = ctypes.create_string_buffer(len(text) + SEAL_BYTES)
    assert sodium.crypto_box_seal(out, text, ctypes.c_ulonglong(len(text)), public_key) == 0
    return b64(out.raw)


def public_of(seed):
    """The Ed25519 public key that a seed makes."""
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
    sodium.crypto_sign_seed_keypair(public, secret, seed)
    return public.raw


def signer_id(public_key):
    return hashlib.blake2b(public_key, digest_size=32).hexdigest()[:16]


def verifies(envelope, public_key):
    """Is one of the DSSE envelope's signatures good under this key?"""
    kind, body = envelope["payloadType"].encode(), b64d(envelope["payload"])
    text = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
    return any(sodium.crypto_sign_verify_detached(b64d(each["sig"]), text, ctypes.c_ulonglong(len(text)), public_key) == 0
               for each in envelope["signatures"])
