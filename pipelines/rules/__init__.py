"""Rules: what merchandisers say about the lists, as rows of files, in force on the days that they name."""

from pipelines.rules.files import in_force, read
from pipelines.rules.rule import Rule

__all__ = ["Rule", "in_force", "read"]
