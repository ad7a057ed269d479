"""All trees over some tasks, and how many they are."""

from collections.abc import Iterator, Sequence

from keras_mtl.affinity._tree_checks import check_integer
from keras_mtl.affinity.partitions import coarsenings, named, singles
from keras_mtl.affinity.tree import Tree
from keras_mtl.checks import check_names


def enumerate_trees(
    tasks: Sequence[str], num_locations: int, *, first_shared: bool = False
) -> Iterator[Tree]:
    """Yields every tree over the tasks once, from all shared to all apart.

    Their number grows very fast (see `count_trees`); `search_trees` finds the best of them without
    visiting them one by one.

    Args:
        tasks: sequence of string. Task names.
        num_locations: int. At how many locations the tasks are grouped.
        first_shared: bool. Whether all tasks share up to the first location.

    Yields:
        `Tree`, in an order that depends on the arguments alone.

    Example:

    >>> from keras_mtl.affinity import enumerate_trees
    >>> for tree in enumerate_trees(("a", "b"), 2):
    ...     print(tree.levels)
    ((('a', 'b'),), (('a', 'b'),))
    ((('a', 'b'),), (('a',), ('b',)))
    ((('a',), ('b',)), (('a',), ('b',)))

    Reference: [Branched Multi-Task Networks](https://arxiv.org/abs/1904.02920), Section 3.2.
    """
    tasks = check_names("tasks", tasks)
    num_locations = check_integer("num_locations", num_locations, 1)
    return _trees(tasks, num_locations, first_shared)


def _trees(tasks, num_locations, first_shared):
    everything = ((1 << len(tasks)) - 1,)

    def grow(chain):
        missing = num_locations - len(chain)
        if not missing:
            yield Tree(named(chain, tasks), tasks)
        elif missing == 1 and first_shared:
            yield from grow((everything, *chain))
        else:
            for level in coarsenings(chain[0] if chain else singles(len(tasks))):
                yield from grow((level, *chain))

    yield from grow(())


def count_trees(num_tasks: int, num_locations: int, *, first_shared: bool = False) -> int:
    """Number of trees, without making them.

    With the first location shared it is `n![xⁿ]` of the D-fold composition of `eˣ - 1`, for `n`
    tasks and `D` locations; without, of the (D+1)-fold one, since a shared location may be added
    before the first.

    Args:
        num_tasks: int.
        num_locations: int.
        first_shared: bool. Whether all tasks share up to the first location.

    Returns:
        An int.

    Example:

    >>> from keras_mtl.affinity import count_trees
    >>> count_trees(5, 4), count_trees(5, 4, first_shared=True)
    (3455, 1304)
    """
    num_tasks = check_integer("num_tasks", num_tasks, 1)
    num_locations = check_integer("num_locations", num_locations, 1)
    stirling = stirling_numbers(num_tasks)
    # n![xⁿ] of f(eˣ - 1) is Σ_m S(n, m) m![xᵐ] f.
    counts = [0] + [1] * num_tasks
    for _ in range(num_locations - 1 if first_shared else num_locations):
        counts = [sum(s * c for s, c in zip(row, counts, strict=True)) for row in stirling]
    return counts[num_tasks]


def stirling_numbers(largest):
    """`S(n, m)`: in how many ways `n` things fall into `m` groups, for both up to `largest`."""
    rows = [[1] + [0] * largest]
    for _ in range(largest):
        last = rows[-1]
        rows.append([0] + [last[m - 1] + m * last[m] for m in range(1, largest + 1)])
    return rows
