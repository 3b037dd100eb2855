"""An import into a node that is up, while a modality sends to it: all comes in, is analysed and delivered."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from litegpt.phantoms import phantom_files
from service.records.database import Records
from service.settings import load_settings
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.node import node_up
from tests.peers.dcmtk import dcmsend, storescp
from tests.peers.radiographs import as_new_studies, study_uids
from tests.service.import_command import run_import, save, stored

pytestmark = pytest.mark.timeout(400)

NOT_ANALYSED = 60


def test_what_is_imported_and_what_is_sent_meanwhile(tmp_path: Path) -> None:
    phantoms = as_new_studies(phantom_files()[:4], tmp_path / "phantoms")
    for number in range(2 * NOT_ANALYSED):
        image = make_radiograph(sop_class=DX_FOR_PROCESSING)
        folder = ("imported", "sent")[number % 2]
        save(image, tmp_path / folder / f"{number}.dcm")
    for folder, images in (("imported", phantoms[:2]), ("sent", phantoms[2:])):
        for image_file in images:
            (tmp_path / folder / image_file.name).write_bytes(image_file.read_bytes())
    with (
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
        node_up(tmp_path / "node", destinations=pacs.destination) as node,
        ThreadPoolExecutor() as threads,
    ):
        importing = threads.submit(run_import, tmp_path, "--data-dir", node.data_dir, "imported")
        sending = threads.submit(dcmsend, node.port, *sorted((tmp_path / "sent").iterdir()))
        ended = importing.result()
        assert {one.status for one in sending.result()} == {0}
        assert (ended.returncode, ended.stderr) == (0, "")
        assert f"taken     {NOT_ANALYSED + 2:>11}" in ended.stdout
        studies = study_uids(phantoms)
        node.wait_for(studies, "delivered")
        reports = [report for report in pacs.datasets() if report.Modality == "SR"]
    assert Counter(report.StudyInstanceUID for report in reports) == Counter(studies)
    records = Records.open(load_settings(data_dir=node.data_dir))
    assert len(set(stored(records))) == len(stored(records)) == 2 * NOT_ANALYSED + 4
    records.close()
