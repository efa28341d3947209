"""The contract of scikit-learn: its own checks, and the everyday uses on three-dimensional arrays."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from shape_models import ASM, IBUG68, AlignedASM, GeneralizedProcrustes, make_faces


@pytest.fixture
def shapes(rng):
    modes = rng.normal(size=(4, 20)) * np.array([[4.0], [3.0], [2.0], [1.0]])
    flat = rng.normal(size=(60, 4)) @ modes + rng.normal(size=20) + 0.05 * rng.normal(size=(60, 20))
    return flat.reshape(60, 10, 2)


@pytest.mark.parametrize("asm", [ASM(), ASM(n_components=None), ASM(shrinkage="oas", limit=None)], ids=str)
def test_check_estimator(asm):
    results = check_estimator(asm, on_fail=None, on_skip=None)
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert not failed
    assert sum(r["status"] == "passed" for r in results) >= 40


def test_pipeline_grid_search_and_cross_validation(shapes):
    pipeline = make_pipeline(FunctionTransformer(), ASM(2))
    assert pipeline.fit_transform(shapes).shape == (60, 2)
    np.testing.assert_allclose(
        pipeline.inverse_transform(pipeline.transform(shapes)),
        ASM(2).fit(shapes).basis_.decode(pipeline[1].transform(shapes)),
    )
    search = GridSearchCV(ASM(), {"n_components": [1, 2, 3], "limit": [1.0, 3.0]}, cv=3).fit(shapes)
    assert search.best_params_ == {"n_components": 3, "limit": 3.0}
    scores = cross_val_score(ASM(3), shapes, cv=4)
    assert scores.shape == (4,)
    assert np.all(scores < 0)


def test_clone_and_pickle(shapes):
    asm = ASM(0.9, limit=2.0, shrinkage=0.1).fit(shapes)
    copy = clone(asm)
    assert copy.get_params() == asm.get_params()
    assert not hasattr(copy, "mean_")
    again = pickle.loads(pickle.dumps(asm))
    np.testing.assert_allclose(again.project(shapes), asm.project(shapes), rtol=1e-12)


def test_feature_names(shapes):
    asm = ASM(3).fit(shapes)
    assert list(asm.get_feature_names_out()) == ["asm0", "asm1", "asm2"]


def test_tags():
    tags = ASM().__sklearn_tags__().input_tags
    assert tags.allow_nan
    assert tags.three_d_array


@pytest.mark.parametrize("act", ["transform", "inverse_transform", "project", "complete", "report", "score"], ids=str)
def test_unfitted(act, shapes):
    with pytest.raises(NotFittedError):
        getattr(ASM(), act)(shapes)
    with pytest.raises(NotFittedError):
        ASM().sample()


def test_event_shape_is_remembered_and_compared(shapes):
    asm = ASM(2).fit(shapes)
    assert asm.event_shape_ == (10, 2)
    assert asm.n_features_in_ == 20
    with pytest.raises(ValueError, match="got 4 coordinates per landmark; expected 2"):
        asm.transform(shapes.reshape(60, 5, 4))
    with pytest.raises(ValueError, match=r"got shapes of \(20,\); expected \(10, 2\).*Try shapes.reshape\(-1, 10, 2\)"):
        asm.transform(shapes.reshape(60, 20))
    asm.fit(shapes.reshape(60, 20))
    assert asm.event_shape_ == (20,)
    assert asm.inverse_transform(asm.transform(shapes.reshape(60, 20))).shape == (60, 20)


# --- AlignedASM: three-dimensional input only, so the checks are our own -----------------------------------


@pytest.fixture
def faces():
    return make_faces(60, rng=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")  # it takes three dimensions only
def test_aligned_asm_passes_what_applies_to_three_dimensional_input():
    results = check_estimator(AlignedASM(), on_fail=None, on_skip=None)
    assert not [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]


def test_aligned_asm_in_a_grid_search(faces):
    search = GridSearchCV(AlignedASM(ASM()), {"asm__n_components": [1, 3], "loss": ["linear", "huber"]}, cv=3)
    search.fit(faces)
    assert search.best_params_["asm__n_components"] == 3
    assert search.best_estimator_.asm_.n_components_ == 3


def test_aligned_asm_clones_and_pickles(faces):
    model = AlignedASM(ASM(0.9), alignment=GeneralizedProcrustes(tangent=True), scheme=IBUG68).fit(faces)
    copy = clone(model)
    assert not hasattr(copy, "asm_")
    assert copy.scheme == IBUG68
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.project(faces), model.project(faces), rtol=1e-12)
    assert "asm__n_components" in model.get_params()
    np.testing.assert_allclose(copy.fit(faces).project(faces), model.project(faces), rtol=1e-9)


def test_fit_does_not_change_its_parameters(faces):
    asm, alignment = ASM(2), GeneralizedProcrustes()
    AlignedASM(asm, alignment=alignment).fit(faces)
    assert not hasattr(asm, "mean_")
    assert not hasattr(alignment, "mean_shape_")
