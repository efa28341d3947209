#!/bin/sh
# Lint, types, tests. Makes .venv from tests/constraints.txt when it is missing.
#   sh tests/run.sh             everything
#   sh tests/run.sh PYTEST-ARGS only pytest, with these arguments
set -eu
cd "$(dirname "$0")/.."
. tests/venv.sh
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MPLBACKEND=Agg
if [ "$#" -gt 0 ]; then
    exec .venv/bin/python -m pytest "$@"
fi
.venv/bin/ruff check .
.venv/bin/mypy
# The core must work where torch is not installed.
.venv/bin/python -m pytest -q -n 2 tests/test_without_torch.py
.venv/bin/python -m pytest -n 2 --dist loadfile --durations=15
