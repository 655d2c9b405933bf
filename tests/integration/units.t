#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts into an empty root, as systemd's own tools read it: units that verify, their exposure, the user, and the directories."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
import tap  # noqa: E402
from cases import must, same  # noqa: E402
from lab import TREE, binary  # noqa: E402

TOOLS = ("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles")
EXPOSURE = {"molecule-agentd.service": 1.5, "molecule-agent-setup.service": 2.0, "molecule-agent-enroll.service": 3.0, "molecule-agent-registry-auth.service": 3.0}


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd=TREE)
    return done.returncode, done.stdout + done.stderr


def test_install():
    status, text = run("make", "install", f"DESTDIR={root}")
    must(status == 0, text)
    for path in ("sbin/molecule-agentd", "bin/molecule-agentctl", "lib/molecule-agent/molecule-launch", "lib/systemd/system/molecule-agentd.service"):
        must(os.path.exists(f"{root}/usr/{path}"), path)


def test_units_verify():
    os.makedirs(f"{root}/bin")
    shutil.copy("/bin/kill", f"{root}/bin/kill")
    shutil.copytree("/usr/lib/systemd/system", f"{root}/usr/lib/systemd/system", symlinks=True, dirs_exist_ok=True)     # the targets they hang on
    for unit in glob.glob(f"{root}/usr/lib/systemd/system/molecule*.service"):
        _, text = run("systemd-analyze", "verify", f"--root={root}", "--man=no", unit)
        bad = [line for line in text.splitlines() if "molecule" in line]
        same(bad, [], unit)


def test_exposure():
    for unit, limit in EXPOSURE.items():
        status, text = run("systemd-analyze", "security", "--offline=true", f"{root}/usr/lib/systemd/system/{unit}")
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
        must(found, f"{status} {text[-300:]}")
        tap.diag(f"{unit}: exposure {found[1]}")
        must(float(found[1]) <= limit, f"{unit}: {found[1]} is above {limit}")


def test_user_and_directories():
    os.makedirs(f"{root}/etc", exist_ok=True)
    status, text = run("systemd-sysusers", f"--root={root}", f"{root}/usr/lib/sysusers.d/molecule-agent.conf")
    must(status == 0, text)
    with open(f"{root}/etc/group") as file:
        must("docker:x:" in (groups := file.read()) and re.search(r"^docker:.*\bmolecule-agent$", groups, re.M), groups)
    with open(f"{root}/etc/passwd") as file:
        must("molecule-agent:" in (users := file.read()) and "nologin" in users, users)
    status, text = run("systemd-tmpfiles", f"--root={root}", "--create", f"{root}/usr/lib/tmpfiles.d/molecule-agent.conf")
    must(status == 0, text)
    same({name: oct(os.stat(f"{root}/etc/{name}").st_mode & 0o777) for name in ("molecule-agent", "credstore.encrypted")},
         {"molecule-agent": "0o755", "credstore.encrypted": "0o700"})


missing = [tool for tool in TOOLS if not shutil.which(tool)]
if missing or os.geteuid() != 0:
    print(f"1..0 # SKIP needs root and {' '.join(missing or TOOLS)}")
    sys.exit(0)
binary("molecule-agentd")
with tempfile.TemporaryDirectory(prefix="units-") as root:
    tap.run([test_install, test_units_verify, test_exposure, test_user_and_directories])
