"""Kinds of evidence in a search: combined, heat maps, of one's own."""

import re

import numpy as np
import pytest
from searches import SIZE, boxes_of, maps_of

from shape_models.search import (
    ASMFitter,
    CombinedEvidence,
    Evidence,
    HeatMaps,
    Profiles,
    Proposal,
)


def test_combined_evidence_learns_whom_to_trust(faces, asm):
    images, shapes = faces

    class Noise(Evidence):
        def locate(self, view):
            rng = np.random.default_rng(view.level)
            return Proposal(view.points + 5 * view.pixel[:, None, None] * rng.normal(size=view.points.shape))

        def clone(self):
            return self

    both = CombinedEvidence([Profiles(n_side=5, reach=5), Noise()])
    fitter = ASMFitter(asm, evidence=both, n_levels=2, resolution=50, n_perturbations=4, calibration=0)
    fitter.fit(images[:30], shapes[:30])
    weights = np.mean([stage["weights"] for stage in fitter.evidence_.stages_.values()], axis=0)
    assert weights[:, 1].mean() < 0.2 * weights[:, 0].mean()
    result = fitter.predict(images[40], boxes=boxes_of(shapes[40:41])[0])
    assert np.linalg.norm(result.shape - shapes[40], axis=1).mean() < 4


def test_evidence_of_ones_own_may_look_at_everything(faces, asm):
    images, shapes = faces
    seen = []

    class Truth(Evidence):
        n_iter = 3

        def locate(self, view):
            seen.append((len(view), view.n_landmarks, view.sample(view.points).shape, view.pose.scale.shape))
            return Proposal(shapes[[view.index[i] for i in range(len(view))]], np.ones(view.points.shape[:2]))

    fitter = ASMFitter(asm, evidence=Truth(), n_levels=2).fit(images, shapes)
    result = fitter.predict(images[0], boxes=boxes_of(shapes[:1])[0])
    assert seen[0] == (1, 68, (1, 68), (1,))
    assert result.converged
    assert np.linalg.norm(result.shape - shapes[0], axis=1).mean() < 1.5


def test_heat_maps_lead_to_their_shape_also_through_their_own_frame(faces, asm):
    _, shapes = faces
    fitter = ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes[1:])
    blank = np.zeros(SIZE)
    whole = maps_of(shapes[0], SIZE)
    assert np.linalg.norm(fitter.predict(blank, heatmaps=whole).shape - shapes[0], axis=1).mean() < 1.0
    # Maps of half the size: pixel (u, v) covers pixels 2u, 2u + 1 of the image.
    half = maps_of((shapes[0] - 0.5) / 2, (50, 50), 1.0)
    assert np.linalg.norm(fitter.predict(blank, heatmaps=half).shape - shapes[0], axis=1).mean() < 1.0
    matrix = np.array([[0.5, 0.0, 10.0], [0.0, 0.5, 20.0]])
    crop = maps_of((shapes[0] - [10, 20]) / 0.5, (150, 180), 4.0)
    result = fitter.predict(blank, heatmaps=(crop, matrix))
    assert np.linalg.norm(result.shape - shapes[0], axis=1).mean() < 1.0


def test_heat_maps_with_false_peaks_and_empty_ones_are_carried(faces, asm):
    _, shapes = faces
    fitter = ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes[1:])
    maps = maps_of(shapes[0], SIZE)
    maps[5] = 0
    maps[40] = maps_of(np.array([[5.0, 90.0]]), SIZE)[0]  # far away
    result = fitter.predict(np.zeros(SIZE), heatmaps=maps)
    error = np.linalg.norm(result.shape - shapes[0], axis=1)
    assert error.max() < 4
    assert result.confidence[5] == 0
    assert result.confidence[40] < 0.1 * np.median(result.confidence)


