"""One real run of a model as a graph: which calls it made, where they stand in its code, what it decided by sizes.

Of rules and adapters it knows only that they are there. Never: plan, twin, planning, or anything above them.
"""

from surgery.capture.record import Capture, capture

__all__ = ["Capture", "capture"]
