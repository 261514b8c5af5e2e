"""Lint: what Triton would refuse, or answer wrongly, read offline from the files of a repository.

`lint_repository` looks at any Triton repository, made by whomever; `lint_entry` at one entry before
it is published. `rules` has the codes, `reading` the only files that are read besides models.
"""

from tritonbulk_export.lint.looking import errors_of, lint_entry, lint_repository
from tritonbulk_export.lint.rules import RULES, Finding, Rule

__all__ = ["RULES", "Finding", "Rule", "errors_of", "lint_entry", "lint_repository"]
