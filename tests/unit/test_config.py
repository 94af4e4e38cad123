# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etalumis.cli import main
from etalumis.cli.config import README, SCHEMA, with_table
from etalumis.config import Config, configuration_notes, from_mapping, load, read, schema_text, to_yaml
from etalumis.config.describe import keys
from etalumis.errors import ConfigError

REMEDY = "run `etalumis config schema --write` in the project's root"


def message(data: object) -> str:
    with pytest.raises(ConfigError) as caught:
        from_mapping(data, source="here.yaml")
    return str(caught.value)


def test_an_empty_configuration_has_the_defaults() -> None:
    assert from_mapping({}) == Config()


@pytest.mark.parametrize(
    ("data", "wrong", "nearest"),
    [
        ({"training": {"max_minuts": 3}}, "training.max_minuts", "training.max_minutes"),
        ({"trainig": {"max_minutes": 3}}, "trainig", "training"),
        ({"noise_gev": 0.2}, "noise_gev", "simulator.noise_gev"),
        ({"simulator": {"calorimeter": {"cell": 1}}}, "simulator.calorimeter.cell", "simulator.calorimeter.cell_cm"),
        ({"posteriors": {"rhm": {"runs": 1}}}, "posteriors.rhm", "posteriors.rmh"),
        ({"simulator": {"momentum_gev": {"p_x": [1, 2]}}}, "momentum_gev.p_x", "simulator.momentum_gev.px"),
    ],
)
def test_an_unknown_key_names_the_nearest_valid_one(data: object, wrong: str, nearest: str) -> None:
    text = message(data)
    assert f"{wrong}: unknown" in text
    assert f"the nearest valid one is {nearest}" in text


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ({"traces": {"train": 0}}, ["here.yaml: traces.train", "integer ≥ 1", "found 0"]),
        ({"simulator": {"noise_gev": -1.5}}, ["simulator.noise_gev", "≥ 1e-06", "found -1.5"]),
        ({"traces": {"train": True}}, ["traces.train", "integer ≥ 1", "found true", "truth value"]),
        ({"network": {"conv_channels": [1, 2, True, 4, 5]}}, ["network.conv_channels", "list of", "truth value"]),
        ({"training": {"gradient_clip": False}}, ["training.gradient_clip", "or null", "found false"]),
        ({"simulator": {"noise_gev": "lots"}}, ["simulator.noise_gev", "number", "found lots"]),
        ({"simulator": {"noise_gev": float("nan")}}, ["simulator.noise_gev", "found .nan"]),
        ({"simulator": {"momentum_gev": {"px": [3, -3]}}}, ["simulator.momentum_gev.px", "low < high", "[3, -3]"]),
        ({"network": {"conv_channels": [1, 2]}}, ["network.conv_channels", "list of 5", "embedding: paper"]),
        ({"network": {"embedding": "densenet"}}, ["network.embedding", "strided", "found densenet"]),
        ({"network": {"conv_channels": [1, 2, 3, 4, 0]}}, ["network.conv_channels", "found 0 at index 4"]),
        ({"network": {"dtype": "float16"}}, ["network.dtype", "auto, float32, bfloat16", "found float16"]),
        ({"training": {"max_traces": "many"}}, ["training.max_traces", "or null", "found many"]),
        ({"posteriors": {"rmh": {"burn_in_fraction": 1}}}, ["posteriors.rmh.burn_in_fraction", "< 1", "found 1"]),
        (
            {"posteriors": {"rmh": {"runs": 3, "temperatures": 4}}},
            ["posteriors.rmh.runs", "one draw", "found 3", "Raise runs"],
        ),
        ({"run": {"name": "../up"}}, ["run.name", "found ../up"]),
        ({"run": 3}, ["run: expected a section", "found 3"]),
        ({"observation": {"trace": 100}}, ["observation.trace", "traces.test", "found 100"]),
        ({"traces": {"train": 2, "jobs": 3}}, ["traces.jobs", "traces.train", "found 3"]),
        ({"traces": {"tags": ["a", "b", "a"]}}, ["traces.tags", "each value once", "found a several times"]),
        ({"traces": {"tags": ["a", ""]}}, ["traces.tags", "not empty"]),
        ({"figures": {"format": ["png", "png"]}}, ["figures.format", "each value once"]),
        (
            {"training": {"learning_rate": 1e-6}},
            ["training.learning_rate_end", "at most training.learning_rate, 1e-06"],
        ),
        ([1, 2], ["expected sections with keys", "found [1, 2]"]),
    ],
)
def test_an_invalid_value_names_key_allowed_values_and_value_found(data: object, parts: list[str]) -> None:
    text = message(data)
    for part in parts:
        assert part in text


