"""A hook of MkDocs that lets one Markdown file read alike in the repository and on the site.

Pages link to files of the repository by relative paths. On the site a link that leaves docs/ leads to the
file's page, where it has one (``PAGES``), else to the repository (``repo_url``). Where that is not set either, it
becomes the path, as code.
"""

import os
import re
from pathlib import Path
from posixpath import relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}
"""Pages of the site that are files outside of docs/."""
CODE_OR_LINK = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]*`)|\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s]+)\)", re.M | re.S
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> None:
    named = {page.file.src_uri for page in nav.pages}
    lost = sorted({file.src_uri for file in files.documentation_pages()} - named)
    if lost:
        raise PluginError(
            f"no place in the navigation for {', '.join(f'docs/{page}' for page in lost)}: "
            "add each to `nav` in mkdocs.yml, under the question that it answers"
        )


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    source = ROOT / PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return CODE_OR_LINK.sub(
        lambda found: found[0] if found["code"] else _link(found, source, page, config), markdown
    )


def _link(found: re.Match[str], source: Path, page: Page, config: MkDocsConfig) -> str:
    path, mark, fragment = found["target"].partition("#")
    if not path or ":" in path:
        return found[0]
    file = os.path.relpath(os.path.normpath(source.parent / path), ROOT).replace(os.sep, "/")
    of_file = {name: uri for uri, name in PAGES.items()}
    inside = file.removeprefix("docs/") if file.startswith("docs/") else of_file.get(file)
    if inside:
        return f"[{found['text']}]({relpath(inside, os.path.dirname(page.file.src_uri) or '.')}{mark}{fragment})"
    if config.repo_url:
        return f"[{found['text']}]({config.repo_url.rstrip('/')}/{config.extra['files']}/{file}{mark}{fragment})"
    text = found["text"]
    return text if text.strip("`") == file else f"{text} (`{file}`)"
