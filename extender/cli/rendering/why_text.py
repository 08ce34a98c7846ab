"""placeholder"""

from typing import Any

from rich.text import Text


def why_text(answer: Any) -> Text:
    return Text(str(answer.get("sentence")))
