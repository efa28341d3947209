# Sourced by tests/run.sh, tests/matrix.sh and examples/demo.sh from the project's root: makes .venv with everything the
# project can use, and makes it again when pyproject.toml or the pinned versions change. A .venv that is a link belongs to
# another checkout and is left as it is.
wanted="$(cat pyproject.toml tests/constraints.txt | cksum)"
if [ ! -f .venv/complete ] || { [ ! -L .venv ] && [ "$(cat .venv/complete)" != "$wanted" ]; }; then
    [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check -c tests/constraints.txt torch
    .venv/bin/python -m pip install -q --disable-pip-version-check -c tests/constraints.txt -e '.[all,dev,docs]' monai
    echo "$wanted" > .venv/complete
fi
