# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The `etalumis` commands of the pages, in their order, on a finished run of real Sherpa.

The run is small, and so are the numbers of runs and observations here; all else is as it stands on the page.
"""

import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, ROOT, commands
from projects import Project, Run, fill_project

from etalumis.cli import main
from etalumis.config import load
from etalumis.network import ProposalNetwork

ELSEWHERE = {
    "README.md": "tests/exact/test_quickstart.py",
    "docs/quick-start.md": "tests/exact/test_quickstart.py",
    "docs/how-to-bench.md": "tests/unit/test_bench.py",
    "docs/how-to-couple-your-own-simulator.md": "tests/interop/test_coupling_page.py",
    "docs/how-to-keep-a-trace-dataset.md": "tests/interop/test_dataset_page.py",
}
"""Pages whose commands are run by another test."""
SMALLER = {
    "--runs": {"20000": "60", "100000": "800"},
    "--count": {"50": "2"},
    "--observations": {"100": "2"},
    "--trace": {"57": "1"},
}
HERE = [str(page.relative_to(ROOT)) for page in PAGES if commands(page, "etalumis")]


def test_each_page_is_run_by_some_test() -> None:
    for page, test in ELSEWHERE.items():
        assert page in HERE
        assert (ROOT / test).is_file()


@pytest.fixture
def project(run: Run, tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A folder with a finished run, in which the commands of a page are called."""
    project = Project(fill_project(tmp_path, checkout))
    for name in ("demo", "test"):
        shutil.copytree(run.paths.root, tmp_path / "results" / name, symlinks=True)
        config = tmp_path / "results" / name / "config.yaml"
        text = config.read_text(encoding="utf-8")
        assert "format: [pdf]" in text
        config.write_text(text.replace("format: [pdf]", "format: [png]"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETALUMIS_CACHE", str(checkout / ".cache"))
    return project


def prepare(page: str) -> None:
    """Make what the reader of a page is told to have."""
    demo = Path("results/demo")
    if page.endswith("how-to-infer-many-observations.md"):
        for name in ("events/first.h5", "events/second.h5", "more/17.h5"):
            Path(name).parent.mkdir(exist_ok=True)
            shutil.copyfile(demo / "observation" / "observation.h5", name)
    if page.endswith("how-to-read-a-posterior-file.md"):
        text = (demo / "config.yaml").read_text(encoding="utf-8")
        Path("all.yaml").write_text(text.replace("entries: []", "entries: [all]"), encoding="utf-8")
        words = ["--config", "all.yaml", "--simulator", str(demo / "simulator")]
        words += ["--observation", str(demo / "observation" / "observation.h5")]
        (demo / "posteriors" / "rmh.h5").unlink()
        assert main(["posteriors", "rmh", *words, "--chain", "0", "--output", str(demo / "posteriors" / "rmh.h5")]) == 0
    if page.endswith("explain-training-on-many-ranks.md"):
        shutil.copytree(demo / "sorted" / "train", "more/sorted/train")
    if page.endswith("paper-figures.md"):
        words = ["--config", str(demo / "config.yaml"), "--layers", str(demo / "layers" / "layers.json")]
        words += ["--train", str(demo / "sorted" / "train"), "--valid", str(demo / "sorted" / "valid")]
        for seed in (1, 2):
            output = demo / "experiments" / "trainings" / f"seed{seed}"
            assert main(["experiments", "train", f"seed{seed}", *words, "--output", str(output)]) == 0


def test_python_of_the_page_of_a_minibatch_runs(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "explain-one-minibatch.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), found)
    batch, plan, network = found["batch"], found["plan"], found["network"]
    # what the text says of the shapes, for the network of the tests
    assert batch.observation.shape == (64, 20, 35, 35)
    assert plan.batch_sizes[0] == 64
    assert sum(len(part.tokens) for part in plan.groups) == len(batch.value) == len(found["log_q"]) == batch.offset[-1]
    assert found["leaves"]["address"].value.shape == (len(plan.touched), network.config.address_embedding)
    assert found["embedded"].shape == (64, network.config.observation_embedding)
    config = network.config
    parts = config.observation_embedding + config.sample_embedding + 2 * config.address_embedding + 12
    assert network.input_width == parts
    assert str(network.parameter_count()) in capsys.readouterr().out
    # what the page says of the network of the demo
    demo = ProposalNetwork(found["layers"], load(ROOT / "config" / "config.yaml").network)
    assert f"# {sum(value.numel() for value in demo.dense().values())}\n" in page
    assert f"has {demo.input_width} numbers" in page
    _, hidden, inner = demo.tables["Uniform_hidden_weight"].shape
    assert f"{hidden} to {inner} to {demo.tables['Uniform_out_weight'].shape[2]} numbers" in page


def expanded(words: list[str]) -> Iterator[str]:
    """Yield the words as the shell gives them to the program, with smaller numbers."""
    for before, word in itertools.pairwise(["", *words]):
        small = SMALLER.get(before, {}).get(word, word).replace("$R", "results/demo")
        yield from sorted(map(str, Path().glob(small))) if "*" in small else [small]


@pytest.mark.parametrize("page", [page for page in HERE if page not in ELSEWHERE])
def test_the_commands_of_a_page_run(project: Project, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(page)
    for words in commands(ROOT / page, "etalumis"):
        call = list(expanded(words))
        if "--output" in call and call[0] not in ("experiments", "report"):  # a product that exists is not made again
            product = project.root / call[call.index("--output") + 1]
            if product.is_dir():
                shutil.rmtree(product)
            product.unlink(missing_ok=True)
        try:
            code: object = main(call)
        except SystemExit as left:
            code = left.code
        said = capsys.readouterr()
        if call[0] == "explain" and "made by   etalumis" in said.out:
            continue  # its exit code says whether the commands before have changed an input of the product
        assert code in (0, None), "\n".join(["", f"etalumis {' '.join(call)}", *said])
