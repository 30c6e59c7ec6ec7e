"""Sphinx's settings: the site is made of the pages beside this file, the gallery's scripts and the code's own words."""

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from pygments.lexers.special import TextLexer  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import lomix_search  # noqa: E402
from generate import commands, docstrings_of_api, messages, project_pages, recipe_keys, schemas, stored_runs  # noqa: E402

project = "lomix_search"
version = release = lomix_search.__version__
html_show_copyright = False

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "generate.mathml",
]
exclude_patterns = ["reference/generated", "gallery", "generate"]
html_theme = "furo"
html_title = f"lomix_search {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
smartquotes = False  # two dashes begin an option
pygments_style, pygments_dark_style = "tango", "monokai"

myst_enable_extensions = ["deflist", "dollarmath", "colon_fence", "attrs_inline"]
myst_heading_anchors = 4  # links to headings, as GitHub makes them
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_mock_imports = ["lightning", "ignite", "transformers"]  # of the extras that the site is not built with
autodoc_default_options = {
    "exclude-members": "model_config, model_fields, model_computed_fields, model_post_init",
}
napoleon_google_docstring, napoleon_numpy_docstring = True, False

sphinx_gallery_conf: dict[str, Any] = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": stored_runs.pattern(with_data="LOMIX_DATA" in os.environ),
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "show_signature": False,
    "download_all_examples": False,
    "min_reported_time": 1000,
    "write_computation_times": False,
}
suppress_warnings = ["config.cache"]  # the settings above hold functions


def _write_pages(app: Sphinx) -> None:
    """Write what is made of the code where the pages include it."""
    generated = HERE / "reference/generated"
    files = {
        generated / "recipe-keys.md": recipe_keys.page(),
        generated / "commands.md": commands.page(),
        generated / "mixture.md": schemas.mixture_fields(),
        generated / "space.md": schemas.space_fields(),
        generated / "space.schema.json": schemas.space_schema(),
        generated / "changelog.md": project_pages.page("CHANGELOG.md"),
        generated / "contributing.md": project_pages.page("CONTRIBUTING.md"),
        **{HERE / f"reference/errors/{kind}.md": text for kind, text in messages.pages().items()},
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # else it would be read anew each time
            path.write_text(text, encoding="utf-8")


def _show_stored_runs(app: Sphinx, name: str, source: list[str]) -> None:
    """Show the last run of a script whose data are not here."""
    script = name.removeprefix("examples/")
    if "LOMIX_DATA" not in os.environ and script in {path.stem for path in stored_runs.scripts()}:
        source[0] = stored_runs.with_stored(script, source[0])


def setup(app: Sphinx) -> None:
    """Connect what is generated."""
    app.add_object_type("recipe-key", "recipe-key", objname="recipe key", indextemplate="single: %s (recipe key)")
    app.add_lexer("csv", TextLexer)  # Pygments has none, and a fence of that name is shown well elsewhere
    app.connect("builder-inited", _write_pages)
    app.connect("source-read", _show_stored_runs)
    app.connect("autodoc-process-docstring", docstrings_of_api.formulas_stand_apart)
    app.connect("autodoc-process-docstring", docstrings_of_api.signs_are_no_marks, priority=900)  # after napoleon
