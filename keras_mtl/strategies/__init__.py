"""One method per file. `strategy.py` says what a method must say; `get` finds one by name."""

from keras_mtl.errors import suggestion
from keras_mtl.strategies.adashare import AdaShare
from keras_mtl.strategies.auto_mtl import AutoMTL
from keras_mtl.strategies.branched import Branched
from keras_mtl.strategies.cross_stitch import CrossStitch
from keras_mtl.strategies.edge_rule import EdgeRule
from keras_mtl.strategies.feature_partition import FeaturePartition
from keras_mtl.strategies.independent import Independent
from keras_mtl.strategies.mtan import MTAN
from keras_mtl.strategies.mtl_nas import MTLNAS
from keras_mtl.strategies.nddr_cnn import NDDRCNN
from keras_mtl.strategies.policy_correlation import task_correlation
from keras_mtl.strategies.random_edges import RandomEdges
from keras_mtl.strategies.random_policies import random_policies
from keras_mtl.strategies.shared import Shared
from keras_mtl.strategies.sluice import Sluice
from keras_mtl.strategies.strategy import FixedStrategy, Phase, SearchStrategy, Strategy

STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        AdaShare,
        AutoMTL,
        Branched,
        CrossStitch,
        FeaturePartition,
        Independent,
        MTAN,
        MTLNAS,
        NDDRCNN,
        RandomEdges,
        Shared,
        Sluice,
    )
}


def get(strategy: str | Strategy | type[Strategy]) -> Strategy:
    """Returns a `Strategy` object for a name, a class or an object.

    Example:

    >>> import keras_mtl
    >>> keras_mtl.strategies.get("shared").name
    'shared'
    """
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, type) and issubclass(strategy, Strategy):
        return strategy()
    if strategy in STRATEGIES:
        return STRATEGIES[strategy]()
    raise ValueError(
        f"`strategy` must be a Strategy object or one of {sorted(STRATEGIES)}. "
        f"Received: strategy={strategy!r}." + suggestion(strategy, STRATEGIES)
    )


def get_class(name: str) -> type[Strategy]:
    """The class of a strategy by its name; a class of your own must be in `STRATEGIES`."""
    if name not in STRATEGIES:
        raise ValueError(
            f"The strategy of a saved model must be known. Received: {name!r}. "
            f"Add your class first: `keras_mtl.strategies.STRATEGIES[{name!r}] = YourStrategy`."
        )
    return STRATEGIES[name]


__all__ = [
    "AdaShare",
    "AutoMTL",
    "Branched",
    "CrossStitch",
    "EdgeRule",
    "FeaturePartition",
    "FixedStrategy",
    "Independent",
    "MTAN",
    "MTLNAS",
    "NDDRCNN",
    "Phase",
    "RandomEdges",
    "SearchStrategy",
    "Shared",
    "Sluice",
    "Strategy",
    "get",
    "get_class",
    "random_policies",
    "task_correlation",
]
