"""From list to list."""

import tape.transforms.loop_derivatives  # noqa: F401  fills in the rules of the instruction that has a body
