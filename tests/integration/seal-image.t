#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""molecule-agentctl seal-image: what makes a machine itself goes, all else stays; refused on a host at work."""

import fcntl
import os
import subprocess
import sys
import tempfile
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import binary  # noqa: E402

GONE = ("var/lib/molecule-agent/identity", "var/lib/molecule-agent/keys/root.e1", "var/lib/molecule-agent/sealed/a/key.seal", "var/lib/molecule-agent/.hidden",
        "etc/molecule-agent/agent.conf.d/10-enroll.conf", "etc/credstore.encrypted/provision-secret", "etc/credstore.encrypted/admin-token.foreign",
        "etc/credstore.encrypted/seal-key.e2", "var/lib/systemd/credential.secret", "var/lib/systemd/random-seed", "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_rsa_key.pub", "var/lib/dbus/machine-id")
STAYS = ("etc/molecule-agent/agent.conf", "etc/molecule-agent/agent.conf.d/20-site.conf", "etc/credstore.encrypted/stranger", "etc/ssh/sshd_config",
         "usr/share/molecule-agent/preloaded.json")


def machine(root):
    for path in (*GONE, *STAYS, "etc/machine-id"):
        os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
        with open(f"{root}/{path}", "w") as file:
            file.write("of this machine\n")
    os.symlink("/etc/passwd", f"{root}/var/lib/molecule-agent/link")
    return root


def seal(root, *words):
    done = subprocess.run([binary("molecule-agentctl"), "seal-image", "--root", root, *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def left(root):
    return sorted(os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names)


def test_all_of_it_and_nothing_else():
    with tempfile.TemporaryDirectory() as root:
        machine(root)
        before = left(root)
        status, text = seal(root, "--dry-run")
        same((status, left(root)), (0, before), "a dry run")
        for path in GONE[4:]:
            must(path in text, f"{path} is not named: {text}")
        status, text = seal(root)
        same((status, left(root)), (0, sorted([*STAYS, "etc/machine-id"])), text)
        same((os.path.getsize(f"{root}/etc/machine-id"), os.path.getsize("/etc/passwd") > 0), (0, True))
        same(seal(root)[0], 0, "once more")


def test_a_host_at_work_is_refused():
    with tempfile.TemporaryDirectory() as root:
        machine(root)
        os.makedirs(f"{root}/var/lib/molecule-agent/ws")
        record = f"{root}/var/lib/molecule-agent/ws/{uuid.uuid4()}"
        open(record, "w").close()
        before = left(root)
        status, text = seal(root)
        must(status == 6 and "1 workspaces" in text, text)
        same(left(root), before)
        os.unlink(record)
        with open(f"{root}/var/lib/molecule-agent/lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            status, text = seal(root)
            must(status == 6 and "agent runs" in text, text)
        same(seal(root)[0], 0)


def test_usage():
    with tempfile.TemporaryDirectory() as root:
        before = left(machine(root))
        for words in (("--paint",), ("more",), ("--dry-run", "x")):
            same(seal(root, *words)[0], 2, words)
        same(left(root), before)


tap.run([test_all_of_it_and_nothing_else, test_a_host_at_work_is_refused, test_usage])
