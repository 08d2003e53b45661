"""Sweeps on a Ray cluster: two nodes on this machine, each a raylet of its own."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtrl.extras import install_command
from mtrl.leaderboard.__main__ import main
from mtrl.sweeps.spec import read_spec
from mtrl.sweeps.state import collect, in_use
from mtrl.trainer import train
from mtrl.training.checkpoint import newest_first
from tests.mtrl.sweeps.conftest import ROOT, MakeSpec, results_of, start


def test_without_ray_one_sentence(
    faked: None,
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else find(name)
    )
    assert main(["run", str(make_spec()), "--ray=auto"]) == 2
    assert (
        capsys.readouterr().err
        == f"mtrl.leaderboard: ray: is not installed; run: {install_command('ray')}\n"
    )


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("somewhere", 2, "ray: 'somewhere' is no address; write host:port, or auto"),
        ("127.0.0.1:99999", 1, "ray: no cluster answers at 127.0.0.1:99999 ("),
        ("127.0.0.1:1", 1, "ray: no cluster answers at 127.0.0.1:1 ("),
    ],
)
def test_no_cluster_at_the_address(
    faked: None,
    make_spec: MakeSpec,
    capsys: pytest.CaptureFixture[str],
    address: str,
    status: int,
    words: str,
) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    assert main(["run", str(make_spec()), f"--ray={address}"]) == status
    assert words in capsys.readouterr().err


class Cluster:
    """Nodes with one CPU each, in this machine's processes; ends those that it started and no others."""

    def __init__(self, folder: Path, pace: float) -> None:
        self._folder, self._nodes = folder, list[subprocess.Popen[bytes]]()
        self._environment = {
            **os.environ, "FAKE_PACE": str(pace), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
            "RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4",
            "RAY_health_check_initial_delay_ms": "500",
        }  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self._start("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
                return
            except OSError:
                time.sleep(0.2)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        ray = str(Path(sys.executable).with_name("ray"))
        store = ["--object-store-memory=80000000", "--disable-usage-stats", "--block"]
        log = (self._folder / f"node-{len(self._nodes)}.log").open("wb")
        node = subprocess.Popen(
            [ray, "start", *arguments, *store], cwd=ROOT, env=self._environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        self._nodes.append(node)
        return node

    def add_node(self) -> subprocess.Popen[bytes]:
        """Returns once the node has joined: two that start at once on one machine may choose the same ports."""
        log = self._folder / f"node-{len(self._nodes)}.log"
        node = self._start(f"--address={self.address}", "--num-cpus=1")
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in log.read_text():
            assert node.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        return node

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """The node goes away at once, with all that runs on it."""
        for pid in descendants(node.pid):
            signal_quietly(pid)
        node.kill()
        node.wait()

    def close(self) -> None:
        for node in reversed(self._nodes):
            if node.poll() is None:
                self.kill(node)


def descendants(pid: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def signal_quietly(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("ray")
    nodes = Cluster(tmp_path, pace=0.01)
    yield nodes
    nodes.close()


@pytest.mark.slow
def test_two_nodes_one_killed_give_the_results_of_a_local_run(
    faked: None, make_spec: MakeSpec, tmp_path: Path, cluster: Cluster
) -> None:
    changes = {"seeds": 2, "total_env_steps": {"mt10:fake": 2700, "mt1:fake-inexact": 900}}
    local, shared = read_spec(make_spec("local", **changes)), make_spec("shared", **changes)
    for unit in local.units:
        train(unit.config)
        collect(unit)
    victim = cluster.add_node()
    sweep = start(str(shared), f"--ray={cluster.address}", "--jobs=2")
    runs = tmp_path / "results-shared" / ".runs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and sweep.poll() is None:
        begun = [run for run in runs.glob("*/*/*/seed-*/checkpoints") if newest_first(run)]
        if begun:
            break
        time.sleep(0.05)
    else:
        raise AssertionError(f"nothing trains: {sweep.communicate()}")
    cluster.kill(victim)
    cluster.add_node()
    cluster.add_node()
    _, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, err
    assert "ended early (lost" in err and "continues from" in err
    assert results_of(tmp_path / "results-shared") == results_of(local.results)
    assert len(results_of(local.results)) == 4
    assert not any(in_use(unit) for unit in read_spec(shared).units)
