"""The page that compares the published orders of architectures with each other and with ours."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import combinations
from pathlib import Path

import pandas as pd

from harness.evaluation.ordering import MIN_MODELS
from harness.evaluation.statistics.significance import LEVEL
from harness.records.listed import LISTED, display_name
from harness.records.store import read_runs
from reports.cells import MISSING, Shown, grouped, p_value, signed
from reports.contents import Contents, Part, Words
from reports.files import write_csv
from reports.paper.orders import HERE, KINDS, Order, compare_orders, our_orders, published_orders
from reports.paper.printed import EVIDENCE, load_published
from reports.render import write_report
from reports.sections import load_sections
from reports.tables.markup import Table
from reports.tables.published import published_table

TIES = 1e-9  # tau-b of as many agreeing as disagreeing pairs, up to rounding
ORDERS_FILE = "orders.csv"
LEAST_P = (
    f"Of {MIN_MODELS} models even the same order has p .083, of five .017: a high tau of few models is weak "
    "evidence. Nothing is corrected for the number of pairs."
)


def render_orders(results: Iterable[Path], out: Path) -> Path:
    """Write ``orders.csv`` and the report on it into ``out``; the path of the report as Markdown.

    Args:
        results: folders of runs whose orders are compared with the published ones.

    Raises InputError where a folder's records are damaged.
    """
    ours = [
        order
        for folder in results
        for section in load_sections(read_runs(folder))
        for order in our_orders(section)
    ]
    pairs = compare_orders([*published_orders(), *ours])
    write_csv(out / ORDERS_FILE, pairs)
    return write_report(orders_contents(pairs, ours), out)


def orders_contents(pairs: pd.DataFrame, ours: list[Order]) -> Contents:
    """The content of the page, from `compare_orders` and our own orders."""
    known = pairs[pairs["models"] >= MIN_MODELS]
    is_within = known["source"] == known["other_source"]
    is_ours = known["other_source"] == HERE  # which comes last
    between, with_ours = known[~is_within & ~is_ours], known[~is_within & is_ours]
    summary = summary_table(pairs, [*(paper.citation.name for paper in load_published().values()), HERE])
    part = Part(
        name="orders",
        title="Published orders",
        in_short=f"{_agreement_sentence('published orders from different sources', between)} "
        f"{_agreement_sentence('a published order and one of this benchmark', with_ours)}",
        overview=[Words("How orders are compared, and what cannot be concluded", _cautions(ours))],
        more=[Words("The sources", _sources())],
        tables=[
            summary,
            _pairs_table("between", "Orders of different papers", between),
            _pairs_table("ours", "Published orders and ours", with_ours),
            _pairs_table("within", "Orders of one source", known[is_within]),
        ],
        ranked=summary,
    )
    keys = [(name, key) for name, paper in load_published().items() for key in paper.comparisons]
    return Contents(
        title="Published orders of architectures",
        descriptions=["Which architectures published comparisons put first, and whether they agree."],
        parts=[part],
        printed=[published_table(*key) for key in keys],
        data=[ORDERS_FILE],
    )


def _agreement_sentence(of_what: str, pairs: pd.DataFrame) -> str:
    """How many taus are above and below zero, their median, and how many p-values are low."""
    pairs = pairs[(pairs["kind"] == KINDS["auc"]) & pairs["tau"].notna()]
    if pairs.empty:
        return f"No pairs of {of_what} share {MIN_MODELS} models."
    above, below = (pairs["tau"] > TIES).sum(), (pairs["tau"] < -TIES).sum()
    larger = pairs[pairs["models"] > MIN_MODELS]
    return (
        f"Of {len(pairs)} pairs of {of_what} (by AUC, {MIN_MODELS} models or more in both), Kendall's tau-b "
        f"is above zero in {above} and below in {below}, its median {signed(pairs['tau'].median(), 2)}; p is "
        f"below .05 in {(larger['p_value'] < LEVEL).sum()} of the {len(larger)} with more than "
        f"{MIN_MODELS} models."
    )


def _cautions(ours: list[Order]) -> list[str]:
    names = ", ".join(order.name for order in ours) or "none"
    return [
        "An order: the models of one column of a comparison, each architecture by its plain row; of models "
        "combined with sequence models, those with the same one. Kendall's tau-b is 1 for the same order, -1 "
        "for the reverse, over the models that both have. AUC is compared with AUC, UAUC and gAUC with each "
        "other, although papers weight users differently. A model that both take as the base of differences "
        "is left out: it is at zero by definition. Between sources finish is not compared with skip, "
        "nor what was combined with a sequence model with ours.",
        "p-value: the share of all orders of the models that agree or disagree as much, twice the smaller "
        f"tail; with more than eight models and ties, of 100,000 drawn orders. {LEAST_P}",
        "Published values are taken as they are printed, without an error, and many differ by less than "
        "their noise: two orders can be unlike although nothing contradicts. Most comparisons are matched "
        "neither in parameters nor in FLOPs; tasks and data differ in most pairs, and no paper's own log is "
        "another's.",
        "The pairs are not independent: a source has several orders on similar data, BARS one of its "
        "leaderboard and one of its means where it has five seeds, and the baselines of RankElastor on "
        "KuaiVideo and TaobaoAd are those of BARS.",
        f"Ours: {names}; differences at one matched cost. With intervals, and with what is resolved, the "
        "report of each suite compares them with RankMixer's Table 1.",
    ]


def _sources() -> list[str]:
    sentences = []
    for paper in load_published().values():
        title = f' "{paper.citation.title}".' if paper.citation.title else ""
        about = "; ".join(table.about for _, table in paper.compared())
        sentences.append(f"{paper.citation}.{title} {about}. Evidence: {EVIDENCE[paper.evidence]}.")
    return sentences


def summary_table(all_pairs: pd.DataFrame, sources: list[str]) -> Table:
    """One row a pair of sources and kind of metric; those with fewer than four shared models come last."""
    rows, numbers = [], []
    for one, other in combinations(sources, 2):
        both = all_pairs[(all_pairs["source"] == one) & (all_pairs["other_source"] == other)]
        for kind in dict.fromkeys(KINDS.values()):
            pairs = both[both["kind"] == kind]
            known = pairs[pairs["models"] >= MIN_MODELS]
            if known.empty and kind != KINDS["auc"]:
                continue
            rows.append([f"{one}, {_name(other)}", kind, *_summary_cells(pairs, known)])
            numbers.append(
                {"source": one, "other_source": other, "kind": kind, "pairs": len(known)}
                | {"most_shared": pairs["models"].max() if len(pairs) else 0}
                | {f"tau_{how}": known["tau"].agg(how) for how in ("min", "median", "max")}
                | {"least_p_value": known["p_value"].min()}
            )
    by_pairs = sorted(range(len(rows)), key=lambda at: numbers[at]["pairs"] == 0)
    return Table(
        name="orders-summary",
        caption="Agreement of orders between sources",
        numbers=pd.DataFrame([numbers[at] for at in by_pairs]),
        header=["sources", "metric", "models", "pairs", "tau-b, median", "least", "greatest", "least p"],
        rows=[rows[at] for at in by_pairs],
        notes=[
            f"Models: how many both orders have. Pairs: of orders that share {MIN_MODELS} or more. Not "
            "comparable: fewer are shared.",
            LEAST_P,
        ],
    )


def _summary_cells(pairs: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    if known.empty:
        shared = grouped(pairs["models"].max() if len(pairs) else 0)
        return [shared, "not comparable", *[MISSING] * 4]
    least, most = known["models"].min(), known["models"].max()
    shared = Shown(f"{least}" if least == most else f"{least} to {most}", most)
    taus = [signed(known["tau"].agg(how), 2) for how in ("median", "min", "max")]
    return [shared, grouped(len(known)), *taus, p_value(known["p_value"].min())]


def _pairs_table(name: str, caption: str, pairs: pd.DataFrame) -> Table:
    ordered = pairs.sort_values("models", ascending=False, kind="stable")
    rows = [
        [
            *(f"{_name(row[f'{which}source'])}: {row[f'{which}order']}" for which in ("", "other_")),
            *(row["kind"], grouped(row["models"]), signed(row["tau"], 2), p_value(row["p_value"])),
            _display(row["shared"]),
        ]
        for row in ordered.to_dict("records")
    ]
    return Table(
        name=f"orders-{name}",
        caption=caption,
        numbers=ordered,
        header=["one order", "the other", "metric", "models", "tau-b", "p", "which models"],
        rows=rows,
        notes=[f"Pairs that share {MIN_MODELS} models or more. A dash: all models of one order are tied."],
    )


def _name(source: str) -> str:
    return "this benchmark" if source == HERE else source


def _display(shared: str) -> str:
    """The models by their names here, others by the shortest name in print."""
    names = shared.split(", ")
    return ", ".join(display_name(name) if name in LISTED else _names_in_print()[name] for name in names)


@cache
def _names_in_print() -> dict[str, str]:
    names: dict[str, str] = {}
    for paper in load_published().values():
        for row in (row for _, table in paper.compared() for row in table.rows if row.architecture):
            shortest = min(row.name, names.get(str(row.architecture), row.name), key=len)
            names[str(row.architecture)] = shortest
    return names
