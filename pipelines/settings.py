"""What a shop can set: one typed tree, read from `nightshelf.toml`, then the environment, then a run's parameters."""

import codecs
import csv
import datetime as dt
import difflib
import math
import os
import re
import tomllib
import zoneinfo
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from pipelines import markets
from pipelines.errors import BadSetting

ENV_PREFIX = "NIGHTSHELF_"
VERDICTS = ("accepted", "denied")
QUERIES = "queries.csv"  # in the home: what is answered although nobody may have typed it
PLACEMENTS = ("for_you", "discover", "buy_again")  # shelves of every shop
OBJECTS = "^((s3|gs)://[^@?#]+|abfss?://[^:@?#]+@[^:@?#]+|file:///[^?#]*)?$"  # no secret has a place in it
SECRET = re.compile("://.*[@?#].*")  # an address into which somebody may have written one
ENV_PLACES = {"NIGHTSHELF_HOME", "NIGHTSHELF_MARKET", "NIGHTSHELF_CONFIG"}  # all else with the prefix is a setting


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _list_from_text(cls, value: Any, info: ValidationInfo) -> Any:
        """Environment and command line bring text: `a, b` is a list where a list is wanted."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, str) and get_origin(field.annotation) is list:
            return [part.strip() for part in value.split(",") if part.strip()]
        return value


class Shop(Section):
    name: str = Field("shop", description="Name shown in reports.")
    timezone: str = Field("UTC", description="IANA time zone in which the shop's days begin and end.")
    currency: str = Field("EUR", description="ISO 4217 code of every price.")
    opened_on: dt.date = Field(dt.date(2000, 1, 1), description="Events before this day are rejected.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if name not in zoneinfo.available_timezones():
            raise ValueError(f"{name!r} is no IANA time zone; try one like 'Europe/London'")
        return name


class Columns(Section):
    events: dict[str, str] = Field({}, description="Contract column → column in the shop's event files.")
    items: dict[str, str] = Field({}, description="Contract column → column in the shop's catalogue files.")
    users: dict[str, str] = Field({}, description="Contract column → column in the shop's user files.")


class FileFormat(Section):
    """How one table's text files are written; what is left empty is detected in each file."""

    delimiter: str = Field("", max_length=1, description="Between the fields of a CSV file; empty: detected.")
    quote: str = Field('"', min_length=1, max_length=1, description="Around CSV fields that hold delimiters or breaks.")
    encoding: str = Field("", description="Of text files, a Python codec name; empty: detected.")
    header: list[str] = Field([], description="Column names of CSV files that have no header line.")

    @field_validator("encoding")
    @classmethod
    def _known_codec(cls, name: str) -> str:
        if name:
            try:
                codecs.lookup(name)
            except LookupError:
                raise ValueError(f"{name!r} is no encoding; try utf-8, cp1252 or utf-16") from None
        return name


class Files(Section):
    events: FileFormat = FileFormat()
    items: FileFormat = FileFormat()
    users: FileFormat = FileFormat()


class Weights(Section):
    view: float = Field(1.0, ge=0, description="What one view says about taste.")
    cart: float = Field(3.0, ge=0, description="What one item put into the cart says.")
    purchase: float = Field(5.0, ge=0, description="What one purchase says.")
    half_life_days: float = Field(60.0, gt=0, description="Days after which an event counts half.")


