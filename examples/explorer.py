"""The explorer: one self-contained page on which anyone can move the modes of a model and drag its landmarks.

Open explorer.html in any browser, also without a network. Look at what a slider does beyond the marks at three standard
deviations, with the limit on and off; drag a landmark and see the rest of the face follow.
"""

from pathlib import Path

from matplotlib import pyplot as plt

from shape_models import load_model
from shape_models.explorer import write_explorer
from shape_models.plotting import plot_modes

model = load_model("face68")
page = write_explorer(model, Path("explorer.html"), title="68 landmarks of a face", n_modes=8)
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
plot_modes(model, ax, n_modes=2, steps=(-3, 0, 3))
ax.set_title("What its first two sliders do", fontsize=13)
figure.savefig("explorer.png", dpi=120)
print(f"{model.asm_.n_components_} modes of {model.asm_.n_samples_} faces")
print(f"page: {page.resolve()} ({page.stat().st_size // 1024} kB)")
print("picture: explorer.png")
