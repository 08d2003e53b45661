"""Every network by name: its settings are listed, and a wrong name or setting gets the nearest right one."""

from __future__ import annotations

import pytest

from mtrl import train
from mtrl.agents import AgentError
from mtrl.agents.networks.registry import NETWORKS
from mtrl.train import explained_choices

NAMES = list(NETWORKS)


@pytest.mark.parametrize("name", NAMES)
def test_help_lists_every_setting_of_a_network(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--network", name, "--help"]) == 0
    said = capsys.readouterr().out
    assert (
        f"{name}: {NETWORKS.entries[name].summary}".split()[:4]
        == said[said.index(f"{name}: ") :].split()[:4]
    )
    for key, value in NETWORKS.read(name)[0].settings:
        assert f"--network.{key.replace('_', '-')}=" in said, (key, value)
    assert NETWORKS.settings(name) or "no settings of its own" in said


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelled_network_or_setting_gets_the_nearest_right_one(name: str) -> None:
    wrong = f"{name[0]}{name}"
    with pytest.raises(AgentError, match="did you mean") as error:
        NETWORKS.read(wrong)
    assert f"did you mean {name!r}?" in str(error.value)
    for key in NETWORKS.settings(name):
        wrong = key + key[-1]
        with pytest.raises(AgentError, match="unknown setting") as error:
            NETWORKS.read(f"{name}:{wrong}=1")
        assert f"did you mean {key!r}?" in str(error.value)


def test_a_value_that_is_not_allowed_is_named_with_its_setting() -> None:
    with pytest.raises(AgentError, match=r"network\.experts: '0' is not a whole number of at"):
        explained_choices({"network": "moore:experts=0"})
    with pytest.raises(AgentError, match="network: 'filmm' is unknown; did you mean 'film'"):
        explained_choices({"network": "filmm"})
    said = explained_choices({"critic_network": "paco:sets=20", "curriculum": "drats"})
    assert "--critic-network.sets=20" in said and "--curriculum." in said
