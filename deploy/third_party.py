"""Writes the licences of all that is installed beside this Python: ``python deploy/third_party.py FILE``.

The image holds other people's packages, and most licences ask that their text goes with them. It is read from what
the packages themselves installed, so that the file tells of this environment and no other.
"""

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

OWN = "selftune"
LINE = "=" * 100


def terms(distribution: Distribution) -> str:
    """Under which terms a distribution is given, as it says itself: an SPDX expression, a classifier, a name.

    Raises:
        SystemExit: It says nothing and brings no text of a licence.
    """
    metadata = distribution.metadata
    classifiers = [
        entry.rpartition(" :: ")[2]
        for entry in metadata.get_all("Classifier") or []
        if entry.startswith("License ::") and entry != "License :: OSI Approved"
    ]
    named = (metadata["License"] or "").strip()
    # Some packages put the whole text where the name belongs.
    found = metadata["License-Expression"] or ", ".join(classifiers) or (named if "\n" not in named else "")
    if found:
        return found
    if texts(distribution) or named:
        return "as in the text below"
    raise SystemExit(
        f"{metadata['Name']} {distribution.version} names no licence and brings no text of one; "
        "look it up, and install another version or another package"
    )


def texts(distribution: Distribution) -> list[tuple[str, str]]:
    """Names and contents of the files with licences and notices that a distribution brings, in its metadata."""
    found = []
    for file in distribution.files or []:
        name = file.name.lower()
        in_metadata = any(part.endswith(".dist-info") for part in file.parts)
        if in_metadata and name.startswith(("licen", "copying", "notice", "authors")):
            found.append((str(file), Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")))
    return sorted(found)


def notices(installed: list[Distribution]) -> str:
    """The whole file: a line for each distribution, then the texts."""
    ordered = sorted(installed, key=lambda distribution: distribution.metadata["Name"].lower())
    lines = ["This environment holds these packages. Each is under its own terms.", ""]
    lines += [f"{d.metadata['Name']} {d.version}: {terms(d)}" for d in ordered]
    for distribution in ordered:
        title = f"{distribution.metadata['Name']} {distribution.version}"
        parts = texts(distribution)
        named = (distribution.metadata["License"] or "").strip()
        if not parts and "\n" in named:
            parts = [("License", named)]
        for name, text in parts:
            lines += ["", LINE, f"{title}: {name}", LINE, text.rstrip()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python deploy/third_party.py FILE")
    others = [found for found in distributions() if found.metadata["Name"] != OWN]
    Path(sys.argv[1]).write_text(notices(others), encoding="utf-8")
