from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.pruning.axes import Coupling, reshaped


@st.composite
def splits(draw: st.DrawFn, size: int) -> list[int]:
    """Sizes whose product is `size`."""
    found = []
    while size > 1:
        factor = draw(st.sampled_from([each for each in range(2, size + 1) if size % each == 0]))
        found.append(factor)
        size //= factor
        if draw(st.booleans()):
            found.append(1)
    return found or [1]


@given(st.data())
def test_labels_are_where_reshape_puts_them_or_nowhere(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    labels = np.arange(shape[axis]) + 10
    if len(labels) == 1:
        return
    made = data.draw(splits(int(np.prod(shape))))
    found = reshaped(labels, axis, shape, made)
    everywhere = np.broadcast_to(labels.reshape(-1, *[1] * (len(shape) - axis - 1)), shape).reshape(made)
    whole = [
        (place, line)
        for place, size in enumerate(made)
        for line in [np.moveaxis(everywhere, place, 0).reshape(size, -1)[:, 0]]
        if size > 1 and (np.moveaxis(everywhere, place, -1) == line).all()
    ]
    if found is None:
        assert not whole
    else:
        assert [(found[0], found[1].tolist())] == [(place, line.tolist()) for place, line in whole]


@given(st.integers(1, 4), st.integers(2, 4), st.integers(1, 4))
def test_what_was_flattened_and_is_unflattened_is_followed(batch: int, channels: int, plane: int) -> None:
    labels = np.arange(channels)
    flat = reshaped(labels, 1, (batch, channels, plane, plane), (batch, channels * plane * plane))
    assert flat is not None
    back = reshaped(flat[1], 1, (batch, channels * plane * plane), (batch, channels, plane, plane))
    assert back is not None
    assert back[0] == 1
    assert back[1].tolist() == labels.tolist()


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_tied_labels_are_one_component(ties: list[tuple[int, int]]) -> None:
    coupling = Coupling()
    coupling.fresh(20)
    for one, other in ties:
        coupling.tie(np.array([one]), np.array([other]))
    near = torch.eye(20, dtype=torch.float64)
    for one, other in ties:
        near[one, other] = near[other, one] = 1
    reached = torch.linalg.matrix_power(near, 20) > 0
    expected = [int(row.nonzero()[0]) for row in reached]
    assert coupling.components().tolist() == expected
