#!/bin/sh
# Lint, types, tests. Makes .venv from tests/constraints.txt when it is missing or they have changed.
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
.venv/bin/python -m pytest -n 2 --dist loadfile --durations=15
