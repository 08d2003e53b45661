from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mtrl import cli
from mtrl.errors import ConfigError
from mtrl.settings import presets
from mtrl.sweeps.groups import groups_of
from mtrl.sweeps.spec import KEYS, read_spec
from mtrl.train import read_config, read_configs
from tests.helpers.workbench import METHOD
from tests.mtrl.sweeps.conftest import MakeSpec


def test_every_suite_method_and_seed_once(faked: None, make_spec: MakeSpec) -> None:
    spec = read_spec(make_spec(seeds=[3, 1]))
    assert [(unit.config.suite, unit.config.seed) for unit in spec.units] == [
        ("mt10:fake", 3), ("mt1:fake-inexact", 3), ("mt10:fake", 1), ("mt1:fake-inexact", 1),
    ]  # fmt: skip
    assert [unit.config.total_env_steps for unit in spec.units] == [900, 300, 900, 300]
    assert len({unit.result for unit in spec.units} | {unit.folder for unit in spec.units}) == 8
    assert all(unit.folder.is_relative_to(spec.results / ".runs") for unit in spec.units)


def test_the_command_of_a_run_means_the_same_configuration(
    faked: None, make_spec: MakeSpec
) -> None:
    own = {"agent.widths": [4, 4], "agent.nan_at": None, "goal_seed": 2}
    unit = read_spec(
        make_spec(methods={"fake.yaml": own}, suites=["mt10:fake"], total_env_steps=9)
    ).units[0]
    words = [argument for argument in unit.arguments if not argument.startswith("--")]
    options = dict(
        argument[2:].split("=", 1) for argument in unit.arguments if argument.startswith("--")
    )
    options = {key.replace("-", "_"): value for key, value in options.items()} | {
        "run_dir": str(unit.folder)
    }
    assert read_config(words, options) == unit.config
    assert unit.config.flat()["agent.widths"] == [4, 4]


def test_a_method_with_several_settings_has_a_row_for_each(
    faked: None, make_spec: MakeSpec
) -> None:
    variants = [None, {"agent.widths": [4]}, {"agent.widths": [6]}]
    path = make_spec(methods={METHOD: variants}, suites=["mt10:fake"], seeds=[3, 1])
    units = read_spec(path).units
    assert [unit.config.flat()["agent.widths"] for unit in units] == [[8, 8], [4], [6]] * 2
    assert len({unit.name for unit in units}) == len({unit.result for unit in units}) == 6
    assert [len(group.units) for group in groups_of(read_spec(path))] == [1] * 6


@pytest.mark.parametrize(
    ("together", "seeds"),
    [
        (None, [[3], [1], [2]]),
        (False, [[3], [1], [2]]),
        (True, [[3, 1, 2]]),
        (2, [[3, 1], [2]]),
        (9, [[3, 1, 2]]),
    ],
)
def test_groups_hold_the_seeds_of_one_suite_and_method(
    faked: None, make_spec: MakeSpec, together: bool | int | None, seeds: list[list[int]]
) -> None:
    changes = {} if together is None else {"together": together}
    spec = read_spec(make_spec(seeds=[3, 1, 2], **changes))
    groups = groups_of(spec)
    found = [
        (group.units[0].config.suite, [unit.config.seed for unit in group.units])
        for group in groups
    ]
    assert found == [
        (suite, part) for part in seeds for suite in ("mt10:fake", "mt1:fake-inexact")
    ]
    assert all(len({unit.row for unit in group.units}) == 1 for group in groups)
    assert len(
        {group.name for group in groups} | {str(group.log) for group in groups}
    ) == 2 * len(groups)


def test_the_command_of_a_group_means_the_same_configurations(
    faked: None, make_spec: MakeSpec, tmp_path: Path
) -> None:
    own = {"agent.widths": [4, 4], "goal_seed": 2}
    spec = read_spec(
        make_spec(methods={"fake.yaml": own}, suites=["mt10:fake"], seeds=3, together=True)
    )
    (group,) = groups_of(spec)
    for folder in (None, tmp_path / "elsewhere"):
        words, options = cli.parse(group.arguments(folder))
        configs = read_configs(words, options)
        assert [config.folder for config in configs] == [
            (folder or Path()) / unit.folder for unit in group.units
        ]
        assert [dataclasses.replace(config, run_dir=None) for config in configs] == [
            dataclasses.replace(unit.config, run_dir=None) for unit in group.units
        ]
    left = group.only(lambda unit: unit.config.seed != 1)
    assert (
        left is not None
        and left.name == "mt10:fake fake seeds 0,2"
        and left.log.name == "seeds-0-2.log"
    )
    assert group.only(lambda unit: False) is None


@pytest.fixture(autouse=True)
def method_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "fake.yaml").write_text("# Fake.\nalgorithm: fake\n")


