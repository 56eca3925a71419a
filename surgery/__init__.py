"""Train a PyTorch model once with structural dropout, then slice it to any width. See README.md for a tour."""

from surgery import adapters as adapters  # registers the built-in layers
from surgery import rules as rules  # registers the built-in operations
from surgery.adapter import Adapter, LayerCall, adapter
from surgery.attention import MultiheadAttention
from surgery.check import check_adapter
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
from surgery.io import load, save
from surgery.optimizer import shrink_optimizer
from surgery.plan import Group, Plan
from surgery.reorder import reorder
from surgery.rules import rule
from surgery.rules.pointwise import pointwise, same
from surgery.rules.reduce import reduces, scans
from surgery.rules.shape import spatial
from surgery.shrink import shrink
from surgery.verify import verify
from surgery.wrap import at_widths, inspect, set_widths, unwrap, widths, wrap
