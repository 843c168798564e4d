"""The engines, each started once for all promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.server import RunningServer
from tests.integration.promises.fleet import Fleet
from tests.integration.promises.local_fleet import LocalFleet
from tests.integration.promises.rq_fleet import RqFleet

FLEETS: tuple[type[Fleet], ...] = (LocalFleet, RqFleet)


@pytest.fixture(scope="module", params=FLEETS, ids=lambda fleet: fleet.engine)
def running_fleet(
    request: pytest.FixtureRequest,
    server_folder: Callable[[], Path],
    known_servers: list[RunningServer],
) -> Iterator[Fleet]:
    """Gateways and a store."""
    fleet: Fleet = request.param(server_folder, known_servers)
    try:
        fleet.start()
        yield fleet
        fleet.close()
    finally:
        fleet.sweep()


@pytest.fixture
def fleet(running_fleet: Fleet) -> Fleet:
    """The same, with a host that runs."""
    running_fleet.use_host()
    return running_fleet
