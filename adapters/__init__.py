"""Adapters for the layers of `torch.nn`, one file per family; imported as `surgery.adapters`."""

if __name__ == "adapters":
    raise ImportError(
        "adapters: this folder of model-surgery was imported under the name of another distribution. "
        "Write `import surgery.adapters` (importing `surgery` is enough to register every adapter)."
    )

# The families, imported for the registration they do: one line each, in alphabetical order.
from surgery.adapters import attention as attention
from surgery.adapters import conv as conv
from surgery.adapters import embedding as embedding
from surgery.adapters import linear as linear
from surgery.adapters import norm as norm
from surgery.adapters import recurrent as recurrent