class Answers(Evidence):
    """Evidence that answers what a function of the view answers."""

    n_levels = 1

    def __init__(self, answer):
        self.answer = answer

    def locate(self, view):
        return self.answer(view)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda v: v.points, "Answers: got a ndarray for an answer; expected a Proposal"),
        (lambda v: None, "got a NoneType"),
        (lambda v: Proposal(v.points[:, :60]), r"points of shape \(1, 60, 2\); expected \(1, 68, 2\)"),
        (lambda v: Proposal(v.points * np.nan), "weight 0 for what is not seen"),
        (lambda v: Proposal(0 * v.points), "all coincide"),
        (lambda v: Proposal(v.points, np.ones(68)), r"weights of shape \(68,\); expected \(1, 68\)"),
        (lambda v: Proposal(v.points, -np.ones((1, 68))), "weights outside 0 to 1"),
        (lambda v: Proposal(v.points, np.full((1, 68), np.nan)), "weights outside 0 to 1"),
        (lambda v: Proposal(v.points, score=np.float64(1.0)), r"score of shape \(\); expected \(1,\)"),
        (lambda v: Proposal(v.points, prior=-1.0), "prior"),
        (lambda v: Proposal(v.points, n_modes=-1), "n_modes"),
    ],
)
def test_evidence_of_ones_own_is_told_what_is_wrong_with_its_answer(faces, asm, answer, message):
    images, shapes = faces
    fitter = ASMFitter(asm, evidence=Answers(answer)).fit(images[:10], shapes[:10])
    with pytest.raises(ValueError, match=message):
        fitter.predict(images[0], initial=shapes[0])


def test_evidence_without_weights_can_be_combined(faces, asm):
    """Shares of the parts add up to 1 but for rounding, and a trust above 1 is refused."""
    images, shapes = faces
    parts = [Answers(lambda v, i=i: Proposal(v.points + 0.3 * i)) for i in range(3)]
    fitter = ASMFitter(asm, evidence=CombinedEvidence(parts), n_levels=1, resolution=40, n_perturbations=2)
    result = fitter.fit(images[:10], shapes[:10]).predict(images[0], initial=shapes[0])
    assert result.found
    assert np.all(result.confidence <= 1)


def test_evidence_may_answer_lists_and_pose_alone(faces, asm):
    images, shapes = faces
    evidence = Answers(lambda v: Proposal((v.points + 2).tolist(), n_modes=0))
    result = ASMFitter(asm, evidence=evidence).fit(images[:10], shapes[:10]).predict(images[0], initial=shapes[0])
    assert np.all(result.coefficients == 0)
    assert result.shape.mean() > shapes[0].mean() + 1


def test_heat_maps_are_asked_for_and_never_ignored(faces, asm):
    images, shapes = faces
    fitter = ASMFitter(asm, evidence=HeatMaps()).fit(None, shapes[1:])
    maps, boxes = maps_of(shapes[0], SIZE), boxes_of(shapes[:2])
    for options in ({"boxes": boxes}, {}):
        for wrong, message in (
            (None, "heatmaps: got none"),
            (maps[:60], "expected \\(68, h, w\\)"),
            (0 * maps, "maps with anything in them"),
            (np.where(np.arange(68)[:, None, None] < 2, maps, 0), "maps with anything in them"),
        ):
            good, bad = fitter.predict(images[:2], heatmaps=[maps, wrong], **options)
            assert good.found
            assert bad.status == "error"
            assert re.search(message, bad.message), bad.message
    with pytest.raises(ValueError, match="peaks all coincide"):
        fitter.predict(images[0], heatmaps=np.ones((68, 9, 9)))
    with pytest.raises(ValueError, match="expected a list, one for each image"):
        fitter.predict(images[:2], heatmaps=7)
    profiles = ASMFitter(asm, evidence="profiles", n_levels=1, resolution=40)
    with pytest.raises(ValueError, match="Profiles evidence does not look at them"):
        profiles.fit(images[:10], shapes[:10], heatmaps=[maps] * 10)
    with pytest.raises(ValueError, match="Profiles evidence does not look at them"):
        profiles.fit(images[:10], shapes[:10]).predict(images[0], boxes=boxes[0], heatmaps=maps)
    seen = []

    class Own(Evidence):
        needs_maps = True
        n_levels = n_iter = 1

        def locate(self, view):
            seen.append(view.maps(int(view.index[0]))[0].shape)
            return Proposal(view.points)

    own = ASMFitter(asm, evidence=Own()).fit(images[:10], shapes[:10])
    own.predict(images[0], boxes=boxes[0], heatmaps=maps)
    assert seen == [(68, *SIZE)] * 2  # one step, and one look at where it ended
