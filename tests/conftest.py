"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is no failure: neither a deadline nor the time to make inputs decides a test.
settings.register_profile("quick", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")
