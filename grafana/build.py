"""Write the dashboards' JSON, as Grafana reads it.

python -m grafana.build            # write grafana/json/*.json
python -m grafana.build --check    # exit code 1 unless they are current
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.dashboards import flink, hosts, kafka, machine, overview, pipeline

FOLDER = Path(__file__).resolve().parent / "json"
MODULES = (overview, machine, pipeline, kafka, flink, hosts)


def pages() -> dict[str, str]:
    """Text of every dashboard by file name."""
    dashboards = [module.build() for module in MODULES]
    return {
        f"{dashboard.uid}.json": json.dumps(
            dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False
        )
        + "\n"
        for dashboard in dashboards
    }


def differing(folder: Path = FOLDER) -> dict[str, str | None]:
    """The files to write, and those to remove (None)."""
    wanted = pages()
    found = {path.name: path.read_text("utf-8") for path in folder.glob("*.json")}
    gone = dict.fromkeys(found.keys() - wanted.keys())
    return {**gone, **{name: text for name, text in wanted.items() if found.get(name) != text}}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file is old")
    check: bool = parser.parse_args(argv).check
    pending = differing()
    for name, text in pending.items():
        path = FOLDER / name
        print(f"{path}: {'is out of date' if check else 'removed' if text is None else 'written'}")
        if check:
            continue
        if text is None:
            path.unlink()
        else:
            path.write_text(text, "utf-8")
    return int(check and bool(pending))


if __name__ == "__main__":
    sys.exit(main())
