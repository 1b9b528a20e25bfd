"""Recognising a mistake by what it computes: the solution is edited, run, and compared with the answer."""

import itertools

from .probes import numbers_changed
from .values import NotNumbers, close

PAIRS = 400  # pairs of mistakes that are tried: a count, so that a busy machine says the same as a quiet one


def edited(exercise, *edits):
    """The solution with the words of all edits replaced at once.

    Raises:
        ValueError: words do not occur exactly once, or two edits overlap.
    """
    code, spots = exercise.code, []
    for right, wrong in [pair for edit in edits for pair in edit.items()]:
        if code.count(right) != 1:
            raise ValueError(f"{exercise.name}: {right!r} occurs {code.count(right)} times in the solution, not once")
        spots.append((code.index(right), len(right), wrong))
    for (start, length, _), (following, _, _) in itertools.pairwise(sorted(spots)):
        if start + length > following:
            raise ValueError(f"{exercise.name}: two edits change the same words")
    for start, length, wrong in sorted(spots, reverse=True):
        code = code[:start] + wrong + code[start + length :]
    scope = dict(exercise.solution.__globals__)
    exec(compile(code, f"<{exercise.name}, edited>", "exec"), scope)  # the package's own source
    return scope[exercise.name]


def recognised(exercise, answer, tried, runs, failed):
    """The known mistakes that compute what the answer computed.

    One mistake that explains everything comes first; then one of a sibling; then
    one for each wrong output; then two mistakes together.

    Args:
        tried: the cases, (label, args, right).
        runs: what the answer did, a Run for each case.
        failed: number of the first case that is wrong.
    Returns:
        list of keys of `exercise.mistakes`, or of `exercise.siblings`.
    """
    compared = _Comparison(exercise, answer, tried, runs, failed)
    if whole := [key for key in exercise.mistakes if compared.explains_all(key)]:
        return whole
    siblings = [] if runs[failed].error else exercise.siblings  # two errors may be alike by chance
    if whole := [key for key in siblings if compared.explains_all(key)]:
        return whole[:1]  # two siblings may say the same in other words
    left, found = set(compared.wrong), []
    covered = {key: compared.explained(key) for key in exercise.mistakes}
    while best := max(covered, key=lambda key: len(covered[key] & left), default=None):
        if not covered[best] & left:
            break
        found, left = [*found, best], left - covered[best]
    return found if found and not left else _by_pairs(exercise, compared, left, found)


def _by_pairs(exercise, compared, left, found):
    """Two mistakes at once that explain everything, or else what is left."""
    parts = {}
    pairs = itertools.chain(itertools.combinations(exercise.mistakes, 2),
                            itertools.product(exercise.mistakes, exercise.siblings))
    for pair in itertools.islice(pairs, PAIRS):
        if compared.explains_all(*pair):
            return list(pair)
        parts |= dict.fromkeys(compared.explained(*pair) & left - parts.keys(), pair)
    return list(dict.fromkeys([*found, *(key for pair in parts.values() for key in pair)]))


class _Comparison:
    """An answer beside the known mistakes, case by case."""

    def __init__(self, exercise, answer, tried, runs, failed):
        self.exercise, self.answer, self.tried, self.runs, self.failed = exercise, answer, tried, runs, failed
        rights = [right for _, _, right in tried]
        self.strict = _alike(runs, rights)  # the values are right: it can only be a type, or a changed argument
        self.wrong = {k for k in range(len(exercise.outputs)) if not self.strict and not _agree(rights, runs, k)}
        self.known = {}  # for each pair of mistakes what it computes, as far as it was needed

    def explains_all(self, *keys):
        """True when these mistakes compute what the answer does, everything."""
        theirs = self._theirs(keys)
        return bool(theirs) and _alike(self.runs, theirs, self.strict) and self._stays(
            keys, range(len(self.exercise.outputs)))

    def explained(self, *keys):
        """The wrong outputs that these mistakes compute as the answer does."""
        theirs = self._theirs(keys)
        found = {k for k in self.wrong if theirs and _agree(theirs, self.runs, k)}
        return found if found and self._stays(keys, found) else set()

    def _theirs(self, keys):
        """What the mistakes compute; None when they cannot be made at once, or differ where the answer first fails."""
        if keys not in self.known:
            self.known[keys] = self._run(keys)
        return self.known[keys]

    def _run(self, keys):
        if self.exercise.mistaken(*keys) is None:
            return None
        here, theirs = [self.runs[self.failed]], [self.exercise.computed(keys, self.tried, self.failed)]
        if not _alike(here, theirs, self.strict) and not any(_agree(theirs, here, k) for k in self.wrong):
            return None  # this rules out most of them
        return [self.exercise.computed(keys, self.tried, number) for number in range(len(self.tried))]

    def _stays(self, keys, outputs):
        """True when the likeness stays with other numbers: max(var, eps) and a lost eps part when eps is large."""
        function = self.exercise.mistaken(*keys)
        for changed in numbers_changed(self.exercise, self.tried):
            mine, theirs = (self.exercise.run_cases(each, [changed])[0] for each in (self.answer, function))
            if not mine.error and not theirs.error and not all(_agree([theirs], [mine], k) for k in outputs):
                return False
        return True


def _agree(theirs, runs, k):
    """True when output k is the same on every case."""
    return all(k < min(len(a.outputs), len(b.outputs)) and close(b.outputs[k], a.outputs[k])
               for a, b in zip(theirs, runs))  # the runs end early where the time was over


def _alike(runs, theirs, strict=False):
    """True when everything is the same on every case; `strict`: the types and the changed arguments as well."""
    return all(
        a.error == b.error and len(a.outputs) == len(b.outputs) and all(map(close, a.outputs, b.outputs))
        and (not strict or (a.changed == b.changed and list(map(_type, a.outputs)) == list(map(_type, b.outputs))))
        for a, b in zip(runs, theirs))


def _type(output):
    return None if isinstance(output, NotNumbers) or not output.ndim else output.dtype