class Clean(Section):
    max_rejected_share: float = Field(
        0.2, ge=0, le=1, description="Share of an arrival day's rows above which the night stops."
    )
    unknown_items: Literal["reject", "keep"] = Field("reject", description="Events of items that no catalogue names.")
    ids: Literal["keep", "merge", "reject"] = Field(
        "keep", description="Ids that differ only by case or inner space: others, one, or wrong where one is delivered."
    )
    event_key: list[str] = Field([], description="Columns that identify an event without an id; empty: all of them.")
    pseudonym_key: str = Field(
        "", description="Variable with the key by whose hash users are named in all but raw files; empty: by their ids."
    )
    look_back_days: int = Field(30, ge=0, description="Days by which an event may arrive late.")
    epoch_unit: Literal["s", "ms", "us"] = Field("s", description="Unit of times that are written as a number.")
    max_field_chars: int = Field(65_536, ge=64, description="Longest text of one field.")
    max_row_kb: int = Field(1024, ge=1, le=65_536, description="Longest row of a text file, in KiB.")
    max_file_mb: int = Field(16_384, ge=1, description="Largest raw file once unpacked, in MiB.")
    memory_mb: int = Field(2048, ge=512, description="Heap of the Spark driver, in MiB.")
    spark_master: str = Field("", description="Spark master of all stages; empty: here, `machine.threads` cores.")

    @field_validator("pseudonym_key")
    @classmethod
    def _names_users(cls, variable: str, info: ValidationInfo) -> str:
        if variable.startswith(ENV_PREFIX):
            raise ValueError(f"a variable that begins with {ENV_PREFIX} is a setting; take another name")
        if variable and info.data.get("ids") == "reject":
            raise ValueError("clean.ids = reject compares how ids are written, which hashes hide; keep them, or merge")
        return variable


class Admit(Section):
    history_days: int = Field(28, ge=7, description="Days before the run's day with which it is compared.")
    min_history_days: int = Field(14, ge=1, description="Arrival days among them without which nothing is compared.")
    min_rows: int = Field(100, ge=1, description="Rows of a delivery below which its shares say nothing.")
    volume_warn_below: float = Field(0.6, ge=0, description="Events over the same weekday's median, below: warn.")
    volume_stop_below: float = Field(0.2, ge=0, description="Events over the same weekday's median, below: stop.")
    volume_warn_above: float = Field(2.0, ge=1, description="Events over the same weekday's median, above: warn.")
    volume_stop_above: float = Field(5.0, ge=1, description="Events over the same weekday's median, above: stop.")
    filled_warn_below: float = Field(
        0.5, ge=0, le=1, description="A column's share of filled rows over its median, below: warn."
    )
    filled_stop_below: float = Field(0.3, ge=0, le=1, description="The same share, below: stop.")
    rejected_warn_above: float = Field(
        0.05, ge=0, le=1, description="Rise of a rule's share of rejected rows, above: warn."
    )
    rejected_stop_above: float = Field(0.2, ge=0, le=1, description="The same rise, above: stop.")
    mix_warn_above: float = Field(0.1, ge=0, description="Stability index of the event types, above: warn.")
    mix_stop_above: float = Field(0.5, ge=0, description="Stability index of the event types, above: stop.")
    hours_behind_warn_above: float = Field(
        6.0, ge=0, description="Hours by which the last event is older than usual, above: warn."
    )
    hours_behind_stop_above: float = Field(24.0, ge=0, description="The same hours, above: stop.")
    catalogue_warn_below: float = Field(
        0.8, ge=0, le=1, description="Items of a whole catalogue over those of the one before, below: warn."
    )
    catalogue_stop_below: float = Field(0.5, ge=0, le=1, description="The same share, below: stop.")
    missing_days_warn_above: int = Field(
        0, ge=0, description="Expected days without a delivery right before the run's day, above: warn."
    )
    missing_days_stop_above: int = Field(7, ge=0, description="The same days, above: stop.")
    drift_warn_above: int = Field(0, ge=0, description="Columns added, or changed unread or by leave, above: warn.")
    accepted_drift: list[str] = Field(
        [], description="Columns, as `events.query`, that may vanish or come as another type."
    )


class Sessions(Section):
    gap_minutes: int = Field(30, ge=1, description="Inactivity that ends a session.")
    infer_clicks: Literal["auto", "always", "never"] = Field(
        "auto", description="Take a view after a search for a click on it; auto: until a view names its query."
    )


class Bots(Section):
    max_acts_per_day: int = Field(2000, ge=1, description="Acts of one visitor on one day above which it is a bot.")
    max_acts_per_minute: int = Field(60, ge=1, description="Acts of one visitor within one minute.")
    max_items_per_day: int = Field(1000, ge=1, description="Different items that one visitor meets on one day.")
    min_gap_variation: float = Field(
        0.1, ge=0, description="Least width of the middle half of the pauses between acts, as a share of their median."
    )
    regular_acts: int = Field(100, ge=3, description="Acts on one day from which on regularity is judged.")
    allow: list[str] = Field([], description="Visitors that are never flagged: user or session ids.")


