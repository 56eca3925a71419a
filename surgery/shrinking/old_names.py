"""Where pickles that version 0.1 wrote look for classes that have moved since. Files need none.

A pickle names a class by the module that it was in: these modules can still be imported by their old names.
"""

import sys

from surgery.adapters import plain_attention
from surgery.modules.code import rewritten, source

MOVED = {"surgery.attention": plain_attention, "surgery.routine": rewritten, "surgery.source": source}
sys.modules.update(MOVED)
