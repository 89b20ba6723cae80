"""A rule: what a merchandiser says about lists, for which items, whom and which days, with its owner and reason."""

import datetime as dt
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.words import normalise

ITEM_TABLES = ("search_results", "similar_items", "bought_together", "popular_items", "trending_items")  # of nobody
BY_QUERY = "search_results"  # has a list for each query
BY_PEOPLE = ("popular_items", "trending_items")  # have a list for each country and for each segment of users
BARS = ("deny", "allow_only")  # actions that take items away, and hold in every list
COUNTED = ("boost", "bury", "pin", "cap", "must_include")  # actions that need a number
BROUGHT = ("pin", "must_include")  # actions that put items on a list whoever proposed them
BUILT_IN = ("not_available", "variant", "diversity", "length", "new_share", "freshness", "exploration")  # no rules
SCOPE = ("item_id", "parent_id", "category", "brand", "tag", "seller", "min_price_cents", "max_price_cents",
         "min_age_days", "max_age_days")  # fmt: skip
RANGES = (("starts_on", "ends_on"), ("min_price_cents", "max_price_cents"), ("min_age_days", "max_age_days"))


class Rule(BaseModel):
    """One row of the rule files; what is left empty does not narrow the rule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule_id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    action: Literal["deny", "allow_only", "boost", "bury", "pin", "cap", "must_include"]
    item_id: str | None = None
    parent_id: str | None = None
    category: str | None = None
    brand: str | None = None
    tag: str | None = None
    seller: str | None = None
    min_price_cents: int | None = Field(None, ge=0)
    max_price_cents: int | None = Field(None, ge=0)
    min_age_days: int | None = Field(None, ge=0)
    max_age_days: int | None = Field(None, ge=0)
    placement: str | None = None
    country: str | None = None
    segment: str | None = None
    query: str | None = Field(None, description="As people type it; kept in the one spelling of a query.")
    value: int | None = Field(None, ge=1, le=1000)
    per: Literal["brand", "category", "seller"] | None = None
    starts_on: dt.date | None = None
    ends_on: dt.date | None = None
    priority: int = Field(0, ge=-1000, le=1000)
    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1)

    @field_validator("rule_id")
    @classmethod
    def _own_name(cls, name: str) -> str:
        if name in BUILT_IN:
            raise ValueError(f"{name!r} is what the list builder calls a cause of its own; choose another name")
        return name

    @field_validator("query")
    @classmethod
    def _one_spelling(cls, query: str | None) -> str | None:
        return query and normalise(query)

    @model_validator(mode="after")
    def _makes_sense(self) -> "Rule":
        if problem := next(_senseless(self), None):
            raise ValueError(problem)
        return self

    @property
    def precedence(self) -> tuple[int, str]:
        """Rules stand in this order wherever two of them meet: the larger priority first, then by name."""
        return -self.priority, self.rule_id

    @property
    def scope(self) -> str:
        """What it covers, as the files say it."""
        return ", ".join(f"{name} {told}" for name in SCOPE if (told := getattr(self, name)) is not None) or "all items"

    def holds_on(self, day: dt.date) -> bool:
        """Whether people shall see its effect on a day of the shop; both ends are inclusive."""
        return (self.starts_on or day) <= day <= (self.ends_on or day)

    def is_about(self, placement: str, query: str | None = None) -> bool:
        """Whether it holds in a placement of `user_recommendations`, or in one of ITEM_TABLES: for all queries, or for
        this one too."""
        if self.query is not None and (placement != BY_QUERY or self.query != query):
            return False
        if placement in ITEM_TABLES and placement not in BY_PEOPLE and (self.country or self.segment):
            return False
        if placement in ITEM_TABLES and self.action not in BARS:
            return placement == BY_QUERY and (self.query is not None or self.placement == BY_QUERY)
        return self.placement in (None, placement)


def _senseless(rule: Rule):
    """What contradicts itself within one rule."""
    if (rule.value is None) == (rule.action in COUNTED):
        yield f"value: {rule.action} {'needs a number' if rule.value is None else 'takes none'}"
    if rule.per and rule.action != "cap":
        yield f"per: only cap counts per brand, category or seller, {rule.action} does not"
    if rule.action == "pin" and rule.item_id is None:
        yield "item_id: pin puts one item on a place; name it"
    if not rule.per and all(getattr(rule, name) is None for name in SCOPE):
        yield f"item_id: {rule.action} is about no item; fill at least one of {', '.join(SCOPE)}"
    place = BY_QUERY if rule.query is not None else rule.placement
    if rule.query is not None and rule.placement not in (None, BY_QUERY):
        yield f"query: only {BY_QUERY} knows queries"
    if place in ITEM_TABLES and place != BY_QUERY and rule.action not in BARS:
        yield f"placement: {rule.action} moves users' shelves and {BY_QUERY} only"
    if place == BY_QUERY and rule.query is None and rule.action in BROUGHT:
        yield f"query: {rule.action} in {BY_QUERY} would answer whatever is asked; name the query"
    if rule.country and place in ITEM_TABLES and place not in BY_PEOPLE:
        yield f"country: {place} is the same in all countries"
    if rule.segment and place in ITEM_TABLES and place not in BY_PEOPLE:
        yield f"segment: {place} is the same for all users"
    for low, high in RANGES:
        first, last = getattr(rule, low), getattr(rule, high)
        if first is not None and last is not None and first > last:
            yield f"{high}: {last} lies before {low} {first}"
