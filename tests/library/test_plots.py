"""What the figures of several chapters share: the numbers that a line and its band show."""

import matplotlib.pyplot as plt
import numpy as np

from course_lib import plots


def drawn(panel):
    """The line's points, and the least and largest height of the band."""
    (line,), (band,) = panel.lines, panel.collections
    heights = band.get_paths()[0].vertices[:, 1]
    return line.get_xydata(), heights.min(), heights.max()


def test_median_and_range_of_the_runs():
    panel = plt.figure().subplots()
    plots.median_and_range(panel, [1, 2], np.array([[3.0, 9.0, 4.0], [5.0, 6.0, 20.0]]), color="k")
    points, low, high = drawn(panel)
    assert points.tolist() == [[1, 4], [2, 6]] and (low, high) == (3, 20)


def test_steps_are_drawn_where_most_runs_arrive_and_cut_at_the_frame():
    panel, never = plt.figure().subplots(), np.inf
    steps = np.array([[40, never, 30], [never, never, 20], [50, 60, 70], [150, 160, 90]])
    plots.steps_against_rate(panel, (0.1, 1, 10, 20), steps, most=100, color="k")
    points, low, high = drawn(panel)
    assert points.tolist() == [[0.1, 40], [10, 60]] and (low, high) == (30, 100)
    assert panel.get_xscale() == panel.get_yscale() == "log" and panel.get_ylim()[1] == 100
