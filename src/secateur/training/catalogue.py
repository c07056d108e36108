"""Which data sets there are, where their files lie, and how to get them. Needs no PyTorch."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.errors import DataError, MissingExtraError, UsageError
from secateur.support import settings
from secateur.support.references import is_object

CHUNK = 1 << 20
DOWNLOAD_CHUNK = 1 << 16  # what a broken connection may lose
Advance = Callable[[str, int, int], None]  # (file name, bytes so far, bytes in all)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its publisher offers it.

    md5 is of the file; content_md5 of what a .gz file holds, which stays the same when it is packed again.
    """

    name: str
    url: str
    md5: str
    content_md5: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A data set's files, laid out under `folder` as the publisher lays them out.

    members are the files needed for loading; where `files` is one archive they are inside it.
    """

    name: str
    about: str
    folder: str
    files: tuple[RemoteFile, ...]
    members: tuple[str, ...]

    @property
    def is_archive(self) -> bool:
        return bool(self.files) and self.files[0].name not in self.members


_IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _idx_source(name: str, about: str, base: str, sums: tuple[tuple[str, str], ...]) -> Source:
    files = tuple(RemoteFile(file, f"{base}/{file}", *pair) for file, pair in zip(_IDX_NAMES, sums, strict=True))
    return Source(name, about, name, files, _IDX_NAMES)


SOURCES = {
    each.name: each
    for each in (
        Source("digits", "1,797 handwritten digits, 8×8, embedded in scikit-learn", "", (), ()),
        _idx_source(
            "mnist",
            "70,000 handwritten digits, 28×28 (LeCun et al. 1998)",
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            (
                ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
                ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
                ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
                ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
            ),
        ),
        _idx_source(
            "fashion-mnist",
            "70,000 pieces of clothing, 28×28 (Xiao et al. 2017)",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            (
                ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
                ("25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
                ("bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
                ("bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
            ),
        ),
        Source(
            "cifar-10",
            "60,000 colour photographs in ten classes, 32×32 (Krizhevsky 2009), binary layout",
            "cifar-10-batches-bin",
            (
                RemoteFile(
                    "cifar-10-binary.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                    "c32a1d4ab5d03f1284b67883e8d87530",
                ),
            ),
            (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"),
        ),
    )
}
EXTRACTED_SUMS = "SHA256SUMS.verified"


def find_source(name: str) -> Source:
    """Raises UsageError for a name that is not in the catalogue."""
    if name not in SOURCES:
        raise UsageError(f"data {name!r}: expected one of {', '.join(SOURCES)}, or your own as package.module:callable")
    return SOURCES[name]


def check_data_name(name: str) -> None:
    """Raises UsageError for a name that is neither in the catalogue nor of the form package.module:callable, nor of
    what a program holds."""
    plain, _ = split_normalisation(name)
    if ":" not in plain and not is_object(plain):
        find_source(plain)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """(x / 255 - mean) / std; mean and std one number for all channels, or one for each."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not values or not all(math.isfinite(value) for value in values):
                raise UsageError(f"{name} {_listed(values)}: expected numbers, one or one for each channel")
        if min(self.std) <= 0:
            raise UsageError(f"std {_listed(self.std)}: expected numbers above 0")

    def describe(self) -> str:
        if (set(self.mean), set(self.std)) == ({0.0}, {1.0}):
            return "x/255 as is"
        return f"(x/255 - {_listed(self.mean)}) / {_listed(self.std)}"

    @property
    def options(self) -> str:
        """As the command line takes it."""
        return f"--mean {','.join(map(_plain, self.mean))} --std {','.join(map(_plain, self.std))}"


Numbers = float | Sequence[float]
_NAMED = re.compile(r"(.+) \(mean ([^()]*), std ([^()]*)\)", re.DOTALL)