@pytest.mark.parametrize("data", [{"training": {"max_minuts": 3}}, {"posteriors": {"rmh": {"runs": -1}}}, {"run": 3}])
def test_the_yaml_in_an_error_is_valid(data: object) -> None:
    example = message(data).partition("write for instance:\n")[2]
    assert from_mapping(yaml.safe_load(example)) == Config()


def test_all_mistakes_are_reported_at_once() -> None:
    text = message({"training": {"max_minuts": 3, "tasks": 0}, "traces": {"train": 1.5}})
    assert all(key in text for key in ("training.max_minuts", "training.tasks", "traces.train"))


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text("run:\n  seed: 1\n  seed: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'seed' is given twice"):
        load(file)
    with pytest.raises(ConfigError, match="'seed' is given twice"):
        read([], ["run={seed: 1, seed: 2}"])
    with pytest.raises(ConfigError, match="section run is given twice"):
        read([], ["run={seed: 1}", "run={name: x}"])


def test_later_files_and_sections_replace_single_keys(tmp_path: Path) -> None:
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("run: {seed: 1, name: a}\nposteriors: {rmh: {thin: 2, chains: 5}}\n", encoding="utf-8")
    second.write_text("run: {seed: 2}\nposteriors: {rmh: {thin: 3}}\n", encoding="utf-8")
    config = read([first, second], ["posteriors={rmh: {runs: 700}}", "training={max_traces: null}"])
    rmh = config.posteriors.rmh
    assert (config.run.name, config.run.seed, rmh.thin, rmh.chains, rmh.runs) == ("a", 2, 3, 5, 700)
    with pytest.raises(ConfigError, match=r"1\.yaml, .*2\.yaml, --config: run\.sed: unknown key"):
        read([first, second], ["run={sed: 1}"])


@pytest.mark.parametrize("section", ["config/test.yaml", "run={", "run={? [a] : b}"])
def test_a_section_that_cannot_be_read(section: str) -> None:
    with pytest.raises(ConfigError, match=f"^--config {re.escape(section)}: expected"):
        read([], [section])


def test_more_traces_in_a_minibatch_than_in_the_training_split_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.batch_size: 8 on 3 ranks \(training\.tasks\) needs 24"):
        read([], ["training={tasks: 3, batch_size: 8}", "traces={train: 23}"])
    read([], ["training={tasks: 3, batch_size: 8}", "traces={train: 24}"])


def test_tags_that_the_network_sees_must_be_stored() -> None:
    seen = "network={tags: {pair: [px], spin: [px]}}"
    with pytest.raises(ConfigError, match=r"network\.tags: the tags \['spin'\] are not in traces\.tags, \['pair'\]"):
        read([], [seen, "traces={tags: [pair]}"])
    assert read([], [seen]).network.tags == {"pair": ("px",), "spin": ("px",)}


@pytest.mark.parametrize("engine", ["rmh", "network_rmh"])
def test_chains_that_keep_no_draw_are_refused(engine: str) -> None:
    with pytest.raises(ConfigError, match=rf"posteriors\.{engine}\.runs: expected enough for one draw, found 10: "):
        read([], [f"posteriors={{{engine}: {{runs: 10, thin: 10}}}}"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, []),
        ({"posteriors": {"rmh": {"temperatures": 2}}}, []),
        ({"posteriors": {"rmh": {"temperatures": 2, "hottest_beta": 0.1}}}, ["posteriors.rmh.hottest_beta"]),
        ({"posteriors": {"rmh": {"temperatures": 3, "hottest_beta": 0.1}}}, []),
        ({"training": {"schedule": "none", "learning_rate_end": 0.1}}, ["training.learning_rate_end"]),
        ({"training": {"schedule": "multistep", "learning_rate_end": 0.1}}, ["training.learning_rate_end"]),
        ({"training": {"schedule": "polynomial2", "learning_rate": 0.1, "learning_rate_end": 0.1}}, []),
        ({"training": {"noise_ramp_share": 0, "noise_start": 0.5}}, ["training.noise_start"]),
        ({"training": {"buckets": 3}}, ["training.buckets"]),
        ({"training": {"buckets": 3, "sampler": "buckets"}}, []),
        ({"training": {"momentum": 0.5, "larc_trust": 0.1}}, ["training.larc_trust", "training.momentum"]),
        ({"training": {"optimizer": "sgd_larc", "momentum": 0.5, "larc_trust": 0.1}}, []),
        ({"training": {"optimizer": "sgd", "adam_betas": [0.8, 0.9]}}, ["training.adam_betas"]),
        ({"training": {"milestones": [0.3]}}, ["training.milestones"]),
        ({"traces": {"observation": "noisy"}}, ["training.noise_start"]),
        ({"training": {"max_traces": 9, "max_minutes": 1}}, ["training.max_traces:"]),
        ({"training": {"max_traces": 9}}, []),
        ({"posteriors": {"rmh": {"chains": 1}}}, ["posteriors.rmh.chains:"]),
        ({"posteriors": {"network_rmh": {"chains": 1}}}, ["posteriors.network_rmh.chains:"]),
        ({"traces": {"observation": "noisy"}, "training": {"noise_ramp_share": 0}}, []),
    ],
)
def test_settings_without_effect_and_surprising_choices_are_named(data: dict[str, object], said: list[str]) -> None:
    assert [line.split()[0] for line in configuration_notes(from_mapping(data))] == said


