"""All models that are compared: one contract (scikit-learn's fit and predict), one registry.

Imports scikit-learn; imodels and interpret when a member of theirs is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import BayesianRidge, LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from loratwin.extras import required
from loratwin.learn.cases.case import F8
from loratwin.learn.training.problem import LearningProblem

SEED = 0


class CapacityOverRate(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """The one-line baseline: adapters = Q / mean rate. For targets without a mean rate: the median.

    Parameters
    ----------
    rate
        Index of the feature that is the mean rate (or its logarithm); None: there is none.
    log_rate, log_target
        Whether the feature, and the target, are logarithms.
    """

    def __init__(self, rate: int | None = None, log_rate: bool = True, log_target: bool = True) -> None:
        self.rate = rate
        self.log_rate = log_rate
        self.log_target = log_target

    def fit(self, x: F8, y: F8) -> CapacityOverRate:
        """Learn Q, in requests per second."""
        values = np.exp(y) if self.log_target else y
        self.capacity_ = float(np.median(values * self._rates(x)))
        return self

    def predict(self, x: F8) -> F8:
        """Q / mean rate for each row, as the target is given."""
        values = self.capacity_ / self._rates(x)
        return np.log(values) if self.log_target else values

    def _rates(self, x: F8) -> F8:
        if self.rate is None:
            return np.ones(len(x))
        column = np.asarray(x)[:, self.rate]
        return np.exp(column) if self.log_rate else column


class BoostedRidge(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A ridge regression, and small trees on what it leaves over.

    Parameters
    ----------
    monotone
        By feature: -1, 0 or +1; both parts keep to it.
    max_iter, max_leaf_nodes, learning_rate
        Of the trees.
    """

    def __init__(
        self, monotone: Sequence[int] = (), max_iter: int = 100, max_leaf_nodes: int = 6, learning_rate: float = 0.05
    ) -> None:
        self.monotone = monotone
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.learning_rate = learning_rate

    def fit(self, x: F8, y: F8) -> BoostedRidge:
        """Both parts; `slope_` and `constant_` are the linear one in the features' own units."""
        self.slope_, self.constant_ = _signed_ridge(np.asarray(x), y, self.monotone or [0] * np.shape(x)[1])
        trees = HistGradientBoostingRegressor(
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            learning_rate=self.learning_rate,
            min_samples_leaf=10,
            early_stopping=False,
            monotonic_cst=list(self.monotone) or None,
            random_state=SEED,
        )
        self.trees_ = trees.fit(x, y - self._line(x))
        return self

    def predict(self, x: F8) -> F8:
        """The sum of both parts, shape (num_rows,)."""
        answers: F8 = self._line(x) + self.trees_.predict(x)
        return answers

    def _line(self, x: F8) -> F8:
        line: F8 = np.asarray(x) @ self.slope_ + self.constant_
        return line


def _signed_ridge(x: F8, y: F8, signs: Sequence[int]) -> tuple[F8, float]:
    """Slopes of given signs (0: any), and the constant, of a ridge regression on scaled features.

    A free slope is the difference of two that are not negative.
    """
    scale = np.std(x, axis=0)
    scale[scale == 0] = 1.0
    centre, z = x.mean(axis=0), (x - x.mean(axis=0)) / scale
    sign, free = np.array(signs), np.array(signs) == 0
    columns = np.hstack([z * np.where(free, 1, sign), -z[:, free]])
    coefficients = np.asarray(Ridge(alpha=1.0, positive=True).fit(columns, y - y.mean()).coef_)
    slope = coefficients[: len(sign)] * np.where(free, 1, sign)
    slope[free] -= coefficients[len(sign) :]
    return slope / scale, float(y.mean() - centre @ (slope / scale))


