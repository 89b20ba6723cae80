"""What can go wrong while a model learns, or is read again."""


class Damaged(ValueError):
    """A file of an artefact is not what was written there; the message says which, and what to do."""


class Diverged(ArithmeticError):
    """Training left NaN or infinite numbers; the message names the knob to turn."""


class ForeignVocabulary(ValueError):
    """What was learnt belongs to other ids than those at hand: its rows would be somebody else's."""


class NothingToLearn(ValueError):
    """There is not one example to learn from; the message says which rows are missing."""


class ProcessLost(RuntimeError):
    """One of several processes that learn together ended before the others; the message says which and how."""


class TooLarge(ValueError):
    """The input needs more memory than the method is allowed; the message says which method does without."""


class UnknownEncoder(ValueError):
    """The pretrained encoder that was named cannot be used; the message says why and what to name instead."""
