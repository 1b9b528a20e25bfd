"""Initialization: laws of the weights, variances through the layers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import course_lib as ours
from course_lib.init import ACTIVATIONS

FANS = (300, 200)  # different, so that a fan taken for the other shows
LAWS = [  # name, variance as a formula of (fan_in, fan_out), uniform
    ("lecun_normal", lambda i, o: 1 / i, False),
    ("xavier_normal", lambda i, o: 2 / (i + o), False),
    ("xavier_uniform", lambda i, o: 2 / (i + o), True),
    ("he_normal", lambda i, o: 2 / i, False),
    ("he_uniform", lambda i, o: 2 / i, True),
]
NAMES = [name for name, _, _ in LAWS] + ["orthogonal"]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("name", "variance", "uniform"), LAWS, ids=lambda v: v if isinstance(v, str) else "")
def test_weights_follow_their_law(name, variance, uniform):
    w = getattr(ours, name)(rng(), *FANS)
    expected = variance(*FANS)
    assert w.shape == FANS and w.dtype == np.float64
    # 60,000 draws: the relative standard error of a variance is at most sqrt(2 / 60000) = 0.6 %
    assert abs(w.var() / expected - 1) < 0.03 and abs(w.mean()) < 5 * np.sqrt(expected / w.size)
    kurtosis = np.mean(w**4) / np.mean(w**2) ** 2  # 3 for a normal law, 1.8 for a uniform one
    assert abs(kurtosis - (1.8 if uniform else 3)) < 0.15
    if uniform:
        bound = np.sqrt(3 * expected)
        assert 0.999 * bound < np.abs(w).max() <= bound


@pytest.mark.parametrize(("name", "theirs", "options"), [
    ("xavier_normal", torch.nn.init.xavier_normal_, {}),
    ("xavier_normal", torch.nn.init.xavier_normal_, {"gain": 5 / 3}),
    ("xavier_uniform", torch.nn.init.xavier_uniform_, {"gain": 5 / 3}),
    ("he_normal", torch.nn.init.kaiming_normal_, {"negative_slope": 0.5}),
    ("he_uniform", torch.nn.init.kaiming_uniform_, {"negative_slope": 0.5}),
    ("orthogonal", torch.nn.init.orthogonal_, {"gain": 2.0}),
])
def test_weights_are_as_wide_as_those_of_torch(name, theirs, options):
    w = getattr(ours, name)(rng(), *FANS, **options)
    torch_options = {"a" if key == "negative_slope" else key: value for key, value in options.items()}
    generator = torch.Generator().manual_seed(0)
    their_w = theirs(torch.empty(FANS[::-1]), generator=generator, **torch_options).numpy()  # torch stores (out, in)
    assert abs(w.std() / their_w.std() - 1) < 0.02  # two times 0.4 % of a standard deviation, with room


def test_normal_and_constant_are_what_they_say():
    w = ours.normal(rng(), *FANS, std=0.01)
    assert w.shape == FANS and abs(w.std() / 0.01 - 1) < 0.02 and abs(w.mean()) < 2e-4
    np.testing.assert_array_equal(ours.constant(rng(), 3, 2), np.zeros((3, 2)))
    np.testing.assert_array_equal(ours.constant(rng(), 3, 2, value=0.3), np.full((3, 2), 0.3))


@pytest.mark.parametrize("name", [*NAMES, "constant"])
@pytest.mark.parametrize(("fans", "shown"), [((0, 3), "0 and 3"), ((3, -1), "3 and -1"), ((2.5, 3), "2.5 and 3"),
                                             ((3, 2.5), "3 and 2.5"), ((4.0, 3), "4.0 and 3"),
                                             ((3, np.nan), "3 and nan")])
def test_widths_must_be_positive_integers(name, fans, shown):
    with pytest.raises(ValueError, match=f"fan_in and fan_out are widths, positive integers; got {shown}"):
        getattr(ours, name)(rng(), *fans)
    with pytest.raises(ValueError, match=shown):
        ours.normal(rng(), *fans, std=1.0)


def test_random_state_is_the_argument_only():
    state = np.random.get_state()[1].copy()
    for name in NAMES:
        make = getattr(ours, name)
        np.testing.assert_array_equal(make(rng(3), 4, 5), make(rng(3), 4, 5))
        assert np.any(make(rng(3), 4, 5) != make(rng(4), 4, 5))
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_orthogonal_prefers_no_rotation():
    # with the signs of QR left as they are, the diagonal of q would have one sign most of the time
    signs = [np.sign(ours.orthogonal(rng(seed), 3, 3)[0, 0]) for seed in range(400)]
    assert abs(np.mean(signs)) < 0.2  # four standard errors


# Variances through the layers -----------------------------------------------------------------------------------------


def network(make, widths, seed=0):
    generator = rng(seed)
    return [make(generator, i, o) for i, o in pairwise(widths)]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_the_activations(name):
    f, derivative = ACTIVATIONS[name]
    z = np.array([-3.0, -0.7, -0.01, 0.2, 1.5, 4.0])
    np.testing.assert_allclose(derivative(z), (f(z + 1e-6) - f(z - 1e-6)) / 2e-6, rtol=1e-8, atol=1e-9)
    assert f(z).shape == z.shape


def test_sigmoid_is_the_logistic_function():
    z = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(ACTIVATIONS["sigmoid"][0](z), 1 / (1 + np.exp(-z)), rtol=1e-15)
    np.testing.assert_array_equal(ACTIVATIONS["sigmoid"][0](np.array([-1e3, 1e3])), [0, 1])  # no overflow


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_predictions_agree_with_measurements(activation):
    widths = (500, 700, 600, 400)  # none equal, so that a fan taken for the other shows
    v = (1.5 / 500, 1.2 / 700, 1.8 / 600)
    generator = rng(1)
    weights = [ours.normal(generator, i, o, std=np.sqrt(var))
               for (i, o), var in zip(pairwise(widths), v, strict=True)]
    x = generator.standard_normal((1500, 500)) * 1.5
    measured = ours.measured_variances(weights, x, activation, generator.standard_normal((1500, 400)))
    predicted = ours.predicted_variances(widths, v, activation, x_mean_square=2.25)
    for found, expected in zip(measured, predicted, strict=True):
        # z of the sigmoid has a mean per unit, so its variance depends on few numbers: 500 units, 1/sqrt(250) = 6 %
        np.testing.assert_allclose(found, expected, rtol=0.15)


def test_predictions_for_relu_are_those_of_he():
    widths, he = (50, 80, 20, 60), (2 / 50, 2 / 80, 2 / 20)
    p = ours.predicted_variances(widths, he, "relu", x_mean_square=1.0)
    np.testing.assert_allclose(p.z, [2, 2, 2], rtol=1e-12)  # half of each is lost, the factor 2 makes up for it
    np.testing.assert_allclose(p.h, 2 * (1 / 2 - 1 / (2 * np.pi)), rtol=1e-12)  # the variance of a half normal law
    # backward each layer multiplies by fan_out * 2 / fan_in / 2: 60/20 and 20/80
    np.testing.assert_allclose(p.dz, [0.5 * 20 / 80 * 60 / 20, 0.5 * 60 / 20, 0.5], rtol=1e-12)


def test_predictions_for_linear_layers_are_products():
    p = ours.predicted_variances((4, 6, 3), (0.5, 0.2), "linear", x_mean_square=3.0)
    np.testing.assert_allclose(p.z, [6.0, 7.2], rtol=1e-12)
    np.testing.assert_allclose(p.h, [6.0, 7.2], rtol=1e-12)
    np.testing.assert_allclose(p.dz, [3 * 0.2, 1.0], rtol=1e-12)
    half = ours.predicted_variances((4, 6, 3), (0.5, 0.2), "linear")
    np.testing.assert_allclose(half.z, p.z / 3, rtol=1e-12)  # x_mean_square is 1 by default


def test_predictions_give_the_famous_tanh_ladder():
    p = ours.predicted_variances([512] * 7, [1 / 512] * 6, "tanh")
    np.testing.assert_allclose(np.sqrt(p.h), [0.628, 0.487, 0.408, 0.358, 0.321, 0.294], atol=1e-3)


def test_measured_gradients_are_those_of_torch():
    weights = network(ours.xavier_normal, (5, 7, 4))
    x, dh = rng(1).standard_normal((6, 5)), rng(2).standard_normal((6, 4))
    z1 = torch.tensor(x) @ torch.tensor(weights[0])
    z1.requires_grad_()
    z2 = torch.tanh(z1) @ torch.tensor(weights[1])
    z2.retain_grad()
    torch.tanh(z2).backward(torch.tensor(dh))
    found = ours.measured_variances(weights, x, "tanh", dh)
    zs = (z1, z2)
    np.testing.assert_allclose(found.dz, [(z.grad**2).mean() for z in zs], rtol=1e-10)
    np.testing.assert_allclose(found.z, [z.detach().numpy().var() for z in zs], rtol=1e-10)
    np.testing.assert_allclose(found.h, [np.tanh(z.detach().numpy()).var() for z in zs], rtol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_lsuv_gives_each_layer_variance_1_and_keeps_directions(activation):
    weights, x = network(ours.orthogonal, (20, 30, 30, 10)), 5 + 3 * rng(1).standard_normal((100, 20))
    kept = [w.copy() for w in weights]
    scaled = ours.lsuv(weights, x, activation)
    found = ours.measured_variances(scaled, x, activation, np.ones((100, 10)))
    np.testing.assert_allclose(found.z, 1, rtol=1e-12)
    for w, before, now in zip(weights, kept, scaled, strict=True):
        np.testing.assert_array_equal(w, before)
        np.testing.assert_allclose(now / np.linalg.norm(now), w / np.linalg.norm(w), rtol=1e-12)


def test_lsuv_refuses_a_dead_layer():
    weights = [ours.orthogonal(rng(), 4, 3), np.zeros((3, 2))]
    with pytest.raises(ValueError, match="layer 2 has pre-activations that are all 0: no scale helps"):
        ours.lsuv(weights, rng(1).standard_normal((5, 4)), "tanh")


@pytest.mark.parametrize("call", [
    lambda: ours.lsuv([], np.ones((2, 2)), "gelu"),
    lambda: ours.predicted_variances((2, 2), (1,), "gelu"),
    lambda: ours.measured_variances([], np.ones((2, 2)), "gelu", np.ones((2, 2))),
])
def test_unknown_activation_is_refused_with_the_known_ones(call):
    with pytest.raises(ValueError, match="activation is 'gelu'; choose one of linear, relu, tanh, sigmoid"):
        call()


def test_predictions_refuse_another_number_of_variances():
    with pytest.raises(ValueError, match="4 widths make 3 layers, not 2"):
        ours.predicted_variances((2, 3, 4, 5), (0.1, 0.2), "relu")


# Properties ----------------------------------------------------------------------------------------------------------

widths = st.integers(1, 12)
seeds = st.integers(0, 2**16)


@given(widths, widths, seeds, st.floats(0.1, 3))
def test_property_orthogonal_has_equal_singular_values(fan_in, fan_out, seed, gain):
    w = ours.orthogonal(rng(seed), fan_in, fan_out, gain=gain)
    assert w.shape == (fan_in, fan_out)
    np.testing.assert_allclose(np.linalg.svd(w, compute_uv=False), gain, rtol=1e-12)


@given(widths, widths, seeds, st.floats(0.1, 3))
def test_property_gain_is_a_factor(fan_in, fan_out, seed, gain):
    for name in ("xavier_normal", "xavier_uniform", "orthogonal"):
        make = getattr(ours, name)
        plain = make(rng(seed), fan_in, fan_out)
        np.testing.assert_allclose(make(rng(seed), fan_in, fan_out, gain=gain), gain * plain, rtol=1e-12, atol=1e-15)


@given(widths, widths, seeds, st.floats(0, 2))
def test_property_a_leaky_slope_divides_by_sqrt_1_plus_its_square(fan_in, fan_out, seed, slope):
    for name in ("he_normal", "he_uniform"):
        make = getattr(ours, name)
        leaky = make(rng(seed), fan_in, fan_out, negative_slope=slope)
        np.testing.assert_allclose(leaky * np.sqrt(1 + slope**2), make(rng(seed), fan_in, fan_out), rtol=1e-12)


@given(widths, seeds)
def test_property_between_equal_widths_xavier_is_lecun(width, seed):
    ours_equal = ours.xavier_normal(rng(seed), width, width), ours.lecun_normal(rng(seed), width, width)
    np.testing.assert_allclose(*ours_equal, rtol=1e-12)


@given(st.lists(widths, min_size=2, max_size=5), st.floats(0.1, 5), st.floats(0.1, 5))
def test_property_linear_predictions_multiply(sizes, v, x_mean_square):
    p = ours.predicted_variances(sizes, [v] * (len(sizes) - 1), "linear", x_mean_square=x_mean_square)
    np.testing.assert_allclose(p.z[-1], x_mean_square * np.prod([n * v for n in sizes[:-1]]), rtol=1e-10)
    np.testing.assert_allclose(p.dz[0], np.prod([n * v for n in sizes[2:]]), rtol=1e-10)


@given(st.sampled_from(["tanh", "sigmoid", "relu"]), st.floats(0.01, 100))
def test_property_no_activation_here_gains_variance_or_gradient(activation, q):
    p = ours.predicted_variances((1, 1), (q,), activation)
    assert p.h[0] < q and 0 < p.dz[0] <= 1


@given(seeds, st.floats(0.01, 100), st.sampled_from(list(ACTIVATIONS)))
def test_property_lsuv_does_not_care_about_the_scale_it_starts_from(seed, scale, activation):
    weights, x = network(ours.orthogonal, (4, 5, 3), seed), rng(seed + 1).standard_normal((7, 4))
    one, other = (ours.lsuv([s * w for w in weights], x, activation) for s in (1, scale))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_predictions_refuse_a_negative_variance():
    with pytest.raises(ValueError, match="the variance of the weights of layer 2 must be 0 or more, got -0.1"):
        ours.predicted_variances((4, 6, 3), (0.5, -0.1), "relu")
