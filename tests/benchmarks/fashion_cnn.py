"""`python -m tests.benchmarks fashion_cnn`: see `fashion.py`."""

from functools import partial

from tests.benchmarks import fashion

main = partial(fashion.main, name="cnn")
plot = partial(fashion.plot, title="CNN on Fashion-MNIST")
