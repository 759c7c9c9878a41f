r"""Worked solutions in the form that a run wants: without annotations, and with the final answer as its verifier reads it."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from scope_rlvr.core.prompts import fill
from scope_rlvr.core.settings import Settings

_PLACE = "{answer}"
_ANNOTATION = re.compile(r"<<[^<>\n]*>>")
_HASHES = re.compile(r"\s*^[ \t]*####[ \t]*(?P<answer>.*?)\s*\Z", re.MULTILINE)


class SolutionForm(Settings):
    r"""What is changed in the worked solutions of a source.

    >>> form = SolutionForm(strip_annotations=True, final_line="The answer is \\boxed{{answer}}.")
    >>> form.apply("He has 1000/2 = <<1000/2=500>>500 left.\n#### 1,500", "1500")
    'He has 1000/2 = 500 left.\nThe answer is \\boxed{1500}.'
    """

    strip_annotations: bool = Field(False, description="leave out `<<...>>`, the annotations of GSM8K")
    final_line: str | None = Field(
        None,
        description=r"the last line of every solution, in which `{answer}` is the right answer, such as "
        r"`\boxed{{answer}}`; it replaces a line `#### ...` with that answer, and is added where there is none",
    )

    @field_validator("final_line")
    @classmethod
    def _has_one_place(cls, line: str | None) -> str | None:
        if line is not None and (line.count(_PLACE) != 1 or "\n" in line):
            raise ValueError(f"{line!r} must be one line with {_PLACE} in it once")
        return line

    def apply(self, solution: str, answer: str) -> str:
        """A solution in this form; ``answer`` is the right answer of its problem.

        A line ``#### ...`` with another answer stays, so that the verifier finds the mistake.
        """
        if self.strip_annotations:
            solution = _ANNOTATION.sub("", solution)
        if self.final_line is None:
            return solution
        line, hashes = fill(self.final_line, answer=answer), _HASHES.search(solution)
        if hashes is not None and hashes["answer"].replace(",", "") != answer.replace(",", ""):
            return solution
        before = solution[: hashes.start()] if hashes is not None else solution.rstrip()
        if before.endswith(line) or not before:
            return before or line
        return before + ("\n\n" if "\n\n" in before else "\n") + line
