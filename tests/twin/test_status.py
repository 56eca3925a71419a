"""A wrapped model says that it is wrapped, at which widths, and what was drawn last; a small one is as any model."""

from __future__ import annotations

import pytest
from torch import nn

import surgery
from tests.small_models import Net, X, mlp


def test_the_repr_is_that_of_the_model_and_what_is_set() -> None:
    model = Net()
    wrapped = surgery.wrap(model, X, draw=surgery.grid([0.25]))
    assert repr(wrapped) == f"{model!r}  [wrapped: widths that are set: full]"
    assert repr(wrapped.fc1) == repr(model.fc1)
    wrapped.train()(X)
    assert repr(wrapped).endswith("full; drawn last: fc1.o 4 of 16, fc2.o 2 of 8]")
    surgery.set_widths(wrapped, {"fc2.o": 5})
    assert "[wrapped: widths that are set: fc2.o 5 of 8; drawn" in repr(wrapped)
    for plain in (surgery.shrink(wrapped, 1.0), surgery.unwrap(wrapped), model):
        assert repr(plain) == repr(Net())
    assert "[wrapped" in repr(nn.ModuleList([wrapped]))


def test_before_the_first_forward() -> None:
    wrapped = surgery.wrap(Net())
    assert repr(wrapped).endswith("[wrapped: analysed at its first forward]")
    assert "analysed at its first forward" in str(surgery.status(wrapped))
    wrapped.eval()(X)
    assert surgery.status(wrapped).sizes == {"fc1.o": 16, "fc2.o": 8}


def test_status() -> None:
    wrapped = surgery.wrap(Net(), X, draw=surgery.grid([0.25]), calibration=[X, X]).eval()
    found = surgery.status(wrapped)
    assert (found.model, found.training, found.calibration, found.norms, found.drawn) == ("Net", False, 2, 1, None)
    assert found.widths == found.sizes == found.statistics == {"fc1.o": 16, "fc2.o": 8}
    assert "in eval mode" in str(found) and "drawn last: nothing yet" in str(found)
    wrapped.train()(X)
    found = surgery.status(wrapped)
    assert found.training and found.drawn == {"fc1.o": 4, "fc2.o": 2} and found.statistics is None
    assert "each forward draws, by Grid(fractions=(0.25,))" in str(found)
    assert "statistics of several widths, mixed; 2 batches" in str(found)
    deep = surgery.status(surgery.wrap(mlp(6, 8, 8, 8, 8, 8, 3), X, draw=surgery.grid([0.5])))
    assert "BatchNorm" not in str(deep) and deep.statistics is None


def test_many_groups_are_counted() -> None:
    wrapped = surgery.wrap(mlp(6, 8, 8, 8, 8, 8, 3), X)
    surgery.set_widths(wrapped, 0.5)
    assert "0.o 4 of 8, 2.o 4 of 8, 4.o 4 of 8 and 2 more groups" in str(surgery.status(wrapped))


def test_only_wrapped_models_have_one() -> None:
    with pytest.raises(surgery.InputError, match="Net is not wrapped"):
        surgery.status(Net())
