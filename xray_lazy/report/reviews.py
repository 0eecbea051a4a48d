"""The reviews of a report's runs, each made when it is first asked for."""

import logging

from xray_lazy.errors import UserError
from xray_lazy.report.review import Review, review_of
from xray_lazy.report.run_files import RunFiles

SAME_AP = 0.05

logger = logging.getLogger(__name__)


class Reviews:
    """By run; one that can't be made raises the same error each time it is asked for."""

    def __init__(self) -> None:
        self._made: dict[int, Review | UserError] = {}

    def __getitem__(self, run: RunFiles) -> Review:
        """Raises:
        UserError: as `review_of`.
        """
        if id(run) not in self._made:
            self._made[id(run)] = _made(run)
        found = self._made[id(run)]
        if isinstance(found, UserError):
            raise found
        return found


def _made(run: RunFiles) -> Review | UserError:
    try:
        review = review_of(run)
        _check_agreement(review)
        return review
    except UserError as error:
        return error
    except Exception as error:  # what can't be analyzed for whatever reason must not cost the rest of the page
        logger.warning("the analysis of %s failed", run.name, exc_info=logger.isEnabledFor(logging.DEBUG))
        return UserError(f"the analysis of the detections failed with {type(error).__name__}: {error}")


def _check_agreement(review: Review) -> None:
    """Where run.json has no hash of the data, the AP tells whether it is that of the evaluation."""
    evaluation = review.evaluation
    for task, result in review.analysis.tasks.items():
        then, now = evaluation.metrics.get(f"{task}{evaluation.suffix}/AP"), result.summary["AP"]
        if then is not None and abs(then - now) > SAME_AP:
            name = review.dataset.name
            raise UserError(
                f"{name} has changed since it was evaluated: {task}/AP was {then:.1f} and would be {now:.1f}",
                "put the data set back that the run was evaluated on",
            )
