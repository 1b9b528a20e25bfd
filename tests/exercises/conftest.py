"""Tests of the checker count seconds: what other tests left in memory must not cost any."""

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def earlier_objects_stay_out_of_collections():
    """One collection over the objects of thousands of tests takes half a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
