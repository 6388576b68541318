"""Scoring files by policies whose actions are no pedals: a column an answer, labels beside their indices."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from without_pedals import KINDS

from serve.score.command import main


@pytest.mark.parametrize("name", KINDS)
def test_the_output_has_a_column_for_each_answer(name: str, tmp_path: Path):
    kind, source, output = KINDS[name], tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"x": kind.rows, "time": [3, 4]}), source)
    flags = ["--model", str(kind.write(tmp_path)), "--input", str(source), "--output", str(output), "--keep", "time"]
    assert main(flags) == 0
    assert pq.read_table(output).to_pydict() == {"time": [3, 4], **kind.columns}


def test_a_row_that_does_not_fit_has_no_label_and_no_index(tmp_path: Path):
    kind, source, output = KINDS["labelled"], tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"x": [kind.rows[0], [9.0, 0.0, 0.0], kind.rows[1]]}), source)
    flags = ["--model", str(kind.write(tmp_path)), "--input", str(source), "--output", str(output), "--skip-invalid"]
    assert main(flags) == 0
    assert pq.read_table(output).to_pydict() == {"choice": ["LEFT", None, "RIGHT"], "index": [0, None, 2]}


def test_a_column_of_the_input_that_is_called_like_an_answer_can_not_be_kept(tmp_path: Path, capsys):
    kind, source = KINDS["several"], tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": kind.rows, "gear_index": [1, 2]}), source)
    flags = ["--model", str(kind.write(tmp_path)), "--input", str(source), "--output", str(tmp_path / "out")]
    assert main([*flags, "--keep", "gear_index"]) == 1
    assert "--keep gear_index: the output has columns of these names" in capsys.readouterr().err
