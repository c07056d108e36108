"""When weights go and how fast the rest learn: pure functions of a step. Needs no PyTorch."""

from __future__ import annotations

import math

_RISE = 0.3
_START_DIVISOR = 25.0
_END_DIVISOR = 1e4


def one_cycle(step: int, total: int, peak: float) -> float:
    """The learning rate at `step` of `total`: from peak / 25 up to peak in the first 30 %, then down to almost 0.

    Both ways along a cosine. Smith & Topin 2018, in the form of torch.optim.lr_scheduler.OneCycleLR.
    """
    start = peak / _START_DIVISOR
    top, last = _RISE * total - 1, total - 1
    if step <= top:
        return _cosine(start, peak, step / top)
    return _cosine(peak, start / _END_DIVISOR, (step - top) / (last - top) if last > top else 1.0)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def cubic_ratio(step: int, begin: int, every: int, times: int, initial: float, final: float) -> float:
    """The ratio pruned at `step` of gradual pruning: `times` cuts after the first one, one every `every` steps.

    s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Δt))³ for t in t_0 … t_0 + n Δt, and s_f after it.
    Zhu & Gupta 2017, equation 1.
    """
    share = min(1.0, max(0.0, (step - begin) / (times * every)))
    return final + (initial - final) * (1 - share) ** 3


def round_ratio(done: int, rounds: int, final: float) -> float:
    """The ratio after `done` of `rounds` rounds, each of which removes the same share of the weights left.

    1 - (1 - s)^(done / rounds), as the iterative pruning of Han et al. 2015 and Frankle & Carbin 2019.
    """
    return final if done == rounds else 1 - (1 - final) ** (done / rounds)
