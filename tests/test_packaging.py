"""What is installed is what is in the tree: `adapters/` arrives as `surgery.adapters`, and nothing is left behind."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import surgery

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "surgery", "adapters"]
SDIST = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"


def run(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The finished `python ARGS`, run where only installed packages are in reach."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(
        [sys.executable, *map(str, args)], cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=120
    )


def succeed(*args: object, cwd: Path) -> str:
    """The output of `python ARGS`, which must not fail."""
    done = run(*args, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree_files() -> set[str]:
    """The files of the import packages, named as an installation names them."""
    places = {"surgery": ROOT / "surgery", "surgery/adapters": ROOT / "adapters"}
    return {
        f"{name}/{file.relative_to(place).as_posix()}"
        for name, place in places.items()
        for folder, _, files in os.walk(place)  # does not follow surgery/adapters
        for file in (Path(folder, f) for f in files)
        if file.suffix in (".py", ".css", ".js") or file.name == "py.typed"
    }


def wheel_files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def build_wheel(source: Path, out: Path) -> Path:
    succeed("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, source, cwd=source)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in: building leaves files behind, and reads what an earlier build left."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    out = tmp_path_factory.mktemp("sdist")
    succeed("-c", SDIST, out, cwd=checkout)
    (archive,) = out.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(out, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return out / archive.name.removesuffix(".tar.gz")


def test_package_list_equals_the_folders_on_disk():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    folders = {str(Path(name).parent).replace(os.sep, ".") for name in tree_files()}
    assert sorted(listed) == sorted(folders)
    assert {f"{name.replace('.', '/')}/__init__.py" for name in listed} <= tree_files()


def test_the_folder_does_not_import_under_its_own_name():
    done = run("-c", "import adapters", cwd=ROOT)
    assert done.returncode != 0
    assert "ImportError" in done.stderr and "import surgery.adapters" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a checkout there may hold the link as a text file")
def test_symlink_is_relative_and_right():
    link = ROOT / "surgery" / "adapters"
    assert os.readlink(link) == os.path.join("..", "adapters")
    assert link.resolve() == ROOT / "adapters"


def test_wheel_holds_exactly_the_tree(wheel: Path):
    assert wheel_files(wheel) == tree_files()
    assert {"surgery/py.typed", "surgery/adapters/__init__.py"} <= wheel_files(wheel)


def test_the_version_is_written_once(wheel: Path):
    assert wheel.name.startswith(f"model_surgery-{surgery.__version__}-")


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path):
    assert (sdist / "adapters" / "__init__.py").is_file()
    assert (sdist / "LICENSE").is_file()
    assert wheel_files(build_wheel(sdist, tmp_path)) == wheel_files(wheel)


def test_installed_wheel_imports_adapters(wheel: Path, tmp_path: Path):
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    succeed("-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel, cwd=elsewhere)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import surgery.adapters; print(surgery.adapters.__file__)"
    found = Path(succeed("-c", code, target, cwd=elsewhere).strip())
    assert found == target / "surgery" / "adapters" / "__init__.py"
    assert not (target / "adapters").exists()
