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
# The lower three packages must work where torch is not installed.
SHAPE_MODELS_DATA='' HYPOTHESIS_PROFILE=quick PYTHONPATH=tests .venv/bin/python -m pytest -q -n 2 --dist loadfile -p no_torch \
    -r f tests/test_without_torch.py tests/test_shape_models_*.py tests/test_pose_*.py tests/test_evaluation_*.py
.venv/bin/python -m pytest -n 2 --dist loadfile --durations=15
