"""`python -m tests.benchmarks fashion_mlp`: see `fashion.py`."""

from functools import partial

from tests.benchmarks import fashion

main = partial(fashion.main, name="mlp")
plot = partial(fashion.plot, title="MLP on Fashion-MNIST")
