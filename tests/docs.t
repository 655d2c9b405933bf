#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pages in Markdown: each relative link leads to a file of this tree, each #anchor to a heading there, and each molecule-agentctl that a page names is
a verb with options that it has. What docs/proof.md calls a proof is there: tests, seeded bugs, targets of make."""

import glob
import os
import re
import subprocess

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
PAGES = sorted([*glob.glob("*.md"), *glob.glob("docs/*.md")])
TOOL = os.environ.get("MOLECULE_AGENTCTL", "build/molecule-agentctl")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"molecule-agentctl((?: +[^\s`;,|<>\\()&]+)*)")
PROSE = ("is",)                             # words that follow the program's name in a sentence


def text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def prose(page):
    """Without its blocks and spans of code, in which brackets are no links."""
    return re.sub(r"`[^`\n]*`", "``", re.sub(r"^```.*?^```", "", re.sub(r"^(?: {4}|\t).*$", "", text(page), flags=re.M), flags=re.M | re.S))


def anchors(page):
    """As the usual renderers make them of headings; the second of a name gets -1."""
    found, seen = set(), {}
    for title in re.findall(r"^#{1,6} +(.*?)\s*$", re.sub(r"^```.*?^```", "", text(page), flags=re.M | re.S), re.M):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        found.add(name if name not in seen else f"{name}-{seen[name]}")
        seen[name] = seen.get(name, 0) + 1
    return found


def bad_links(page):
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        if not os.path.exists(file):
            yield f"{page}: {target}: no such file"
        elif anchor and (not file.endswith(".md") or anchor not in anchors(file)):
            yield f"{page}: {target}: no such heading"


def usage(verb):
    """What the verb says of itself where an option makes no sense."""
    done = subprocess.run([TOOL, verb, "--no-such-option", "--nor-this"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def bad_commands(page, verbs):
    for words in NAMED.findall(text(page)):
        verb, *others = words.split() or [""]
        if not re.fullmatch(r"[a-z][a-z-]*", verb) or verb in PROSE:
            continue
        if verb not in verbs:
            yield f"{page}: there is no verb '{verb}'"
            continue
        options = [option.group() for option in (re.match(r"--?[a-z][a-z-]*", word) for word in others) if option]
        said = usage(verb) if options else ""
        for option in options:
            if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", said):
                yield f"{page}: {verb} has no {option}"


def proofs():
    """(words, where they must lead to); a glob."""
    page = text("docs/proof.md")
    for words in re.findall(r"`([^`]+)`", page):
        if name := re.fullmatch(r"(?:build/tests/)?(test-[a-z-]+)", words):
            yield words, f"tests/{name[1]}.c"
        elif name := re.match(r"(?:\S+=\S+ )*(?:tests/\w+/)?([a-z-]+\.t)\b", words):
            yield words, f"tests/**/{name[1]}"
    for words in re.findall(r"\bmutants? `([^`]+)`", page):
        yield words, f"tests/fault/mutants/{words}.patch"


def bad_proofs():
    made = set(re.findall(r"^([a-z-]+):.*## ", text("Makefile"), re.M))
    yield from (f"docs/proof.md: {words}: not there" for words, where in proofs() if not glob.glob(where, recursive=True))
    yield from (f"docs/proof.md: make {name}: no such target" for name in re.findall(r"`make ([a-z-]+)", text("docs/proof.md")) if name not in made)


def say(number, bad, what):
    print(f"{'not ok' if bad else 'ok'} {number} - {what}")
    for line in bad:
        print(f"# {line}")


links = [LINK.findall(prose(page)) for page in PAGES]
say(1, [bad for page in PAGES for bad in bad_links(page)] + ([] if sum(map(len, links)) > 50 else ["hardly any link was found"]),
    "the links of the pages lead somewhere")
if os.access(TOOL, os.X_OK):
    helped = subprocess.run([TOOL, "help"], capture_output=True, text=True, check=True).stdout
    known = {line.split()[0]: line for line in helped.splitlines() if line.startswith("  ")}
    say(2, [bad for page in PAGES for bad in bad_commands(page, known)] + ([] if len(known) > 20 else ["hardly any verb was found"]),
        "the commands of the pages exist, and have these options")
else:
    print("ok 2 - the commands of the pages # SKIP no molecule-agentctl was built")
say(3, [*bad_proofs()] + ([] if len([*proofs()]) > 50 else ["hardly any proof was found"]), "what proves it is there")
print("1..3")
