"""The door of every function that takes arrays: what comes in, in which library, type and device it is computed."""

from array_api_compat import array_namespace, is_numpy_array

from ._context import Context, enter, float_dtype, leave, working_dtype
from ._coordinates import (
    LARGEST,
    SMALLEST,
    DegenerateShapeError,
    as_shapes,
    layout_hint,
    refuse_extreme,
    refuse_extremes_of,
)
from ._counts import as_count
from ._entry import as_array, as_column, as_indices, as_numpy, indexing, is_missing, refuse_masked
from ._library import (
    beside,
    device_of,
    is_array,
    is_tensor,
    is_traced,
    moved,
    namespace_of,
    plain_memory,
    to_numpy,
    values_known,
)
from ._weights import as_confidence, as_weights, either, formerly_weights
