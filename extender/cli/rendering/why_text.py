"""placeholder"""

from rich.text import Text


def why_text(answer):
    return Text(str(answer.get("sentence")))