class EstimateProcess(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """An estimate, and a Gaussian process on what it leaves over. What ships for figures of a workload.

    Features are scaled to their spread; each has a length scale of its own (Matérn's kernel), and there is white noise.
    These are of the greatest marginal likelihood (Rasmussen and Williams 2006, ch. 5), on a sample of the rows.

    Parameters
    ----------
    slope
        Of the estimate, shape (num_features,); (): there is none.
    columns
        Indices of the features that the process sees; (): all.
    nu
        Of the kernel: 1.5 has kinks, 2.5 is smoother.
    most_points
        The sample; with the cube of it grows the time.
    kernel
        A fitted one, taken as it is.
    """

    def __init__(
        self,
        slope: Sequence[float] | F8 = (),
        columns: Sequence[int] = (),
        nu: float = 1.5,
        most_points: int = 300,
        kernel: Any = None,
    ) -> None:
        self.slope = slope
        self.columns = columns
        self.nu = nu
        self.most_points = most_points
        self.kernel = kernel

    def fit(self, x: F8, y: F8) -> EstimateProcess:
        """Learn `constant_`, and the process `regression_` on `columns_` less `centre_` over `spread_`."""
        x = np.asarray(x)
        self.slope_ = np.array(self.slope, dtype=float) if len(self.slope) else np.zeros(x.shape[1])
        self.columns_ = list(self.columns) or list(range(x.shape[1]))
        left = np.asarray(y) - x @ self.slope_
        self.constant_ = float(left.mean())
        seen = x[:, self.columns_]
        self.centre_, self.spread_ = seen.mean(axis=0), seen.std(axis=0)
        self.spread_[self.spread_ < 1e-9] = 1.0
        z = self._scaled(x)
        kernel = self.kernel or self._likeliest(z, left - self.constant_)
        self.regression_ = GaussianProcessRegressor(kernel, optimizer=None).fit(z, left - self.constant_)
        return self

    def predict(self, x: F8) -> F8:
        """The sum of both, shape (num_rows,)."""
        x = np.asarray(x)
        answers: F8 = x @ self.slope_ + self.constant_ + self.regression_.predict(self._scaled(x))
        return answers

    def _scaled(self, x: F8) -> F8:
        scaled: F8 = (x[:, self.columns_] - self.centre_) / self.spread_
        return scaled

    def _likeliest(self, z: F8, left: F8) -> Any:
        lengths = Matern(np.full(z.shape[1], 3.0), (0.1, 100.0), self.nu)
        kernel = ConstantKernel(0.02) * lengths + WhiteKernel(1e-3)
        some = np.random.Generator(np.random.PCG64(SEED)).permutation(len(z))[: self.most_points]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: a feature without a say
            return GaussianProcessRegressor(kernel).fit(z[some], left[some]).kernel_


@dataclass(frozen=True)
class Member:
    """A model and the settings among which nested cross-validation chooses."""

    make: Callable[[LearningProblem], Any]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def _baseline(problem: LearningProblem) -> Any:
    served = problem.target.name == "served"
    name = next((name for name in ("log_of_rate_mean", "rate_mean") if name in problem.names), None)
    rate = problem.names.index(name) if served and name else None
    return CapacityOverRate(rate, name != "rate_mean", problem.target.log)


def _scaled(model: Any) -> Callable[[LearningProblem], Any]:
    return lambda problem: make_pipeline(StandardScaler(), model)


def _imodels(name: str, **settings: Any) -> Callable[[LearningProblem], Any]:
    def make(problem: LearningProblem) -> Any:
        return getattr(required("imodels", name, "learn"), name)(**settings)

    return make


def _explainable_boosting(problem: LearningProblem) -> Any:
    return required("interpret.glassbox", "explainable boosting", "learn").ExplainableBoostingRegressor(
        outer_bags=2, inner_bags=0, max_rounds=1000, interactions=4, n_jobs=1, random_state=SEED
    )


def _boosting(problem: LearningProblem) -> Any:
    return HistGradientBoostingRegressor(
        max_iter=150,
        learning_rate=0.1,
        min_samples_leaf=8,
        early_stopping=False,
        monotonic_cst=problem.monotone,
        random_state=SEED,
    )


def _tree(problem: LearningProblem) -> Any:
    return DecisionTreeRegressor(min_samples_leaf=5, monotonic_cst=problem.monotone, random_state=SEED)


REGISTRY: dict[str, Member] = {
    "baseline": Member(_baseline),
    "linear": Member(lambda problem: LinearRegression()),
    "ridge": Member(_scaled(Ridge()), {"ridge__alpha": (0.1, 1.0, 10.0, 100.0)}),
    "bayesian ridge": Member(_scaled(BayesianRidge())),
    "partial least squares": Member(_scaled(PLSRegression()), {"plsregression__n_components": (2, 4, 7)}),
    "decision tree": Member(_tree, {"max_leaf_nodes": (8, 16, 32, 64)}),
    "random forest": Member(
        lambda problem: RandomForestRegressor(n_estimators=50, min_samples_leaf=2, random_state=SEED, n_jobs=1),
        {"max_features": (0.4, 1.0)},
    ),
    "gradient boosting": Member(_boosting, {"max_leaf_nodes": (6, 12)}),
    "boosted ridge": Member(
        lambda problem: BoostedRidge(problem.monotone), {"max_iter": (50, 150), "max_leaf_nodes": (4, 8)}
    ),
    "Gaussian process": Member(lambda problem: EstimateProcess(problem.estimate, problem.smooth), {"nu": (1.5, 2.5)}),
    "RuleFit": Member(  # chooses its penalty by cross-validation of its own
        _imodels("RuleFitRegressor", n_estimators=10, tree_size=4, max_rules=30, random_state=SEED)
    ),
    "FIGS": Member(_imodels("FIGSRegressor", random_state=SEED), {"max_rules": (8, 16, 32)}),
    "explainable boosting": Member(_explainable_boosting),
    "k-nearest neighbours": Member(
        _scaled(KNeighborsRegressor(weights="distance")), {"kneighborsregressor__n_neighbors": (3, 5, 9)}
    ),
}
"""By the name that tables show."""
