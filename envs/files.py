"""YAML files, read as all of the suite reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mtrl.envs.errors import SuiteError, UserError


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice; YAML itself would keep the last value in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} stands there twice")
        return super().construct_mapping(node, deep)


def load_yaml(path: Path, kind: type[UserError] = SuiteError) -> Any:
    """What a YAML file holds. Raises ``kind`` if it is missing or not YAML, or a key stands there twice."""
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise kind(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from None
