"""Pictures: of a list as a computational graph, and of the norms of gradients by layer.

`contents.py` says what there is to draw, `folding.py` puts much of it together, `layers.py` gives every node its place,
`graph.py` draws, and `norms.py` draws the other kind of picture. Both are written by `tape.reports.canvas`.
"""

from tape.draw.graph import GraphPicture, draw
from tape.draw.norms import draw_gradients, gradient_norms
from tape.reports.canvas import Picture

__all__ = ["GraphPicture", "Picture", "draw", "draw_gradients", "gradient_norms"]
