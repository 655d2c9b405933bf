#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""engine/ against a real engine: the C test of its calls (build/tests/test-engine) with a private dockerd and registry under it. Its TAP is ours."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import TREE, Lab  # noqa: E402

binary = os.environ.get("MOLECULE_TEST_ENGINE_BINARY", f"{TREE}/build/tests/test-engine")
with Lab("engine") as lab:
    here, away = lab.image("ok", page="here"), lab.image("ok", page="away")
    lab.engine.api("POST", "/images/create", fromImage=here, timeout=60)       # the lab keeps what it built in the registry only
    env = {**os.environ, "MOLECULE_TEST_ENGINE": lab.engine.socket, "MOLECULE_TEST_IMAGE": here, "MOLECULE_TEST_REF": away}
    code = subprocess.run([binary], env=env, timeout=120, check=False).returncode
sys.exit(code)
