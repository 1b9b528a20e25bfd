"""Data sets: what comes without a download, and what happens when a download fails."""

import re
import socket
import sys
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import data
from course_lib.data import MNIST_MD5, DataUnavailable

LOCAL = {
    "digits": lambda **options: data.digits(**options),
    "glyphs": lambda **options: data.glyphs(train=60, test=30, **options),
    "blobs": lambda **options: data.blobs(**options),
    "spirals": lambda **options: data.spirals(**options),
}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **options):
        raise OSError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", LOCAL)
def test_local_sets_need_no_network_and_have_one_form(name, no_network):
    found = LOCAL[name]()
    for x, y in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        assert x.ndim == 2 and y.shape == x.shape[:1]
        assert x.dtype == np.float32 and y.dtype == np.int64
        assert np.isfinite(x).all() and y.min() >= 0
    assert found.x_train.shape[1] == found.x_test.shape[1]


@pytest.mark.parametrize("name", LOCAL)
def test_same_seed_same_data(name):
    for a, b in zip(LOCAL[name](seed=3), LOCAL[name](seed=3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(LOCAL[name](seed=3).x_train != LOCAL[name](seed=4).x_train)


@pytest.mark.parametrize("name", LOCAL)
def test_global_random_state_is_not_touched(name):
    before = np.random.get_state()[1].copy()
    LOCAL[name]()
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_digits_are_all_of_them_once():
    from sklearn.datasets import load_digits

    found = data.digits(standardized=False)
    assert found.x_train.shape == (1400, 64) and found.x_test.shape == (397, 64)
    ours = np.concatenate([found.x_train, found.x_test])
    labels = np.concatenate([found.y_train, found.y_test])
    x, y = load_digits(return_X_y=True)
    order, theirs = np.lexsort((*ours.T, labels)), np.lexsort((*x.T, y))
    np.testing.assert_array_equal(16 * ours[order], x[theirs])
    np.testing.assert_array_equal(labels[order], y[theirs])
    assert ours.min() == 0 and ours.max() == 1


@pytest.mark.parametrize("make", [LOCAL["digits"], LOCAL["glyphs"]], ids=["digits", "glyphs"])
def test_standardized_pixels_have_mean_0_and_variance_1_by_the_training_images(make):
    found, raw = make(), make(standardized=False)
    varies = raw.x_train.std(axis=0) > 0
    # float32 means of some hundred values
    np.testing.assert_allclose(found.x_train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.x_train.std(axis=0)[varies], 1, rtol=1e-4)
    np.testing.assert_array_equal(found.x_train[:, ~varies], 0)
    np.testing.assert_array_equal(found.x_test[:, ~varies], 0)
    mean, std = raw.x_train.mean(axis=0, dtype=np.float64), raw.x_train.std(axis=0, dtype=np.float64)
    expected = (raw.x_test - mean)[:, varies] / std[varies]
    np.testing.assert_allclose(found.x_test[:, varies], expected, rtol=1e-3, atol=1e-4)


def test_digits_have_pixels_that_never_vary():
    assert (data.digits(standardized=False).x_train.std(axis=0) == 0).any()  # so the test above meets them


def test_glyphs_are_images_of_ten_classes_in_the_frame():
    found = data.glyphs(train=200, test=100, standardized=False)
    assert found.x_train.shape == (200, 784) and found.x_test.shape == (100, 784)
    labels = np.concatenate([found.y_train, found.y_test])
    assert np.bincount(labels).tolist() == [30] * 10
    images = found.x_train.reshape(-1, 28, 28)
    assert images.min() >= 0 and images.max() <= 1
    assert 0.1 < images.mean() < 0.4  # ink on paper, and not all paper
    frame = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert np.mean(frame > 0.6) < 0.01  # the ink stays inside


def test_glyphs_differ_but_a_nearest_neighbour_can_tell_them():
    found = data.glyphs(train=1000, test=200)
    distance = ((found.x_test[:, None] - found.x_train[None, :]) ** 2).sum(axis=2)
    assert distance.min() > 0
    assert np.mean(found.y_train[distance.argmin(axis=1)] == found.y_test) > 0.6  # 0.1 by chance, about 0.85 here


def test_spirals_defeat_a_line_and_blobs_do_not():
    def accuracy_of_a_linear_fit(found):
        x = np.c_[found.x_train, np.ones(len(found.x_train))].astype(np.float64)
        targets = np.eye(found.y_train.max() + 1)[found.y_train]
        fit = np.linalg.lstsq(x, targets, rcond=None)[0]
        scores = np.c_[found.x_test, np.ones(len(found.x_test))] @ fit
        return np.mean(scores.argmax(axis=1) == found.y_test)

    assert accuracy_of_a_linear_fit(data.spirals()) < 0.75
    assert accuracy_of_a_linear_fit(data.blobs(classes=2, spread=0.5)) > 0.95


def test_nearest_neighbours_follow_the_spirals():
    found = data.spirals(noise=0.02)
    distance = ((found.x_test[:, None] - found.x_train[None, :]) ** 2).sum(axis=2)
    assert np.mean(found.y_train[distance.argmin(axis=1)] == found.y_test) > 0.98


# MNIST ---------------------------------------------------------------------------------------------------------------


def bunch(checksum=MNIST_MD5):
    rng = np.random.default_rng(0)
    return SimpleNamespace(
        data=rng.integers(0, 256, (70000, 2)), target=np.arange(70000).astype(str), details={"md5_checksum": checksum}
    )


@pytest.fixture
def openml(monkeypatch):
    """Stands in for scikit-learn's downloader: set `answer` to what it returns or raises."""
    import sklearn.datasets

    stand_in = SimpleNamespace(answer=bunch(), asked=[])

    def fetch(name, **options):
        stand_in.asked.append((name, options))
        if isinstance(stand_in.answer, Exception):
            raise stand_in.answer
        return stand_in.answer

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return stand_in


def test_mnist_is_split_60000_to_10000_in_order(openml):
    found = data.mnist(standardized=False)
    assert found.x_train.shape == (60000, 2) and found.x_test.shape == (10000, 2)
    np.testing.assert_array_equal(np.concatenate([found.y_train, found.y_test]), np.arange(70000))
    np.testing.assert_allclose(found.x_train, openml.answer.data[:60000] / 255, rtol=1e-6)
    assert found.x_train.dtype == np.float32 and found.y_train.dtype == np.int64
    np.testing.assert_allclose(data.mnist().x_train.std(axis=0), 1, rtol=1e-4)


def test_mnist_asks_for_one_version_and_hands_on_the_cache(openml, tmp_path):
    data.mnist(cache=tmp_path)
    (name, options), = openml.asked
    assert (name, options["version"], options["data_home"], options["as_frame"]) == ("mnist_784", 1, tmp_path, False)


@pytest.mark.parametrize("failure", [
    URLError("no route to host"), TimeoutError("timed out"), ConnectionResetError("reset"),
    ValueError("md5 checksum of local file does not match description"),
], ids=["offline", "slow", "cut", "checksum"])
def test_mnist_that_cannot_be_had_says_what_to_do(openml, failure):
    openml.answer = failure
    with pytest.raises(DataUnavailable, match=r"could not be fetched from openml.org .*data\.digits\(\)") as caught:
        data.mnist()
    assert str(failure) in str(caught.value) and caught.value.__cause__ is failure


def test_mnist_refuses_another_file(openml):
    openml.answer = bunch(checksum="0" * 32)
    with pytest.raises(DataUnavailable, match=f"openml.org now has a file with checksum {'0' * 32}"):
        data.mnist()


@pytest.mark.filterwarnings("ignore:A network error occurred")  # scikit-learn says so before it tries again
def test_mnist_without_a_network_ends_soon_and_clearly(no_network, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(DataUnavailable, match="a test reached for the network"):
        data.mnist(cache=tmp_path)


def test_loading_the_module_loads_neither_sklearn_nor_matplotlib():
    import subprocess

    code = "import course_lib.data, sys; print(*{'sklearn', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


# Properties ----------------------------------------------------------------------------------------------------------

seeds = st.integers(0, 2**16)


@given(seeds, st.integers(1, 40), st.integers(0, 20), st.integers(1, 5), st.integers(1, 4))
def test_property_blobs_have_the_sizes_asked_for(seed, train, test, classes, features):
    found = data.blobs(train=train, test=test, classes=classes, features=features, seed=seed)
    assert found.x_train.shape == (train, features) and found.x_test.shape == (test, features)
    assert np.all(np.concatenate([found.y_train, found.y_test]) < classes)


@given(seeds)
def test_property_blobs_without_spread_are_their_centres(seed):
    found = data.blobs(spread=0.0, seed=seed)
    for label in np.unique(found.y_train):
        assert len(np.unique(found.x_train[found.y_train == label], axis=0)) == 1


@given(seeds)
def test_property_spirals_without_noise_lie_on_their_arms(seed):
    found = data.spirals(noise=0.0, seed=seed)
    radius = np.hypot(*found.x_train.T)
    assert np.all((radius > 0.29) & (radius < 3.01))
    angle = 2 * radius + np.pi * found.y_train
    np.testing.assert_allclose(found.x_train, np.c_[radius * np.cos(angle), radius * np.sin(angle)], atol=1e-4)


@given(seeds, st.integers(1, 5), st.floats(1, 1e4), st.floats(-5, 5))
def test_property_correlated_data_have_the_condition_and_the_mean_asked_for(seed, features, condition, offset):
    x = data.correlated(samples=4000, features=features, condition=condition, offset=offset, seed=seed)
    assert x.shape == (4000, features) and x.dtype == np.float32
    var = np.linalg.eigvalsh(np.cov(x.astype(np.float64).T).reshape(features, features))
    wanted = np.sort(np.geomspace(condition, 1, features))
    # 4000 samples: a sample eigenvalue is off by sqrt(2 / 4000) = 2.2 %; close ones push each other apart, up to
    # about 2 * sqrt(features / 4000) = 7 % of the larger
    np.testing.assert_allclose(var, wanted, rtol=0.2)
    assert np.all(np.abs(x.mean(axis=0) - offset) < 6 * np.sqrt(condition / 4000) + 1e-4)


@given(seeds)
@settings(max_examples=10)
def test_property_digits_of_any_seed_are_the_same_images(seed):
    found, other = data.digits(standardized=False, seed=seed), data.digits(standardized=False)
    for a, b in (("x_train", "x_test"), ("y_train", "y_test")):
        whole, reference = (np.concatenate([getattr(d, a), getattr(d, b)]) for d in (found, other))
        np.testing.assert_allclose(whole.sum(), reference.sum(), rtol=1e-5)


@given(seeds, st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=10)
def test_property_glyphs_have_the_sizes_asked_for(seed, train, test):
    found = data.glyphs(train=train, test=test, seed=seed)
    assert found.x_train.shape == (train, 784) and found.x_test.shape == (test, 784)
    counts = np.bincount(np.concatenate([found.y_train, found.y_test]), minlength=10)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("call", "message"), [
    (lambda: data.blobs(train=-1, test=3), "train must be an integer of 0 or more, got -1"),
    (lambda: data.blobs(test=2.5), "test must be an integer of 0 or more, got 2.5"),
    (lambda: data.blobs(classes=0), "classes must be an integer of 1 or more, got 0"),
    (lambda: data.blobs(features=0), "features must be an integer of 1 or more, got 0"),
    (lambda: data.blobs(spread=-1.0), "spread must be 0 or more, got -1.0"),
    (lambda: data.spirals(train=3, test=-1), "test must be an integer of 0 or more, got -1"),
    (lambda: data.spirals(noise=-0.1), "noise must be 0 or more, got -0.1"),
    (lambda: data.glyphs(train=-5), "train must be an integer of 0 or more, got -5"),
    (lambda: data.correlated(samples=-1), "samples must be an integer of 0 or more, got -1"),
    (lambda: data.correlated(features=0), "features must be an integer of 1 or more, got 0"),
    (lambda: data.correlated(condition=-1), "condition is the largest variance over the smallest, 1 or more; got -1"),
])
def test_numbers_without_a_meaning_are_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
