"""What chapter 4 measures with more than a few lines; the chapter shows the source."""

import numpy as np


def train_bias(centre_backward, *, steps=1000, lr=0.1):
    """Bias and loss of (4.1), (2, steps); centre_backward: dx_hat -> dx."""
    rng = np.random.default_rng(0)
    u, t = rng.standard_normal(64), 0.5 + rng.standard_normal(64)
    b, history = 0.0, []
    for _ in range(steps):
        x = u + b
        x_hat = x - x.mean()
        history.append((b, np.mean((x_hat - t) ** 2) / 2))
        b -= lr * centre_backward((x_hat - t) / 64).sum()
    return np.array(history).T
