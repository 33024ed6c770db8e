"""The type of a network, for annotations that are resolved at run time.

Kedro resolves the annotations of nodes when it lists pipelines, and must not pay for TensorFlow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras import Model as Network
else:
    Network = Any

__all__ = ["Network"]
