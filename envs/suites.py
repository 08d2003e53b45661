"""The registry of suites and backends: one module a family.

Each has ``SUITES``, specifications by id; ``BACKENDS``, engines by name, the default first; and ``prepare(render)``,
which is called before an engine's module is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from mtrl.envs.errors import SuiteError, nearest
from mtrl.envs.specs import Backend, Suite

FAMILIES = {
    "metaworld": "mtrl.envs.metaworld.suites",
    "minigrid": "mtrl.envs.minigrid.suites",
}


@cache
def _all_suites() -> Mapping[str, Suite]:
    return {
        key: suite
        for module in FAMILIES.values()
        for key, suite in import_module(module).SUITES.items()
    }


def suite_ids() -> tuple[str, ...]:
    """Ids of all suites, family by family."""
    return tuple(_all_suites())


def get_suite(suite_id: str) -> Suite:
    """The specification of a suite.

    Raises:
        SuiteError: no such suite; the message has the nearest id.
    """
    suites = _all_suites()
    if suite_id in suites:
        return suites[suite_id]
    raise SuiteError(
        f"There is no suite {suite_id!r}; the nearest id is {nearest(str(suite_id), suites, 0.0)!r}."
    )


def backends_of(suite: Suite) -> dict[str, Backend]:
    """The backends of a suite's family by name, the default first."""
    found: dict[str, Backend] = import_module(FAMILIES[suite.family]).BACKENDS
    return found


def prepare(suite: Suite, render: bool) -> None:
    """Prepare the import of an engine that runs ``suite``, and of its renderer.

    Raises:
        SuiteError: this machine cannot render.
    """
    import_module(FAMILIES[suite.family]).prepare(render)
