"""Processes for tests, which start from one that has imported torch already, where the system can do that."""

from __future__ import annotations

import multiprocessing

METHODS = multiprocessing.get_all_start_methods()
PROCESSES = multiprocessing.get_context("forkserver" if "forkserver" in METHODS else "spawn")
if "forkserver" in METHODS:
    PROCESSES.set_forkserver_preload(["tests.measuring.one_run"])
