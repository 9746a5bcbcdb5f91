"""Prints the tables of codi-mini's card from the reports of its evaluations.

python tests/benchmarks/tables.py [--folder tests/benchmarks/codi-mini]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

from comfyui_codi.codi_core.evaluation.coherence import AGREEMENT, SPREAD
from comfyui_codi.codi_core.evaluation.estimates import share
from comfyui_codi.codi_core.evaluation.experiment import HELD_OUT, INDEPENDENT, SEEN
from comfyui_codi.codi_core.evaluation.mixing_course import FIRST, SECOND
from comfyui_codi.codi_core.evaluation.retrieval import is_trained
from comfyui_codi.codi_core.modality import Modality
from comfyui_codi.codi_core.training.world import CARRIED, MAIN_FACTS, Fact

FOLDER = Path(__file__).parent / "codi-mini"
CARD_NAMES = {
    Modality.TEXT: "text",
    Modality.IMAGE: "picture",
    Modality.VIDEO: "video",
    Modality.AUDIO: "sound",
}
WEIGHTS = ("0.0", "0.2", "0.4", "0.5", "0.6", "0.8", "1.0")
"""Of the second prompt, those of the sweep that the card shows."""

PAIRS = {"trained pairs": True, "pairs that never met": False}
MEDIAN, DIFFERENCE = "median error, in frames", "joint - independent"

Report = Mapping[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(found: float) -> str:
    return f"{100 * found:.1f}"


def share_told(found: Report | None) -> str:
    """A share with its interval, in percent; nothing where nothing was asked."""
    if found is None or not found["count"]:
        return ""
    return f"{percent(found['mean'])} ({percent(found['low'])} to {percent(found['high'])})"


def told(found: Report) -> str:
    """A mean with its interval."""
    return f"{found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def together(shares: Iterable[Report]) -> dict[str, Any]:
    """The share of the answers of all."""
    counted = [(round(each["mean"] * each["count"]), each["count"]) for each in shares if each["count"]]
    return vars(share(*map(sum, zip(*counted, strict=True))))


def named(cell: str) -> str:
    """A cell of a report by the card's names."""
    for modality, name in CARD_NAMES.items():
        cell = cell.replace(str(modality), name)
    return cell.replace("+", " + ")


def grid(entry: Callable[[Modality, Modality], str], corner: str) -> str:
    rows = [[CARD_NAMES[row], *(entry(row, column) for column in Modality)] for row in Modality]
    return table([corner, *CARD_NAMES.values()], rows)


def survival(report: Report) -> list[str]:
    def of(modality: Modality, ending: str) -> str:
        shares = [report[str(modality)][f"{fact} {ending}"] for fact in MAIN_FACTS if fact in CARRIED[modality]]
        return share_told(together(shares))

    rows = [[name, *(of(modality, name) for modality in Modality)] for name in (SEEN, HELD_OUT)]
    every = ["all", *(share_told(report[str(modality)]["all"]) for modality in Modality)]
    return [table(["combinations", *CARD_NAMES.values()], [*rows, every])]


def retrieval(report: Report) -> list[str]:
    pairs = report["pairs"]

    def entry(query: Modality, candidate: Modality) -> str:
        return "" if query == candidate else percent(pairs[f"{query} → {candidate}"]["mean"])

    groups = [[name, share_told(recall(report, trained))] for name, trained in PAIRS.items()]
    return [grid(entry, "asked with"), table(["", "found"], groups)]


def recall(report: Report, trained: bool) -> dict[str, Any]:
    return together(pair for pair in report["pairs"].values() if pair["trained"] is trained)


def matrix(report: Report) -> list[str]:
    cells = report["cells"]

    def mean_of(name: str, chosen: Iterable[str]) -> list[str]:
        means = [cells[cell]["mean"] for cell in chosen]
        return [name, str(len(means)), percent(sum(means) / len(means))]

    # Every diffuser learns with prompts in text and of its own kind.
    met = {
        f"{given} → {output}": given == output or is_trained(given, output)
        for given, output in product(Modality, repeat=2)
    }
    inputs = {cell: len(cell.split(" → ")[0].split("+")) for cell in cells}
    worst = report["worst cell"]
    groups = [
        mean_of("one input, one output, that met in training", (cell for cell in met if met[cell])),
        mean_of("one input, one output, that never met", (cell for cell in met if not met[cell])),
        *(
            mean_of(f"{name}, any outputs", (cell for cell in cells if inputs[cell] == count))
            for count, name in enumerate(("one input", "two inputs", "three inputs", "four inputs"), start=1)
        ),
        ["all", str(len(cells)), share_told(report["mean of cells"])],
        [f"the worst: {named(worst['cell'])}", "1", share_told(worst)],
        ["combinations that training had", "all", share_told(report["splits"][SEEN])],
        ["combinations held out", "all", share_told(report["splits"][HELD_OUT])],
    ]
    facts = [
        [CARD_NAMES[modality], *(share_told(report["facts"].get(f"{modality} {fact}")) for fact in Fact)]
        for modality in Modality
    ]
    return [
        grid(lambda given, output: percent(cells[f"{given} → {output}"]["mean"]), "from"),
        table(["", "cells", "right"], groups),
        table(["over all cells", *map(str, Fact)], facts),
    ]


