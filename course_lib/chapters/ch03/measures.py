"""What the theory of wide random tanh nets says about each scale and depth, for the map that opens chapter 3."""

import numpy as np

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def signal_map(sigmas, depth, *, likeness=0.37):
    """Gradient and likeness of two inputs, layer by layer, in a wide tanh net without biases.

    Args:
        sigmas: (S,), standard deviation of a weight times the root of the fan-in.
        depth: how many layers.
        likeness: correlation of the two inputs; that of two images of one digit is 0.37 on average.
    Returns:
        (S, depth) twice: after 1, 2, ... layers the mean square of the gradient at the bottom relative to that on
        top, and the correlation of the two samples' pre-activations.
    """
    u, v = np.meshgrid(NODES, NODES)
    both = np.outer(WEIGHTS, WEIGHTS)
    growth, alike = np.zeros((2, len(sigmas), depth))
    for s, sigma in enumerate(sigmas):
        q, c, product = sigma**2, likeness, 1.0  # inputs have mean square 1
        for layer in range(depth):
            growth[s, layer], alike[s, layer] = product, c
            z, other = np.sqrt(q) * u, np.sqrt(q) * (c * u + np.sqrt(1 - c**2) * v)
            product *= sigma**2 * (WEIGHTS @ (1 - np.tanh(np.sqrt(q) * NODES) ** 2) ** 2)
            square = WEIGHTS @ np.tanh(np.sqrt(q) * NODES) ** 2
            c = np.sum(both * np.tanh(z) * np.tanh(other)) / square
            q = sigma**2 * square
    return growth, alike