@pytest.mark.parametrize(("content", "found"), [(b"run: [", "expected YAML"), (b"\xff\xfe\x00", "expected UTF-8")])
def test_a_file_that_is_not_yaml(tmp_path: Path, content: bytes, found: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=found):
        load(file)


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load(tmp_path / "nowhere.yaml")


@given(
    seed=st.integers(0, 2**63 - 1),
    rate=st.floats(1e-12, 10, exclude_min=True),
    noise=st.floats(1e-6, 1e6),
    limit=st.none() | st.integers(1, 10**13),
)
def test_the_resolved_text_reads_back_unchanged(seed: int, rate: float, noise: float, limit: int | None) -> None:
    data = {
        "run": {"seed": seed},
        "simulator": {"noise_gev": noise},
        "training": {"learning_rate": rate, "learning_rate_end": 0, "max_traces": limit},
    }
    config = from_mapping(data)
    assert from_mapping(yaml.safe_load(to_yaml(config))) == config


def test_a_configuration_is_read_only() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().run.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize("name", ["config", "test", "paper"])
def test_the_committed_configurations(checkout: Path, name: str) -> None:
    config = load(checkout / "config" / f"{name}.yaml")
    data = yaml.safe_load((checkout / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(data, json.loads(schema_text()))
    assert config.run.name == {"config": "demo"}.get(name, name)


def test_the_demo_has_the_documented_size(checkout: Path) -> None:
    demo = load(checkout / "config" / "config.yaml")
    assert demo.traces.train >= 10_000
    assert demo.posteriors.rmh.chains >= 2
    assert demo.posteriors.rmh.runs >= 5_000
    assert demo.posteriors.ic.runs >= 1_000


def test_every_key_has_a_description() -> None:
    assert [key.dotted for key in keys() if not key.description] == []


def test_the_committed_schema_is_current(checkout: Path) -> None:
    assert (checkout / SCHEMA).read_text(encoding="utf-8") == schema_text(), REMEDY


def test_the_committed_table_is_current(checkout: Path) -> None:
    text = (checkout / README).read_text(encoding="utf-8")
    assert text == with_table(text), REMEDY


def test_the_command_shows_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("run: {seed: 7}\n", encoding="utf-8")
    assert main(["config", "check", str(file)]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["config", "show", str(file)]) == 0
    assert from_mapping(yaml.safe_load(capsys.readouterr().out)).run.seed == 7
    assert main(["config", "check", str(file), "--config", "training={schedule: none, learning_rate_end: 0.1}"]) == 0
    assert "training.learning_rate_end has no effect" in capsys.readouterr().err


def test_an_error_of_the_command_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("rum: {seed: 7}\n", encoding="utf-8")
    assert main(["--log", str(tmp_path / "logs" / "c.log"), "config", "check", str(file)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("etalumis: error: ")
    assert "the nearest valid one is run" in captured.err
    assert (tmp_path / "logs" / "c.log").read_text(encoding="utf-8") == captured.err


@pytest.mark.parametrize("rank", [0, 1])
def test_a_log_replaces_only_logs(
    rank: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMI_RANK", str(rank))
    valid, wrong = tmp_path / "valid.yaml", tmp_path / "wrong.yaml"
    valid.write_text("training: {schedule: none, learning_rate_end: 0.1}\n", encoding="utf-8")  # one warning
    wrong.write_text("rum: {seed: 7}\n", encoding="utf-8")
    log = tmp_path / ("a.log.rank1" if rank else "a.log")
    for content in ("", "12:03:04 generating\n", "etalumis: error: an earlier one\n"):
        log.write_text(content, encoding="utf-8")
        assert main(["--log", str(tmp_path / "a.log"), "config", "check", str(valid)]) == 0
        assert "warning: training.learning_rate_end" in log.read_text(encoding="utf-8")
        assert main(["--log", str(tmp_path / "a.log"), "config", "check", str(wrong)]) == 1
        assert log.read_text(encoding="utf-8").startswith("etalumis: error: ")
    log.write_text("from etalumis.models import sample\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["--log", str(tmp_path / "a.log"), "config", "check", str(valid)]) == 1
    assert capsys.readouterr().err == (
        f"etalumis: error: --log {log}: exists and is not a log of etalumis; choose another file\n"
    )
    assert log.read_text(encoding="utf-8") == "from etalumis.models import sample\n"
