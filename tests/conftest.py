"""What holds for every test: hypothesis counts no seconds, so that a slow machine draws and shrinks like any other.

Under pytest-xdist, files go to the workers in this order (``--no-loadscope-reorder``).
"""

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files whose tests start servers first: a worker that got one last would let the other one idle.

    Property tests run the same lines some hundred times: tracing them would double what they cost, for lines that others run too.
    """
    items.sort(key=lambda item: not ("e2e" in item.path.parts or item.path.name == "test_main.py"))
    for item in items:
        if is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("no_cover")
