"""What the pages tell people to type works: every command and every Python block, with tiny budgets."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from mtrl import evaluate, train
from mtrl.__main__ import main
from mtrl.agents.aggregators.registry import AGGREGATORS
from mtrl.agents.curricula.registry import CURRICULA
from mtrl.agents.networks.registry import NETWORKS
from mtrl.leaderboard import __main__ as leaderboard
from scripts.pages import methods
from tests.docs.pages import DOCS, ROOT, Block, blocks, commands, pages

TRAIN = (
    "--total-env-steps=40/task --envs-per-task=2 --eval.every=40/task --log-every=40/task --device=cpu",
    "--eval.episodes-per-task=1 --eval.envs-per-task=1 --torch-threads=1 --num-threads=1 --tensorboard=false",
)
OF_ALGORITHM = {
    "mtppo": "--rollout-per-task=20 --minibatches=1 --epochs=1 --width=8",
    "mtsac": "--learning-starts=30 --batch-per-task=4 --buffer-per-task=100 --width=8",
    "sb3-ppo": "--n-steps=10 --n-epochs=1",
}
LONG = {DOCS / "guide" / "sweeps.md"}  # starts processes, as tests/mtrl/sweeps do
WITH_COMMANDS = [
    pytest.param(
        path, marks=[pytest.mark.slow] if path in LONG else [], id=str(path.relative_to(ROOT))
    )
    for path in pages()
    if blocks(path, "console")
]
WITH_PYTHON = [path for path in pages() if blocks(path, "python")]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the pages assume it: a checkout, in which a run of mg3 has been trained."""
    monkeypatch.chdir(tmp_path)
    for registry in (AGGREGATORS, CURRICULA, NETWORKS):
        # Pages and examples register methods of their own.
        monkeypatch.setattr(registry, "entries", dict(registry.entries))
    (tmp_path / "results").symlink_to(ROOT / "results")
    return tmp_path


def tiny_training(arguments: list[str]) -> list[str]:
    """The arguments of a training command with a tiny budget appended."""
    if "--help" in arguments or not arguments:
        return arguments
    if "--resume" in arguments:
        return [
            "--total-env-steps=240" if a.startswith("--total-env-steps") else a
            for a in arguments
        ]
    words, options = train.cli.parse(arguments)
    seeds = options.pop("seeds", None)
    config = train.read_config(words, options)
    asked = {argument.partition("=")[0] for argument in arguments}
    more = [*shlex.split(" ".join(TRAIN)), *shlex.split(OF_ALGORITHM[config.algorithm])]
    assert seeds is None or config.seed == 0
    if config.declaration is not None:
        more.remove("--num-threads=1")  # gymnasium's environments have no threads
    if "--mtppo.memory" in asked:
        more.append("--sequence=5")
    return [*[a for a in arguments if a.partition("=")[0] != "--n-steps"], *more]


def write_files(path: Path, folder: Path) -> None:
    """The YAML files of a page whose first line is their name, with tiny budgets."""
    for block in blocks(path, "yaml"):
        name = re.match(r"# (\S+\.yaml)\n", block.text)
        if name is None:
            continue
        text = re.sub(
            r"total_env_steps: .*", "total_env_steps: 120", block.text.partition("\n")[2]
        )
        text = text.replace("seeds: 2 ", "seeds: 1 ")
        small = "agent.rollout_per_task: 20, agent.minibatches: 1, agent.epochs: 1, eval.episodes_per_task: 1"
        text = re.sub(
            r"^settings: .*",
            f"settings: {{{small}, envs_per_task: 2, device: cpu}}",
            text,
            flags=re.M,
        )
        (folder / name[1]).write_text(text)


def run(command: str) -> None:
    """Run one command in this process; it must succeed."""
    program, *rest = shlex.split(command)
    assert program == "python" and rest[0] == "-m", command
    module, arguments = rest[1], rest[2:]
    if module == "mtrl":
        # The demo of mt10 plays and films ten tasks.
        short = ["--episodes=1", "--tasks=push-v3"] if arguments == ["demo", "mt10"] else []
        assert main([*arguments, *short]) == 0, command
        return
    if module == "mtrl.train":
        assert train.main(tiny_training(arguments)) == 0, command
    elif module == "mtrl.evaluate":
        assert (
            evaluate.main([*arguments, "--episodes=1", "--envs-per-task=1", "--device=cpu"])
            == 0
        ), command
    elif module == "mtrl.leaderboard":
        assert leaderboard.main(arguments) == 0, command
    else:
        assert module == "scripts.make_docs", command


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_of_a_page(page: Path, workplace: Path) -> None:
    write_files(page, workplace)
    told = [command for block in blocks(page, "console") for command in commands(block)]
    assert told
    if any("runs/mg3/mtppo/seed-0" in command for command in told):
        run("python -m mtrl.train mg3")
    for command in told:
        run(command)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in methods.names() if name != "sb3-sac"])
def test_command_of_a_method(method: str, workplace: Path) -> None:
    (told,) = re.findall(r"^python -m .*$", methods.page_parts(method), re.MULTILINE)
    run(told.replace("train mt10", "train mg3"))


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_of_a_page(page: Path, workplace: Path) -> None:
    text = "\n".join(block.text for block in blocks(page, "python"))
    script = workplace / "page.py"
    script.write_text(
        text.replace("agent.learn(100_000)", "agent.learn(24)").replace(
            "seed=0, width=128)", TINY_AGENT
        )
    )
    runpy.run_path(str(script), run_name="__main__")


TINY_AGENT = 'seed=0, width=8, device="cpu", rollout_per_task=8, minibatches=1, epochs=1)'


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [str(path)])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60 and any(line.startswith("# %%") for line in lines)
    runpy.run_path(str(path), run_name="__main__")


def test_only_installs_and_services_stand_outside_console_blocks() -> None:
    for path in pages():
        for block in blocks(path, "sh", "bash"):
            assert is_install(block), block
        for block in blocks(path, "text"):
            for command in commands(block):
                assert not command.startswith("python -m mtrl.") or "verify" in command, command


def is_install(block: Block) -> bool:
    """Whether every command of a block sets up an environment; CI runs those."""
    return all("pip install" in line or line.startswith("source ") for line in commands(block))
