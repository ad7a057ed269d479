"""Partitions of tasks as tuples of bit masks, ordered by their first task.

A mask has bit `i` where task `i` is in the group: masks are small, fast to join and fit for keys.
"""


def members(mask):
    """Indices of the tasks of a group, in order."""
    found = []
    while mask:
        first = mask & -mask
        found.append(first.bit_length() - 1)
        mask ^= first
    return found


def singles(num_tasks):
    """The partition in which every task is alone."""
    return tuple(1 << i for i in range(num_tasks))


def ordered(groups):
    """A partition: the groups in the order of their first task."""
    return tuple(sorted(groups, key=lambda mask: mask & -mask))


def merged(partition, labels):
    """The coarser partition that joins the groups with equal labels."""
    joined = {}
    for group, label in zip(partition, labels, strict=True):
        joined[label] = joined.get(label, 0) | group
    return tuple(joined.values())


def coarsenings(partition):
    """All partitions that the given one refines, each once; from all in one to itself."""

    def grow(groups, rest):
        if not rest:
            yield groups
            return
        first, *rest = rest
        for i, group in enumerate(groups):
            yield from grow((*groups[:i], group | first, *groups[i + 1 :]), rest)
        yield from grow((*groups, first), rest)

    yield from grow((), partition)


def named(chain, tasks):
    """The partitions of a chain as nested tuples of task names."""
    names = {group: tuple(tasks[i] for i in members(group)) for level in chain for group in level}
    return tuple(tuple(names[group] for group in level) for level in chain)
