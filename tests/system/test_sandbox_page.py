"""The sandbox's page in a real browser."""

import json
import shutil
import subprocess
from collections.abc import Callable

import pytest
from conftest import Router, wait

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: the page was not looked at")
def test_the_page_shows_people_and_escapes_what_they_say(make_router: Callable[..., Router]) -> None:
    """A person who arrived is on the page, and markup in a field stays text."""
    router = make_router()
    router.start_sandbox()
    body = {"name": "identify", "user": {"email": "someone@example.com", "company": "<b id=evil>Acme</b>"}}
    answer = router.session.post(
        f"{router.sandbox_url}/ingest/v1/",
        data=json.dumps(body),
        headers={"X-Encharge-Token": "system-test-key", "Content-Type": "application/json"},
        timeout=5,
    )
    assert answer.ok
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += [f"--user-data-dir={router.folder / 'browser'}", "--virtual-time-budget=4000", "--dump-dom"]
    shown: list[str] = []

    def has_it() -> bool:
        done = subprocess.run(
            [str(BROWSER), *options, router.sandbox_url], capture_output=True, text=True, check=False, timeout=60
        )
        shown.append(done.stdout)
        return "someone@example.com" in done.stdout

    wait(has_it, 60, "the person is on the page")
    assert "&lt;b id=evil&gt;Acme" in shown[-1]
    assert "<b id=evil>" not in shown[-1]
