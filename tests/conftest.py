"""Settings for the whole suite. `--laws=N` runs every random law N times as often."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.chromium import NoBrowser, chromium
from tests.ranks import Ranks
from tests.small_models import Net

torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
EXAMPLES = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--laws", type=int, default=1, help="run every random law this many times as often")


def pytest_configure(config: pytest.Config) -> None:
    # models are slow to draw and to run, and one machine's deadline is another's noise
    settings.register_profile(
        "laws",
        max_examples=EXAMPLES * config.getoption("--laws"),
        deadline=None,
        report_multiple_bugs=False,
        derandomize=config.getoption("--laws") == 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    settings.load_profile("laws")


@pytest.fixture
def double() -> Iterator[None]:
    """Models are built in float64, and so are the constants that their forwards make."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        with chromium() as running:
            yield running
    except NoBrowser as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Two ranks of one process group; `ranks(function, *args)` gives what each has returned."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("torch is built without gloo")
    started = Ranks()
    yield started
    started.stop()


@pytest.fixture
def model() -> Net:
    """The small net of many tests, always with the same weights."""
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone, for parallel training."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
