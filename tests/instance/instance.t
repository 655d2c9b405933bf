#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The package, baked into an image and booted as whole instances, one case after the other. $MOLECULE_PACKAGE: the directory of the packages;
$MOLECULE_ROOT: what `bake.sh --root` made of it earlier, which saves a minute; $MOLECULE_CASES chooses by name, $MOLECULE_LONG the whole sizes. `make check-instance` runs it."""

import functools
import glob
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lab"), HERE]
import boot  # noqa: E402
import cases  # noqa: E402
import clones  # noqa: E402
import engine_away  # noqa: E402
import power  # noqa: E402
import tap  # noqa: E402
import upgrade  # noqa: E402
import words  # noqa: E402
from cases import must  # noqa: E402
from instance import Outside, own_network, root_make, run  # noqa: E402
from lab import TREE  # noqa: E402


LIMIT = 1200 if os.environ.get("MOLECULE_LONG") else 480     # seconds for the cases side by side


def told(case):
    """The case, as a tenant of its own; its machines' last words where it fails, and their end."""
    @functools.wraps(case)
    def with_words(stage):
        with cases.lock:
            stage.plane = outside.plane.another_tenant()
        try:
            case(stage)
            for host in outside.mine():
                must(not host.denied(), f"the sandbox killed the agent: {host.denied()}")
        except Exception:
            with cases.lock:
                for host in outside.mine():
                    tap.diag(host.tail())
            raise
        finally:
            outside.clear()
    return with_words


packages = os.environ.get("MOLECULE_PACKAGE", f"{TREE}/build/deb")
found = glob.glob(f"{packages}/molecule-agent_*_amd64.deb")
if not found:
    print(f"1..1\nnot ok 1 - there is no package in {packages}: make deb")
    sys.exit(1)
os.makedirs(f"{TREE}/build/lab", exist_ok=True)
with tempfile.TemporaryDirectory(prefix="golden-", dir=f"{TREE}/build/lab", ignore_cleanup_errors=True) as where:
    golden = root_make(f"{where}/root", os.path.abspath(found[0]), os.environ.get("MOLECULE_ROOT"))
    previous = f"{where}/previous.deb"
    run(f"{HERE}/previous.sh", found[0], previous, timeout=300)
    own_network()
    with Outside() as outside:
        outside.good, outside.better = outside.image("ok", page="one"), outside.image("ok", page="two")
        outside.package, outside.previous, outside.slow = os.path.abspath(found[0]), previous, outside.image("slow", delay=8)
        outside.golden = outside.bake(golden, [outside.good])
        others = [told(case) for module in (upgrade, engine_away, power, clones, boot, words) for case in module.CASES]
        cases.run(outside, others, alone=[told(case) for case in boot.ALONE], side_by_side=2, limit=LIMIT)
tap.done()
