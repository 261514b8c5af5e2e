"""Retry quota: retries are slowed down where they become many, so that they are never the storm.

The scheme is botocore's (``retries/quota.py``): a retry takes tokens, a success gives one back.
There an empty quota ends the retries; here it only delays them, since no row may be dropped.
"""

from __future__ import annotations

TOKENS_MAX = 500
TOKENS_PER_SUCCESS = 1
TOKENS_PER_S = 50.0
"""What comes back by itself: ten retries a second go on in any case."""


class RetryQuota:
    """Tokens that retries take; starts full."""

    def __init__(self) -> None:
        self._tokens = float(TOKENS_MAX)
        self._seen_s: float | None = None

    def succeeded(self) -> None:
        """Take note of a success."""
        self._tokens = min(self._tokens + TOKENS_PER_SUCCESS, TOKENS_MAX)

    def take(self, tokens: int, now_s: float) -> float:
        """Take tokens for a retry and return the seconds that it must wait, 0 while there are some.

        What is taken and not there yet is owed, so retries that ask at once wait in turn.
        """
        if self._seen_s is not None:
            grown = self._tokens + (now_s - self._seen_s) * TOKENS_PER_S
            self._tokens = min(grown, TOKENS_MAX)
        self._seen_s = now_s
        self._tokens -= tokens
        return max(-self._tokens / TOKENS_PER_S, 0.0)