def held_out(report: Report) -> list[str]:
    columns = list(product(MAIN_FACTS, (SEEN, HELD_OUT)))
    rows = [
        [
            CARD_NAMES[modality],
            *(share_told(report["facts"].get(f"{modality} {fact} {split}")) for fact, split in columns),
        ]
        for modality in Modality
    ]
    every = [[name, share_told(found)] for name, found in (*report["splits"].items(), ("drop", report["drop"]))]
    return [table(["", *(f"{fact}, {split}" for fact, split in columns)], rows), table(["all facts", "right"], every)]


def coherence(report: Report) -> list[str]:
    ways = report["ways"]
    rows = [["all", *(share_told(entry[AGREEMENT]) for entry in ways.values())]]
    for pair in combinations(Modality, 2):
        rows.append(
            [
                named(" and ".join(pair)),
                *(percent(entry["pairs"][" and ".join(pair)]["mean"]) for entry in ways.values()),
            ]
        )
    rows.append(["spread", *(spread(report, way) for way in ways)])
    return [table(["", *ways], rows)]


def spread(report: Report, way: str) -> str:
    return share_told(report["ways"][way][SPREAD])


def keep(report: Report) -> list[str]:
    rows = [
        [named(pair), *(share_told(found.get(str(fact))) for fact in MAIN_FACTS)]
        for pair, found in report["pairs"].items()
    ]
    return [table(["kept → made", *map(str, MAIN_FACTS)], rows)]


def sync(report: Report) -> list[str]:
    rows = [[way, told(entry[MEDIAN]), entry["with bounces in both"]] for way, entry in report["ways"].items()]
    return [table(["made", "frames apart at the median", "clips in which both bounced"], rows)]


def sim(report: Report) -> list[str]:
    rows = [[named(pair), *(told(entry) for entry in found.values())] for pair, found in report["pairs"].items()]
    return [table(["", "together", "apart", "difference"], rows)]


def least_difference(report: Report) -> Report:
    return min((found[DIFFERENCE] for found in report["pairs"].values()), key=lambda difference: difference["mean"])


def mix(report: Report) -> list[str]:
    rows = []
    for modality, courses in report["outputs"].items():
        shares = ((courses[weight][name]["mean"] for name in (FIRST, SECOND)) for weight in WEIGHTS)
        rows.append([named(modality), *(" / ".join(f"{100 * each:.0f}" for each in pair) for pair in shares)])
    return [table(["weight of the second", *WEIGHTS], rows)]


TABLES: dict[str, Callable[[Report], list[str]]] = {
    "survival": survival,
    "retrieval": retrieval,
    "matrix": matrix,
    "combinations": held_out,
    "coherence": coherence,
    "keep": keep,
    "sync": sync,
    "sim": sim,
    "mix": mix,
}


def goals(reports: Mapping[str, Report]) -> list[str]:
    """What was wanted beside what was measured, of the evaluations that have a report."""
    wanted: dict[str, Callable[[Report], list[tuple[str, str, str]]]] = {
        "survival": lambda report: [
            (f"facts of a {name} that survive encoding and decoding", "99", share_told(report[str(modality)]["all"]))
            for modality, name in CARD_NAMES.items()
        ],
        "retrieval": lambda report: [
            (f"recall at 1 of 64, {name}", "98" if trained else "90", share_told(recall(report, trained)))
            for name, trained in PAIRS.items()
        ],
        "matrix": lambda report: [
            ("mean of the 225 cells", "95", share_told(report["mean of cells"])),
            ("worst of the 225 cells", "85", share_told(report["worst cell"])),
        ],
        "combinations": lambda report: [("lost on combinations held out", "at most 5", share_told(report["drop"]))],
        "coherence": lambda report: [
            *(
                (f"agreement on open facts, `{way}`", least, share_told(report["ways"][way][AGREEMENT]))
                for way, least in (("paper", "90"), ("mutual", "75"))
            ),
            *((f"spread against independent runs, `{way}`", "90", spread(report, way)) for way in ("paper", "mutual")),
            (
                "agreement of independent runs",
                "chance, {} to {}".format(*(percent(end(report["chance"].values())) for end in (min, max))),
                share_told(report["ways"][INDEPENDENT][AGREEMENT]),
            ),
        ],
        "sync": lambda report: [
            ("frames between bounce and hit, at the median", "at most 1", told(report["ways"]["joint"][MEDIAN]))
        ],
        "sim": lambda report: [
            ("SIM together less apart, the least of the pairs", "above 0", told(least_difference(report)))
        ],
    }
    rows = [row for name, rows_of in wanted.items() if name in reports for row in rows_of(reports[name])]
    return [table(["", "wanted", "measured"], rows)]


def tables(folder: Path) -> dict[str, list[str]]:
    """By the name of the evaluation, in Markdown, for every report in the folder; first what was wanted of all."""
    paths = {name: folder / f"{name}.json" for name in TABLES}
    reports = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    return {"goals": goals(reports), **{name: TABLES[name](report) for name, report in reports.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    for name, drawn in tables(parser.parse_args().folder).items():
        print(f"## {name}\n", *drawn, sep="\n\n", end="\n\n")


if __name__ == "__main__":
    main()
