r"""The codes with which the reasons of verdicts begin, and what they say.

A reason is a code, or a code, a colon and the particulars. The kind ``pattern`` explains its verdicts in sentences of its
own.
"""

REASONS = {
    # right
    "same_text": "the answer is the gold, but for spaces and typeface",
    "same_words": "the answer is the gold's word, whatever the capitals",
    "same_letter": "the letter is the gold's",
    "equal": "the values are equal",
    "function_said_right": "the function returned true",
    # wrong: no answer
    "no_box": r"there is no \boxed",
    "empty_box": "the last box is empty",
    "malformed_box": "the last box has no braces, or they never close",
    "too_long": "the last box holds more than 512 characters",
    "unfinished_thinking": "the response ends inside <think>",
    "no_match": "the answer pattern matches nowhere",
    "no_letter": "the answer names no choice, or more than one",
    # wrong: another answer
    "unequal": "the values differ",
    "unequal_chain": "the answer is a chain of equations that does not hold, such as 4 = 5",
    "other_name": "both name the quantity, and not the same one, or the answer is a relation about the gold's name",
    "other_unit": "both name a unit, and not the same one",
    "other_base": "both name a base, and not the same one",
    "other_words": "the gold is a word, and the answer another one",
    "other_text": "the answer is another text",
    "other_letter": "the answer is another choice",
    "answer_unparsable": "the answer cannot be read as mathematics",
    "function_said_wrong": "the function returned false",
    # unknown
    "no_gold": "the problem has no reference",
    "gold_unparsable": "the reference cannot be read",
    "time_out": "the deadline passed",
    "out_of_memory": "the grading process held too much memory",
    "worker_crashed": "the grading process died",
    "grader_error": "the grader raised an exception",
    "function_does_not_know": "the function returned None",
    "function_returned_other": "the function returned neither true, false nor None",
}
