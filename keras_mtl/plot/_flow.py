"""What the picture of columns shows, as plain data: which boxes and nodes there are, and edges."""

from typing import NamedTuple


class Box(NamedTuple):
    """A unit's computation, or a place where it is skipped, for the tasks that have it in common.

    Args:
        unit: int. Its position.
        copy: string. The parameters it uses: `"shared"`, `"skip"`, a task's name or a branch's.
        before: int. The number of what it computes from.
    """

    unit: int
    copy: str
    before: int


class Node(NamedTuple):
    """What one fusion gives to one task.

    Args:
        fusion: string. Its name.
        task: string.
    """

    fusion: str
    task: str


class Flow:
    """The computations of an architecture with fusions, each once.

    Args:
        architecture: `Architecture`.
        candidates: sequence of `Fusion`. Those whose edges might have been chosen.

    Attributes:
        tasks_of: dict from `Box` and `Node` to the tuple of tasks that have it in common.
        kinds: dict from `Node` to the kind of its fusion.
        ranks: dict from `Node` to `(unit, rank)`: its place among those of its task at the unit.
        paths: dict from a pair of what follows one another to the tasks that go this way.
        ends: dict from task to the last on its path.
        beside: set of `Node` that stand aside where the task's path has a box of its own.
        edges: dict from `(source, node)` to whether it is chosen.
    """

    def __init__(self, architecture, candidates=()):
        self.tasks_of, self.kinds, self.ranks = {}, {}, {}
        self.paths, self.edges, self.beside = {}, {}, set()
        self.ends = dict.fromkeys(architecture.tasks)
        self.given, numbers = {}, {None: 0}
        chosen = {fusion.name for fusion in architecture.fusions}
        others = [fusion for fusion in candidates if fusion.name not in chosen]
        for index, unit in enumerate(architecture.units):
            for task in architecture.tasks:
                copy = {"own": task}.get(choice := architecture.choices[task][index], choice)
                before = numbers.setdefault(self.ends[task], len(numbers))
                self._box(Box(index, copy, before), unit, task)
            for fusion in (*architecture.fusions, *others):
                if fusion.unit == unit:
                    self._fuse(fusion, index, fusion.name in chosen)
        for fusion in candidates:
            self._edges(fusion, chosen=False)
        self.tasks_of = {key: tuple(tasks) for key, tasks in self.tasks_of.items()}

    def _box(self, box, unit, task):
        self.tasks_of.setdefault(box, []).append(task)
        self.paths.setdefault((self.ends[task], box), []).append(task)
        self.given[task, unit] = self.ends[task] = box

    def _fuse(self, fusion, index, chosen):
        for task in fusion.targets:
            node = Node(fusion.name, task)
            known = [n for n, (unit, _) in self.ranks.items() if (n.task, unit) == (task, index)]
            self.tasks_of[node], self.kinds[node] = [task], fusion.kind
            self.ranks[node] = index, len(known)
            self.given[task, fusion.name] = node
            if chosen and not fusion.aside:
                # What comes from a part that tasks have in common is an edge.
                read = [self.given[source] for source in fusion.sources]
                if self.ends[task] in read and self.tasks_of[self.ends[task]] == [task]:
                    self.paths[self.ends[task], node] = [task]
                self.ends[task] = node
            elif self.tasks_of[self.given[task, fusion.unit]] == [task]:
                self.beside.add(node)
        if chosen:
            self._edges(fusion, chosen=True)

    def _edges(self, fusion, chosen):
        for source in fusion.sources:
            for task in fusion.targets:
                key = self.given[source], Node(fusion.name, task)
                # What goes on along the task's own path is no edge.
                if key not in self.paths and (chosen or source != (task, fusion.unit)):
                    self.edges.setdefault(key, chosen)

    def exchanges(self):
        """Groups of nodes at one unit that all tasks have and that read all these tasks there.

        Returns:
            A list of lists of `Node`; `[]` where there are other edges between columns too.
        """
        groups = {}
        for node, place in self.ranks.items():
            groups.setdefault(place, []).append(node)
        found = [group for group in groups.values() if self._is_exchange(group)]
        within = {node for group in found for node in group}
        others = [edge for edge in self.edges if edge[1] not in within]
        crossing = any(self.tasks_of[source] != (node.task,) for source, node in others)
        return [] if crossing else found

    def _is_exchange(self, group):
        if len(group) < max(2, len(self.ends)):
            return False
        own = {node: self._before(node) for node in group}
        for node in group:
            read = {source for (source, target), on in self.edges.items() if target == node and on}
            if read != {before for other, before in own.items() if other != node}:
                return False
        return True

    def _before(self, node):
        return next((before for before, onto in self.paths if onto == node), None)
