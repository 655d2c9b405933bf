#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manual is complete and true: every verb, flag and setting that exists is in it, and every one that is in it exists; defaults are what they are said to be.
What exists is what the programs say of themselves, held against the tables in the code. No root, no daemon."""

import glob
import os
import re
import shutil
import subprocess
import sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, "tests/lab")
import tap  # noqa: E402
from completion import offers  # noqa: E402

TOOL, DAEMON = (os.path.abspath(os.environ.get(name, default)) for name, default in (
    ("MOLECULE_AGENTCTL", "build/molecule-agentctl"), ("MOLECULE_AGENTD", "build/molecule-agentd")))
PAGES = {name: f"docs/{name}" for name in ("molecule-agentctl.8", "molecule-agentd.8", "molecule-agent.conf.5", "molecule-launch.1")}
SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def said(*command):
    """What it prints where nothing is configured."""
    env = {"CONFIGURATION_DIRECTORY": "/nonexistent", "STATE_DIRECTORY": "/nonexistent", "RUNTIME_DIRECTORY": "/nonexistent", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.returncode} {done.stderr}"
    return done.stdout


def same(got, want, what):
    assert got == want, f"{what}: only here {sorted(got - want)}, only there {sorted(want - got)}"


def long_options(words):
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", words))


def manual_options(mdoc):
    return set(re.findall(r"(?:\bFl|\|) -([a-z][a-z-]*)", mdoc))


def code_options(*paths):
    """Every long option in the tables of these files."""
    shared = dict(re.findall(r"#define (ROUND_LONG_OPTIONS) (.*)", text("agent/ctl/round.h")))
    words = "".join(text(path) for path in paths)
    for name, table in shared.items():
        words = words.replace(name, table)
    return set(re.findall(r'\{ "([a-z-]+)", (?:no|required)_argument,', words))


# --- molecule-agentctl -------------------------------------------------------------------------------------------------------------------

def verbs():
    return set(re.findall(r"^  ([a-z][a-z-]*) ", said(TOOL, "help"), re.M))


def usages():
    """{(verb,) or (verb, word): its options}, as `help VERB` has them."""
    found = {}
    for verb in verbs():
        lines = re.sub(r"^Usage:", "      ", said(TOOL, "help", verb)).split("       molecule-agentctl ")[1:]
        assert lines, f"help {verb} says nothing"
        for line in lines:
            key = tuple(re.match(r"[a-z-]+(?: [a-z][a-z-]*(?=[ \n]))?", line)[0].split())
            if key[0] == verb:
                found.setdefault(key, set()).update(long_options(line))
    return found


def names_of(line):
    """What follows .Cm or .It Cm: "secrets verify | list" is two of them."""
    words = re.match(r"([a-z-]+)((?: [a-z][a-z-]*)?(?: \| [a-z-]+)*)", line)
    seconds = [word.strip() for word in words[2].split("|") if word.strip()]
    return [(words[1], second) for second in seconds] if seconds else [(words[1],)]


def synopsis():
    found = {}
    for entry in re.search(r"^\.Sh SYNOPSIS\n(.*?)^\.Sh", text(PAGES["molecule-agentctl.8"]), re.M | re.S)[1].split(".Nm\n.Cm ")[1:]:
        for key in names_of(entry):
            found.setdefault(key, set()).update(manual_options(entry))
    return found


def sections():
    """{verb or verb and word: what the manual's list of verbs says of it}"""
    body = re.search(r"^\.Sh DESCRIPTION\n.*?^\.Bl[^\n]*\n(.*?)^\.Sh", text(PAGES["molecule-agentctl.8"]), re.M | re.S)[1]
    return {key: entry for entry in body.split(".It Cm ")[1:] for key in names_of(entry.split(" Ar ")[0].split(" Op ")[0].split("\n")[0])}


def test_every_verb_has_its_section_and_every_section_its_verb():
    same({key[0] for key in sections()}, verbs(), "sections against `help`")
    same(set(sections()), set(usages()), "sections against `help VERB`")
    same(set(synopsis()), set(usages()), "the synopsis against `help VERB`")


OF_OTHERS = {("config", "show"): {"config"}, ("help",): {"help"}}      # the daemon's; what every verb takes


def test_every_flag_of_a_verb_is_in_the_manual_and_the_other_way_round():
    there, told, wrong = usages(), sections(), []
    for key, options in synopsis().items():
        said_of, exist = manual_options(told.get(key, "")), there.get(key, set())
        wrong += [f"{' '.join(key)}: --{o} is in the synopsis and does not exist" for o in options - exist]
        wrong += [f"{' '.join(key)}: --{o} is not in the synopsis" for o in exist - options]
        wrong += [f"{' '.join(key)}: what --{o} does is not said" for o in exist - said_of - {"json"}]
        wrong += [f"{' '.join(key)}: --{o} is spoken of and does not exist" for o in said_of - exist - OF_OTHERS.get(key, set())]
    assert not wrong, "\n".join(wrong)


def test_what_a_verb_says_it_takes_is_what_its_tables_have():
    runs = dict(re.findall(r'^ +\{ "([a-z-]+)",.*, (ctl_[a-z_]+) \},$', text("agent/ctl/main.c"), re.M))
    same(set(runs), verbs(), "the table of verbs")
    there = usages()
    for path in glob.glob("agent/ctl/*.c"):
        mine = {verb for verb, function in runs.items() if re.search(rf"^(?:static )?int {function}\(int argc, char \*\*argv\) \{{", text(path), re.M)}
        if path == "agent/ctl/rotate.c":
            continue                                            # two words of `secrets`
        with_it = [path, "agent/ctl/rotate.c"] if path == "agent/ctl/secrets.c" else [path]
        same(code_options(*with_it), set().union(*(options for key, options in there.items() if key[0] in mine)), f"{path}: tables against usage")


def test_every_verb_with_something_to_say_takes_json():
    without = {" ".join(key) for key, options in usages().items() if "json" not in options}
    assert not without, f"without --json: {sorted(without)}"


def offered(*words):
    return set(offers(TOOL, *words, env={"RUNTIME_DIRECTORY": "/nonexistent"}))


def test_bash_completes_every_verb_word_and_flag():
    there = usages()
    same(offered(""), verbs(), "verbs")
    for verb in {key[0] for key in there if len(key) == 2}:
        same(offered(verb, ""), {key[1] for key in there if key[0] == verb}, f"words of {verb}")
    for key, options in there.items():
        same(offered(*key, "--"), {f"--{option}" for option in options}, f"flags of {key}")
    for words, want in ((("nosuch", ""), set()), (("hold", "--reason", ""), set()), (("explain", "readiness_t"), {"readiness_timeout"}),
                        (("help", "und"), {"undrain"}), (("config", "show", "docs/errors."), {"docs/errors.md"}), (("inspect", ""), set()),
                        (("secrets", "rotate-root", "--credstore", "doc"), {"docs"}), (("gc", "--d"), {"--dry-run"})):
        same(offered(*words), want, words)


# --- the programs ------------------------------------------------------------------------------------------------------------------------

def test_every_flag_of_the_daemon():
    page = text(PAGES["molecule-agentd.8"])
    code = code_options("agent/main.c")
    assert {"config", "check"} <= code
    same(set(re.findall(r"^\.It Fl -([a-z-]+)", page, re.M)), code, "the manual's list against the code")
    same(manual_options(re.search(r"^\.Sh SYNOPSIS\n(.*?)^\.Sh", page, re.M | re.S)[1]), code, "the synopsis against the code")
    same(long_options(said(DAEMON, "--help")), code, "--help against the code")


def test_the_launcher_has_no_flags():
    assert not manual_options(text(PAGES["molecule-launch.1"]))
    assert not any(re.search(r'getopt|"--?[a-z]', text(path)) for path in glob.glob("secrets/launch/*.c"))


# --- molecule-agent.conf -----------------------------------------------------------------------------------------------------------------

def plain(value):
    """64M is 67108864, "a, b" is what the list says."""
    size = re.fullmatch(r"(\d+)([KMGT])", value)
    return str(int(size[1]) * SIZES[size[2]]) if size else re.sub(r",\s*", ",", value)


def told_settings():
    """{setting: the default that the manual gives, "" where it is a name for what is to be put there}"""
    found = {}
    for line in re.findall(r"^\.It (Ic .*)", text(PAGES["molecule-agent.conf.5"]), re.M):
        for name, value in re.findall(r"Ic ([a-z0-9_]+)(?: No = (.*?))?(?= , Ic |$)", line):
            assert name not in found, f"{name} is there twice"
            found[name] = "" if value.startswith("Ar ") else plain(value.removeprefix("Pa "))
    return found


def test_every_setting_is_in_the_manual_with_its_default():
    there = dict(re.findall(r"^([a-z0-9_]+) = (.*)\t# default$", said(TOOL, "config", "show"), re.M))
    told = told_settings()
    assert len(there) > 50
    same(set(told), set(there), "the manual against `config show`")
    wrong = [f"{name}: the manual says '{told[name]}', it is '{there[name]}'" for name in there if told[name] != there[name]]
    assert not wrong, "\n".join(wrong)


# --- the pages ---------------------------------------------------------------------------------------------------------------------------

def test_each_page_is_clean_under_mandoc():
    if not shutil.which("mandoc"):
        raise tap.Skip("there is no mandoc")
    for name, path in PAGES.items():
        done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"{name}:\n{done.stdout}"


def test_pages_refer_to_pages_that_are_there_under_their_own_names():
    same(set(PAGES.values()), set(glob.glob("docs/*.[1-9]")), "pages")
    for path in [*PAGES.values(), *glob.glob("units/*.service"), *glob.glob("units/*.timer")]:
        for name, section in re.findall(r"(?:\.Xr |man:)(molecule-[a-z.-]+)[ (](\d)", text(path)):
            assert f"{name}.{section}" in PAGES, f"{path} refers to {name}({section})"
    for name, path in PAGES.items():
        title, section = name.rsplit(".", 1)
        assert f"\n.Dt {title.upper()} {section}\n" in text(path), f"{path} has another title"


tap.run([test for name, test in sorted(globals().items()) if name.startswith("test_")])
