"""Train a PyTorch model once with structural dropout, then slice it to any width. See README.md for a tour."""

from surgery import adapters as adapters  # registers the built-in layers
from surgery import rules as rules  # registers the built-in operations
from surgery.adapter import Adapter, LayerCall, adapter
from surgery.attention import MultiheadAttention
from surgery.cost import Cost, cost
from surgery.draws import grid, paper, shared
from surgery.errors import (
    AxisError,
    CaptureError,
    FileError,
    InputError,
    ProofError,
    SurgeryError,
    WidthError,
)
from surgery.inputs import batches, inputs
from surgery.plan import Plan
from surgery.planning import make_plan
from surgery.reorder import reorder
from surgery.shrink import shrink
from surgery.verify import verify
from surgery.wrap import at_widths, set_widths, unwrap, widths, wrap
