"""Quiet TensorFlow, fixed seeds, and the rule for tests that need real data."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores: more threads only wait for each other, a quarter of all time.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import pytest


def pytest_collection_modifyitems(config, items):
    """Without `$KERAS_MTL_DATA`, real-data tests are skipped, or refused if they are required."""
    real_data = [item for item in items if item.get_closest_marker("real_data")]
    if not real_data or os.environ.get("KERAS_MTL_DATA"):
        return
    if os.environ.get("REQUIRE_REAL_DATA") == "1":
        raise pytest.UsageError(
            f"{len(real_data)} real-data tests would be skipped although REQUIRE_REAL_DATA=1. "
            "Set KERAS_MTL_DATA to the folder that contains `tfds`."
        )
    skip = pytest.mark.skip(reason="needs real data: set KERAS_MTL_DATA")
    for item in real_data:
        item.add_marker(skip)


def pytest_configure():
    gc.disable()  # until everything is imported


def pytest_collection_finish():
    """Spares the garbage collector all that was imported, a tenth of the time together."""
    gc.enable()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A required real-data test that skips itself (a folder is missing) has failed."""
    report = yield
    if (
        report.skipped
        and item.get_closest_marker("real_data")
        and os.environ.get("REQUIRE_REAL_DATA") == "1"
    ):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although REQUIRE_REAL_DATA=1"
    return report


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def cleared_session():
    yield
    keras.backend.clear_session()
