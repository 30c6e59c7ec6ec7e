"""Pages that lie in the root of the repository, for the site: their links lead where the site has them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    """Return a page of the root with links as a page of ``docs`` would have them.

    Args:
        name: Of the file.

    Returns:
        Its text.
    """
    text = (ROOT / name).read_text(encoding="utf-8").replace("```mermaid", "```text")
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", text)
    return re.sub(r"\]\((CHANGELOG|CONTRIBUTING)\.md", lambda found: f"]({found[1].lower()}.md", text)
