"""What a constructor makes of its arguments, read from its source and not run.

A module holds integers that no recorded call reads: `self.groups = heads // kv_heads` for another branch, `self.c = c`
for another method. Its constructor says what they are made of.

Never: the model's axes, and running any code of the model.
"""
