"""What must hold of sizes at every width, and what makes it so: formulas, rewritten code, or pins.

Never: modules that run; it reads an analysis, and the source of functions.
"""
