"""Build the Debian package: `python packaging/deb/build.py [--out DIR] [--version VERSION]`. See packaging/README.md.

Needs pip, strip and dpkg-deb. Without a network: PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER (`make offline` makes it).
The same sources and wheels give the same bytes: dates are those of SOURCE_DATE_EPOCH, or of the last commit.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from email.parser import HeaderParser
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT)]

from man import man_pages  # noqa: E402

from router.cli.completion import script_for  # noqa: E402

PYTHON = "3.11"
"""Debian 12's. The libraries in the package are compiled for it, so it is a dependency to the digit."""
LIBRARY = "usr/lib/sendrs"
DOCUMENTS = "usr/share/doc/sendrs"
NOBODY = "sendrs@package.invalid"
"""When nobody said by DEBEMAIL who answers for the package: an address that is visibly none (RFC 2606 §2)."""
MAINTAINER = f"{os.environ.get('DEBFULLNAME', 'sendrs developers')} <{os.environ.get('DEBEMAIL', NOBODY)}>"
"""Who answers for a package that leaves this machine is who builds it: as for all of Debian's tools."""
SUMMARY = "DICOM router that never loses an image"
DESCRIPTION = """\
 sendrs takes DICOM instances in by C-STORE and STOW-RS, keeps them safely,
 decides by rules where they go, and sends them on by C-STORE, STOW-RS and
 SEND-RS (DICOM Supplement 248). It is searched and read by DICOMweb and DIMSE.
 .
 Everything that it needs besides Debian's Python is in this package: it is
 installed and run without a network."""
LAUNCHER = f"""\
#!/usr/bin/python{PYTHON} -IS
import sys

sys.path.insert(0, "/{LIBRARY}")
from router.cli import main

main()
"""
WHEELS = ("manylinux_2_36_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
UNWANTED = ("bin", "*/tests", "pynetdicom/apps", "pydicom/data/charset_files", "pydicom/data/palettes")
"""Scripts for others, and data for tests; `sendrs demo` sends pydicom's test files."""
NOTES_OF_PIP = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""What pip wrote for itself: lists of files that were taken out, and the folder in which this was built."""
DEPENDS = f"python{PYTHON}, adduser, libc6 (>= 2.34), libgcc-s1, libstdc++6 (>= 10.2), init-system-helpers (>= 1.52)"
"""What dpkg-shlibdeps finds (a test compares), and what the maintainer scripts call."""
APACHE = "/usr/share/common-licenses/Apache-2.0"


def main() -> None:
    """Build one package and print where it is."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=ROOT / "dist", help="where to put the package")
    arguments.add_argument("--version", default=f"{project_version()}-1", help="its Debian version")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sendrs-deb-") as folder:
        print(build(Path(folder), options.out, options.version))


def project_version() -> str:
    """Give the one version that there is."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def build(work: Path, out: Path, version: str) -> Path:
    """Build in the empty folder `work`; gives the path of the package."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _last_commit()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    tree = work / "tree"
    install_python(work, tree, environment)
    install_files(tree, version)
    write_control(tree, version)
    settle(tree, int(epoch))
    package = out / f"sendrs_{version}_amd64.deb"
    run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree), str(package), environment=environment)
    return package


