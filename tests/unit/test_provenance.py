# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Records of products and the chain back to their sources, on products that the verbs have written."""

import contextlib
import getpass
import hashlib
import json
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from etalumis.cli import main
from etalumis.provenance import chain, software
from etalumis.provenance.record import contents, read_record, record_path

CONFIG = "run: {name: q, seed: 5}\ntraces: {shard_traces: 2}\n"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder in which traces were imported, sorted, and listed as layers."""
    folder = tmp_path_factory.mktemp("provenance")
    with contextlib.chdir(folder):
        Path("config.yaml").write_text(CONFIG, encoding="utf-8")
        np.savez(
            "foreign.npz",
            **{
                "addresses": ["mu__Normal__1"],
                "distributions": ['{"kind": "Normal", "mean": 0, "stddev": 2.5}'],
                "offset": np.arange(4),
                "address": np.zeros(3, int),
                "value": np.array([0.5, 1.25, -1.0]),
                "distribution": np.zeros(3, int),
                "observation/y": np.array([[0.5], [1.0], [-1.5]]),
            },
        )
        for line in (
            "traces convert --input foreign.npz --model theirs --seed 3 --output traces/all.h5",
            "traces sort --config config.yaml --input traces/all.h5 --output sorted/train",
            "layers --input sorted/train --output layers/layers.json",
        ):
            assert main(["-q", *line.split()]) == 0
    return folder


@pytest.fixture
def made(original, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    folder = tmp_path / "run"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    return folder


def explained(capsys, product="layers/layers.json", code=0):
    capsys.readouterr()
    assert main(["explain", product]) == code
    return capsys.readouterr().out


def test_links_that_lead_nowhere_are_no_contents(tmp_path):
    """A simulator that was copied to another depth has such a link to its Sherpa."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "link").symlink_to("nowhere")
    assert list(contents(tmp_path)) == ["file"]


def test_the_chain_leads_back_to_the_source(made, capsys):
    steps = chain.trace_back(Path("layers/layers.json"))
    assert [str(step.path) for step in steps] == [
        "foreign.npz", "traces/all.h5", "config.yaml", "sorted/train", "layers/layers.json",
    ]  # fmt: skip
    text = explained(capsys)
    assert "made by   etalumis traces sort --config config.yaml --input traces/all.h5 --output sorted/train" in text
    assert "from      traces/all.h5" in text
    assert "; seed 3" in text
    assert "; run.seed 5" in text
    assert "without a record of their own: foreign.npz, config.yaml" in text
    assert text.splitlines()[-1].startswith(
        "3 products, up to layers/layers.json: nothing is missing, nothing was altered, all made by the same code"
    )


def test_a_file_of_a_folder_has_the_chain_of_the_folder(made, capsys):
    assert "2 products, up to sorted/train" in explained(capsys, "sorted/train/index.json")


