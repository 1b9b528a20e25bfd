"""The guide of chapter 13: the page prints it as a table, `benchmarks/which_norm.py card` as a page to hang up."""

import hashlib

FOOT = ("Chapter 13 of the course, November 2026. \"Measured here\": images, 4 convolutional blocks, 16 wide, 500 "
        "steps "
        "of 32 small digits (or as said); sorting, 2 transformer blocks, 32 wide, 300 steps of 32 sequences. "
        "\"Reported\": by others, at their size; not repeated.")

ROWS = (  # the case, what to take, on what evidence
    ("Convolutions, dozens of images a device",
     "Batch norm, above all if steps are few. Mind its traps: evaluation mode, the last small batch.",
     "measured here, at 32 images: a fifth of the errors of none at 150 steps (three seeds, validation data), 0.6 "
     "times "
     "at 500, not told apart at 1500 (five seeds); chapter 5: the traps"),
    ("Convolutions, few images a device",
     "Group norm with several channels a group, or batch norm that is frozen or synchronized.",
     "reported: Wu and He 2018, from 8 images a device down; measured here: batch norm level at 2 of 32, lost at 1; "
     "chapter 9: behind group norm at 2, lost at 1"),
    ("A transformer of many blocks",
     "RMS norm at the head of each branch, or layer norm. Warm the rate up.",
     "reported, for depth: chapter 12 counts the models; measured here, in two blocks: layer norm made 18 % more "
     "errors than RMS norm in sorting (3 to 36 %, by one comparison); level on images"),
    ("A shallow net, and time to tune the rate",
     "Try none: skips, good first weights, a scale and a shift. Take a norm if that fails.",
     "measured here, sorting: at 300 steps none was ahead of every norm of activations; at 900 ahead of layer and "
     "batch norm, with all three below 0.3 % wrong; at 100 not told apart from these two"),
    ("No statistics of activations wanted, but some safety",
     "Norm the weights, without their mean: weight standardization.",
     "measured here: among the two best at 500 steps (images) and at 300 (sorting), but no cure for depth by itself; "
     "reported: Qiao and others 2019, with group norm"),
    ("Many blocks, and no norm",
     "Start each branch at zero (SkipInit), or small by its first weights (Fixup). Mind the rate.",
     "measured here, 16 blocks, 200 steps: none is lost, SkipInit learns in four of five seeds, weight "
     "standardization alone is worse off (60 % wrong, 36 to 73); "
     "reported: Fixup 2019"),
    ("The learning rate is a guess",
     "Batch norm, almost free. Weight standardization, at a price.",
     "measured here, errors at four times the best rate over those at the best: batch norm 1.0 (images) and 1.4 "
     "(sorting), weight standardization 1.5 and 5.5"),
    ("One sample at a time, streams, language models",
     "Nothing with statistics over the batch or over time: RMS norm, layer norm, DyT, or none.",
     "by definition: their output for a sample does not change with its company"),
    ("Contrast or style should go, or should be set",
     "Instance norm, with scale and shift from the style. Not for sorting, whose answer is a count.",
     "measured here: 40 % wrong in sorting; chapter 8 for the styles"),
    ("A transformer and little data",
     "DyT may regularize; with much data, compare it with RMS norm first.",
     "reported: Zhu and others 2025 for DyT, Verma 2026 for both directions, in a model of 64 million parameters"),
    ("A large convolutional net without any norm",
     "Weight standardization, branches from zero, clipped gradients: an NFNet.",
     "reported: Brock and others 2021"),
    ("You compare layers yourself",
     "Tune each alike, report fresh seeds and other data, compare pairs, raise the bar for every arm you tried. "
     "Say the number of steps.",
     "measured here: of races among eleven equal arms, three in ten report a difference, one in six a winner"),
)


def digest():
    """A word that changes with the rows."""
    return hashlib.sha256(repr((ROWS, FOOT)).encode()).hexdigest()[:16]
