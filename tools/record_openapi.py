"""Record the OpenAPI document of the service, after its routes changed on purpose.

Run: python tools/record_openapi.py && python -m pytest tests/edge/serve/test_openapi.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from edge.serve.documents import RECORDED, as_text, current_document  # noqa: E402 - the path is set above


def main() -> None:
    """Write the record."""
    with tempfile.TemporaryDirectory() as folder:
        RECORDED.write_text(as_text(current_document(Path(folder))), "utf-8")
    print(f"{RECORDED.relative_to(ROOT)}: recorded")


if __name__ == "__main__":
    main()
