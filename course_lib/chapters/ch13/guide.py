"""The guide of chapter 13: the page prints it as a table, `benchmarks/which_norm.py card` as a page to hang up."""

import hashlib

FOOT = ("Chapter 13 of the course. \"Measured here\": small nets, seconds of training, the nets and tasks of that "
        "chapter. \"Reported\": by others, at their size.")

ROWS = (  # the case, what to take, on what evidence
    ("Convolutions, 16 or more images a device",
     "Batch norm, above all if steps are few. Mind its traps: evaluation mode, the last small batch.",
     "measured here: far ahead of none at 150 steps, ahead at 500, level at 1500; chapter 5: the traps"),
    ("Convolutions, few images a device",
     "Group norm with several channels a group, or batch norm that is frozen or synchronized.",
     "reported: Wu and He 2018, from 8 images a device down; measured in chapter 9 for pooled heads"),
    ("A transformer of many blocks",
     "RMS norm at the head of each branch; layer norm is as good. Warm the rate up.",
     "reported: chapter 12 counts the models; measured here: the two cannot be told apart"),
    ("A shallow net, and time to tune the rate",
     "Try none: skips, good first weights, a scale and a shift. Take a norm if that fails.",
     "measured here: on sequences none was ahead of every norm of activations"),
    ("No statistics of activations wanted, but some safety",
     "Norm the weights, without their mean: weight standardization.",
     "measured here: among the two best on both tasks; reported: Qiao and others 2019, with group norm"),
    ("Many blocks, and no norm",
     "Start each branch at zero (SkipInit), or scale it by one over the root of the depth. Mind the rate.",
     "measured here: 16 blocks, none is lost, SkipInit learns in four of five seeds; reported: Fixup 2019"),
    ("The learning rate is a guess",
     "Batch norm, or weight standardization.",
     "measured here: errors at four times the best rate"),
    ("One sample at a time, streams, language models",
     "Nothing with statistics over the batch or over time: RMS norm, layer norm, DyT, or none.",
     "measured here: their output for a sample does not change with its company"),
    ("Contrast or style should go, or should be set",
     "Instance norm, with scale and shift from the style. Not where sizes carry the answer.",
     "measured here: lost on sequences; chapter 8 for the styles"),
    ("A transformer and little data",
     "DyT may regularize; with much data, compare it with RMS norm first.",
     "reported: Zhu and others 2025 for DyT, Verma 2026 for both directions"),
    ("A large convolutional net without any norm",
     "Weight standardization, branches from zero, clipped gradients: an NFNet.",
     "reported: Brock and others 2021"),
    ("You compare layers yourself",
     "Tune each alike, report fresh seeds and other data, compare pairs, raise the bar for every arm you tried.",
     "measured here: of races among eleven equal arms, three in ten crown a winner"),
)


def digest():
    """A word that changes with the rows."""
    return hashlib.sha256(repr((ROWS, FOOT)).encode()).hexdigest()[:16]
