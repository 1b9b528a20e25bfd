"""What the layers refuse, and in which words: each check with input that is just right and input that is just not."""

import re

import numpy as np
import pytest
import torch

from course_lib import checks

F32 = np.zeros(3, np.float32)

REFUSED = [  # call, error, the whole message
    (lambda: checks.floating(a=F32, b=np.zeros(3, int)), TypeError, "b is int64; normalization needs a floating type"),
    (lambda: checks.floating(a=torch.zeros(3), b=torch.zeros(3, dtype=torch.bool)), TypeError,
     "b is bool; normalization needs a floating type"),
    (lambda: checks.channels((4,)), ValueError,
     "x has shape (4,); it needs a sample axis and a channel axis, (N, C, *S)"),
    (lambda: checks.channels(torch.Size([]), "y"), ValueError,
     "y has shape (); it needs a sample axis and a channel axis, (N, C, *S)"),
    (lambda: checks.parameters((2, 3), (1,), gamma=F32, beta=F32[:2]), ValueError,
     "x has 3 channels; beta has shape (2,), not (3,)"),
    (lambda: checks.parameters((2, 4, 3), (1, 2), gamma=torch.zeros(4)), ValueError,
     "x ends in (4, 3); gamma has shape (4,), not (4, 3)"),
    (lambda: checks.parameters((2, 3), (1,), gamma=np.zeros(3, int)), TypeError,
     "gamma is int64; normalization needs a floating type"),
    (lambda: checks.last_axes((2, 4, 3), (4,)), ValueError,
     "x of shape (2, 4, 3) does not end in the shape of gamma, (4,)"),
    (lambda: checks.last_axes((3,), (2, 3)), ValueError,
     "x of shape (3,) does not end in the shape of gamma, (2, 3)"),
    (lambda: checks.last_axes((3,), ()), ValueError, "x of shape (3,) does not end in the shape of gamma, ()"),
    (lambda: checks.axes_of((2, 3), (0, 2)), ValueError, "x of shape (2, 3) has no axes (0, 2)"),
    (lambda: checks.axes_of((2, 3), [-3]), ValueError, "x of shape (2, 3) has no axes (-3,)"),
    (lambda: checks.axes_of((2, 3), (1, -1)), ValueError, "axes (1, -1) of x of shape (2, 3) name an axis twice"),
    (lambda: checks.groups(4, 6), ValueError, "groups (4) must divide the number of channels (6)"),
    (lambda: checks.groups(0, 6, "num_groups"), ValueError, "num_groups (0) must divide the number of channels (6)"),
    (lambda: checks.statistics((1, 3, 1), (0, 2)), ValueError,
     "x of shape (1, 3, 1) has 1 value per slice along axes (0, 2); a variance needs 2 or more"),
    (lambda: checks.eps_fits((2, 1), (2, 3), (0,)), ValueError,
     "eps has shape (2, 1), but the statistics have (1, 3)"),
    (lambda: checks.eps_fits((1, 1, 3), (2, 3), (0,)), ValueError,
     "eps has shape (1, 1, 3), but the statistics have (1, 3)"),
    (lambda: checks.eps_fits((2,), (2, 3), (0,)), ValueError, "eps has shape (2,), but the statistics have (1, 3)"),
    (lambda: checks.not_negative(-1e-9), ValueError, "eps must be 0 or more, got -1e-09"),
    (lambda: checks.not_negative(float("nan")), ValueError, "eps must be 0 or more, got nan"),
    (lambda: checks.same_shape("dy", (2, 3), "y", (3, 2)), ValueError, "dy has shape (2, 3), but y had (3, 2)"),
    (lambda: checks.window(0, 1, 1, 0.75), ValueError,
     "size is the number of channels in the window, an integer of 1 or more; got 0"),
    (lambda: checks.window(2.0, 1, 1, 0.75), ValueError,
     "size is the number of channels in the window, an integer of 1 or more; got 2.0"),
    (lambda: checks.window(1, -1, 0, 0.75), ValueError, "k and alpha must be 0 or more, got k = -1 and alpha = 0"),
    (lambda: checks.window(1, 0, -1, 0.75), ValueError, "k and alpha must be 0 or more, got k = 0 and alpha = -1"),
    (lambda: checks.samples((2, 3, 4)), ValueError, "x has shape (2, 3, 4); whitening needs rows of samples, (N, D)"),
    (lambda: checks.samples((2, 0)), ValueError, "x has shape (2, 0); whitening needs rows of samples, (N, D)"),
    (lambda: checks.samples((1, 3)), ValueError, "x of shape (1, 3) has 1 sample; a covariance needs 2 or more"),
    (lambda: checks.method("lda", {"zca": 1, "pca": 2}), ValueError, "method is 'lda'; choose one of zca, pca"),
    (lambda: checks.full_rank(2, 9, 3), ValueError, "the covariance of 9 samples with 3 features has rank 2; "
     "whitening needs rank 3: take more samples, or an eps above 0"),
    (lambda: checks.full_rank(2, None, 3, 0.5), ValueError, "the running covariance of 3 features has rank 2; "
     "whitening needs rank 3: take more samples, or an eps above 0.5"),
    (lambda: checks.white(1.1e-6, 1e-9, 2.0, 0.0), ValueError, "the covariance is almost singular: its variances run "
     "from 1e-09 to 2, and rounding would leave the rows 1e-06 away from white: take more samples, or an eps above 0"),
    (lambda: checks.white(float("nan"), 1e-9, 2.0, 0.0), ValueError, "the covariance is almost singular: its "
     "variances run from 1e-09 to 2, and rounding would leave the rows nan away from white: take more samples, or an "
     "eps above 0"),
    (lambda: checks.no_overflow(False, 1e200), ValueError,
     "x holds 1e+200, and squares of that size overflow: divide x by a constant first"),
    (lambda: checks.array("x", np.ma.masked_array(F32)), TypeError,
     "x is a masked array, and its mask would be lost; give the entries that count"),
    (lambda: checks.array("x", None), TypeError, "x is object; normalization needs a floating type"),
    (lambda: checks.array("x", ["1"]), TypeError, "x is <U1; normalization needs a floating type"),
    (lambda: checks.gamma_given(None), TypeError,
     "gamma is None, but its shape says which axes share statistics; ones of that shape do nothing"),
    (lambda: checks.axes_of((2, 3), 1), TypeError, "axes is 1; it needs a tuple, such as (1,)"),
    (lambda: checks.groups(2.0, 4), TypeError, "groups is 2.0; it needs an integer"),
    (lambda: checks.number("eps", "1"), TypeError, "eps is '1'; it needs a number"),
    (lambda: checks.not_negative(np.array([0.1, -2.0])), ValueError, "eps must be 0 or more, got -2.0"),
    (lambda: checks.not_negative(np.array([3.0, -0.5])), ValueError, "eps must be 0 or more, got -0.5"),
    (lambda: checks.not_negative(None, "sigma"), TypeError, "sigma is None; it needs a number"),
    (lambda: checks.window(1, None, 0, 0.75), TypeError, "k is None; it needs a number"),
    (lambda: checks.window(1, 0, "1", 0.75), TypeError, "alpha is '1'; it needs a number"),
    (lambda: checks.window(1, 0, 0, "0.75"), TypeError, "beta is '0.75'; it needs a number"),
    (lambda: checks.window(1, 0, 0, 1j), TypeError, "beta is 1j; it needs a number"),
    (lambda: checks.samples_to_keep((0, 3, 4)), ValueError,
     "x of shape (0, 3, 4) has no sample, and this layer keeps running statistics: skip it"),
    (lambda: checks.count("train", -1), ValueError, "train must be an integer of 0 or more, got -1"),
    (lambda: checks.count("classes", 0, 1), ValueError, "classes must be an integer of 1 or more, got 0"),
    (lambda: checks.cache(F32, tuple), TypeError, "the cache is of type ndarray; "
     "it is the second result of the forward pass, and comes after the gradient"),
    (lambda: checks.no_tie([(0, 2), (2, 0)]), ValueError,
     "principal components 0 and 2 have the same variance: pca has no gradient, zca has one"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message[:40] for _, _, message in REFUSED])
