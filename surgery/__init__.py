"""Train a PyTorch model once with structural dropout, then slice it to any width. See README.md for a tour."""

from surgery.adapters.base import Adapter, LayerCall, adapter
from surgery.adapters.plain_attention import MultiheadAttention
from surgery.curves.curve import Curve
from surgery.curves.page.report import report
from surgery.curves.page.section import Section
from surgery.curves.points import Point
from surgery.errors import AxisError, CaptureError, FileError, InputError, ProofError, SurgeryError, WidthError
from surgery.exporting.export import export_source
from surgery.measuring.adaptive import adaptive
from surgery.measuring.progress import Progress, progress
from surgery.measuring.ranks import ranks
from surgery.measuring.searching.search import search
from surgery.measuring.sensitivity import Sensitivity, sensitivity
from surgery.measuring.sweep import SweepError, sweep
from surgery.modules.inputs import batches, inputs
from surgery.modules.latency import latency
from surgery.modules.verify import verify
from surgery.plan.costs import Cost
from surgery.plan.groups import Group
from surgery.plan.plan import Plan
from surgery.planning.check_adapter import check_adapter
from surgery.planning.cost import cost
from surgery.refitting.orders import absorbed, activation
from surgery.rules.elementwise import pointwise, same
from surgery.rules.order import scans
from surgery.rules.reduce import reduces
from surgery.rules.registry import rule
from surgery.rules.spatial import spatial
from surgery.shrinking import old_names as old_names  # for pickles of earlier versions
from surgery.shrinking.io import load, save
from surgery.shrinking.nest import nest
from surgery.shrinking.optimizer import shrink_optimizer
from surgery.shrinking.reorder import reorder
from surgery.shrinking.shrink import shrink
from surgery.shrinking.sort import magnitude, order, sort, taylor
from surgery.training.distil import kl
from surgery.training.draws import grid, mixed, paper, shared
from surgery.training.resuming import TrainingState, load_training_state, training_state
from surgery.training.schedules import sandwich, warmup
from surgery.training.step import train_step
from surgery.training.teaching import cached
from surgery.training.touched import Touched, step_touched
from surgery.training.wrap import inspect, unwrap, wrap
from surgery.twin.orders import set_depth_order
from surgery.twin.setting import at_widths, set_widths, widths
from surgery.twin.statistics import recalibrate
from surgery.twin.status import Status, status
from surgery.twin.telling import log_to

__version__ = "0.1.0"

__all__ = [
    "Adapter", "AxisError", "CaptureError", "Cost", "Curve", "FileError", "Group", "InputError", "LayerCall",
    "MultiheadAttention", "Plan", "Point", "Progress", "ProofError", "Section", "Sensitivity", "Status",
    "SurgeryError", "SweepError", "Touched", "TrainingState", "WidthError", "absorbed", "activation", "adapter",
    "adapters", "adaptive", "at_widths", "batches", "cached", "check_adapter", "cost", "export_source", "grid",
    "inputs", "inspect", "kl", "latency", "load", "load_training_state", "log_to", "magnitude", "mixed", "nest",
    "order", "paper", "pointwise", "progress", "ranks", "recalibrate", "reduces", "reorder", "report", "rule",
    "rules", "same", "sandwich", "save", "scans", "search", "sensitivity", "set_depth_order", "set_widths",
    "shared", "shrink", "shrink_optimizer", "sort", "spatial", "status", "step_touched", "sweep", "taylor",
    "train_step", "training_state", "unwrap", "verify", "warmup", "widths", "wrap",
]  # fmt: skip
