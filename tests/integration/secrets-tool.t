#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""molecule-agentctl secrets on a state directory of another user, as root works on the agent's: what it makes is the agent's to read, what it
only looks at it leaves as it is, and a new root is on the disk before the old one may go. No daemon and no engine."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from lab import binary  # noqa: E402

ORG, HOST, NOBODY = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", 65534
ROOT = bytes(range(32))
work = pathlib.Path(tempfile.mkdtemp(prefix="secrets-tool-"))


def same(got, want, words=""):
    assert got == want, f"{words}\ngot:  {got!r}\nwant: {want!r}"


def state(name, file=True):
    """A state directory with a root of epoch 1, as a file or as a credential; the agent's user has it."""
    here = work / name
    (here / "state").mkdir(parents=True)
    (here / "store").mkdir()
    (here / "credentials").mkdir()
    check = hashlib.blake2b(b"mseal/1/check", key=ROOT, digest_size=32).hexdigest()
    text = json.dumps({"host_id": HOST, "machine_id": "", "mk_check": {"1": check}, "wrapped_epoch": 1}).encode() + b"\n"
    head = f"molecule-agent identity v1 {len(text)} {hashlib.blake2b(text, digest_size=16).hexdigest()}\n".encode()
    (here / "state/identity").write_bytes(head + text)
    (here / "state/keys").mkdir(0o700)
    if file:
        (here / "state/keys/root.e1").write_bytes(ROOT)
    else:
        (here / "credentials/seal-key.e1").write_bytes(ROOT)
        (here / "store/seal-key.e1").write_bytes(b"encrypted")
    for top, _, names in os.walk(here / "state"):
        for each in (top, *(f"{top}/{x}" for x in names)):
            os.chown(each, NOBODY, NOBODY)
    return here


def tool(here, *words, wrap=()):
    env = {"PATH": f"{here}/bin:{os.environ['PATH']}", "STATE_DIRECTORY": f"{here}/state",
           "CREDENTIALS_DIRECTORY": f"{here}/credentials", "CONFIGURATION_DIRECTORY": f"{here}/none", "MOLECULE_ORG_ID": ORG}
    done = subprocess.run([*wrap, binary("molecule-agentctl"), "secrets", *words], env=env, capture_output=True, text=True, timeout=60,
                          check=False)
    return done.returncode, done.stdout + done.stderr


def rotate(here, **more):
    return tool(here, "rotate-root", "--reason", "a test", "--no-restart", "--credstore", f"{here}/store", **more)


def test_looking_makes_no_directory():
    for file in (True, False):
        here = state(f"looks-{file}", file)
        shutil.rmtree(here / "state/keys", ignore_errors=True)
        for words in (("verify",), ("list",), ("rm-orphans", "--dry-run")):
            status, text = tool(here, *words)
            assert status == 1 and ("root key" if file else "sealed files") in text, f"{status}: {text}"
            same(sorted(os.listdir(here / "state")), ["identity"], f"{words}: {text}")


def test_a_root_of_an_interrupted_run_is_given_to_the_agent():
    here = state("given")
    root = here / "state/keys/root.e2"
    for interrupted in (False, True):
        if interrupted:
            os.chown(root, 0, 0)
        status, text = rotate(here)
        same((status, root.stat().st_uid, root.stat().st_mode & 0o777), (75, NOBODY, 0o600), text)


def test_a_credential_is_on_the_disk_before_it_is_seen():
    if not shutil.which("strace"):
        raise tap.Skip("there is no strace")
    here = state("durable", file=False)
    (here / "bin").mkdir()
    (here / "bin/systemd-creds").write_text('#!/bin/sh\nexec cat > "$4"\n')
    (here / "bin/systemd-creds").chmod(0o755)
    log = here / "log"
    status, text = rotate(here, wrap=("strace", "-y", "-o", log, "-e", "trace=fsync,rename,renameat,renameat2"))
    same((status, len((here / "store/seal-key.e2").read_bytes())), (75, 32), text)
    calls = [line for line in log.read_text().splitlines() if "/store" in line]
    want = (r"fsync\(\d+<.*/store/seal-key\.e2\.new>\) = 0", r"rename.*seal-key\.e2\.new.*seal-key\.e2\"", r"fsync\(\d+<.*/store>\) = 0")
    assert len(calls) == 3 and all(re.match(a, b) for a, b in zip(want, calls)), "\n".join(calls)


def main():
    try:
        if os.geteuid() != 0:
            print("1..0 # SKIP needs root")
            return
        tap.run([test_looking_makes_no_directory, test_a_root_of_an_interrupted_run_is_given_to_the_agent,
                 test_a_credential_is_on_the_disk_before_it_is_seen])
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
