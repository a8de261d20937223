"""The datasets by name, imported lazily, and the one function that prepares any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from datasets.prepared import PreparedDataset, dataset_fingerprint, identity_fingerprint
from datasets.schema import Schema, TimeSplit
from datasets.source import Source
from files.errors import InputError

if TYPE_CHECKING:
    from datasets.staged.folder import StagedTable

DATASETS = {
    "shortvideo": "datasets.shortvideo.source",
    "kuairand-pure": "datasets.kuairand.source",
    "kuairand-1k": "datasets.kuairand.large:ONE_K",
    "kuairand-27k": "datasets.kuairand.large:ALL_27K",
    "movielens-100k": "datasets.movielens.source:HUNDRED_K",
    "movielens-1m": "datasets.movielens.source:ONE_M",
    "vk-lsvd": "datasets.vk_lsvd.source",
    "yambda-50m": "datasets.yambda.source:FIFTY_M",
    "yambda-500m": "datasets.yambda.source:FIVE_HUNDRED_M",
    "yambda-5b": "datasets.yambda.source:FIVE_B",
    "criteo-x1": "datasets.published.criteo:X1",
    "criteo-x4": "datasets.published.criteo:X4",
    "avazu-x1": "datasets.published.avazu:X1",
    "avazu-x4": "datasets.published.avazu:X4",
    "frappe-x1": "datasets.published.frappe:X1",
    "movielens-latest-x1": "datasets.published.movielens_latest:X1",
    "taobao-ad-x1": "datasets.published.taobao_ad:X1",
    "taobao-ad-x1-clean": "datasets.published.taobao_ad:X1_CLEAN",
    "kuaivideo-x1": "datasets.published.kuaivideo:X1",
    "kuaivideo-x1-clean": "datasets.published.kuaivideo:X1_CLEAN",
}

DESCRIPTIONS = {
    "shortvideo": "synthetic short-video log, made on the fly; true probabilities are known",
    "kuairand-pure": "real logs of a short-video app (Kuaishou); finish, skip, click, like, long view",
    "kuairand-1k": "the log of 1,000 users with all their videos: 11.7 million exposures",
    "kuairand-27k": "the log of 27,285 users with all their videos: 322 million exposures",
    "movielens-100k": "100,000 film ratings; like (4 and up) and dislike (2 and down)",
    "movielens-1m": "1,000,209 film ratings; like (4 and up) and dislike (2 and down)",
    "vk-lsvd": "half a year of a short-video app (VK); finish, skip and six reactions; parts by option",
    "yambda-50m": "ten months of music: 50 million events; listened, finish, skip; the benchmark's split",
    "yambda-500m": "ten months of music: 500 million events; listened, finish, skip; the benchmark's split",
    "yambda-5b": "ten months of music: 5 billion events; listened, finish, skip; the benchmark's split",
    "criteo-x1": "clicks on advertisements, 39 fields, no users; the split of AFN",
    "criteo-x4": "clicks on advertisements, 39 fields, no users; the split of AutoInt",
    "avazu-x1": "clicks on mobile advertisements, 22 fields, no users; the split of AFN",
    "avazu-x4": "clicks on mobile advertisements, 24 fields, no users; the split of AutoInt",
    "frappe-x1": "apps used in context, against drawn ones; the split of AFN",
    "movielens-latest-x1": "tags given to films, against drawn ones; the split of AFN",
    "taobao-ad-x1": "clicks on advertisements with histories; as published, the test rows validate",
    "taobao-ad-x1-clean": "taobao-ad-x1 with validation rows from the end of training",
    "kuaivideo-x1": "clicks on short videos with histories; as published, the test rows validate",
    "kuaivideo-x1-clean": "kuaivideo-x1 with validation rows from the end of training",
}

MakesSource = Callable[[Path], "Source | StagedTable"]  # given an empty scratch folder

# Readers that were tried on their publisher's files; the others, on generated ones of that layout alone.
READ_ON_REAL_FILES = {"kuairand-pure", "movielens-100k"}

# Which rules a dataset is read by, where a change of its reader gave the same files other rows or features.
# They are part of its identity, so that no folder which other rules made is taken for its own.
RULES: dict[str, int] = {}

# The option that draws another world of a dataset: a simulation anew, or a log's training rows again.
BOOTSTRAP = "bootstrap"
WORLD_OPTIONS = {
    "shortvideo": "seed",
    "kuairand-pure": BOOTSTRAP,
    "movielens-100k": BOOTSTRAP,
    "movielens-1m": BOOTSTRAP,
}
MOVED_SPLIT = "days_earlier"  # what they set instead with the option `worlds_of: splits`


def prepare_dataset(
    name_or_yaml: str | Path,
    options: dict,
    data_root: Path | None,
    cache_root: Path,
    rebuild: bool = False,
    shard_rows: int | None = None,
    world: int | None = None,
    verify: bool = False,
    report: Callable[[str], None] | None = None,
) -> PreparedDataset:
    """Prepare a dataset by name, or your own by the path of its schema YAML, in ``cache_root``.

    ``world`` is one of the dataset's worlds (`in_world`), each of which has a folder of its own.
    If the folder ``<name>-<12 hex of its identity>`` was prepared before, it is used as it is and
    ``shard_rows`` has no effect; ``verify`` hashes all of its files. ``report`` is told what preparing your
    own table will take, before it begins. Raises InputError on an unknown name, on bad raw data, and on a
    folder that is half-written or changed unless ``rebuild`` replaces it.
    """
    from datasets.prepare.pipeline import SHARD_ROWS, prepare_lazily

    chosen = options if world is None else in_world(str(name_or_yaml), options, world)
    name, identity, make_source = find_dataset(name_or_yaml, chosen, data_root)
    destination = Path(cache_root) / f"{name}-{identity_fingerprint(identity)[:12]}"

    def announced(scratch: Path) -> Source | StagedTable:
        if report is not None and _is_schema(str(name_or_yaml)):
            _forecast(Path(name_or_yaml), report)
        return make_source(scratch)

    prepared = prepare_lazily(identity, announced, destination, shard_rows or SHARD_ROWS, rebuild, verify)
    if world is not None:
        _, of_all_worlds, _ = find_dataset(name_or_yaml, options, data_root)
        schema = _schema_of_all_worlds(str(name_or_yaml), options, prepared.schema)
        prepared = prepared.in_world(world, dataset_fingerprint(of_all_worlds, schema))
    return prepared.acknowledging(_leak_ok(str(name_or_yaml)))


def world_option(name: str, options: dict) -> str:
    """The option that a dataset's worlds set; InputError where it has no worlds."""
    if name not in WORLD_OPTIONS:
        raise InputError(
            f"dataset {name!r} has no worlds (these have: {', '.join(WORLD_OPTIONS)}); leave 'worlds' out"
        )
    return MOVED_SPLIT if options.get("worlds_of") == "splits" else WORLD_OPTIONS[name]