def normalised_name(name: str, mean: Numbers | None, std: Numbers | None) -> str:
    """The name of a data set whose images are normalised otherwise than it advises: another data set, as what is
    measured on it has nothing to do with what is measured on the first.

    Raises UsageError where only one of the two is given, or they are no numbers.
    """
    if mean is None and std is None:
        return name
    if mean is None or std is None:
        raise UsageError("normalisation: expected mean and std together; x/255 as is has mean 0 and std 1")
    chosen = Normalisation(_floats("mean", mean), _floats("std", std))
    plain, _ = split_normalisation(name)
    return f"{plain} (mean {' '.join(map(_plain, chosen.mean))}, std {' '.join(map(_plain, chosen.std))})"


def split_normalisation(name: str) -> tuple[str, Normalisation | None]:
    """The inverse of normalised_name: the data set's own name, and the normalisation if it is not the data set's."""
    found = _NAMED.fullmatch(name)
    if not found:
        return name, None
    mean, std = (_floats(what, text.split()) for what, text in (("mean", found[2]), ("std", found[3])))
    return found[1], Normalisation(mean, std)


def _floats(what: str, values: Any) -> tuple[float, ...]:
    listed = [values] if isinstance(values, int | float) else values
    try:
        return tuple(float(value) for value in listed)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} {values!r}: expected numbers, one or one for each channel") from error


def _plain(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _listed(values: Sequence[float]) -> str:
    texts = [_plain(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def search_path(data_dir: str | Path | None) -> tuple[Path, ...]:
    """Folders that may hold data sets: --data-dir, else SECATEUR_DATA; then the user's cache."""
    chosen = data_dir or settings.DATA.value
    downloads = settings.user_cache() / "data"
    return (Path(chosen).expanduser(), downloads) if chosen else (downloads,)


def locate(source: Source, data_dir: str | Path | None) -> Path | None:
    """The folder that holds every file of a data set, or None. IDX files may be gzipped or not."""
    for folder in (base / source.folder for base in search_path(data_dir)):
        if all(member_path(folder, member) for member in source.members):
            return folder
    return None


def member_path(folder: Path, member: str) -> Path | None:
    """The file itself or, where its name ends in .gz, its unpacked form."""
    candidates = (folder / member, folder / member.removesuffix(".gz"))
    return next((path for path in candidates if path.is_file()), None)


def require(source: Source, data_dir: str | Path | None) -> Path:
    """Like locate, but raises DataError that says where it looked and which command gets the files."""
    if folder := locate(source, data_dir):
        return folder
    looked = " and ".join(str(base / source.folder) for base in search_path(data_dir))
    lacking = _first_lacking(source, data_dir)
    raise DataError(
        f"data {source.name!r} not found: looked in {looked} for {lacking}; "
        f"get it with: secateur data fetch {source.name}, or say where it is with --data-dir or SECATEUR_DATA"
    )


def _first_lacking(source: Source, data_dir: str | Path | None) -> str:
    folder = search_path(data_dir)[0] / source.folder
    return next(member for member in source.members if not member_path(folder, member))


def provenance(source: Source, folder: Path) -> str:
    """Whether the images and labels are bit for bit the publisher's, in words that can stand beside an accuracy."""
    if not source.is_archive:
        genuine = all(_is_genuine(folder, file) for file in source.files)
        return (
            "the publisher's content (MD5 sums match)" if genuine else "not the publisher's content (MD5 sums differ)"
        )
    try:
        recorded = dict(line.split("  ", 1)[::-1] for line in (folder / EXTRACTED_SUMS).read_text().splitlines())
    except (OSError, ValueError):
        return "files not checked against the publisher's archive"
    genuine = all(recorded.get(member) == _sha256(folder / member) for member in source.members)
    return (
        "extracted from the publisher's archive (MD5 sum matches)"
        if genuine
        else "files changed since they were extracted from the publisher's archive"
    )


def _is_genuine(folder: Path, file: RemoteFile) -> bool:
    path = member_path(folder, file.name)
    if path is None:
        return False
    opened = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")  # noqa: SIM115 - closed below
    try:
        with opened as content:
            return hashlib.md5(content.read(), usedforsecurity=False).hexdigest() == file.content_md5
    except (OSError, EOFError, zlib.error):
        return False


def fetch(source: Source, data_dir: str | Path | None = None, advance: Advance | None = None) -> Path:
    """Download a data set, into data_dir where given, else into the user's cache; returns its folder.

    Files already there with the right digest are kept; an interrupted download goes on where it stopped.
    Raises DataError where the network fails or a digest differs.
    """
    if not source.files:
        raise UsageError(f"data {source.name!r} is embedded: there is nothing to fetch")
    base = Path(data_dir).expanduser() if data_dir else settings.user_cache() / "data"
    folder = base / source.folder
    with _one_line_errors(source, base):
        if not source.is_archive:
            for file in source.files:
                _download(file, folder, advance)
        elif not locate(source, base) or "MD5 sum matches" not in provenance(source, folder):
            archive = _download(source.files[0], base, advance)
            _extract(source, archive, folder)
            archive.unlink()
    return folder


class _one_line_errors:  # noqa: N801 - reads as a statement
    """Turns what requests, tarfile and the file system raise into one DataError with the next step."""

    def __init__(self, source: Source, base: Path) -> None:
        self.source, self.base = source, base

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | ValueError | tarfile.TarError | EOFError):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"data {self.source.name!r}: fetching into {self.base} stopped: {reason}; "
                "run the same command again to go on where it stopped"
            ) from error


def _download(file: RemoteFile, folder: Path, advance: Advance | None) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError("downloads need pooch: pip install 'secateur[torch]'") from error
    pooch.get_logger().setLevel("ERROR")
    downloader = _ResumingDownloader(folder / f"{file.name}.part", file, advance)
    path = pooch.retrieve(file.url, f"md5:{file.md5}", fname=file.name, path=folder, downloader=downloader)
    downloader.part.unlink(missing_ok=True)
    return Path(path)


class _ResumingDownloader:
    """A pooch downloader that keeps what has arrived in a .part file and asks for the rest by HTTP range."""

    def __init__(self, part: Path, file: RemoteFile, advance: Advance | None) -> None:
        self.part, self.file, self.advance = part, file, advance

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        self._fill(url)
        if _md5(self.part) != self.file.md5:
            self.part.unlink()
            raise ValueError(f"{url} does not have the published MD5 sum {self.file.md5}")
        shutil.copyfile(self.part, output_file)

    def _fill(self, url: str) -> None:
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=headers, stream=True, timeout=30) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # everything has arrived; the digest decides
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            have = have if resumed else 0
            total = have + int(response.headers.get("Content-Length", 0))
            with open(self.part, "ab" if resumed else "wb") as out:
                for chunk in response.iter_content(DOWNLOAD_CHUNK):
                    have += out.write(chunk)
                    if self.advance:
                        self.advance(self.file.name, have, total)
            if total and have < total:
                raise OSError(f"{url} ended after {have} of {total} bytes")


