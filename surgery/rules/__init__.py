"""What operations of torch do to axes: families of alike operations, and single rules. Imported, they are registered.

Never: modules, or what owns a graph; a rule sees dimensions, and says where those of the result come from.
A rule of your own: `@surgery.rule(torch.some_operation)`; see docs/writing-rules.md.
"""

# One line for each file of rules, imported for the registration it does.
from surgery.rules import attention as attention
from surgery.rules import contract as contract
from surgery.rules import convolution as convolution
from surgery.rules import create as create
from surgery.rules import elementwise as elementwise
from surgery.rules import index as index
from surgery.rules import join as join
from surgery.rules import linalg as linalg
from surgery.rules import loss as loss
from surgery.rules import memory as memory
from surgery.rules import norm as norm
from surgery.rules import order as order
from surgery.rules import reduce as reduce
from surgery.rules import shape as shape
from surgery.rules import spatial as spatial
from surgery.rules import values as values
from surgery.rules import vision as vision
from surgery.rules.registry import complete

complete()