def test_refusal_has_its_words_and_numbers(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_what_is_just_right_passes():
    checks.floating(a=F32, b=torch.zeros(3, dtype=torch.bfloat16))
    checks.channels((0, 1))
    checks.parameters((2, 3), (1,), gamma=F32, beta=None)
    checks.groups(1, 1)
    checks.groups(6, 6)
    checks.statistics((2, 3), (0,))
    checks.statistics((0, 1), (1,))  # no slice at all
    checks.eps_fits((), (2, 3), (0,))
    checks.eps_fits((1, 3), (2, 3), (0,))
    checks.eps_fits((3,), (2, 3), (0,))
    checks.not_negative(0)
    checks.samples_to_keep((1, 0))
    checks.same_shape("dy", (2, 3), "y", (2, 3))
    checks.window(np.int64(1), 0, 0, 0.75)
    checks.samples((2, 1))
    checks.samples((0, 1))
    checks.method("zca", {"zca": 1})
    checks.full_rank(3, 4, 3)
    checks.no_tie([])
    checks.full_rank(3, None, 3)
    checks.white(1e-6, 1e-9, 2.0, 0.0)
    checks.no_overflow(True, 1e200)
    checks.no_overflow(False, np.inf)  # infinity goes on as NaN
    checks.gamma_given(F32)
    checks.groups(np.int64(2), 4)
    checks.number("eps", np.float32(1))
    checks.not_negative(np.zeros(3))
    checks.not_negative(np.zeros(0))
    checks.count("test", np.int64(0))
    checks.cache((), tuple)
    assert np.array_equal(checks.array("x", [1.0, 2.0]), [1, 2])
    assert checks.array("x", F32) is F32


def test_axes_come_sorted_and_counted_from_the_first():
    assert checks.axes_of((2, 3, 4), (-1, 0)) == (0, 2)
    assert checks.axes_of((2, 3, 4), (-3, 2)) == (0, 2)
    assert checks.axes_of((), ()) == ()
    assert checks.last_axes((2, 3, 4), (3, 4)) == (1, 2)
    assert checks.last_axes(torch.Size([4]), torch.Size([4])) == (0,)
