#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sealed files, read by docs/mseal.py: each vector of tests/data/mseal and each flipped bit as docs/sealed-files.md says, the vectors as
their maker prints them, and the program on a state directory, whole and damaged. Writer and reader have no code in common."""

import hashlib
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TREE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(TREE / "tests" / "lab"))
import tap  # noqa: E402

DATA, READER, PAGE = TREE / "tests" / "data" / "mseal", TREE / "docs" / "mseal.py", TREE / "docs" / "sealed-files.md"


def module(path):
    found = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    return made


mseal, maker = module(READER), module(TREE / "tests" / "tools" / "mseal-vectors.py")
WORDS = ("truncated", "bad_magic", "bad_type", "bad_flags", "bad_header", "unknown_epoch", "bad_size", "too_large", "bad_tag", "wrong_org",
         "wrong_workspace", "wrong_name", "wrong_generation", "bad_padding")
work = pathlib.Path(tempfile.mkdtemp(prefix="mseal-"))


def same(got, want, words=""):
    assert got == want, f"{words}\ngot:  {got!r}\nwant: {want!r}"


# --- vectors ----------------------------------------------------------------------------------------------------------------------------

def repeat(told):
    return bytes.fromhex(told["byte"]) * told["count"]


def vectors(file):
    return json.loads((DATA / file).read_text())["vectors"]


def key_of(vector):
    return bytes.fromhex(vector["workspace_key"] if "workspace_key" in vector else vector["roots"][str(vector["epoch"])])


def fields_of(vector):
    return vector["expect"] | {"generation": int(vector["expect"]["generation"])}


def bytes_of(vector):
    if "file" in vector:
        return bytes.fromhex(vector["file"])
    told = vector["file_from"]
    return maker.seal(vector["type"], repeat(told["plaintext_repeat"]), nonce=bytes.fromhex(told["nonce"]), epoch=told["epoch"],
                      pad=told["pad"], key=key_of(vector), **fields_of(vector))


def opened(vector, data):
    """(plaintext, None) or (None, word)"""
    key = bytes.fromhex(vector["workspace_key"]) if "workspace_key" in vector else None
    try:
        return mseal.open_sealed(data, type=vector["type"], roots={int(e): bytes.fromhex(r) for e, r in vector["roots"].items()},
                                 workspace_key=key, **fields_of(vector)), None
    except mseal.SealError as error:
        return None, error.word


def every(file):
    def test():
        for vector in vectors(file):
            plain, word = opened(vector, bytes_of(vector))
            same(word, vector.get("error"), vector["name"])
            if not word:
                want = repeat(vector["plaintext_repeat"]) if "plaintext_repeat" in vector else bytes.fromhex(vector["plaintext"])
                assert plain == want, f"{vector['name']}: another plaintext"
    return f"each vector of {file}", test


def test_a_writer_makes_exactly_the_good_files():
    for vector in (v for file in DATA.glob("*.json") if file.name != "derive.json" for v in vectors(file) if "error" not in v):
        if "file" in vector:
            made = maker.seal(vector["type"], bytes.fromhex(vector["plaintext"]), nonce=bytes.fromhex(vector["nonce"]),
                              epoch=vector["epoch"], key=key_of(vector), **fields_of(vector))
            same(made.hex(), vector["file"], vector["name"])


def test_each_word_is_in_the_vectors_the_reader_and_the_page():
    found = [v["error"] for file in DATA.glob("*.json") if file.name != "derive.json" for v in vectors(file) if "error" in v]
    same(sorted(set(found)), sorted(WORDS))
    for word in WORDS:
        assert f'"{word}"' in READER.read_text() and f"`{word}`" in PAGE.read_text(), word
    for word in set(re.findall(r'"((?:wrong|bad|no|un|miss|chang)[a-z_]+)"', READER.read_text())):
        assert f"`{word}`" in PAGE.read_text(), word


def test_subkeys_checks_and_boxes():
    told = json.loads((DATA / "derive.json").read_text())
    for one in told["kdf"]:
        same(mseal.derive(bytes.fromhex(one["key"]), one["id"], one["context"].encode()).hex(), one["subkey"])
    for one in told["check"]:
        same(mseal.root_check(bytes.fromhex(one["root"])), one["check"])
    for one in told["box"]:
        same(mseal.key_hash(bytes.fromhex(one["secret_key"])), one["key_id_hex16"])
        try:
            got = mseal.open_box(bytes.fromhex(one["box_hex"]), secret_key=bytes.fromhex(one["secret_key"]), org=one["org"],
                                 workspace=one["workspace"], name=one["name"]).hex()
        except mseal.SealError as error:
            same(error.word, "secret_undecryptable")
            got = None
        same(got, one.get("value_hex"), one["about"])
        assert (got is None) == one.get("error", False), one["about"]


def flipped(name):
    def test():
        vector = next(v for v in vectors("good.json") if v["name"] == name)
        data, seen = bytes_of(vector), set()
        same(opened(vector, data)[1], None)
        for at in range(len(data) * 8):
            bad = bytearray(data)
            bad[at // 8] ^= 1 << at % 8
            plain, word = opened(vector, bytes(bad))
            assert plain is None and word in WORDS, f"bit {at} may be flipped"
            seen.add(word)
        assert {"bad_magic", "bad_type", "bad_flags", "bad_header", "bad_tag", "truncated"} <= seen, seen
    return f"no bit may be flipped in {name}", test


def cut(name):
    def test():
        vector = next(v for v in vectors("good.json") if v["name"] == name)
        data = bytes_of(vector)
        for size in range(len(data)):
            plain, word = opened(vector, data[:size])
            assert plain is None and word in ("truncated", "bad_size"), (size, word)
    return f"no shorter beginning of {name} opens", test


def test_size_is_judged_before_the_tag():
    vector = dict(next(v for v in vectors("size.json") if v["name"].startswith("secret of 65600 bytes")))
    data = bytes_of(vector)
    same(opened(vector, data[:-1] + bytes([data[-1] ^ 1]))[1], "too_large")
    vector["workspace_key"] = "00" * 32
    same(opened(vector, data)[1], "too_large")


def test_the_vectors_are_what_their_maker_prints():
    made = maker.files()
    same(sorted(made), sorted(file.name for file in DATA.iterdir()))
    for name, text in made.items():
        assert (DATA / name).read_text() == text, f"{name} differs: run tests/tools/mseal-vectors.py"
    assert sum(map(len, made.values())) < 400_000
    ended = subprocess.run([sys.executable, TREE / "tests/tools/mseal-vectors.py", work / "again"], timeout=60, check=False)
    same(ended.returncode, 0)
    same({file.name: file.read_text() for file in (work / "again").iterdir()}, made)


def test_the_page_shows_a_vector():
    vector = next(v for v in vectors("good.json") if v["name"] == "a secret")
    shown = re.sub(r"[^0-9a-f]", "", "".join(re.findall(r"^    [0-9]+ +((?:[0-9a-f]{2} ?)+)", PAGE.read_text(), re.M)))
    same(shown, vector["file"])
    for fact in (vector["workspace_key"], maker.kdf(maker.KEY, *maker.KEYS[2]).hex()):
        assert fact in PAGE.read_text(), fact


# --- the program ------------------------------------------------------------------------------------------------------------------------

ORG, ONE, TWO = "acme", "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
VALUES = {(ONE, 3): {"API_TOKEN": b"value-one", "EMPTY": b""}, (ONE, 4): {"API_TOKEN": b"value-two\n\x01\xff"},
          (TWO, 1): {"DB_PASSWORD": b"v" * 64}}
FILES = 12                                                      # keys 3, manifests 3, secrets 4, payload and undo set


def put(state, name, data):
    path = state / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def seal(kind, plain, label, **fields):
    return maker.seal(kind, plain, nonce=maker.fixed(label, 24), org=ORG, **fields)


def key_seal(workspace, epoch=1):
    return seal(1, maker.fixed(workspace), f"key {workspace} {epoch}", key=maker.ROOTS[epoch], workspace=workspace, epoch=epoch)


def manifest(state, workspace, generation, text=None):
    folder = f"sealed/{workspace}/g{generation}"
    secrets = (p for p in (state / folder).glob("*.seal") if p.stem != "manifest")
    files = {p.stem: hashlib.blake2b(p.read_bytes(), digest_size=32).hexdigest() for p in secrets}
    text = json.dumps({"generation": str(generation), "files": files}).encode() if text is None else text
    put(state, f"{folder}/manifest.seal",
        seal(3, text, f"{folder} manifest", key=maker.fixed(workspace), workspace=workspace, generation=generation))


def secret(workspace, generation, name, value, label=""):
    return seal(2, value, f"{workspace} {generation} {name} {label}", key=maker.fixed(workspace), workspace=workspace, name=name,
                generation=generation)


HOST_KEY = f"keys/host.h1-{mseal.key_hash(maker.HOST)}.seal"


def state_directory(name):
    state = work / name
    for epoch, root in maker.ROOTS.items():
        put(state, f"keys/root.e{epoch}", root)
    put(state, HOST_KEY, seal(5, maker.HOST, "host", key=maker.ROOTS[2], epoch=2))
    put(state, "identity", b"a record of another kind")
    for workspace in (ONE, TWO):
        put(state, f"sealed/{workspace}/key.seal", key_seal(workspace, 1 if workspace == ONE else 2))
        put(state, f"ws/{workspace}", b"a record of another kind")
    for (workspace, generation), values in VALUES.items():
        for key, value in values.items():
            put(state, f"sealed/{workspace}/g{generation}/{key}.seal", secret(workspace, generation, key, value))
        manifest(state, workspace, generation)
    for kind in ("payload", "undo"):
        put(state, f"ws/{ONE}.g4.{kind}",
            seal(4, f"the {kind}\n".encode(), kind, key=maker.fixed(ONE), workspace=ONE, name=kind, generation=4))
    return state


whole = state_directory("whole")


def run(state, *argv, org=ORG):
    argv = [sys.executable, READER, state, *(["--org", org] if org else []), *argv]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False)


def test_verify_of_a_whole_state():
    ended = run(whole, "verify")
    same((ended.stdout, ended.stderr, ended.returncode), (f"{FILES} files, all good\n".encode(), b"", 0))
    empty = work / "empty"
    empty.mkdir()
    same(run(empty, "verify").stdout, b"0 files, all good\n")
    same(run(work / "nowhere", "verify").returncode, 1)


def test_list_names_all_and_tells_no_value():
    ended = run(whole, "list")
    want = "".join(f"{w} {g} {n} {len(v)}\n" for (w, g), values in sorted(VALUES.items()) for n, v in sorted(values.items()))
    same((ended.stdout.decode(), ended.stderr, ended.returncode), (want, b"", 0))


def test_cat_and_payload():
    for (workspace, generation), values in VALUES.items():
        for name, value in values.items():
            ended = run(whole, "cat", workspace, str(generation), name)
            same((ended.stdout, ended.returncode), (value, 0))
    same(run(whole, "payload", ONE, "4").stdout, b"the payload\n")
    for argv in (("cat", ONE, "5", "API_TOKEN"), ("cat", ONE, "3", "NOT"), ("cat", "x", "3", "API_TOKEN"), ("cat", ONE, "03", "EMPTY"),
                 ("payload", ONE, "3")):
        ended = run(whole, *argv)
        assert ended.returncode == 1 and not ended.stdout and ended.stderr, (argv, ended)
    for argv in ((), ("nothing",), ("cat",), ("cat", ONE), ("payload",), ("list", ONE), ("verify", ONE)):
        same(run(whole, *argv).returncode, 2, str(argv))


def test_the_org_is_the_header_s_where_none_is_given():
    ended = run(whole, "verify", org=None)
    same((ended.stdout, ended.returncode), (f"{FILES} files, all good\n".encode(), 0))
    same(ended.stderr.decode().count("note: the org of "), 3)
    assert f"sealed/{ONE}/key.seal is the one in its header: 'acme'" in ended.stderr.decode()
    ended = run(whole, "verify", org="other")
    assert ended.returncode == 1 and f"sealed/{ONE}/key.seal: wrong_org" in ended.stdout.decode(), ended


def test_roots_by_hand():
    bare = state_directory("bare")
    for epoch in maker.ROOTS:
        (bare / f"keys/root.e{epoch}").rename(work / f"credential-{epoch}")
    both = [word for epoch in maker.ROOTS for word in ("--root-key", f"{epoch}={work}/credential-{epoch}")]
    same(run(bare, *both, "verify").stdout, f"{FILES} files, all good\n".encode())
    same(run(bare, *both, "cat", ONE, "3", "API_TOKEN").stdout, b"value-one")
    words = run(bare, *both[:2], "verify").stdout.decode()
    assert f"{HOST_KEY}: unknown_epoch" in words and f"sealed/{TWO}/key.seal: unknown_epoch" in words and ONE not in words, words
    assert f"sealed/{TWO}/key.seal: unknown_epoch" in run(bare, *both[:2], "cat", TWO, "1", "DB_PASSWORD").stderr.decode()
    put(work, "short", b"x" * 31)
    for wrong in ("1", "x=y", f"1={work}/none", f"1={work}/short"):
        same(run(bare, "--root-key", wrong, "verify").returncode, 1)


def test_a_rotation_of_the_root():
    state = state_directory("rotated")
    put(state, f"sealed/{ONE}/key.seal", key_seal(ONE, 2))
    same(run(state, "verify").stdout, f"{FILES} files, all good\n".encode())
    (state / "keys/root.e1").unlink()
    same(run(state, "verify").stdout, f"{FILES} files, all good\n".encode())


def damage(words, want, change):
    """change(state) on a copy: verify prints exactly want, {file: word}."""
    def test():
        state = work / "damaged"
        shutil.copytree(whole, state)
        try:
            change(state)
            ended = run(state, "verify")
            lines = sorted(f"{file}: {word}" for file, word in want.items())
            same(sorted(ended.stdout.decode().splitlines()), lines)
            same((ended.returncode, ended.stderr), (1, b""))
        finally:
            shutil.rmtree(state)
    return f"verify: {words}", test


def flip(name, at):
    def change(state):
        data = bytearray((state / name).read_bytes())
        data[at] ^= 1
        put(state, name, data)
    return change


def move(old, new):
    return lambda state: (state / old).rename(state / new)


def copy(old, new):
    return lambda state: shutil.copy(state / old, state / new)


G3, G4, PAYLOAD = f"sealed/{ONE}/g3", f"sealed/{ONE}/g4", f"ws/{ONE}.g4.payload"
TOKEN, KEY = f"{G3}/API_TOKEN.seal", f"sealed/{ONE}/key.seal"
OF_ONE = (f"{G3}/manifest.seal", TOKEN, f"{G3}/EMPTY.seal", f"{G4}/manifest.seal", f"{G4}/API_TOKEN.seal", PAYLOAD, f"ws/{ONE}.g4.undo")
LOST = {file: "no_key" for file in OF_ONE}

DAMAGES = (
    damage("a changed secret", {TOKEN: "bad_tag"}, flip(TOKEN, -1)),
    damage("a secret cut short", {TOKEN: "truncated"}, lambda state: put(state, TOKEN, (state / TOKEN).read_bytes()[:60])),
    damage("an empty secret file", {TOKEN: "truncated"}, lambda state: put(state, TOKEN, b"")),
    damage("a secret of another generation", {TOKEN: "wrong_generation"}, copy(f"{G4}/API_TOKEN.seal", TOKEN)),
    damage("a secret of another name", {TOKEN: "wrong_name"}, copy(f"{G3}/EMPTY.seal", TOKEN)),
    damage("a secret of another workspace", {TOKEN: "bad_tag"}, copy(f"sealed/{TWO}/g1/DB_PASSWORD.seal", TOKEN)),
    damage("an older file of the same secret", {TOKEN: "changed"},
           lambda state: put(state, TOKEN, secret(ONE, 3, "API_TOKEN", b"old", "old"))),
    damage("a secret that is gone", {TOKEN: "missing"}, lambda state: (state / TOKEN).unlink()),
    damage("a good secret that the manifest does not list", {f"{G3}/MORE.seal": "unlisted"},
           lambda state: put(state, f"{G3}/MORE.seal", secret(ONE, 3, "MORE", b"x"))),
    damage("files that are none of ours", {f"{G3}/note.txt": "unlisted", f"sealed/{ONE}/stray": "unlisted", "keys/host.x.seal": "unlisted"},
           lambda state: [put(state, name, b"x") for name in (f"{G3}/note.txt", f"sealed/{ONE}/stray", "keys/host.x.seal")]),
    damage("a changed manifest", {f"{G3}/manifest.seal": "bad_tag"}, flip(f"{G3}/manifest.seal", 60)),
    damage("a manifest that is gone", {f"{G3}/manifest.seal": "missing"}, lambda state: (state / f"{G3}/manifest.seal").unlink()),
    damage("a manifest of another generation", {f"{G3}/manifest.seal": "wrong_generation"},
           copy(f"{G4}/manifest.seal", f"{G3}/manifest.seal")),
    damage("a manifest that is no JSON", {f"{G3}/manifest.seal": "bad_manifest"}, lambda state: manifest(state, ONE, 3, b"{")),
    damage("a manifest that says another generation", {f"{G3}/manifest.seal": "bad_manifest"},
           lambda state: manifest(state, ONE, 3, b'{"generation":"4","files":{}}')),
    damage("a manifest without files", {f"{G3}/manifest.seal": "bad_manifest"},
           lambda state: manifest(state, ONE, 3, b'{"generation":"3"}')),
    damage("a workspace's changed key", LOST | {KEY: "bad_tag"}, flip(KEY, -1)),
    damage("a workspace's key that is gone", LOST | {KEY: "missing"}, lambda state: (state / KEY).unlink()),
    damage("a workspace's key moved to another", {f"sealed/{TWO}/key.seal": "wrong_workspace", f"sealed/{TWO}/g1/manifest.seal": "no_key",
           f"sealed/{TWO}/g1/DB_PASSWORD.seal": "no_key"}, copy(KEY, f"sealed/{TWO}/key.seal")),
    damage("a wrong root", LOST | {KEY: "bad_tag"}, lambda state: put(state, "keys/root.e1", bytes(32))),
    damage("a root that is gone", LOST | {KEY: "unknown_epoch"}, lambda state: (state / "keys/root.e1").unlink()),
    damage("a host key's changed flags", {HOST_KEY: "bad_flags"}, flip(HOST_KEY, 9)),
    damage("a host key under another id", {"keys/host.h2-0123456789abcdef.seal": "wrong_key_id"},
           move(HOST_KEY, "keys/host.h2-0123456789abcdef.seal")),
    damage("an undo set for the payload", {PAYLOAD: "wrong_name"}, copy(f"ws/{ONE}.g4.undo", PAYLOAD)),
    damage("a payload that is not sealed", {PAYLOAD: "bad_magic"}, lambda state: put(state, PAYLOAD, b'{"job_id": "' + b"x" * 80 + b'"}')),
    damage("a payload of another generation", {f"ws/{ONE}.g5.payload": "wrong_generation"}, copy(PAYLOAD, f"ws/{ONE}.g5.payload")),
    damage("three at once", {TOKEN: "bad_tag", PAYLOAD: "bad_magic", HOST_KEY: "bad_type"},
           lambda state: [flip(TOKEN, 70)(state), flip(PAYLOAD, 0)(state), flip(HOST_KEY, 8)(state)]),
)

SAMPLES = ("a workspace's key", "a secret")
try:
    tap.run([every(file.name) for file in sorted(DATA.glob("*.json")) if file.name != "derive.json"]
            + [flipped(name) for name in SAMPLES] + [cut(name) for name in SAMPLES]
            + [test for name, test in list(globals().items()) if name.startswith("test_")] + list(DAMAGES))
finally:
    shutil.rmtree(work)
