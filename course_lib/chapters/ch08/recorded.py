"""What benchmarks/chapter08.py found: for each arm at its best rate a number for each seed:
the held-out loss of a diffusion net, or the wrong answers to questions in percent.

2026-11-28, one thread, 115 s; Python 3.11.7, torch 2.13.0+cpu.
"""

RECORDED = {
    "1000 steps: AdaLN, gate from 1": (0.8408, 0.8411, 0.8409, 0.8344, 0.8318,),
    "1000 steps: AdaLN-zero": (0.8203, 0.8096, 0.8091, 0.8095, 0.8048,),
    "1000 steps: AdaLN, plain gate": (0.7987, 0.798, 0.8007, 0.795, 0.7947,),
    "1000 steps: AdaLN, 0.1": (0.7954, 0.7949, 0.7898, 0.7868, 0.7937,),
    "1000 steps: concatenated": (0.8368, 0.8408, 0.8475, 0.8372, 0.8348,),
    "1000 steps: concat., plain gate": (0.8307, 0.8252, 0.8246, 0.8281, 0.8271,),
    "1000 steps: concat., 0.1": (0.8276, 0.8106, 0.8203, 0.8276, 0.8195,),
    "AdaLN, factor 0.03": (0.9556, 0.9612, 0.946, 0.9495, 0.9541,),
    "AdaLN, factor 0.1": (0.9655, 0.9699, 0.968, 0.9675, 0.9712,),
    "AdaLN, factor 0.3": (0.9955, 1.019, 1.008, 0.9903, 1.011,),
    "AdaLN, factor 1": (1.326, 1.324, 1.326, 1.327, 1.324,),
    "AdaLN, factor 1, last W times 0.1": (1.2, 1.18, 1.193, 1.124, 1.189,),
    "AdaLN, factor 1, last W from 0": (1.201, 1.201, 1.201, 1.143, 1.209,),
    "AdaLN, factor 0.1, last W times 10": (1.14, 1.19, 1.143, 1.127, 1.177,),
    "AdaLN-zero, no scale s": (0.9754, 0.98, 0.9795, 0.9719, 0.9952,),
    "linear path, gate from 1": (0.9785, 0.9835, 0.9806, 0.9834, 0.9768,),
    "linear path, AdaLN-zero": (0.9365, 0.9455, 0.9578, 0.9406, 0.9257,),
    "question, 1": (35.7, 35.95, 34.8, 38.3, 34.7,),
    "question, 4": (25.35, 24.3, 24.35, 25.6, 25.85,),
}
