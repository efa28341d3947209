"""Landmark and pose metrics, protocols and reports."""

__all__: list[str] = []
