from __future__ import annotations

from torch import nn

from surgery.plan.groups import Listed
from surgery.planning.listed.found import Found


def available(captures, parts):
    return ()


def find(parts, captures, examples, patterns):
    found = []
    for path, m in parts.modules.items():
        if (
            isinstance(m, (nn.Sequential, nn.ModuleList))
            and len(m) > 1
            and len({type(c) for c in m}) == 1
            and not isinstance(m[0], (nn.Linear, nn.Conv2d))
        ):
            name = f"{path}.depth".lstrip(".")
            work = {}
            for c in captures:
                for node in c.graph.nodes:
                    f = node.meta["surgery"].frame
                    p = None
                    if node.op == "call_module":
                        p = node.target
                    elif f is not None:
                        p = c.frames[f].path
                    while f is not None and not (p or "").startswith(path + "."):
                        f = c.frames[f].parent
                        if f is None:
                            break
                        p = c.frames[f].path
                    if p and p.startswith(path + "."):
                        work[node] = int(p[len(path) + 1 :].split(".")[0])
            found.append(
                Found(name, "depth", len(m), (Listed(path, tuple((str(i),) for i in range(len(m)))),), work=work)
            )
    return found, []
