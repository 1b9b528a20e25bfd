"""Right answers to the exercises of chapter 14 in other styles: the checker must accept each of them."""

import numpy as np


def example_by_columns(x):
    return np.stack([column - column.mean() for column in x.T], axis=1)


def example_with_keepdims(x):
    return x - np.mean(x, axis=0, keepdims=True)


def example_by_sums(x):
    return x - x.sum(axis=0) / len(x)


STYLES = {"example_ch14": [example_by_columns, example_with_keepdims, example_by_sums]}
EQUIVALENT = {}