class Holdout(Section):
    days: int = Field(14, ge=1, description="Length of a window kept apart; the last one measures the night.")
    windows: int = Field(2, ge=1, le=12, description="Windows before the run's day; all of them teach the ranker.")
    keep_days: int = Field(
        0, ge=0, description="Days for which an earlier night's rankings, figures and encoder are carried; 0: never."
    )


class Als(Section):
    engine: Literal["implicit", "spark"] = Field(
        "implicit", description="What learns the item factors: `implicit`, or Spark's MLlib (docs/spark.md)."
    )
    factors: int = Field(64, ge=1, description="Length of the ALS vectors.")
    regularization: float = Field(20.0, gt=0, description="Weight of the squared norms in the ALS loss.")
    alpha: float = Field(1.0, gt=0, description="Confidence per unit of event weight.")
    epochs: int = Field(15, ge=1, description="Sweeps over users and items.")
    serve_days: int = Field(
        3, ge=0, description="Days for which an earlier night's factors may serve when training diverges; 0: never."
    )


class NeighbourModel(Section):
    half_life_days: float = Field(60.0, gt=0, description="Days after which an event counts half between items.")
    regularization: float = Field(250.0, gt=0, description="Weight of EASE's squared cells, in units of event weight.")
    largest_dense: int = Field(10_000, ge=0, description="Items up to which EASE is solved; beyond, sparse neighbours.")
    weighting: Literal["cosine", "tfidf", "bm25"] = Field("bm25", description="Of the sparse neighbours.")
    kept: int = Field(200, ge=1, description="Sparse neighbours kept per item.")


class Profile(Section):
    encoder: str = Field(
        "", description="Hugging Face encoder that reads texts, a name or a folder; empty: one trained on this shop."
    )
    fine_tune: Literal["full", "lora", "none"] = Field(
        "lora", description="What learns of a pretrained encoder: all of it, low-rank adapters, or only what is on top."
    )
    embedding_size: int = Field(
        64, ge=8, description="Length of the item-profile vectors; those of a pretrained encoder keep their own."
    )
    hidden_size: int = Field(64, ge=8, description="Width of the Transformer.")
    layers: int = Field(2, ge=1, description="Blocks of the Transformer.")
    heads: int = Field(4, ge=1, description="Attention heads per block.")
    vocabulary_size: int = Field(8000, ge=300, description="Size of the tokenizer trained on the catalogue.")
    max_tokens: int = Field(48, ge=4, description="Tokens kept of one item's text.")
    steps: int = Field(500, ge=1, description="Training steps of the encoder at most.")
    patience: int = Field(
        5, ge=1, description="Of 20 evaluations on pairs kept apart, those in a row without gain that end its training."
    )
    max_minutes: float = Field(
        60.0, gt=0, description="Minutes after which one training of the encoder ends, whatever its state."
    )
    keep_days: int = Field(
        0, ge=0, description="Days for which an earlier encoder is kept: only new texts are read; 0: while a proof is."
    )
    history_steps: int = Field(300, ge=1, description="Training steps of the attention over a user's history.")
    history_length: int = Field(50, ge=1, description="Latest items of a user that the attention reads.")
    sequence_size: int = Field(128, ge=8, description="Width of the network that reads a history as a sequence.")
    sequence_epochs: int = Field(6, ge=1, description="Passes over the histories of that network.")
    sequence_users: int = Field(
        50_000, ge=64, description="Users whose histories one such pass reads at most, drawn anew for each."
    )
    sequence_half_life_days: float = Field(60.0, gt=0, description="Days after which a purchase teaches it half.")
    batch_size: int = Field(256, ge=2, description="Pairs per training step.")
    processes: int = Field(
        1, ge=1, description="Processes that read each batch of the encoder together; they share `machine.threads`."
    )
    launcher: Literal["local", "spark"] = Field(
        "local", description="What starts several processes: this machine, or Spark, a task each (docs/spark.md)."
    )
    learning_rate: float = Field(4e-3, gt=0, description="Peak learning rate.")


