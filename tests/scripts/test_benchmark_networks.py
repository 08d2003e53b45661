"""The benchmark of networks goes on where it was, and the page says what has been measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrl.agents import AgentError
from mtrl.agents.networks.registry import NETWORKS
from scripts import benchmark_networks
from scripts.pages.networks import NOT_MEASURED, costs_of_all

COST = {
    "parameters": 2_000_000,
    "active_parameters": 1_500_000,
    "products_per_action": 340_000,
    "ratio": 1.234,
    "ms": 1.0,
    "mlp_ms": 1.0,
}


def test_a_benchmark_that_was_stopped_goes_on_and_repeats_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def measured(part: str, suite: str, kind: str, network: str, quick: bool) -> dict[str, Any]:
        asked.append((part, suite, kind, network))
        if network == "film" and len(asked) == 2:
            return {"failed": "MemoryError"}
        return {"peak_gib": 1.5, "held_gib": 1.0} if part == "memory" else dict(COST)

    monkeypatch.setattr(benchmark_networks, "in_process", measured)
    path = tmp_path / "benchmark_networks.json"
    benchmark_networks.run(["mt10"], ["mlp", "film"], True, path)
    assert json.loads(path.read_text())["mt10"]["mtsac"]["film"] == {"failed": "MemoryError"}
    asked.clear()
    report = benchmark_networks.run(["mt10", "mt50"], ["mlp", "film"], True, path)
    assert asked[0] == ("cost", "mt10", "mtsac", "film")
    assert {suite for _, suite, _, _ in asked[1:]} == {"mt50"} and len(asked) == 9
    assert report == json.loads(path.read_text())
    assert report["mt50"]["mtppo"]["film"] == COST | {"peak_gib": 1.5, "held_gib": 1.0}
    cells = costs_of_all(tmp_path)
    assert cells["film"][0] == "2.00 M / 2.00 M" or cells["film"][0] == "2.00 M"
    assert "1.23" in cells["film"][4] and "1.5 GiB" in cells["film"][-1]
    assert set(cells["moore"]) == {NOT_MEASURED} and cells.keys() == set(NETWORKS)


def test_networks_are_named_with_commas_or_with_settings() -> None:
    assert benchmark_networks.wanted([]) == list(NETWORKS)
    given = ["film,moore", "soft-modules:layers=4,modules=4"]
    assert benchmark_networks.wanted(given) == ["film", "moore", given[1]]
    with pytest.raises(AgentError, match="did you mean 'film'"):
        benchmark_networks.wanted(["filmm"])


@pytest.mark.parametrize(("kind", "products"), [("mtsac", 39 * 400 + 2 * 400**2 + 400 * 8)])
def test_multiply_adds_of_the_plain_network_are_those_of_its_weights(
    kind: str, products: int
) -> None:
    agent = benchmark_networks.make_agent(kind, "mt10", "mlp")
    assert benchmark_networks.products_per_action(agent) == products
    network = agent.actor
    heads = 8 * 401
    active = benchmark_networks.active_parameters(network)
    assert active == network.num_parameters - 9 * heads
    assert torch.is_grad_enabled()
