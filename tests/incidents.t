#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/incidents.md is complete and true: each of the 66 has its row, each test that a row names exists under that name, and each test that bears an
incident's number is named in that incident's row."""

import glob
import os
import re

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
ALL = 66


def text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


rows = {}
for line in text("docs/incidents.md").splitlines():
    if found := re.match(r"\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$", line):
        rows[int(found[1])] = re.findall(r"`([^`]+)` ([^;]+)", found[4]) or found[4]
named, wrong = set(), []
for number, proofs in rows.items():
    for path, name in proofs if isinstance(proofs, list) else []:
        name = name.strip()
        named |= {(number, path)}
        if not os.path.exists(path) or not re.search(re.escape(name) + r"(?![0-9])", text(path)):
            wrong.append(f"{number}: {path} has no '{name}'")
unnamed = []
for path in [*glob.glob("tests/test-*.c"), *glob.glob("tests/integration/*.t")]:
    for number in {int(n) for n in re.findall(r"\bincident[_ ](\d+)", text(path)) + re.findall(r"test_incident_(\d+)", text(path))}:
        if not any((n, path) in named for n in (number, 36 if number == 35 else number)):
            unnamed.append(f"{path}: incident {number}")
count = sum(len(re.findall(r"TEST\(incident_\d+", text(p))) for p in glob.glob("tests/test-*.c")) + sum(
    len(set(re.findall(r"\bincident[_ ]\d+", text(p)))) for p in glob.glob("tests/integration/*.t"))
answers = ((sorted(rows) == list(range(1, ALL + 1)), "each incident has its row", f"missing: {sorted(set(range(1, ALL + 1)) - set(rows))}"),
           (not wrong, "each test that is named exists", "\n".join(wrong)),
           (not unnamed, "each test with a number is named in its row", "\n".join(unnamed)),
           (count >= 30, f"at least 30 tests bear an incident's number ({count} do)", ""))
for at, (good, words, why) in enumerate(answers, 1):
    print(f"{'ok' if good else 'not ok'} {at} - {words}")
    if not good:
        print("".join(f"# {line}\n" for line in why.splitlines()), end="")
print(f"1..{len(answers)}")
