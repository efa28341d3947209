"""``python -m asmnet``, and ``torchrun -m asmnet``."""

from asmnet.cli import main

main()