class Fuse(Section):
    engine: Literal["local", "spark"] = Field(
        "local", description="Where everybody's candidates are scored: in one process, or on Spark (docs/spark.md)."
    )
    ranker: Literal["lambdarank", "blend", "rrf"] = Field(
        "lambdarank", description="Trees, a weighted sum, or reciprocal ranks; a worse one gives way to the next."
    )
    trees: int = Field(100, ge=1, description="Trees of the ranker.")
    leaves: int = Field(15, ge=2, description="Leaves of each tree.")
    learning_rate: float = Field(0.07, gt=0, le=1, description="What each tree may change.")
    negatives: int = Field(100, ge=1, description="Candidates per user, beside those bought, that teach the trees.")
    monotone: bool = Field(False, description="Whether a higher score of a source may only raise a candidate.")
    learn_users: int = Field(20_000, ge=2, description="Users of one window that teach and measure at most.")
    ablation: bool = Field(True, description="Whether the night measures what it would lose without each source.")
    candidates: int = Field(150, ge=1, description="Items that each source may propose per user.")
    depth: int = Field(100, ge=1, description="Ranked candidates kept per user and placement for the list builder.")
    popularity_days: int = Field(28, ge=1, description="Window of the popularity source.")
    habit_half_life_days: float = Field(
        120.0, gt=0, description="Days after which a past purchase counts half as habit."
    )
    query_days: int = Field(
        30, ge=1, description="Days for which what a user typed is a reason for the items that match."
    )
    memory_mb: int = Field(512, ge=16, description="Ceiling of the scores and candidates held while items are sought.")


class Shelve(Section):
    engine: Literal["local", "spark"] = Field(
        "local", description="Where everybody's shelves are built: in one process, or on Spark (docs/spark.md)."
    )
    length: int = Field(20, ge=1, le=1000, description="Items on one shelf.")
    breadth: float = Field(
        2.0,
        ge=1,
        le=10,
        description="Candidates per place of a shelf among which rules, variants and diversity choose.",
    )
    diversity: float = Field(
        0.2, ge=0, le=1, description="Weight of being unlike the rows above; 0: the ranking alone puts in order."
    )
    freshness: float = Field(
        0.0, ge=0, le=1, description="Least share of a shelf that did not stand on it in the release of the day before."
    )
    min_new_share: float = Field(
        0.0, ge=0, le=1, description="Least share of a shelf that is new in the shop, as far as there are candidates."
    )
    new_days: int = Field(14, ge=1, description="Days since the catalogue first named an item in which it is new.")
    exploration_share: float = Field(
        0.0, ge=0, le=0.5, description="Share of a shelf's places whose row is drawn, so that clicks can be weighed."
    )

    pair_days: int = Field(180, ge=1, description="Days of visits and baskets that tell which items belong together.")
    trend_days: int = Field(7, ge=1, description="Days in which `trending_items` met more visitors than was expected.")
    due_days: int = Field(7, ge=0, description="Days before the usual pause ends from which on a purchase is due.")


class Audit(Section):
    users: int = Field(100, ge=0, description="Users of whom `candidate_audit` tells, drawn by `seed`.")
    items: int = Field(
        3, ge=0, description="Items on each shelf of such a user: met most, sold most, and best for each cause to drop."
    )


class Placement(Section):
    """A shelf of the shop's own: a ranking, and what an item must be to stand there."""

    ranking: Literal["for_you", "discover", "buy_again"] = Field("for_you", description="What it promises.")
    length: int | None = Field(None, ge=1, le=1000, description="Items on it; empty: as many as on the others.")
    category: list[str] = Field([], description="Categories, each with all that is below it.")
    brand: list[str] = Field([], description="Brands.")
    price_from_cents: int | None = Field(None, ge=0, description="Least price, itself included.")
    price_to_cents: int | None = Field(None, ge=0, description="Highest price, itself included.")
    new_days: int | None = Field(None, ge=1, description="Days since the catalogue first named the item, at most.")


class Audiences(Section):
    without_consent: bool = Field(
        False, description="Whether users count of whom the shop did not say that they agreed."
    )
    contact_pause_days: int = Field(7, ge=0, description="Days after a contact in which nobody is written to again.")


