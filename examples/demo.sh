#!/bin/sh
# From a fresh clone: makes .venv, then shows the shape model at work on real faces and the network on a
# photograph. Pictures go to out/.
set -eu
cd "$(dirname "$0")/.."
[ -f .venv/complete ] || echo "making .venv (some minutes on a new machine)"
. tests/venv.sh
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" .venv/bin/python examples/demo.py out
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" .venv/bin/python examples/photograph.py out
