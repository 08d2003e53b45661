"""The registry of suites and backends: one module a family.

Each has ``SUITES``, specifications by id; ``BACKENDS``, engines by name, the default first; and ``prepare(render)``,
which is called before an engine's module is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from mtrl.envs.errors import SuiteError, nearest
from mtrl.envs.specs import Backend, Suite

FAMILIES = {
    "metaworld": "mtrl.envs.metaworld.suites",
    "minigrid": "mtrl.envs.minigrid.suites",
    "declared": "mtrl.envs.declared.suites",
}
_declared: dict[str, Suite] = {}
"""Suites that this process has read from files and records. An id never means two, for a digest is part of it."""


@cache
def _all_suites() -> Mapping[str, Suite]:
    return {
        key: suite
        for module in FAMILIES.values()
        for key, suite in import_module(module).SUITES.items()
    }


def suite_ids() -> tuple[str, ...]:
    """Ids of the suites that ship, family by family."""
    return tuple(_all_suites())


def get_suite(suite_id: str) -> Suite:
    """The specification of a suite.

    Args:
        suite_id: id, or the path of a YAML file that declares a suite. Such a suite is known by its id afterwards.

    Raises:
        SuiteError: no such suite; the message has the nearest id. Or what is wrong in the file, in one sentence.
    """
    suites = _all_suites()
    if suite_id in suites:
        return suites[suite_id]
    if suite_id in _declared:
        return _declared[suite_id]
    if str(suite_id).endswith((".yaml", ".yml")):
        from mtrl.envs.declared.suites import read_suite

        return _known(read_suite(Path(suite_id)))
    raise SuiteError(
        f"There is no suite {suite_id!r}; the nearest id is {nearest(str(suite_id), suites, 0.0)!r}."
    )


def declare(declaration: str) -> Suite:
    """The suite of a ``Suite.declaration``, known by its id from now on. Makes no environment.

    Raises:
        SuiteError: what is wrong with the declaration, in one sentence.
    """
    from mtrl.envs.declared.suites import declared_suite

    return _known(declared_suite(declaration))


def _known(suite: Suite) -> Suite:
    known = _declared.setdefault(suite.id, suite)
    if known != suite:
        raise SuiteError(
            f"Two declarations have the digest of {suite.id}; change the name of one."
        )
    return known


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
