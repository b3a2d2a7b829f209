"""Settings of the whole suite."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tiny_images import KINDS, tiny_pipeline

# A busy machine is no failure: neither a deadline nor the time to make inputs decides a test.
settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny image pipelines by kind; tests read them."""
    root = tmp_path_factory.mktemp("pipelines")
    return {kind: tiny_pipeline(root / kind, kind) for kind in KINDS}
