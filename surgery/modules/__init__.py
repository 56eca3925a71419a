"""Any nn.Module: its parts, copies, inputs and modes, and runs of it that leave no trace.

Never: axes (the steps of a path apart), plans, widths or twins.
"""
