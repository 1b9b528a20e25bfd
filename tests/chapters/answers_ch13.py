"""Right answers to the exercises of chapter 13 in other styles: the checker must accept each of them."""

import numpy as np


def weight_by_autograd(dw, v, gain):
    import torch

    v, gain = (torch.tensor(each, requires_grad=True) for each in (v, gain))
    w = gain[:, None] * v / v.norm(dim=1, keepdim=True)
    dv, dgain = torch.autograd.grad(w, (v, gain), torch.tensor(dw))
    return dv.numpy(), dgain.numpy()


def weight_by_loops(dw, v, gain):
    dv, dgain = np.zeros_like(v), np.zeros_like(gain)
    for k, row in enumerate(v):
        length = np.linalg.norm(row)
        jacobian = gain[k] * (np.eye(len(row)) / length - np.outer(row, row) / length**3)
        dv[k] = jacobian @ dw[k]
        dgain[k] = dw[k] @ row / length
    return dv, dgain


def weight_by_the_paper(dw, v, gain):
    n = np.linalg.norm(v, axis=1)
    dgain = np.einsum("oi,oi->o", dw, v) / n
    return (gain / n)[:, None] * dw - (gain * dgain / n**2)[:, None] * v, dgain


def choose_by_loop(rates, errors):
    best, least = None, float("inf")
    for rate, row in zip(rates, errors):
        score = sum(100 if e != e else e for e in row) / len(row)
        if score < least:
            best, least = rate, score
    return best, best / 2 if best == min(rates) else 2 * best if best == max(rates) else 0


def choose_by_sorting(rates, errors):
    order = np.argsort(rates)
    rates, filled = rates[order], np.nan_to_num(errors[order], nan=100.0)
    k = int(np.argmin(filled.sum(axis=1)))
    more = {0: rates[k] / 2, len(rates) - 1: rates[k] * 2}.get(k, 0.0)
    return rates[k], more


def choose_in_torch(rates, errors):
    import torch

    score = torch.tensor(errors).nan_to_num(100).mean(1)
    best = rates[score.argmin().item()]
    others = [rate for rate in rates if rate != best]
    if all(best < rate for rate in others):
        return best, 0.5 * best
    return best, 2 * best if all(best > rate for rate in others) else 0.0


def holm_by_loop(p):
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, k in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        largest = max(largest, (len(p) - rank) * p[k])
        adjusted[k] = min(1.0, largest)
    return adjusted


def holm_by_definition(p):
    p = np.asarray(p)
    return np.array([min(1.0, max((p >= q).sum() * q for q in p[p <= own])) for own in p])


def holm_by_ranks(p):
    order = p.argsort(kind="stable")
    back = order.argsort()
    return np.clip(np.maximum.accumulate((len(p) - np.arange(len(p))) * np.sort(p)), 0, 1)[back]


STYLES = {
    "weight_norm_gradient": [weight_by_autograd, weight_by_loops, weight_by_the_paper],
    "choose_rate": [choose_by_loop, choose_by_sorting, choose_in_torch],
    "holm": [holm_by_loop, holm_by_definition, holm_by_ranks],
}
EQUIVALENT = {
    "choose_rate": {
        "0.0 -> 0.0": "nothing was changed by it",
        "np.where(np.isnan(errors), 100.0, errors).mean -> np.where(np.isnan(errors), 100.0, errors).sum":
            "all rates have as many seeds, so sums have the order of means",
    },
}
