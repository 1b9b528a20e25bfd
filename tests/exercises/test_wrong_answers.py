"""Wrong answers as people write them, none an edit of the solution: each is named by its mistake.

The tests of test_exercises.py edit the solution; these show that a mistake is
recognised by what it computes, in whatever style.
"""

import numpy as np
import pytest
import torch

from course_lib.exercises import EXERCISES

WRONG = []


def wrong(exercise, words):
    """The checker must say these words about the function."""
    def keep(answer):
        WRONG.append(pytest.param(exercise, words, answer, id=f"{exercise}-{answer.__name__}"))
        return answer

    return keep


@wrong("weighted_line", "the weights are squared; np.polyfit squares its own")
def polyfit_with_weights(x, y, weight):
    return tuple(np.polyfit(x, y, 1, w=weight))


@wrong("weighted_line", "the weights belong to the squared residuals; you multiplied x and y by them")
def weighted_points(x, y, weight):
    return tuple(np.polyfit(weight * x, weight * y, 1))


@wrong("weighted_line", "the intercept needs the weighted means")
def plain_centre(x, y, weight):
    slope = np.polyfit(x, y, 1, w=np.sqrt(weight))[0]
    return slope, y.mean() - slope * x.mean()


@wrong("weighted_line", "are they returned in this order, slope, intercept?")
def exchanged(x, y, weight):
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(weight))
    return intercept, slope


@wrong("breaking_dose", "the doses may come in any order")
def first_in_the_list(steps, doses):
    for runs, dose in zip(steps, doses):
        if np.isinf(runs).mean() > 0.5:
            return dose
    return np.inf


@wrong("breaking_dose", "a single lost run breaks no net")
def mean_of_steps(steps, doses):
    lost = np.isinf(steps.mean(axis=1))
    return doses[lost].min() if lost.any() else np.inf


@wrong("breaking_dose", "half of the runs is not most of them")
def median_of_steps(steps, doses):
    lost = np.isinf(np.median(steps, axis=1))
    return doses[lost].min() if lost.any() else np.inf


@wrong("shifted_gradient", "only the layer below moves: keep the old w2")
def whole_step(x, y, w1, w2, lr):
    def gradients(w1, w2):
        a = np.tanh(x @ w1)
        error = a @ w2 - y
        return x.T @ (np.outer(error, w2) * (1 - a**2)) / len(x), a.T @ error / len(x)

    dw1, before = gradients(w1, w2)
    after = gradients(w1 - lr * dw1, w2 - lr * before)[1]
    return before, after, np.linalg.norm(after - before)


@wrong("shifted_gradient", "the 1/2 of the loss takes the 2 of the square away")
def mean_of_squares(x, y, w1, w2, lr):
    def gradients(w1):
        w = torch.tensor(w1, requires_grad=True), torch.tensor(w2, requires_grad=True)
        loss = ((torch.tanh(torch.tensor(x) @ w[0]) @ w[1] - torch.tensor(y)) ** 2).mean()
        return [each.numpy() for each in torch.autograd.grad(loss, w)]

    dw1, before = gradients(w1)
    _, after = gradients(w1 - np.float32(lr) * dw1 if w1.dtype == np.float32 else w1 - lr * dw1)
    return before, after, np.linalg.norm(after - before)


@wrong("parameters_for", "this would be right for eps = 0")
def as_if_without_eps(x, mean, std, eps):
    return std.copy(), mean.copy()


@wrong("parameters_for", "beta has no mean of x to take away")
def as_if_on_x(x, mean, std, eps):
    gamma = std * np.sqrt(1 + eps / x.var(axis=0))
    return gamma, mean - gamma * x.mean(axis=0)


@wrong("uncentred_backward", "this is the backward pass of batch norm; here no mean is subtracted")
def that_of_batch_norm(dy, x, gamma, eps):
    m, inv_std = len(x), (x.var(axis=0) + eps) ** -0.5
    x_hat, dx_hat = (x - x.mean(axis=0)) * inv_std, dy * gamma
    return inv_std / m * (m * dx_hat - dx_hat.sum(axis=0) - x_hat * (dx_hat * x_hat).sum(axis=0))


@wrong("uncentred_backward", "your second road is half as wide")
def two_roads_without_the_two(dy, x, gamma, eps):
    square = (x**2).mean(axis=0) + eps
    dsquare = (dy * gamma * x * -0.5 * square**-1.5).sum(axis=0)
    return dy * gamma / np.sqrt(square) + dsquare * x / len(x)


@wrong("uncentred_backward", "the second road starts at dx_hat as well: gamma belongs into both terms")
def gamma_in_the_first_term(dy, x, gamma, eps):
    square = (x**2).mean(axis=0) + eps
    return gamma * dy / np.sqrt(square) - x * (dy * x).mean(axis=0) / square**1.5


@wrong("batch_norm_images", "reshape(-1, C) does not move axes")
def reshaped(x, gamma, beta, eps):
    rows = x.reshape(-1, x.shape[1])
    return (gamma * (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + eps) + beta).reshape(x.shape)


@wrong("batch_norm_images", "divide by the standard deviation: the root is missing")
def over_the_variance(x, gamma, beta, eps):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        y[:, c] = gamma[c] * (x[:, c] - x[:, c].mean()) / (x[:, c].var() + eps) + beta[c]
    return y


@wrong("batch_norm_images", "only the part within images")
def mean_variance(x, gamma, beta, eps):
    mu, var = x.mean(axis=(0, 2, 3)), np.array([image.var(axis=(1, 2)) for image in x]).mean(axis=0)
    scale = gamma / np.sqrt(var + eps)
    return x * scale[:, None, None] + (beta - scale * mu)[:, None, None]


@wrong("mended_batch_norm", "mean and variance are constants for the backward pass")
def under_no_grad(x, dy, eps):
    x = x.clone().requires_grad_()
    with torch.no_grad():
        var, mu = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    y = (x - mu) * (var + eps).rsqrt()
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


@wrong("mended_batch_norm", "torch keeps a gradient only where it is asked to")
def without_requires_grad(x, dy, eps):
    y = torch.nn.functional.batch_norm(x, None, None, training=True, eps=eps)
    y.backward(dy)
    return y, x.grad


@wrong("mended_batch_norm", "return 2 values, y, dx; yours returns one, of shape (4, 1, 1, 1)")
def forward_alone(x, dy, eps):
    return torch.nn.functional.batch_norm(x, None, None, training=True, eps=eps)


@pytest.mark.parametrize("exercise, words, answer", WRONG)
def test_wrong_answer_is_named(exercise, words, answer):
    report = EXERCISES[exercise].check(answer)
    assert report.state == "wrong" and words in " ".join(repr(report).split()), report
