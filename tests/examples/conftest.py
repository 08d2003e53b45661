"""The fixtures of the workbench's tests."""

from tests.mtrl.conftest import faked as faked
