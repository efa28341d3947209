#!/bin/sh
# The tests under other settings, orders and versions than usual, one row after another:
#   sh tests/matrix.sh            every row
#   sh tests/matrix.sh ROW...     some of: a b laws lowest numerical py312 py313 pre
# Rows a and b combine settings so that each occurs (the threads of b sleep while they wait, because there are more of
# them than processors); laws draws three fresh seeds of Hypothesis; lowest takes the lowest
# releases that pyproject.toml promises, numerical a part of it; the others take other releases of Python and, with pre,
# of what the core imports. The table is printed and kept in .cache/matrix/report.md, the output of a row beside it.
# WORKERS (2) is the number of processes, PYTHON312 and PYTHON313 name interpreters that are not on the PATH.
set -eu
cd "$(dirname "$0")/.."
. tests/venv.sh
kept="$PWD/.cache/matrix"
mkdir -p "$kept"
core="tests/test_without_torch.py $(echo tests/test_shape_models_*.py tests/test_pose_*.py tests/test_evaluation_*.py)"
numerical=""
for part in aligned arrays asm basis curves deformation diagnostics fitting io limits morphometrics point_errors \
    probabilistic procrustes statistics submodels transforms; do
    numerical="$numerical tests/test_shape_models_$part.py"
done
numerical="$numerical $(echo tests/test_pose_*.py) tests/test_evaluation_inputs.py tests/test_evaluation_statistics.py"
failed=""
table="| Row | Settings | Versions | Result | Seconds |
|---|---|---|---|---|"

# row NAME PYTHON SETTINGS TESTS-AND-OPTIONS: SETTINGS are variables; what is empty is unset.
row() {
    name="$1" python="$2" settings="$3"
    shift 3
    began="$(date +%s)"
    env -u SHAPE_MODELS_DATA MPLBACKEND=Agg OMP_NUM_THREADS=1 $settings PYTHONPATH="$PWD" "$python" -m pytest -q -r f \
        -p no:cacheprovider -n "${WORKERS:-2}" --dist loadfile "$@" > "$kept/$name.log" 2>&1 || failed="$failed $name"
    result="$(tail -n 1 "$kept/$name.log" | sed 's/ in .*//; s/=//g; s/^ *//')"
    shown="$(echo "$settings" | sed "s,SHAPE_MODELS_DATA=[^ ]*,with data,")"
    order="$(echo "$@" | sed -n 's/.*\(randomly-seed=[0-9]*\).*/ \1/p; s/.*\(hypothesis-seed=[0-9]*\).*/ \1/p')"
    versions="$("$python" -c '
import importlib.metadata as m, platform
def of(name):
    try: return name + " " + m.version(name)
    except m.PackageNotFoundError: return "no " + name
print("Python " + platform.python_version(), *map(of, ("numpy", "scipy", "scikit-learn", "scikit-image", "numba", "torch")), sep=", ")
')"
    table="$table
| $name | $shown$order | $versions | $result | $(($(date +%s) - began)) |"
    echo "$name: $result"
}

# environment NAME INTERPRETER PIP-ARGUMENTS: its Python is $found, empty where there is no interpreter.
environment() {
    name="$1" interpreter="$2"
    shift 2
    found="$kept/$name/bin/python"
    wanted="$(cat pyproject.toml tests/constraints-lowest.txt | cksum) $*"
    [ "$(cat "$kept/$name/complete" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "${kept:?}/$name"
    "$interpreter" -m venv "$kept/$name"
    "$found" -m pip install -q --disable-pip-version-check "$@"
    echo "$wanted" > "$kept/$name/complete"
}

interpreter() {
    for candidate in "$2" "python$1" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
        if "$candidate" -c "" > /dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python $1 was found: name one by PYTHON$(echo "$1" | tr -d .)" >&2
    return 1
}

tools="hypothesis pytest pytest-benchmark pytest-xdist array-api-strict opencv-python-headless poselib"
parts=".[plot,h5,dask]"
[ "$#" -gt 0 ] || set -- a b laws lowest py312 py313 pre
for wanted_row in "$@"; do
    case "$wanted_row" in
    a)
        row a .venv/bin/python "ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 OPENBLAS_CORETYPE=Haswell PYTHONHASHSEED=0" \
            -p randomly --randomly-seed=1
        ;;
    b)
        row b .venv/bin/python "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=2 \
OMP_WAIT_POLICY=PASSIVE OPENBLAS_CORETYPE=SkylakeX PYTHONHASHSEED=1 SHAPE_MODELS_DATA=${SHAPE_MODELS_DATA:?rows with data need it}" -p randomly --randomly-seed=2
        ;;
    laws)
        for turn in 1 2 3; do
            seed="$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')"
            row "laws $turn" .venv/bin/python "HYPOTHESIS_PROFILE=dev" --hypothesis-seed="$seed" $numerical
        done
        ;;
    lowest | numerical)
        environment lowest "${PYTHON:-.venv/bin/python}" -c tests/constraints-lowest.txt -e "$parts" $tools
        tests="$core"
        [ "$wanted_row" = lowest ] || tests="$numerical"
        row "$wanted_row" "$found" "HYPOTHESIS_PROFILE=quick" $tests
        ;;
    py312 | py313)
        version="3.${wanted_row#py3}"
        python="$(interpreter "$version" "$([ "$version" = 3.12 ] && echo "${PYTHON312:-}" || echo "${PYTHON313:-}")")"
        environment "$wanted_row" "$python" -e "$parts" $tools
        row "$wanted_row" "$found" "HYPOTHESIS_PROFILE=quick" $core
        ;;
    pre)
        environment pre "$(interpreter 3.13 "${PYTHON313:-}")" --pre -e "$parts" $tools
        row pre "$found" "HYPOTHESIS_PROFILE=quick" $core
        ;;
    *)
        echo "no row is called $wanted_row; there are a b laws lowest numerical py312 py313 pre" >&2
        exit 2
        ;;
    esac
done
echo "$table" | tee "$kept/report.md"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
