"""No patient's name in any log of the node, from the first byte to the delivered report."""

from __future__ import annotations

from pathlib import Path

import pydicom

from litegpt.phantoms import phantom_files
from tests.images import make_radiograph
from tests.node import node_up
from tests.peers.dcmtk import dcmsend, storescp

NAME = "Verysecret"


def test_no_log_line_names_the_patient(tmp_path: Path) -> None:
    good = pydicom.dcmread(phantom_files()[0])
    good.PatientName = f"{NAME}^Good"
    lateral = make_radiograph(PatientName=f"{NAME}^Lateral", ViewPosition="LL")
    odd = make_radiograph(PatientName=f"{NAME}^Odd" + "\\" + "Second", PatientBirthDate="not a date")
    files = []
    for number, dataset in enumerate((good, lateral, odd)):
        files.append(tmp_path / f"{number}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    with (
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
        node_up(tmp_path / "node", destinations=pacs.destination, log_level="DEBUG") as node,
    ):
        assert {one.status for one in dcmsend(node.port, *files)} == {0}
        node.wait_for({str(good.StudyInstanceUID), str(odd.StudyInstanceUID)}, "delivered")
        node.wait_for({str(lateral.StudyInstanceUID)}, "not-applicable")
        assert all(NAME in str(report.PatientName) for report in pacs.datasets() if report.PatientName)
    log = (tmp_path / "node" / "node.log").read_text()
    assert str(good.StudyInstanceUID) in log
    assert NAME not in log
