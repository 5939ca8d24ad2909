"""Requests made up from the OpenAPI document, a few hundred of them, against a real router: I21.

What makes them up lives in `.venv-fuzz`, which `make test` installs; where it can't be, this is a named skip, and with CI
a failure. `tests/documented.py` has the rules, and the full number on demand.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from documented import DONE, OWN, ROOT
from stage import clean_environment

CASES = 200


@pytest.mark.timeout(300)
def test_the_router_is_as_its_document_says():
    """Statuses, headers, bodies, refusals, of every operation; and a document that lies is found out."""
    if not DONE.exists():
        message = "the environment .venv-fuzz is missing or incomplete; `make test` installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    command = [str(OWN), "tests/documented.py", "--cases", str(CASES), "--control"]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| `POST /v1/chat/completions` | 30 | 30 |" in done.stdout
