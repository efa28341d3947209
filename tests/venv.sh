# Sourced by tests/run.sh and examples/demo.sh from the project's root: makes .venv with everything the project can use.
if [ ! -f .venv/complete ]; then
    "${PYTHON:-python3}" -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check -c tests/constraints.txt torch
    .venv/bin/python -m pip install -q --disable-pip-version-check -c tests/constraints.txt -e '.[all,dev,docs]' monai
    touch .venv/complete
fi
