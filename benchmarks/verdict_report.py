"""Rates, table and figure of how often a verdict is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import table

Row = dict[str, Any]
BEGIN, END = "<!-- numbers:begin -->", "<!-- numbers:end -->"
STATES = ("fail", "inconclusive", "no_problem_found")


def share(rows: Sequence[Row], part: str, state: str) -> str:
    """ "97 % of 30", or a dash."""
    return _of([row for row in rows if row[part] == state], rows)


def counts(rows: Sequence[Row], part: str) -> str:
    """Fail / inconclusive / no problem found."""
    return "–" if not rows else " / ".join(str(sum(row[part] == state for row in rows)) for state in STATES)


def beyond(row: Row) -> bool:
    """Whether an error that the tolerances are about is beyond them."""
    return max(row["true"].values()) > 1.0


def grave(row: Row) -> bool:
    """Whether a mean is off by more than .3 sd, or an sd by more than a factor of 1.25."""
    return row["true"]["mean"] > 3.0 or row["true"]["log_sd"] > 10.0 * np.log(1.25)


def _of(hits: Sequence[Row], rows: Sequence[Row]) -> str:
    return f"{100 * len(hits) / len(rows):.3g} % of {len(rows)}" if rows else "–"


def twice(row: Row) -> bool:
    """Whether a mean, an sd or a correlation is off by twice the tolerance."""
    return max(row["true"].get(kind, 0.0) for kind in ("mean", "log_sd", "correlation")) > 1.95


def report(zoo: Sequence[Row], real: Sequence[Row], evidence: Sequence[Row]) -> str:
    """All of it in Markdown."""
    parts = [_zoo(zoo), _rates(zoo, evidence)]
    if real:
        parts.append(_real(real))
    return "\n\n".join(parts) + "\n"


def _zoo(zoo: Sequence[Row]) -> str:
    broken = [row for row in zoo if row["group"] == "broken"]
    exact = [row for row in zoo if row["group"] == "exact"]
    sizes = sorted({row["size"] for row in zoo})
    head = ["sampler", *(f"local fit, D = {size}" for size in sizes), *(f"modes, D = {size}" for size in sizes)]
    body = []
    for name in dict.fromkeys(row["name"] for row in broken):
        own = [[row for row in broken if row["name"] == name and row["size"] == size] for size in sizes]
        body.append([name, *(counts(each, part) for part in ("local_fit", "mode_coverage") for each in own)])
    for target in dict.fromkeys(row["target"] for row in exact):
        own = [[row for row in exact if row["target"] == target and row["size"] == size] for size in sizes]
        body.append(
            [f"exact, {target}", *(counts(each, part) for part in ("local_fit", "mode_coverage") for each in own)]
        )
    text = "Runs that ended in fail / inconclusive / no problem found:\n\n" + table(head, body)
    critics = [row for row in zoo if row["group"] == "critic"]
    if critics:
        lines = []
        for name in dict.fromkeys(row["name"] for row in critics):
            own = [[row for row in critics if row["name"] == name and row["size"] == size] for size in sizes]
            lines.append([name, *(counts(each, "elbo_trust") for each in own)])
        text += "\n\n" + table(["exact draws, and a", *(f"ELBO, D = {size}" for size in sizes)], lines)
    return text


def _rates(zoo: Sequence[Row], evidence: Sequence[Row]) -> str:
    broken = [row for row in zoo if row["group"] == "broken"]
    exact = [row for row in zoo if row["group"] == "exact"]
    missing = [row for row in broken if row["name"].startswith("mode missing")]
    local = [row for row in broken if twice(row) and not row["target"].startswith(("modes", "funnel"))]
    small: Callable[[Row], bool] = lambda row: row["size"] <= 10  # noqa: E731
    body = [
        [
            "errors beyond a tolerance: no problem found in the local fit",
            share([row for row in broken if beyond(row)], "local_fit", "no_problem_found"),
            "≤ 1 %",
        ],
        ["errors of twice the tolerance (one mode): fail", share(local, "local_fit", "fail"), "≥ 95 %"],
        [
            "exact, D ≤ 10: no problem found",
            share([r for r in exact if small(r)], "local_fit", "no_problem_found"),
            "≥ 90 %",
        ],
        [
            "exact, D = 50: no problem found",
            share([r for r in exact if not small(r)], "local_fit", "no_problem_found"),
            "≥ 80 %",
        ],
        ["exact: fail", share(exact, "local_fit", "fail"), "≤ 5 %"],
        ["exact: a mode said to be missing", share(exact, "mode_coverage", "fail"), ""],
        ["mode missing, D ≤ 10: found", share([r for r in missing if small(r)], "mode_coverage", "fail"), "≥ 95 %"],
        [
            "mode missing, D = 50: no problem found",
            share([r for r in missing if not small(r)], "mode_coverage", "no_problem_found"),
            "0 %",
        ],
    ]
    refined = [row for row in zoo if row["group"] == "refined"]
    cleared = [row for row in broken + exact if row["local_fit"] == "no_problem_found"]
    wrong = [row for row in cleared if row["group"] == "broken" and grave(row)]
    body += [
        [
            "grave errors (means .3 sd, sd ratios .8, 1.25) among those with no problem found",
            _of(wrong, cleared),
            "0 %",
        ],
        [
            "broken or exact: flagged (not no problem found)",
            _of([r for r in broken + exact if r not in cleared], broken + exact),
            "",
        ],
    ]
    # Of as many exact draws one in a hundred is out: the bar is one of all runs, as those of a size are few.
    of_sizes = [
        (f", D = {size}", [r for r in refined if r["size"] == size]) for size in sorted({r["size"] for r in refined})
    ]
    for label, own in [("", refined), *of_sizes] if refined else []:
        inside = [row for row in own if row["largest"] <= row["band"]]
        what = f"refined, one mode{label}: all means and sds in the 99 % band of exact draws"
        body.append([what, _of(inside, own), "" if label else "≥ 99 %"])
    critics = [row for row in zoo if row["group"] == "critic"]
    if critics:
        apart: Callable[[Row], bool] = lambda row: not row["name"].endswith("optimum")  # noqa: E731
        for label, own in (
            (
                "critic off its optimum by .3 nats and more: no problem found in the ELBO",
                [r for r in critics if apart(r)],
            ),
            ("critic at its optimum: no problem found in the ELBO", [r for r in critics if not apart(r)]),
        ):
            body.append([label, share(own, "elbo_trust", "no_problem_found"), "0 %" if apart(own[0]) else ""])
    if evidence:
        within = [row for row in evidence if abs(row["error"]) <= 3.0 * row["se"]]
        usable = [row for row in evidence if row["pareto_k"] < 0.7]
        body.append(["log evidence of regressions, within 3 se", _of(within, evidence), "≥ 99 %"])
        for name, label in (("error", "largest error"), ("by_weights", "the same by weights alone")):
            largest = max((abs(row[name]) for row in usable), default=np.nan)
            body.append(
                [
                    f"{label} where k̂ < .7 ({len(usable)})",
                    f"{largest:.3f} nats",
                    "≤ .05 nats" if name == "error" else "",
                ]
            )
    return table(["rate", "measured", "wanted"], body)


def _real(real: Sequence[Row]) -> str:
    head = [
        "fit",
        "D",
        "local fit",
        "modes",
        "ELBO",
        "mean, sd error",
        "refined",
        "log Z error",
        "k̂",
        "check, refine s",
        "of processors",
    ]
    body = []
    for row in real:
        error = None if row["true_log_evidence"] is None else row["log_evidence"] - row["true_log_evidence"]
        body.append(
            [
                row["name"],
                str(row["size"]),
                row["local_fit"],
                row["mode_coverage"],
                row["elbo_trust"],
                f"{row['raw_mean']:.3f}, {row['raw_sd']:.3f}",
                f"{row['refined_mean']:.3f}, {row['refined_sd']:.3f}",
                "–" if error is None else f"{error:+.3f}",
                f"{row['pareto_k']:.2f}",
                f"{row['check_seconds']:.1f}, {row['refine_seconds']:.1f}",
                f"{row.get('check_processor', np.nan):.1f}, {row.get('refine_processor', np.nan):.1f}",
            ]
        )
    cleared = [row for row in real if row["local_fit"] == "no_problem_found"]
    bad = [row["name"] for row in cleared if row["raw_mean"] > 0.3 or row["raw_sd"] > np.log(1.25)]
    good = [row for row in real if max(row["raw_mean"], row["raw_sd"]) < 0.05]
    refined = [row for row in real if row["refined_mean"] <= 0.05 and row["refined_sd"] <= np.log(1.05)]
    quick = {
        clock: (
            _of([row for row in real if row.get(f"refine_{clock}", np.nan) <= 10.0], real),
            _of(
                [row for row in real if row.get(f"check_{clock}", np.nan) <= (10.0 if row["size"] <= 10 else 30.0)],
                real,
            ),
        )
        for clock in ("seconds", "processor")
    }
    lines = [
        table(head, body),
        f"Refined to within .05 sd (means) and 5 % (sds): {_of(refined, real)}; refined within 10 s: "
        f"{quick['seconds'][0]}, of processors {quick['processor'][0]}; checked within 10 s (D ≤ 10) or 30 s: "
        f"{quick['seconds'][1]}, of processors {quick['processor'][1]}.",
        f"Of {len(real)} fits {len(cleared)} had no problem found in the local fit; with a mean error above .3 sd or "
        f"an sd ratio outside [.8, 1.25] among them: {', '.join(bad) or 'none'}. Good fits (errors below .05) that "
        f"failed: {share(good, 'local_fit', 'fail')}.",
    ]
    return "\n\n".join(lines)


def plot_power(zoo: Sequence[Row], path: Path) -> None:
    """Share of runs by state, against the size of the error."""
    graded = [row for row in zoo if row["group"] == "graded"]
    if not graded:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = sorted({row["size"] for row in graded})
    kinds = {"mean": "one mean off, sd", "log_sd": "all sds off, log", "correlation": "all correlations off"}
    figure, axes = plt.subplots(
        len(sizes), 3, figsize=(7.5, 1.9 * len(sizes)), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    colours = {"fail": "#D55E00", "inconclusive": "#BBBBBB", "no_problem_found": "#0072B2"}
    for line, size in zip(axes, sizes, strict=True):
        for axis, (kind, label) in zip(line, kinds.items(), strict=True):
            own = [row for row in graded if row["size"] == size and row["name"].startswith(f"{kind} off")]
            effects = sorted({row["effect"] for row in own})
            groups = [[row for row in own if row["effect"] == effect] for effect in effects]
            for state, colour in colours.items():
                rates = [sum(row["local_fit"] == state for row in each) / len(each) for each in groups]
                axis.plot(effects, rates, color=colour, marker="o", markersize=3, label=state.replace("_", " "))
            axis.axvline(0.1, color="#888888", linewidth=0.6, linestyle=":")
            axis.set_ylim(-0.05, 1.05)
            axis.spines[["top", "right"]].set_visible(False)
            if size == sizes[-1]:
                axis.set_xlabel(label)
        line[0].set_ylabel(f"share, D = {size}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def publish(text: str, out: Path, docs: Path) -> None:
    """Put the tables between the markers of docs/verdict.md, and the figure beside the others."""
    page = docs / "verdict.md"
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}")
    figure = out / "verdict.png"
    if figure.exists():
        (docs / "images" / "verdict.png").write_bytes(figure.read_bytes())