def install_python(work: Path, tree: Path, environment: dict[str, str]) -> None:
    """Put sendrs and its libraries below LIBRARY, as wheels for Debian's Python, without what only tests need."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--wheel-dir", str(work), str(ROOT), environment=environment)
    [wheel] = work.glob("sendrs-*.whl")
    target = tree / LIBRARY
    platforms = [argument for name in WHEELS for argument in ("--platform", name)]
    run(
        *(*pip, "install", "--target", str(target), "--no-compile", "--only-binary=:all:"),
        *("--python-version", PYTHON, "--implementation", "cp", *platforms, str(wheel)),
        environment=environment,
    )
    for pattern in UNWANTED:
        for path in list(target.glob(pattern)):
            shutil.rmtree(path)
    for note in NOTES_OF_PIP:
        for path in target.glob(f"*.dist-info/{note}"):
            path.unlink()
    for library in target.rglob("*.so*"):
        run("strip", "--strip-unneeded", str(library))


def install_files(tree: Path, version: str) -> None:
    """Put everything else where Debian wants it."""
    write(tree / "usr/bin/sendrs", LAUNCHER, mode=0o755)
    copy(ROOT / "router.toml", tree / "etc/sendrs/router.toml")
    shutil.copytree(ROOT / "rules", tree / "etc/sendrs/rules")
    copy(HERE / "sendrs.service", tree / "lib/systemd/system/sendrs.service")
    copy(HERE / "low-port.conf", tree / DOCUMENTS / "examples/low-port.conf")
    write(tree / "usr/share/lintian/overrides/sendrs", lintian_overrides())
    for page in sorted((ROOT / "docs").glob("*.md")):
        copy(page, tree / DOCUMENTS / page.name)
    copy(ROOT / "README.md", tree / DOCUMENTS / "README.md")
    write(tree / DOCUMENTS / "copyright", licences(tree / LIBRARY))
    write_gz(tree / DOCUMENTS / "changelog.Debian.gz", changelog(version))
    write_gz(tree / DOCUMENTS / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    write(tree / "usr/share/bash-completion/completions/sendrs", script_for("bash"))
    for name, text in man_pages(project_version()).items():
        write_gz(tree / f"usr/share/man/man1/{name}.1.gz", text)


def write_control(tree: Path, version: str) -> None:
    """Write what dpkg wants to know."""
    kilobytes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    control = tree / "DEBIAN"
    write(
        control / "control",
        f"Package: sendrs\nVersion: {version}\nArchitecture: amd64\nMaintainer: {MAINTAINER}\n"
        f"Installed-Size: {kilobytes}\nSection: net\nPriority: optional\n"
        f"Depends: {DEPENDS}\nSuggests: dcmtk\nDescription: {SUMMARY}\n{DESCRIPTION}\n",
    )
    conffiles = sorted(f"/{path.relative_to(tree)}" for path in (tree / "etc").rglob("*") if path.is_file())
    write(control / "conffiles", "".join(f"{path}\n" for path in conffiles))
    for script in ("postinst", "prerm", "postrm"):
        write(control / script, (HERE / script).read_text(), mode=0o755)
    sums = [
        line
        for path in sorted(tree.rglob("*"))
        if path.is_file() and control not in path.parents
        for line in [f"{md5(path)}  {path.relative_to(tree)}\n"]
    ]
    write(control / "md5sums", "".join(sums))


def lintian_overrides() -> str:
    """Give what lintian is told not to complain of, with the reasons; of addresses only when there is none."""
    always = (HERE / "sendrs.lintian-overrides").read_text()
    return always + (HERE / "nobody.lintian-overrides").read_text() if "DEBEMAIL" not in os.environ else always


def licences(target: Path) -> str:
    """Write the copyright file: whose each library is, and its licence texts."""
    parts = ["What is in this package, and under which terms.\n"]
    for metadata in sorted(target.glob("*.dist-info/METADATA")):
        about = HeaderParser().parsestr(metadata.read_text(errors="replace"))
        licence = about.get("License-Expression") or about.get("License") or "see the text"
        parts.append(f"\n{'=' * 78}\n{about['Name']} {about['Version']}: {licence.splitlines()[0]}\n{'=' * 78}\n")
        texts = sorted(
            path for path in metadata.parent.rglob("*") if path.name.upper().startswith(("LICEN", "COPYING"))
        )
        for path in texts:
            if path.is_file():
                text = path.read_text(errors="replace").rstrip()
                is_apache = "Apache License" in text and "TERMS AND CONDITIONS" in text
                parts.append((f"The Apache License, Version 2.0: {APACHE}" if is_apache else text) + "\n")
                path.unlink()  # once is enough
    return "\n".join(parts)


def changelog(version: str) -> str:
    """Write Debian's changelog: one entry, and where the real one is."""
    when = subprocess.run(["date", "-uRd", f"@{_last_commit()}"], capture_output=True, text=True, check=True).stdout
    return (
        f"sendrs ({version}) bookworm; urgency=medium\n\n  * What has changed stands in changelog.gz.\n\n"
        f" -- {MAINTAINER}  {when}"
    )


def settle(tree: Path, epoch: int) -> None:
    """Give everything plain modes and one date, so that two builds are the same."""
    for path in [tree, *tree.rglob("*")]:
        executable = path.is_dir() or (path.stat().st_mode & 0o100 and path.suffix != ".so" and ".so." not in path.name)
        path.chmod(0o755 if executable else 0o644)
    for path in sorted([tree, *tree.rglob("*")], reverse=True):
        os.utime(path, (epoch, epoch))


def md5(path: Path) -> str:
    """Give the sum that dpkg compares."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def write_gz(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def run(*command: str, environment: dict[str, str] | None = None) -> None:
    """Run a command; when it fails, show what it said and end."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}failed with exit code {done.returncode}")


def _last_commit() -> str:
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "1735689600"


if __name__ == "__main__":
    main()
