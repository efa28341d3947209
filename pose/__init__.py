"""Where a rigid object is, from its landmarks."""

__all__: list[str] = []
