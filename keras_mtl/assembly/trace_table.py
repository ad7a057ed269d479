"""A trace for people to read: what an answer computes, step by step, and what each step costs."""

from keras_mtl.assembly.count import Bill
from keras_mtl.graph import sizes_known
from keras_mtl.text_table import amount, table


def trace_table(graph, operations, extra=()):
    """A table of operations with their parameters and FLOPs, and their sums.

    Parameters stand where a copy is used first; a step without any has a dash.

    Args:
        graph: `BackboneGraph`.
        operations: iterable of `Operation`, in order.
        extra: iterable of `(name, parameters, FLOPs)`, rows to stand behind them.

    Returns:
        A string.
    """
    known = sizes_known(graph)
    rows, seen, sums = [["", "parameters", "FLOPs"]], set(), [0, 0]

    def add(what, size, work):
        sums[0] += size
        sums[1] += work
        cells = [size, work if known else 0]
        rows.append([what, *(amount(cell) if cell else "-" for cell in cells)])

    for operation in operations:
        bill = Bill(graph, None, {})
        if known:
            operation.charge(bill)
        sizes = {key: size for key, size in bill.sizes.items() if key not in seen}
        seen |= set(sizes)
        add(str(operation), sum(sizes.values()), bill.flops)
    for name, size, work in extra:
        add(name, size, work)
    rows.append(["together", *map(amount, sums)])
    return table(rows)
