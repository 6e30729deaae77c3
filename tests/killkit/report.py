"""A run of the matrix told: a table for people, and JSON for programs."""

from collections import Counter
from collections.abc import Iterator, Sequence

from killkit.faults import BOUNDARIES, Kind
from killkit.matrix import Outcome
from killkit.strike import Struck


def table(outcome: Outcome) -> str:
    """Return fault x boundary x runs x violations, and how long recovery took after each kind."""
    violations = Counter(violation.session_id for violation in outcome.violations)
    lines = [f"{'fault':<20} {'boundary':<22} {'runs':>5} {'violations':>10}"]
    for kind in Kind:
        for boundary in BOUNDARIES:
            struck = [one for one in outcome.struck if (one.fault.kind, one.fault.boundary) == (kind, boundary)]
            if struck:
                lines.append(f"{kind:<20} {boundary:<22} {len(struck):>5} {_blamed(struck, violations):>10}")
    lines += ["", f"{'fault':<20} {'runs':>5} {'p50 s':>7} {'p99 s':>7} {'max s':>7}"]
    lines += _recovery(outcome)
    counted = f"{len(outcome.struck)} faults on {outcome.sessions} sessions in {outcome.seconds / 60:.1f} min"
    return "\n".join([*lines, "", f"{counted}, {len(outcome.violations)} violations"])


def document(outcome: Outcome) -> dict[str, object]:
    """Return everything that was measured, to be written as JSON."""
    return {
        "seconds": outcome.seconds,
        "sessions": outcome.sessions,
        "violations": [str(violation) for violation in outcome.violations],
        "recovery": {
            kind.name.lower(): {"runs": len(times), "p50": percentile(times, 50), "p99": percentile(times, 99)}
            for kind, times in _times(outcome)
        },
        "faults": [
            {
                "kind": one.fault.kind.name.lower(),
                "boundary": one.fault.boundary,
                "world": one.world,
                "seconds": one.recovered,
                "lost": list(one.lost),
            }
            for one in outcome.struck
        ],
    }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so many per cent do not exceed; 0 of nothing."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 100)
    return ordered[max(0, int(rank) - 1)] if ordered else 0.0


def _blamed(struck: Sequence[Struck], violations: Counter[str]) -> int:
    """Count the violations in sessions that these faults have hit; each is laid at the door of every one of them."""
    hit = {session_id for one in struck for session_id in one.sessions}
    return sum(violations[session_id] for session_id in hit)


def _times(outcome: Outcome) -> Iterator[tuple[Kind, list[float]]]:
    for kind in Kind:
        times = [one.seconds for one in outcome.struck if one.fault.kind is kind]
        if times:
            yield kind, times


def _recovery(outcome: Outcome) -> Iterator[str]:
    for kind, times in _times(outcome):
        shown = f"{percentile(times, 50):>7.2f} {percentile(times, 99):>7.2f} {max(times):>7.2f}"
        yield f"{kind:<20} {len(times):>5} {shown}"