def _schema_of_all_worlds(name: str, options: dict, schema: Schema) -> Schema:
    """What is the same in every world: all but the split, where that is what worlds move."""
    if world_option(name, options) != MOVED_SPLIT:
        return schema
    return schema.model_copy(update={"split": TimeSplit(valid_from=0, test_from=0)})


def in_world(name: str, options: dict, world: int) -> dict:
    """A dataset's options in one of its worlds; InputError where it has none, or they choose one by hand."""
    option = world_option(name, options)
    if option in options:
        raise InputError(
            f"option {option!r} of dataset {name!r} is what worlds set; leave one of the two out"
        )
    drawn = world + 1 if option == BOOTSTRAP else world  # 0 is the log as it is, and no draw of it
    return {**options, option: drawn}


def find_dataset(
    name_or_yaml: str | Path, options: dict, data_root: Path | None
) -> tuple[str, dict, MakesSource]:
    """A dataset's name, its identity, and the function that makes its source given a scratch folder."""
    name = str(name_or_yaml)
    if _is_schema(name):
        return _own_table(Path(name), options)
    if name not in DATASETS:
        raise InputError(
            f"no dataset {name!r}: choose from {', '.join(DATASETS)}, or give the path of your schema (.yaml)"
        )
    reader = _reader(name)
    rules = {"rules": RULES[name]} if name in RULES else {}

    def make_source(scratch: Path) -> Source:
        source = reader.source(options, data_root, scratch)
        return replace(source, identity=source.identity | rules)

    return name, reader.identity(options, data_root) | rules, make_source


def raw_folder(name: str, data_root: Path | None) -> Path:
    """Where a public dataset's raw files are below ``data_root``; InputError where one is missing."""
    return _reader(name).raw_folder(data_root)


def published_files(name: str, options: dict) -> tuple[list[str], list[str]]:
    """The paths that a dataset of many files needs with these options, and those that may not be there."""
    return _reader(name).published_files(options)


def _reader(name: str) -> Any:
    """What has a dataset's ``identity``, ``source`` and ``raw_folder``: a module, or an object in one."""
    return resolve_name(DATASETS[name])


def how_read(name: str) -> str:
    """On which files a dataset's reader was tried, in words; empty where it reads none."""
    if name == "shortvideo":
        return ""
    return "read on real files" if name in READ_ON_REAL_FILES else "read on generated files only"


def _leak_ok(name: str) -> list[str]:
    """The leaks that the schema acknowledges now, which may have changed since the table was prepared."""
    from datasets.schema import load_schema

    return load_schema(Path(name)).leak_ok if _is_schema(name) else []


def _is_schema(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _forecast(schema_file: Path, report: Callable[[str], None]) -> None:
    from datasets.forecast import forecast
    from datasets.own_table import OwnTable
    from datasets.schema import load_schema

    if load_schema(schema_file).staged is not None:  # the raw files need not be there
        return
    if sentence := forecast(OwnTable.find(schema_file)):
        report(sentence)


def _own_table(path: Path, options: dict) -> tuple[str, dict, MakesSource]:
    from datasets.own_table import own_table
    from datasets.schema import load_schema
    from datasets.staged.folder import StagedTable

    if options:
        raise InputError(
            f"{path}: your own table takes no option {min(options)!r}; change the schema instead"
        )

    schema = load_schema(path)
    if schema.staged is None:
        return own_table(path)
    staged = StagedTable.find(path, schema)
    return schema.name, staged.identity, lambda scratch: staged
