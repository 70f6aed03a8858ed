"""What is said of a claim, in words: for its tables, pages and the summary, which judge nothing."""

SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_TESTABLE = VERDICTS = (
    "supported",
    "not supported",
    "undecided",
    "not testable",
)
