import metaworld
import pytest


@pytest.fixture(scope="session")
def mt10():
    return metaworld.MT10(seed=5)
