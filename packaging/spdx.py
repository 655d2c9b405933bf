#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is in a release, as SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3): the packages, and what was built into them. The same for the same commit."""

import hashlib
import json
import os
import subprocess
import sys
import time

# Linked into a program; everything else is a dependency that the package names.
BUILT_IN = {".deb": ("musl",), ".rpm": ("musl", "cjson", "libsodium", "libmicrohttpd")}
SOURCES = {"musl": ("musl-dev", "MIT"), "cjson": ("libcjson-dev", "MIT"), "libsodium": ("libsodium-dev", "ISC"), "libmicrohttpd": ("libmicrohttpd-dev", "LGPL-2.1-or-later")}


def output(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def package(name, identity, version, license_, **more):
    return {"name": name, "SPDXID": f"SPDXRef-{identity}", "versionInfo": version, "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
            "licenseConcluded": license_, "licenseDeclared": license_, "copyrightText": "NOASSERTION", "supplier": "NOASSERTION"} | more


def document(directory):
    commit, moment = output("git", "rev-parse", "HEAD"), int(output("git", "log", "-1", "--format=%ct"))
    with open("VERSION") as file:
        version = file.read().strip()
    names = sorted(name for name in os.listdir(directory) if name.endswith((".deb", ".rpm")) and "dbgsym" not in name)
    packages, relations = [], []
    for name in {part for key in BUILT_IN.values() for part in key}:
        found, license_ = SOURCES[name]
        packages.append(package(name, name, output("dpkg-query", "--showformat=${Version}", "--show", found), license_))
    packages.sort(key=lambda one: one["name"])
    for number, name in enumerate(names):
        identity = f"package-{number}"
        packages.append(package("molecule-agent", identity, version, "Apache-2.0", packageFileName=name, primaryPackagePurpose="INSTALL",
                                checksums=[{"algorithm": "SHA256", "checksumValue": sha256(f"{directory}/{name}")}], sourceInfo=f"git commit {commit}"))
        relations.append({"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": f"SPDXRef-{identity}"})
        relations += [{"spdxElementId": f"SPDXRef-{identity}", "relationshipType": "STATIC_LINK", "relatedSpdxElement": f"SPDXRef-{part}"}
                      for part in BUILT_IN[os.path.splitext(name)[1]]]
    return {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"molecule-agent-{version}",
            "documentNamespace": f"https://moleculesai.app/spdx/molecule-agent-{version}-{commit}",
            "creationInfo": {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)), "creators": ["Organization: Molecule platform engineers", "Tool: packaging/spdx.py"]},
            "packages": packages, "relationships": relations}


json.dump(document(sys.argv[1]), sys.stdout, indent=1)
print()
