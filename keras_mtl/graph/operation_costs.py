"""What the operations of a functional graph cost: products that are no layers."""

import itertools
import math


def num_positions(shape, data_format):
    """Number of spatial positions of a shape."""
    return math.prod(shape[2:] if data_format == "channels_first" else shape[1:-1])


def einsum_terms(equation, rank, position):
    """Operands and result as strings of labels; `rank` is that of the term at `position`."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:
        once = [letter for letter in sorted(set(left) - set(",.")) if left.count(letter) == 1]
        right = "..." * ("..." in left) + "".join(once)
    terms = [*left.split(","), right]
    # Labels are letters, so that digits are free to name the axes of an ellipsis.
    axes = "0123456789"[: max(rank - len(terms[position].replace("...", "")), 0)]
    *terms, right = [term.replace("...", axes) for term in terms]
    return terms, right


def einsum_sizes(terms, shapes):
    sizes = {}
    for term, shape in zip(terms, shapes, strict=True):
        if len(term) != len(shape):
            return None
        for label, size in zip(term, shape, strict=True):
            if size != 1 and sizes.get(label, 1) not in (1, size):
                return None
            sizes[label] = max(size, sizes.get(label, 1))
    return sizes


def contraction(terms, result, sizes):
    # Operands are joined two at a time, from the left; only a summed label makes multiply-adds.
    total, current = 0, set(terms[0])
    for index, term in enumerate(terms[1:], start=2):
        needed = set(result).union(*terms[index:])
        operand = set(term) & (current | needed)
        current = (current & (set(term) | needed)) | operand
        if current - needed:
            total += 2 * math.prod(sizes.get(label, 1) for label in current)
        current &= needed
    return total


def _einsum(operation, inputs, outputs):
    terms, result = einsum_terms(operation.subscripts, len(outputs[0]), -1)
    # A constant operand is no tensor of the graph: the shapes tell which operands are given.
    for given in itertools.combinations(terms, len(inputs)):
        sizes = einsum_sizes([*given, result], [*inputs, outputs[0]])
        if sizes is not None:
            return contraction(terms, result, sizes)
    raise ValueError(
        f"`inputs` must fit the equation {operation.subscripts!r} of operation "
        f"'{operation.name}'. Received: inputs={inputs}, outputs={outputs}."
    )


def _inner(operation, inputs, outputs):
    if not all(inputs):
        return 0
    contracted = inputs[0][-1]
    # One shape alone: the other operand is a constant, on the left if the left sizes changed.
    if len(inputs) == 1 and len(inputs[0]) > 1 and inputs[0][:-1] != outputs[0][:-1]:
        contracted = inputs[0][-2]
    return 2 * math.prod(outputs[0]) * contracted


def _tensordot(operation, inputs, outputs):
    axes, first = operation.axes, inputs[0]
    if isinstance(axes, int):
        axes = range(len(first) - axes, len(first))
    else:
        axes = (axes[0],) if isinstance(axes[0], int) else axes[0]
    if not len(axes):
        return 0
    return 2 * math.prod(outputs[0]) * math.prod(first[axis] for axis in axes)


def _attention_product(operation, inputs, outputs):
    query, key = inputs[:2]
    value = inputs[2] if len(inputs) > 2 else key
    return 2 * math.prod(query[:-1]) * key[1] * (query[-1] + value[-1])


def _kernel_operation(operation, inputs, outputs):
    where = inputs[0] if type(operation).__name__ == "ConvTranspose" else outputs[0]
    kernels = sum(math.prod(shape) for shape in inputs[1:])
    return 2 * num_positions(where, operation.data_format) * kernels


# Keras does not export the classes of its operations, so that they are told by their names.
OPERATIONS = {
    "Matmul": _inner,
    "Dot": _inner,
    "Inner": _inner,
    "Vdot": _inner,
    "Einsum": _einsum,
    "Tensordot": _tensordot,
    "DotProductAttention": _attention_product,
    "Conv": _kernel_operation,
    "DepthwiseConv": _kernel_operation,
    "SeparableConv": _kernel_operation,
    "ConvTranspose": _kernel_operation,
}
