"""What is said about a fit: five findings, each with its evidence and the smallest effect that it could have seen."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NOT_ASSESSED, NO_PROBLEM, INCONCLUSIVE, FAIL = "not_assessed", "no_problem_found", "inconclusive", "fail"
STATES = (NOT_ASSESSED, NO_PROBLEM, INCONCLUSIVE, FAIL)
PARTS = ("optimisation", "local_fit", "mode_coverage", "elbo_trust", "calibration")
WIDTH = 100


@dataclass(frozen=True)
class Finding:
    """One part of a verdict.

    Attributes:
        state: ``"not_assessed"``, ``"no_problem_found"``, ``"inconclusive"`` or ``"fail"``.
        message: one sentence for a person.
        evidence: name -> number or short text.
        smallest_effect: kind of error -> size from which on it would have been seen, in that kind's own unit.
        advice: what to do next; empty when there is nothing to advise.
    """

    state: str
    message: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    smallest_effect: Mapping[str, float] = field(default_factory=dict)
    advice: str = ""


NOTHING = Finding(NOT_ASSESSED)


@dataclass(frozen=True)
class Verdict:
    """Five findings on a fit. None of them says that it is right; they say what was looked for, and what was found.

    Attributes:
        optimisation: whether the sampler is at a stationary point, by Stein's identities.
        local_fit: whether draws stay where they are under transitions that leave the target as it is.
        mode_coverage: whether chains from elsewhere end outside the draws' range.
        elbo_trust: whether the critic's estimate of the ELBO can be relied upon.
        calibration: whether simulated truths rank uniformly among draws.
        seed: of the checks.
    """

    optimisation: Finding = NOTHING
    local_fit: Finding = NOTHING
    mode_coverage: Finding = NOTHING
    elbo_trust: Finding = NOTHING
    calibration: Finding = NOTHING
    seed: int = 0

    def findings(self) -> dict[str, Finding]:
        """Part -> finding."""
        return {part: getattr(self, part) for part in PARTS}

    @property
    def line(self) -> str:
        """The states in one line, such as a figure has room for."""
        return ", ".join(f"{part} {one.state}" for part, one in self.findings().items())

    @property
    def summary(self) -> str:
        """The parts of each state, the gravest first: ``fail: local_fit; no_problem_found: optimisation``."""
        states = {part: one.state for part, one in self.findings().items()}
        found = {state: [part for part in PARTS if states[part] == state] for state in reversed(STATES)}
        return "; ".join(f"{state}: {', '.join(parts)}" for state, parts in found.items() if parts)

    def attributes(self) -> dict[str, Any]:
        """Flat names and values, for files that know no nesting."""
        flat: dict[str, Any] = {"verdict_seed": self.seed}
        for part, one in self.findings().items():
            flat |= {f"verdict_{part}": one.state, f"verdict_{part}_message": one.message}
            flat |= {
                f"verdict_{part}_{name.replace(',', '').replace(' ', '_')}": value
                for name, value in one.evidence.items()
            }
        return flat

    def __str__(self) -> str:
        lines = ["Verdict (what was looked for, and found; no part says that the fit is right)", f"  {self.summary}"]
        indent = " " * 34
        for part, one in self.findings().items():
            shown = ", ".join(f"{name} {_number(value)}" for name, value in one.evidence.items())
            seen = ", ".join(_effect(name, value) for name, value in one.smallest_effect.items())
            texts = [
                one.message,
                f"evidence: {shown}" if shown else "",
                f"would have seen: {seen}" if seen else "",
                f"advice: {one.advice}" if one.advice else "",
            ]
            body = [piece for text in texts if text for piece in textwrap.wrap(text, WIDTH - len(indent))]
            lines.append(f"  {part:14}{one.state:18}{body[0] if body else ''}".rstrip())
            lines += [indent + piece for piece in body[1:]]
        return "\n".join(lines)


class Tolerances(NamedTuple):
    """Errors that do not matter; the same for every coordinate.

    Attributes:
        mean: in sds.
        log_sd: of sds, on the log scale.
        correlation: of correlations.
        tail: of the probability beyond two sds on one side, .023 for a Gaussian.
        log_p: of the mean log density, nats for each dimension: sds that are all off by .1 on the log scale move it so.
        elbo: of the ELBO estimate, nats.
    """

    mean: float = 0.1
    log_sd: float = 0.1
    correlation: float = 0.1
    tail: float = 0.015
    log_p: float = 0.1
    elbo: float = 0.1


DEFAULT = Tolerances()


UNITS = {"mean": "sd", "log_sd": "in logs", "tail": "of probability", "log_p": "nats"}


def _effect(kind: str, size: float) -> str:
    """Such as ``log sd 0.12 in logs``; other kinds say their unit themselves, or have none."""
    return f"{kind.replace('_', ' ')} {_number(size)} {UNITS.get(kind, '')}".rstrip()


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if math.isfinite(value) and 1.0 <= abs(value) < 1e6:
        return f"{value:.2f}"  # nats, of which hundredths matter
    return f"{value:.2g}"
