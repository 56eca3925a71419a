"""`python -m tests.benchmarks paper.mnist`: the paper's first experiment on its own data; see `mlp.py`."""

from functools import partial

from tests.benchmarks.data import mnist
from tests.benchmarks.paper import compared, mlp

EXPERIMENT = mlp.experiment(mnist)
main = partial(compared.main, name="mnist", experiment=EXPERIMENT)
plot = partial(compared.plot, experiment=EXPERIMENT, title="MLP 784-256-256-10 on MNIST", depth=8.0)
