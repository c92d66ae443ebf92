"""Look for known vulnerabilities in the packages of constraints.txt, with pip-audit.

A vulnerability is an error. What could not be checked, for example without a connection, is not; the output says so.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
NO_CONNECTION = r"connection|connect to|network|proxy|timed? ?out|HTTPError|ServiceError"
"""What the last line of an error says if pip-audit cannot ask for vulnerabilities."""


def verdict(printed: str, errors: str) -> tuple[str, bool]:
    """What to say about a run of pip-audit.

    Args:
        printed: its standard output; JSON, if it could check.
        errors: its standard error.

    Returns:
        The text, and whether it is all right.
    """
    try:
        dependencies = json.loads(printed)["dependencies"]
    except ValueError:
        last = "".join(errors.strip().splitlines()[-1:])
        if re.search(NO_CONNECTION, last, flags=re.IGNORECASE):
            return f"not checked: {last}", True
        return f"pip-audit failed:\n{errors}", False
    lines = [
        f"{each['name']} {each['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for each in dependencies
        for found in each.get("vulns", [])
    ]
    good = not lines
    skipped = [each for each in dependencies if "skip_reason" in each]
    lines.append(f"packages checked: {len(dependencies) - len(skipped)}; known vulnerabilities: {len(lines)}")
    if skipped:
        names = ", ".join(each["name"] for each in skipped)
        lines.append(f"packages not checked: {len(skipped)} ({names}); the first: {skipped[0]['skip_reason']}")
    return "\n".join(lines), good


def main() -> None:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text, good = verdict(done.stdout, done.stderr)
    print(text)
    sys.exit(not good)


if __name__ == "__main__":
    main()
