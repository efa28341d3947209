"""The lower three packages import, and the core runs, where torch cannot be imported."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'torch', 'safetensors', 'tqdm'}:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Block())
"""


def test_lower_packages_import_without_torch():
    code = BLOCK + "import shape_models, pose, evaluation; print('ok')"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert out.stdout.strip() == "ok", out.stderr
