"""Every Python and Bash block of README.md and docs/ runs.

One test for each page. The blocks of a page share one namespace and one folder (see `conftest.py`), in their order. A
page that does not itself make `judge/` finds one there, with its labels. `hf-autojudge` commands run in this process.
Blocks fenced as ```console are not run: they install packages or need the network. The README's first two Bash blocks
are run by the check of a fresh clone.
"""

import re
import shutil

import pytest

from tests.docs.snippets import LANGUAGES, PAGES, ROOT, blocks, blocks_to_run, run_bash, run_python

FROM_SCRATCH = {"README.md", "docs/label.md", "docs/quickstart.md"}  # pages that make `judge/`
QUICK = {"docs/generate.md", "docs/index.md", "docs/troubleshooting.md"}


def name(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=[] if name(page) in QUICK else [pytest.mark.slow])
        for page in PAGES
        if blocks_to_run(page)
    ],
)
def test_a_page_runs(page, hub, folder):
    if name(page) not in FROM_SCRATCH:
        shutil.copytree(hub / "judge", folder / "judge")
    namespace = {"__name__": "__main__"}
    for block in blocks_to_run(page):
        if block.language == "python":
            run_python(block, page, namespace)
        else:
            run_bash(block, page)


def test_every_block_names_its_language():
    for page in PAGES:
        for block in blocks(page):
            assert block.language in LANGUAGES, f"{name(page)}:{block.line}: a block is fenced as {block.language!r}"


def test_every_fence_is_closed():
    for page in PAGES:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), name(page)
