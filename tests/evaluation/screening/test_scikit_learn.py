"""ROC, its area and image-level AP are scikit-learn's where the definitions meet: each alarm on a threat is a hit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.evaluation.screening.curve import Curve
from xray_lazy.evaluation.screening.figures import ranking_precision

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the extra dev")

# few values, so that scores are often equal
BAGS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])), min_size=2, max_size=20).filter(
    lambda bags: len({is_threat for is_threat, _ in bags}) == 2
)


@given(BAGS)
def test_the_curve_and_its_area_are_those_of_scikit_learn(bags):
    is_threat, scores = (np.array(column) for column in zip(*bags, strict=True))
    found = Curve.of(is_threat, scores, scores)
    false, true, thresholds = metrics.roc_curve(is_threat, scores, drop_intermediate=False)
    assert found.false_alarms.tolist() == pytest.approx(false) and found.detections.tolist() == pytest.approx(true)
    assert found.thresholds.tolist() == thresholds.tolist()
    assert found.area() == pytest.approx(metrics.roc_auc_score(is_threat, scores))


@given(BAGS)
def test_image_level_ap_is_that_of_scikit_learn(bags):
    is_threat, scores = (np.array(column) for column in zip(*bags, strict=True))
    assert ranking_precision(is_threat, scores) == pytest.approx(metrics.average_precision_score(is_threat, scores))