def test_sweeps_that_share_a_results_folder_share_no_run_of_other_settings(
    faked: None, make_spec: MakeSpec
) -> None:
    common: dict[str, Any] = {"suites": ["mt10:fake"], "results": "results"}
    methods = [
        {"fake.yaml": own} for own in ({}, {"agent.nan_at": 3}, {"agent.learning_rate": 0.5})
    ]
    specs = [read_spec(make_spec(methods=own, **common)) for own in methods]
    specs.append(read_spec(make_spec(methods=methods[0], total_env_steps=1800, **common)))
    specs.append(
        read_spec(
            make_spec(methods=methods[0], settings={"eval.episodes_per_task": 5}, **common)
        )
    )
    assert [str(spec.units[0].result.parent) for spec in specs] == [
        "results/mt10-fake/900/fake-eval.episodes-per-task-4",
        "results/mt10-fake/900/fake-eval.episodes-per-task-4-nan-at-3",
        "results/mt10-fake/900/fake-eval.episodes-per-task-4-learning-rate-0.5",
        "results/mt10-fake/1.8k/fake-eval.episodes-per-task-4",
        "results/mt10-fake/900/fake-eval.episodes-per-task-5",
    ]
    assert len({unit.folder for spec in specs for unit in spec.units}) == 5


def test_overrides_of_a_method_beat_those_of_the_sweep(
    faked: None, make_spec: MakeSpec
) -> None:
    spec = read_spec(
        make_spec(
            methods={"fake.yaml": {"log_every": 5}},
            settings={"log_every": 7, "checkpoint_every": 8},
        )
    )
    flat = spec.units[0].config.flat()
    assert (flat["log_every"], flat["checkpoint_every"]) == (5, 8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suits": ["mt10:fake"]}, "suits: unknown key; did you mean suites?"),
        ({"zzz": 1}, f"zzz: unknown key; the keys are {', '.join(KEYS)}"),
        ({"suites": []}, "suites: none given; it is a list of suite ids"),
        ({"suites": "mt10"}, "suites: 'mt10' is not a list of suite ids"),
        ({"suites": ["mt11"]}, "There is no suite 'mt11'; the nearest id is"),
        ({"methods": ["mtsacc"]}, "method: 'mtsacc' is unknown; did you mean 'mtsac'?"),
        ({"methods": ["mtsac", "mtsac"]}, "methods: one is there twice"),
        (
            {"methods": {"mtsac": {"agent.widht": 3}}},
            "agent.widht: unknown setting; did you mean agent.width?",
        ),
        ({"methods": {"mtsac": 3}}, "methods.mtsac: must hold 'key: value' lines, not 3"),
        (
            {"settings": {"log_every": "often"}},
            "log_every: 'often' is not a whole number of env steps",
        ),
        ({"settings": {"seed": 3}}, "seed: is set by the sweep itself"),
        ({"settings": 3}, "settings: must hold 'key: value' lines, not 3"),
        ({"settings": {"eval": {"every": 3}}}, "eval: unknown setting; did you mean"),
        (
            {"settings": {"mtsac.width": 0}, "methods": ["mtsac"]},
            "width: 0 is not a whole number of at least 1",
        ),
        ({"seeds": 0}, "seeds: 0 is not a list of whole numbers, or how many"),
        ({"seeds": [1, "a"]}, "seeds: [1, 'a'] is not"),
        ({"seeds": [1, 1]}, "is there twice; suites, methods and seeds must differ"),
        ({"together": 0}, "together: 0 is neither true or false nor a number of seeds from 1"),
        ({"together": "all"}, "together: 'all' is neither"),
        (
            {"total_env_steps": {"mt10:fak": 3}},
            "total_env_steps.mt10:fak: is no suite of this sweep; did you mean",
        ),
        (
            {"total_env_steps": "many"},
            "total_env_steps: 'many' is not a whole number of env steps",
        ),
    ],
)
def test_bad_specs_are_one_sentence(
    faked: None, make_spec: MakeSpec, changes: dict[str, Any], words: str
) -> None:
    path = make_spec(**changes)
    with pytest.raises(ConfigError) as caught:
        read_spec(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["suites: [", "\x00", "- 1", "3"])
def test_files_that_are_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"spec\.yaml"):
        read_spec(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r".*: cannot be read \(No such file"):
        read_spec(tmp_path / "none.yaml")


def test_real_names_resolve(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "suites: [mt10, 'mt1:reach-v3']\nmethods: {mtppo: {agent.precision: fp32}, sb3-ppo: {}}\nseeds: 3\n"
        "total_env_steps: 1e6\n"
    )
    spec = read_spec(path)
    assert len(spec.units) == 12
    assert spec.results == Path("results")
    assert spec.units[0].result == Path("results/mt10/1m/mtppo-fp32/seed-0.json")
    assert spec.units[2].folder == Path("results/.runs/mt1-reach-v3/1m/mtppo-fp32/seed-0")
    assert spec.units[1].config == presets.resolve(
        {
            "suite": "mt10",
            "method": "sb3-ppo",
            "total_env_steps": 10**6,
            "run_dir": str(spec.units[1].folder),
        }
    )