class Search(Section):
    ranker: Literal["lambdarank", "mix", "rrf"] = Field(
        "lambdarank",
        description="Trees, a sum, or reciprocal ranks; a worse one gives way to the next. Without clicks, trees give"
        " way to a sum of ranks.",
    )
    results: int = Field(100, ge=1, le=1000, description="Results per query.")
    max_queries: int = Field(100_000, ge=1, description="Most frequent queries that get a list.")
    behaviour_half_life_days: float = Field(60.0, gt=0, description="Days after which a click on a result counts half.")
    language: str = Field("english", description="Of plurals and stop words, an English name that Snowball knows.")
    head_share: float = Field(0.5, ge=0, le=1, description="Share of all searches that the head queries make up.")
    suggestions: int = Field(5, ge=1, description="Suggestions of each kind per query.")
    synonyms: dict[str, Literal["accepted", "denied"]] = Field(
        {}, description="`term = other term` → accepted or denied; `synonyms.csv` in the home adds to it."
    )
    use_proposed_synonyms: bool = Field(False, description="Whether synonyms that nobody has judged yet count too.")
    preference_weight: float = Field(
        20.0, gt=0, description="Event weight at which a user's leanings are believed half."
    )
    queries: list[str] = Field(
        [], description="Queries that are answered whether anybody typed them; `queries.csv` in the home adds to them."
    )
    user_query_days: int = Field(30, ge=1, description="Days for which a user's query gets a list of the user's own.")
    max_user_queries: int = Field(100_000, ge=0, description="Latest pairs of user and query that get such a list.")
    user_results: int = Field(20, ge=1, le=1000, description="Results per user and query.")

    @field_validator("queries")
    @classmethod
    def _as_tables_have_them(cls, queries: list[str]) -> list[str]:
        return folded(queries)


class Gates(Section):
    min_users_served: float = Field(0.95, ge=0, le=1, description="Share of known users who must have a full shelf.")
    min_queries_answered: float = Field(
        0.5, ge=0, le=1, description="Share of the queries, and of users' latest ones, that must have results."
    )
    min_head_answered: float = Field(
        0.9, ge=0, le=1, description="Share of the searches for head queries that must find results."
    )
    min_overlap: float = Field(
        0.05, ge=0, le=1, description="Mean share of a shelf that stood in the current release too."
    )
    min_coverage: float = Field(
        0.02, ge=0, le=1, description="Items that stand on some shelf, over the available ones (or the shelves' rows)."
    )
    max_popularity_share: float = Field(
        0.9, ge=0, le=1, description="Share of the shelves' rows that show one of the shop's 20 most popular items."
    )
    max_likeness: float = Field(0.95, ge=-1, le=1, description="Mean cosine of two items' profiles on one shelf.")
    min_against_popularity: float = Field(
        1.0, ge=0, description="Least ratio of held-out NDCG@10, tonight to most popular."
    )
    ask: bool = Field(
        False, description="Whether a failed gate of taste (coverage, sameness, quality) waits for a person's word."
    )


class Warehouse(Section):
    engine: Literal["duckdb", "postgres", "spark"] = Field(
        "duckdb", description="Where releases live: files, a PostgreSQL server, or tables of Spark SQL."
    )
    views: str = Field(
        "nightshelf",
        pattern="^[a-z_][a-z0-9_]{0,50}$",
        description="Schema in which readers find the current release; of a market, `_<market>` follows.",
    )
    loader: str = Field("WAREHOUSE_LOADER", description="Variable with the address of the role that fills releases.")
    publisher: str = Field("WAREHOUSE_PUBLISHER", description="Variable with that of the role that moves the views.")
    reader: str = Field("WAREHOUSE_READER", description="Variable with that of the role that reads the views.")
    admin: str = Field("WAREHOUSE_ADMIN", description="Variable with that of the role of `nightshelf warehouse init`.")
    metastore: str = Field(
        "",
        pattern="^(thrift://[^/:,]+:[0-9]+(,|$))*$",
        description="Hive metastore by which Spark SQL finds the tables: `thrift://host:9083`, several with commas.",
    )

    def schema_of(self, market: str) -> str:
        """The schema in which readers of a market find the current release."""
        return f"{self.views}_{market.replace('-', '_')}" if market else self.views


