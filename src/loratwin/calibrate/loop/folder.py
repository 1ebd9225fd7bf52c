"""Where a calibration keeps its files. What is there is not measured again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loratwin.errors import InputError


@dataclass(frozen=True)
class CalibrationFolder:
    """design.yaml, records/, profile.yaml, checks/ (predictions.json, then records), check.md and check.json."""

    path: Path

    @property
    def design(self) -> Path:
        """Which runs are measured."""
        return self.path / "design.yaml"

    @property
    def records(self) -> Path:
        """Runs of the design."""
        return self.path / "records"

    @property
    def profile(self) -> Path:
        """What was fitted to them."""
        return self.path / "profile.yaml"

    @property
    def checks(self) -> Path:
        """Predictions, and runs of the check."""
        return self.path / "checks"

    def logs(self, server: str) -> Path:
        """What a server that was started printed and logged."""
        return self.path / f"logs-{server}"

    @classmethod
    def made(cls, path: str | Path) -> CalibrationFolder:
        """The folder, made with what is in it if it is not there.

        Raises
        ------
        InputError
            It cannot be made.
        """
        folder = cls(Path(path))
        try:
            for inside in (folder.records, folder.checks):
                inside.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {path}: {error.strerror or error}") from None
        return folder
