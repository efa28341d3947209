"""Networks that find landmarks and pose, joined to a shape model."""

__all__: list[str] = []
