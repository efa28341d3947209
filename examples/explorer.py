"""The explorer: one self-contained page on which anyone can move the modes of a model and drag its landmarks.

Open explorer.html in any browser, also without a network. Look at what a slider does beyond the marks at three standard
deviations, with the limit on and off; drag a landmark and see the rest of the face follow.
"""

from pathlib import Path

from shape_models import load_model
from shape_models.explorer import write_explorer

model = load_model("face68")
page = write_explorer(model, Path("explorer.html"), title="68 landmarks of a face", n_modes=8)
print(f"{model.asm_.n_components_} modes of {model.asm_.n_samples_} faces")
print(f"page: {page.resolve()} ({page.stat().st_size // 1024} kB)")
