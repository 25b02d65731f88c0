"""The hook of the documentation's site: where links that leave docs/ lead, and pages that the navigation lacks."""

import importlib.util
from pathlib import Path

import pytest
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import get_navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent


@pytest.fixture
def links():
    spec = importlib.util.spec_from_file_location("links", ROOT / "docs" / "site" / "links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(**settings):
    config = MkDocsConfig(str(ROOT / "mkdocs.yml"))
    config.load_dict({"site_name": "a site", "docs_dir": str(ROOT / "docs")} | settings)
    assert config.validate() == ([], [])
    return config


def on_page(links, text, name="ray.md", **settings):
    config = config_of(**settings)
    file = File(name, config.docs_dir, config.site_dir, use_directory_urls=False)
    return links.on_page_markdown(text, Page(None, file, config), config, Files([]))


def test_a_link_within_the_pages_stays(links):
    text = "[runs](tracking.md#columns), [above](#faults), [a paper](https://arxiv.org/abs/1511.06727)"
    assert on_page(links, text) == text


def test_a_file_that_is_a_page_too_leads_to_it(links):
    assert on_page(links, "[how](../CONTRIBUTING.md#adding-a-test)") == "[how](contributing.md#adding-a-test)"


def test_such_a_page_links_from_where_its_file_is(links):
    text = "[rooms](docs/architecture.md) and [news](CHANGELOG.md)"
    assert on_page(links, text, "contributing.md") == "[rooms](architecture.md) and [news](changes.md)"


def test_another_file_leads_to_the_repository_where_there_is_one(links):
    text = "[the loop](../README.md#use-it)"
    settings = {"repo_url": "https://example.org/it/", "extra": {"files": "blob/main"}}
    assert on_page(links, text, **settings) == "[the loop](https://example.org/it/blob/main/README.md#use-it)"


def test_without_a_repository_it_is_a_path(links):
    assert on_page(links, "[the loop](../README.md#use-it)") == "the loop (`README.md`)"
    assert on_page(links, "[`benchmarks/text.py`](../benchmarks/text.py)") == "`benchmarks/text.py`"


def test_code_is_left_alone(links):
    text = "`[a](../b.md)`\n\n```python\nx = y[0](../z)\n```\n"
    assert on_page(links, text) == text


def test_a_page_without_a_place_says_what_to_do(links):
    config = config_of(nav=["ray.md"])
    files = Files(
        [
            File(name, config.docs_dir, config.site_dir, use_directory_urls=False)
            for name in ("ray.md", "storage.md")
        ]
    )
    navigation = get_navigation(files, config)
    with pytest.raises(PluginError, match=r"docs/storage\.md: add each to `nav` in mkdocs\.yml"):
        links.on_nav(navigation, config, files)
