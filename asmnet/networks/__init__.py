"""Networks: one architecture a file."""

__all__: list[str] = []