class Store(Section):
    """Object stores that follow the home. What they let in by is the environment's alone."""

    releases: str = Field(
        "",
        pattern=OBJECTS,
        description="Where readers of an object store find the releases: `s3://bucket/folder`, `gs://…`, `abfs://…` or "
        "`file:///…`; of a market, its name follows.",
    )
    lake: str = Field("", pattern=OBJECTS, description="Where the lake is copied to, an address of the same form.")
    endpoint: str = Field(
        "", pattern="^(https?://[^/@?#]+)?$", description="Server that speaks S3, `https://host:9000`; empty: Amazon's."
    )

    def of(self, url: str, market: str) -> str:
        """The address of a market, given that of its home."""
        return "/".join([url.rstrip("/"), *[market] * bool(market)])


class Retention(Section):
    releases: int = Field(7, ge=1, description="Newest releases that are kept, beside the current and the one before.")
    runs: int = Field(
        14,
        ge=1,
        description="Newest runs that are kept of those that the gate judged, and of those that stopped before.",
    )
    backfills: int = Field(31, ge=1, description="Newest days that are kept of those that `backfill` built again.")
    raw_days: int = Field(
        0,
        ge=0,
        description="Newest days of raw events that stay once a night is published; 0: all. The lake keeps all.",
    )


class Machine(Section):
    threads: int = Field(2, ge=1, description="Threads of training and scoring; part of what makes a run repeatable.")
    database_mb: int = Field(
        4096, ge=256, description="Memory that DuckDB takes for the tables of a run; what is more goes to disk."
    )
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu",
        description="Where networks learn and read and items are sought; auto: a GPU if there is one as the run opens.",
    )


class Settings(Section):
    seed: int = Field(17, ge=0, description="Seed of every random choice.")
    shop: Shop = Shop()
    columns: Columns = Columns()
    event_types: dict[str, str] = Field(
        {}, description="The shop's word → one of search, view, cart, purchase, return."
    )
    files: Files = Files()
    weights: Weights = Weights()
    clean: Clean = Clean()
    admit: Admit = Admit()
    sessions: Sessions = Sessions()
    bots: Bots = Bots()
    holdout: Holdout = Holdout()
    als: Als = Als()
    neighbours: NeighbourModel = NeighbourModel()
    profile: Profile = Profile()
    fuse: Fuse = Fuse()
    shelve: Shelve = Shelve()
    audit: Audit = Audit()
    audiences: Audiences = Audiences()
    placements: dict[str, Placement] = Field(
        {"new_for_you": Placement(ranking="discover", new_days=14)},
        description="Shelves of the shop's own by name: `ranking`, `length`, `category`, `brand`, `price_from_cents`, "
        "`price_to_cents`, `new_days` (docs/shelves.md).",
    )
    search: Search = Search()
    gates: Gates = Gates()
    warehouse: Warehouse = Warehouse()
    store: Store = Store()
    retention: Retention = Retention()
    machine: Machine = Machine()

    @field_validator("placements")
    @classmethod
    def _own_names(cls, placements: dict[str, Placement]) -> dict[str, Placement]:
        for name in placements:
            if name in PLACEMENTS or not re.fullmatch("[a-z][a-z0-9_]{0,39}", name):
                raise ValueError(
                    f"{name!r} is no name for a placement: take lower-case letters, digits and _, but none of"
                    f" {', '.join(PLACEMENTS)}, which every shop has"
                )
        return placements

    @property
    def shelves(self) -> dict[str, str]:
        """By placement, that of every shop whose promise and ranking it has."""
        return {name: name for name in PLACEMENTS} | {name: one.ranking for name, one in self.placements.items()}

    def length_of(self, placement: str) -> int:
        """Items on a placement's shelves."""
        own = self.placements.get(placement)
        return own.length if own and own.length else self.shelve.length

    def considered(self, placement: str) -> int:
        """Candidates of a user among which the list builder chooses a placement's shelf."""
        return math.ceil(self.shelve.breadth * self.length_of(placement))


