"""What each network costs beside the plain MLP, in MTSAC and MTPPO on mt10 and mt50.

    python scripts/benchmark_networks.py --quick --networks film,moore --json networks.json
    python scripts/benchmark_networks.py --json results/benchmark_networks.json

Every measurement is a process of its own. The file is written after each one, and those that it holds are not made
again, so a run that was stopped goes on where it was. Give a network with settings after a blank, as in
``--networks paco:sets=20 care:encoders=10``.

An update of the network and one of the plain MLP take turns in one process; the ratio is that of the medians of
processor time, so that other load on the machine counts little. Memory is the peak of a process that updates with a
full replay buffer or a whole rollout, and may not pass 8 GiB.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mtrl.agents import MTPPO, MTSAC, Agent, EnvSpec
from mtrl.agents.data.replay import Batch
from mtrl.agents.data.rollout import Rollout
from mtrl.agents.errors import AgentError
from mtrl.agents.networks.network import Network
from mtrl.agents.networks.registry import NETWORKS
from mtrl.envs import get_suite
from mtrl.training.allocator import keep_freed_memory

SUITES = ("mt10", "mt50")
AGENTS: dict[str, type[Agent]] = {"mtsac": MTSAC, "mtppo": MTPPO}
OBS, ACTION, ENVS = 39, 4, 8
LIMIT = 8 * 2**30
FULL_BUFFER = 100_000 * (2 * OBS + ACTION + 2)
"""Numbers of a task's full replay buffer."""
REPEATS = {"mt10": 15, "mt50": 5}
QUICK = {"mt10": 3, "mt50": 1}


def make_agent(kind: str, suite_name: str, network: str) -> Any:
    """An agent with the settings of the suites, but for rollouts of one minibatch and one pass."""
    suite = get_suite(suite_name)
    spec = EnvSpec(
        suite.id,
        suite.task_names,
        OBS,
        (-1.0,) * ACTION,
        (1.0,) * ACTION,
        builds_on=tuple(task.builds_on for task in suite.tasks),
    )
    agent_class = AGENTS[kind]
    config = agent_class.config_class(network=network)  # type: ignore[call-arg]
    if kind == "mtppo":
        config = replace(config.brief(ENVS), epochs=1)  # type: ignore[call-arg]
    agent = agent_class(spec, config, device="cpu")
    # In the middle of training: a search that goes on costs more than one that is over.
    agent._planned, agent.env_steps = 10, 4  # type: ignore[attr-defined]
    return agent


