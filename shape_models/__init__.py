"""Statistical shape models: align, learn, regularise and complete landmark shapes.

Glossary
--------
shape
    An array ``(..., n_landmarks, n_dims)``; the last axis is (x, y) or (x, y, z).
landmark
    One row of a shape. A missing landmark has NaN coordinates.
mode
    A direction in which shapes vary: one principal component, with its variance.
coefficient
    The amount b of one mode in one shape, in the units of the shape.
"""

from ._array import DegenerateShapeError

__all__ = ["DegenerateShapeError"]

__version__ = "0.1.0"