def load(
    home: Path, overrides: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Settings of the shop under `home`: file, then environment, then `overrides` (`{"als.factors": 32}`). A market's
    file goes over that of the home that it lies in.

    Raises BadSetting with the nearest existing name when a setting does not exist.
    """
    tree = _from_file(markets.house(home), environment)
    if markets.name(home):
        tree = _over(tree, _from_file(home, environment))
    for pair, verdict in _from_synonyms(home).items():
        _put(tree, "search.synonyms", {**tree.get("search", {}).get("synonyms", {}), pair: verdict})
    if asked := from_queries(home):
        _put(tree, "search.queries", [*tree.get("search", {}).get("queries", []), *asked])
    for name, value in _from_environment(environment).items():
        _put(tree, name, value)
    for name, value in (overrides or {}).items():
        _put(tree, name, value)
    return parse(tree)


def parse(tree: Mapping[str, Any]) -> Settings:
    """Settings from a nested mapping, checked; raises BadSetting naming each wrong one."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise BadSetting("\n".join(_explain(problem) for problem in error.errors())) from None


def names() -> dict[str, tuple[Any, str]]:
    """Every setting by dotted name, with its default and what it means."""
    return {name: (_plain(field.get_default()), field.description or "") for name, field in _leaves(Settings, "")}


def file(home: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the shop's settings stand: `nightshelf.toml` in its home, but for a market's `NIGHTSHELF_CONFIG` if set."""
    told = environment.get("NIGHTSHELF_CONFIG")
    return Path(told) if told and not markets.name(home) else home / "nightshelf.toml"


def _from_file(home: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    path = file(home, environment)
    if not path.exists():
        if environment.get("NIGHTSHELF_CONFIG") and not markets.name(home):
            raise BadSetting(f"NIGHTSHELF_CONFIG names {path}, which does not exist. Correct the path or unset it.")
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{path} is not valid TOML: {error}. Correct that line.") from None


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """One tree laid over another, section by section; a list that stands in both is that of the upper one."""
    both = {name for name in below.keys() & above.keys() if isinstance(below[name], dict)}
    return below | {n: _over(below[n], v) if n in both and isinstance(v, dict) else v for n, v in above.items()}


def _from_synonyms(home: Path) -> dict[str, str]:
    """The verdicts of `synonyms.csv`, by `term = other_term`; what is only proposed there says nothing."""
    path = home / "synonyms.csv"
    if not path.exists():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for line, row in enumerate(rows, start=2):
        if not row.get("term") or not row.get("other_term") or row.get("status") not in (*VERDICTS, "proposed"):
            raise BadSetting(
                f"{path}, line {line}: {row}. Each row needs term, other_term and status (accepted, denied, proposed)."
            )
    return {f"{row['term']} = {row['other_term']}": row["status"] for row in rows if row["status"] in VERDICTS}


def folded(queries: Iterable[str]) -> list[str]:
    """Queries as staging writes them, lower case and single-spaced, each once."""
    return list(dict.fromkeys(" ".join(query.lower().split()) for query in queries))


def from_queries(home: Path) -> list[str]:
    """The column `query` of `queries.csv`; raises BadSetting where a row has none."""
    path = home / QUERIES
    if not path.exists():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if wrong := [line for line, row in enumerate(rows, start=2) if not (row.get("query") or "").strip()]:
        raise BadSetting(f"{path}, line {wrong[0]}: no query. Each row needs one, under the heading `query`.")
    return [row["query"] for row in rows]


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`NIGHTSHELF_ALS__FACTORS=32` sets `als.factors`."""
    return {
        key.removeprefix(ENV_PREFIX).lower().replace("__", "."): value
        for key, value in sorted(environment.items())
        if key.startswith(ENV_PREFIX) and key not in ENV_PLACES
    }


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise BadSetting(f"{dotted}: {section} is a value, not a section.")
    tree[last] = value


def _explain(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        said = SECRET.sub("://…'", repr(problem["input"]))
        return f"{place} = {said}: {problem['msg']}"
    near = difflib.get_close_matches(place, names(), n=1, cutoff=0.5)
    return f"{place} is no setting." + (f" Did you mean {near[0]}?" if near else " `nightshelf settings` lists all.")


def _plain(default: Any) -> Any:
    """A default without objects: sections by name tell what they set."""
    if not isinstance(default, dict):
        return default
    return {k: v.model_dump(exclude_defaults=True) if isinstance(v, Section) else v for k, v in default.items()}


def _leaves(section: type[BaseModel], prefix: str):
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