def test_checksums_are_those_of_sha256(made):
    record = read_record(Path("sorted/train"))
    assert set(record["files"]) == {"index.json", "plan.json", "shard-00000.h5", "shard-00001.h5"}
    for name, file in record["files"].items():
        content = Path("sorted/train", name).read_bytes()
        assert (file["sha256"], file["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))


def test_a_record_names_code_machine_and_settings_but_neither_host_nor_user(made):
    record = read_record(Path("sorted/train"))
    assert record["configuration"]["traces"]["shard_traces"] == 2
    assert record["numbers"] == {"run.seed": 5}
    assert record["code"] == software.code()
    assert record["machine"]["versions"]["numpy"] == np.__version__
    assert record["machine"]["cores"] >= 1
    assert 0 < record["wall_s"] < 600
    text = record_path(Path("sorted/train")).read_text(encoding="utf-8")
    assert platform.node() not in text
    if getpass.getuser() != "root":  # "root" may be part of another word
        assert getpass.getuser() not in text
    assert str(made.parent) not in text


def test_a_command_without_a_configuration_has_the_digest_of_its_inputs(made, capsys):
    digest = read_record(Path("sorted/train"))["config_digest"]
    record = read_record(Path("layers/layers.json"))
    assert (record["configuration"], record["config_digest"]) == (None, digest)
    assert explained(capsys).count(f"; configuration {digest}") == 2
    assert read_record(Path("traces/all.h5"))["config_digest"] is None  # foreign.npz has no record


def test_inputs_of_different_or_unknown_configurations_give_no_digest(made):
    Path("other.yaml").write_text(CONFIG.replace("seed: 5", "seed: 6"), encoding="utf-8")
    words = "traces sort --config other.yaml --input traces/all.h5 --output sorted/other"
    assert main(["-q", *words.split()]) == 0
    for other in ("sorted/other", "traces/all.h5"):
        assert main(["-q", "layers", "--input", "sorted/train", other, "--output", "layers/both.json"]) == 0
        record = read_record(Path("layers/both.json"))
        assert len(record["inputs"]) == 2
        assert record["config_digest"] is None, other
    record_path(Path("sorted/train")).write_text("{", encoding="utf-8")
    assert main(["-q", "layers", "--input", "sorted/train", "--output", "layers/again.json"]) == 0
    assert read_record(Path("layers/again.json"))["config_digest"] is None


@pytest.mark.parametrize(
    ("product", "problem"),
    [
        ("traces/all.h5", "its input traces/all.h5 has changed since"),
        ("sorted/train/shard-00001.h5", "its file shard-00001.h5 was altered after it was written"),
        ("layers/layers.json", "it was altered after it was written"),
        ("foreign.npz", "its input foreign.npz has changed since"),
    ],
)
def test_an_altered_file_is_named(made, capsys, product, problem):
    content = bytearray(Path(product).read_bytes())
    content[-1] ^= 1
    Path(product).write_bytes(content)
    text = explained(capsys, code=1)
    assert problem in text
    assert "nothing was altered" not in text


def test_a_missing_input_is_named(made, capsys):
    Path("traces/all.h5").unlink()
    assert "PROBLEM   its input traces/all.h5 is missing" in explained(capsys, code=1)
    Path("sorted/train/shard-00000.h5").unlink()
    assert "PROBLEM   its file shard-00000.h5 is missing" in explained(capsys, code=1)


def test_changed_settings_are_notes(made, capsys):
    Path("config.yaml").write_text(CONFIG.replace("seed: 5", "seed: 6"), encoding="utf-8")
    text = explained(capsys)
    assert "note      config.yaml has another run.seed now: 6; it was 5" in text
    assert text.count("has another") == 1


def test_keys_of_a_later_version_are_no_changed_settings(made, capsys):
    changed = 0
    for record in Path().rglob("*.provenance.json"):
        content = json.loads(record.read_text(encoding="utf-8"))
        if content["configuration"] is not None:
            del content["configuration"]["experiments"]["minibatch"], content["configuration"]["figures"]
            record.write_text(json.dumps(content), encoding="utf-8")
            changed += 1
    assert changed > 0
    assert "has another" not in explained(capsys)


def test_a_moved_run_keeps_its_chain(made, capsys, monkeypatch):
    (made / "elsewhere").mkdir()
    for name in ("foreign.npz", "config.yaml", "traces", "sorted", "layers"):
        shutil.move(name, "elsewhere")
    for name in ("traces", "sorted", "layers"):
        shutil.copytree(f"elsewhere/{name}", f"copied/{name}")  # with other times
    shutil.copy("elsewhere/foreign.npz", "copied")
    shutil.copy("elsewhere/config.yaml", "copied")
    for folder in ("elsewhere", "copied"):
        assert f"3 products, up to {folder}/layers/layers.json: nothing is missing" in explained(
            capsys, f"{folder}/layers/layers.json"
        )


def test_other_code_is_named(made, capsys):
    path = record_path(Path("traces/all.h5"))
    record = json.loads(path.read_text(encoding="utf-8"))
    record["code"] = {"version": "0.0.9", "commit": "abc123", "changed": True, "sources": "0"}
    path.write_text(json.dumps(record), encoding="utf-8")
    text = explained(capsys)
    assert "with      etalumis 0.0.9, commit abc123 with uncommitted changes; seed 3" in text
    assert (
        "made by a different version of the code: etalumis 0.0.9, commit abc123 with uncommitted changes; now" in text
    )
    assert text.splitlines()[-1].endswith("1 of them by code with uncommitted changes.") or software.code()["changed"]
    assert "made by 2 versions of the code" in text
    for file in map(record_path, (Path("traces/all.h5"), Path("sorted/train"), Path("layers/layers.json"))):
        old = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(old | {"code": record["code"]}), encoding="utf-8")
    assert "all made by the same code, but not by the present version" in explained(capsys)


def test_the_commit_and_its_changes_are_those_of_git(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "code.py").write_text("1\n", encoding="utf-8")
    for words in (["init", "-q"], ["add", "code.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert software._git_describe(tmp_path) == head[:12]
    (tmp_path / "code.py").write_text("2\n", encoding="utf-8")
    assert software._git_describe(tmp_path) == f"{head[:12]}-dirty"
    assert software._git_describe(tmp_path / "no-checkout") is None


def test_a_failed_command_leaves_no_record(made):
    assert main(["-q", "layers", "--input", "none.h5", "--output", "other.json"]) == 1
    assert not record_path(Path("other.json")).exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "layers.json.provenance.json: not JSON"), ("{}", "expected format etalumis-provenance version 1, found")],
)
def test_a_damaged_record_is_refused(made, capsys, text, said):
    record_path(Path("layers/layers.json")).write_text(text, encoding="utf-8")
    assert main(["explain", "layers/layers.json"]) == 1
    assert said in capsys.readouterr().err


def test_a_product_without_a_record_and_a_missing_one(made, capsys):
    assert "foreign.npz has no record (foreign.npz.provenance.json)" in explained(capsys, "foreign.npz", code=1)
    assert main(["explain", "none"]) == 1
    assert "none: no such file or folder" in capsys.readouterr().err


def test_equal_size_and_time_save_a_checksum(tmp_path):
    path = tmp_path / "file"
    path.write_text("content", encoding="utf-8")
    first = contents(path)
    assert contents(path, {"": {**first[""], "sha256": "known"}})[""]["sha256"] == "known"
    assert contents(path, {"": {**first[""], "mtime_ns": 0, "sha256": "old"}}) == first