def random_batch(kind: str, agent: Any) -> Batch | Rollout:
    """What an update learns from, made up."""
    tasks = agent.spec.num_tasks
    if kind == "mtsac":
        lead = (1, tasks, agent.config.batch_per_task)
        obs = torch.rand(*lead, OBS)
        action = torch.rand(*lead, ACTION)
        after = torch.rand(*lead, OBS)
        return Batch(obs, action, torch.rand(lead), torch.zeros(lead), after)
    lead = (1, tasks, agent.config.rollout_per_task // ENVS, ENVS)
    obs = torch.rand(*lead, OBS)
    action = torch.rand(*lead, ACTION)
    after = torch.rand(*lead, OBS)
    return Rollout(obs, after, action, torch.rand(lead), torch.zeros(lead), torch.zeros(lead))


def update_ratio(kind: str, suite: str, network: str, repeats: int) -> dict[str, float]:
    """Processor time of an update with the network over that of the plain MLP, and both in milliseconds."""
    agents = [make_agent(kind, suite, name) for name in ("mlp", network)]
    batches = [random_batch(kind, agent) for agent in agents]
    times: list[list[float]] = [[], []]
    for repeat in range(repeats + 2):
        for agent, batch, found in zip(agents, batches, times):
            start = time.process_time()
            agent.update(batch)
            # The first updates choose kernels and allocate.
            if repeat > 1:
                found.append(1e3 * (time.process_time() - start))
    plain = statistics.median(times[0])
    own = statistics.median(times[1])
    return {"ratio": own / plain, "ms": own, "mlp_ms": plain}


def active_parameters(network: Network) -> int:
    """Trained parameters of which a task's outputs are made: what all share, and what the task owns."""
    layout = network.layout
    owned = network.num_parameters - layout.num_shared - layout.num_frozen
    return layout.num_shared + owned // network.size.num_tasks


def products_per_action(agent: Any) -> int:
    """Multiply-adds of matrix products for an action of each task, in one environment, over the number of tasks."""
    network: Network = agent.actor
    tasks = agent.spec.num_tasks
    x = torch.rand(1, tasks, 1, OBS)
    shape = network.noise_shape(x.shape[:3])
    noise = None if shape is None else torch.rand(shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        params = network.constants(agent.state["actor"]["params"], torch.float32)
        prepared = counter.get_total_flops()
        network.forward(params, x, None, noise, agent.share_done)
        total = counter.get_total_flops() - prepared
    # A multiply-add counts as two operations.
    return round(total / 2 / tasks)


def sizes(kind: str, suite: str, network: str) -> dict[str, float]:
    """Parameters of all networks that train, those of which a task's outputs are made, and multiply-adds."""
    agent = make_agent(kind, suite, network)
    twins = 2 if kind == "mtsac" else 1
    active = active_parameters(agent.actor) + twins * active_parameters(agent.critic)
    return {
        "parameters": agent.num_parameters,
        "active_parameters": active,
        "products_per_action": products_per_action(agent),
    }


def peak_memory(kind: str, suite: str, network: str) -> dict[str, float]:
    """Peak memory in GiB of updates beside all that an agent of default settings holds."""
    agent = make_agent(kind, suite, network)
    tasks = agent.spec.num_tasks
    held = []
    if kind == "mtsac":
        held.append(torch.ones(tasks, FULL_BUFFER))
    else:
        config = agent.config_class(network=network)
        # Rows of a rollout, and what is made of it before the first step.
        held.append(torch.ones(2, tasks, config.rollout_per_task, 2 * OBS + ACTION + 4))
    batch = random_batch(kind, agent)
    for _ in range(2):
        agent.update(batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"peak_gib": peak, "held_gib": sum(each.nbytes for each in held) / 2**30}


def measure(part: str, suite: str, kind: str, network: str, quick: bool) -> dict[str, float]:
    """One measurement, made in this process."""
    torch.set_num_threads(1)
    if part == "memory":
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
        return peak_memory(kind, suite, network)
    keep_freed_memory()
    repeats = (QUICK if quick else REPEATS)[suite]
    found = sizes(kind, suite, network)
    return found | update_ratio(kind, suite, network, repeats)


def in_process(part: str, suite: str, kind: str, network: str, quick: bool) -> dict[str, Any]:
    """The measurement of a process of its own; the last line that it says where it fails."""
    command = [sys.executable, __file__, "--one", part, suite, kind, network]
    done = subprocess.run(
        [*command, *(["--quick"] if quick else [])], capture_output=True, text=True
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": said[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wanted(given: list[str]) -> list[str]:
    """The networks that were asked for, all by default. Raises AgentError for one that does not exist."""
    names: list[str] = []
    for item in given or list(NETWORKS):
        # A comma also stands between the settings of a network.
        names += [item] if ":" in item else re.split(",", item)
    for name in names:
        NETWORKS.read(name)
    return names


def run(suites: list[str], names: list[str], quick: bool, path: Path | None) -> dict[str, Any]:
    """Make every measurement that the file does not hold yet, and write it after each.

    The file holds, by suite, agent and network, a mapping of numbers, or ``failed`` with the reason.
    """
    report: dict[str, Any] = {}
    if path is not None and path.exists():
        report = json.loads(path.read_text())
    about = {"torch": torch.__version__, "threads": 1, "limit_gib": LIMIT / 2**30}
    report |= about
    for suite in suites:
        for kind in AGENTS:
            cells = report.setdefault(suite, {}).setdefault(kind, {})
            for name in names:
                parts: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
                    ("cost", lambda cell: "ratio" in cell)
                ]
                if suite == "mt50":
                    parts.append(("memory", lambda cell: "peak_gib" in cell))
                cell = cells.get(name, {})
                for part, is_there in parts:
                    if is_there(cell):
                        continue
                    cell.pop("failed", None)
                    cell |= in_process(part, suite, kind, name, quick)
                    cells[name] = cell
                    if path is not None:
                        path.write_text(json.dumps(report, indent=1) + "\n")
                print(suite, kind, name, _line(cell), flush=True)
    return report


def _line(cell: dict[str, Any]) -> str:
    if "failed" in cell:
        return f"failed: {cell['failed']}"
    text = f"{cell['ratio']:.2f} x the MLP's update of {cell['mlp_ms']:.0f} ms"
    text += f", {cell['parameters']:,} parameters, {cell['active_parameters']:,} a task"
    text += f", {cell['products_per_action']:,} multiply-adds an action"
    return text + (f", peak {cell['peak_gib']:.2f} GiB" if "peak_gib" in cell else "")


def main() -> int:
    """Measure, print and, if asked, write JSON. Returns 1 where a measurement failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--networks", nargs="*", default=[], help="all by default")
    parser.add_argument(
        "--suite", choices=list(SUITES), action="append", help="both by default"
    )
    parser.add_argument("--json", type=Path, help="the file to write and to go on from")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.quick)))
        return 0
    try:
        names = wanted(args.networks)
    except AgentError as error:
        parser.error(str(error))
    report = run(args.suite or list(SUITES), names, args.quick, args.json)
    cells = [
        cell
        for suite in SUITES
        for kind in report.get(suite, {}).values()
        for cell in kind.values()
    ]
    return int(any("failed" in cell for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