def _extract(source: Source, archive: Path, folder: Path) -> None:
    """Write the wanted regular files of an archive, and nothing else of it; names inside are not trusted."""
    wanted = set(source.members)
    folder.mkdir(parents=True, exist_ok=True)
    sums = []
    with tarfile.open(archive) as tar:
        for entry in tar:
            name = Path(entry.name).name
            if entry.isfile() and name in wanted:
                content = tar.extractfile(entry)
                assert content is not None
                temporary = folder / f"{name}.part"
                with open(temporary, "wb") as out:
                    shutil.copyfileobj(content, out, CHUNK)
                os.replace(temporary, folder / name)
                sums.append(f"{_sha256(folder / name)}  {name}")
                wanted.remove(name)
    if wanted:
        raise ValueError(f"{archive.name} lacks {', '.join(sorted(wanted))}")
    (folder / EXTRACTED_SUMS).write_text("\n".join(sums) + "\n")


def _md5(path: Path) -> str:
    return _digest(hashlib.md5(usedforsecurity=False), path)


def _sha256(path: Path) -> str:
    return _digest(hashlib.sha256(), path)


def _digest(algorithm: Any, path: Path) -> str:
    for chunk in _chunks(path):
        algorithm.update(chunk)
    return str(algorithm.hexdigest())


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
