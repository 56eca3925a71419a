"""Train a PyTorch model once with structural dropout, then slice it to any width. See README.md for a tour."""

from surgery import adapters, rules  # imported for what they register: the built-in layers and operations
from surgery.adapter import Adapter, LayerCall, adapter
from surgery.adaptive import adaptive
from surgery.attention import MultiheadAttention
from surgery.check import check_adapter
from surgery.cost import Cost, cost
from surgery.curve import Curve, Point
from surgery.distil import kl
from surgery.draws import grid, mixed, paper, shared
from surgery.errors import AxisError, CaptureError, FileError, InputError, ProofError, SurgeryError, WidthError
from surgery.inputs import batches, inputs
from surgery.io import load, save
from surgery.latency import latency
from surgery.optimizer import shrink_optimizer
from surgery.plan import Group, Plan
from surgery.progress import Progress, progress
from surgery.recalibrate import recalibrate
from surgery.reorder import reorder
from surgery.report import Section, report
from surgery.rules import pointwise, reduces, rule, same, scans, spatial
from surgery.schedules import sandwich, warmup
from surgery.search import search
from surgery.sensitivity import Sensitivity, sensitivity
from surgery.setting import at_widths, set_widths, widths
from surgery.shrink import shrink
from surgery.sort import magnitude, sort, taylor
from surgery.sweep import SweepError, sweep
from surgery.training import train_step
from surgery.verify import verify
from surgery.wrap import inspect, unwrap, wrap

__all__ = [
    "Adapter", "AxisError", "CaptureError", "Cost", "Curve", "FileError", "Group", "InputError", "LayerCall",
    "MultiheadAttention", "Plan", "Point", "Progress", "ProofError", "Section", "Sensitivity", "SurgeryError",
    "SweepError", "WidthError", "adapter", "adapters", "adaptive", "at_widths", "batches", "check_adapter", "cost",
    "grid", "inputs", "inspect", "kl", "latency", "load", "magnitude", "mixed", "paper", "pointwise", "progress",
    "recalibrate", "reduces", "reorder", "report", "rule", "rules", "same", "sandwich", "save", "scans", "search",
    "sensitivity", "set_widths", "shared", "shrink", "shrink_optimizer", "sort", "spatial", "sweep", "taylor",
    "train_step", "unwrap", "verify", "warmup", "widths", "wrap",
]  # fmt: skip
