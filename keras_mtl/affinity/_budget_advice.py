"""What a user should know of a tree that a budget has chosen: one sentence, where there is one."""

from keras_mtl.affinity.locations import segment_sizes
from keras_mtl.graph import sizes_known

# Before the first branching lie at least so much of the parameters, at most so much of the FLOPs.
PARAMETERS, FLOPS = 0.5, 0.25
_WORDS = {"parameters": "parameters", "flops": "FLOPs"}


def budget_advice(tree, graph, units, locations, *, sizes, kind, budget, first_shared):
    """What the budget has forced on a tree, and the way out; `None` where the tree is a choice.

    The ends themselves are asked for on purpose: a budget of exactly one backbone, or of exactly
    one for each task.

    Args:
        tree: `Tree`.
        graph, units, locations: the backbone, its blocks, and where trees part.
        sizes: list of int. What one copy of each stretch costs.
        kind: `"parameters"` or `"flops"`: what `sizes` and `budget` count.
        budget: int.
        first_shared: bool. As in `search_trees`.
    """
    if len(tree.tasks) == 1:
        return None
    if first_shared and len(sizes) == 1:
        return (
            "`first_shared` must be False where there is one location, or all tasks share "
            f"everything. Received: first_shared=True, locations={list(locations)}."
        )
    least = sum(sizes) + sizes[-1]
    most = len(tree.tasks) * sum(sizes) - (len(tree.tasks) - 1) * sizes[0] * first_shared
    if sum(sizes) < budget < least:
        return (
            f"`budget` must be at least {_amount(least, sizes)} for a tree that branches: a second "
            f"copy of the last stretch, which ends at {locations[-1]!r}, has "
            f"{_percent(sizes[-1], sizes)} of a backbone's {_WORDS[kind]}. "
            f"Received: {_amount(budget, sizes)}, so all tasks share everything."
        )
    if budget > most:
        return (
            f"`budget` must be less than {_amount(most, sizes)} for a tree that shares: without a "
            "limit it costs least to share nothing. "
            f"Received: {_amount(budget, sizes)}, so "
            + ("tasks share only the first stretch." if first_shared else "tasks share nothing.")
        )
    shared = sum(len(level) == 1 for level in tree.levels)
    if kind == "parameters" and 0 < shared < len(sizes):
        return _front_loaded(graph, units, locations, sizes, shared)
    return None


def _front_loaded(graph, units, locations, sizes, shared):
    """The sentence of a tree that shares parameters but hardly any of the work."""
    if sum(sizes[:shared]) < PARAMETERS * sum(sizes):
        return None
    share = f"{_percent(sum(sizes[:shared]), sizes)} of a backbone's parameters"
    if not sizes_known(graph):
        if shared > 1:
            return None
        return (
            f"`budget` counts parameters, and {share} lie before the first branching, in the "
            f"stretch that ends at {locations[0]!r}: the tasks share no more than that. For a tree "
            "that shares more work give the backbone's inputs fixed sizes, and pass "
            "`kind='flops'`."
        )
    flops = segment_sizes(graph, units, locations, "flops")
    if sum(flops[:shared]) > FLOPS * sum(flops):
        return None
    return (
        f"`budget` counts parameters, and {share} lie before the first branching, but "
        f"{_percent(sum(flops[:shared]), flops)} of its FLOPs: the tasks share little but "
        f"parameters, up to {locations[shared - 1]!r}. For a tree that shares more work pass "
        "`kind='flops'`, and a `budget` of FLOPs."
    )


def _amount(number, sizes):
    return f"{number} ({number / max(sum(sizes), 1):.2f} backbones)"


def _percent(part, sizes):
    return f"{100 * part / max(sum(sizes), 1):.0f} %"
