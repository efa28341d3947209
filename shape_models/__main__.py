"""``python -m shape_models``."""

from shape_models.cli import main

if __name__ == "__main__":
    main(prog_name="python -m shape_models")
