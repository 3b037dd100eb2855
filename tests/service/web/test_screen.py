"""What a person sees and does in a browser; screenshots lie in ``build/web`` afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from pydicom.uid import generate_uid
from sqlalchemy import select

from litegpt.phantoms import phantom_files
from service.models.changes import Admin
from service.records.attempts import Ended, note_delivery
from service.records.states import AnalysisState, AttemptOutcome
from service.records.tables import Analysis, Delivery, Result, Study
from tests.images import make_radiograph, with_other_pixels
from tests.models import model_copy
from tests.peers.scripted_archive import ScriptedArchive, scripted_archive
from tests.service.web.site import PASSWORD, Site, finding, read_by_shadow
from tests.service.web.test_jobs import fill_job, make_job

PICTURES: Final = Path(__file__).resolve().parents[3] / "build" / "web"

LEFT, TOP, RIGHT, BOTTOM = 60, 30, 110, 120
DESKTOP: Final = {"width": 1400, "height": 900}
PHONE: Final = {"width": 390, "height": 844}


_TOO_WIDE: Final = """() => [...document.querySelectorAll("main *")]
    .filter(one => one.getBoundingClientRect().right > innerWidth && !one.closest(".scroll, .about"))
    .map(one => one.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def square(pages: Site) -> str:
    """An image with a bright square, and the box that is to be around it, with another."""
    pixels = np.full((150, 200), 400, np.uint16)
    pixels[TOP:BOTTOM, LEFT:RIGHT] = 3600
    uid = pages.take(make_radiograph(pixels, AccessionNumber="SQUARE"))
    around = finding("Nodule/Mass", (LEFT, TOP, RIGHT, BOTTOM))
    pages.read(uid, around, finding("Rib fracture", (1.5, 2.25, 30.75, 20.5), reported=False, score=0.2))
    return uid


@pytest.fixture(scope="module")
def failed(pages: Site) -> str:
    uid = pages.take(make_radiograph(AccessionNumber="BROKEN"))
    pages.read(uid, state=AnalysisState.FAILED)
    return uid


@contextmanager
def _browsing(
    browser: Browser, pages: Site, name: str, size: dict[str, int] = DESKTOP, scheme: str = "light"
) -> Iterator[Page]:
    """A page where the user has signed in with the keyboard; nothing may go wrong in it."""
    context = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    try:
        page.goto(f"http://127.0.0.1:{pages.port}/")
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type(name)
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        yield page
        assert complaints == []
    finally:
        context.close()


def _picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def _open(page: Page, accession: str) -> None:
    """Finds a study by the list's filter."""
    page.get_by_role("link", name="Studies").click()
    page.get_by_label("Accession number or study UID").fill(accession)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**study={accession}*")
    rows = page.locator("table.studies tbody tr")
    expect(rows).to_have_count(1)
    rows.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Study {accession}")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_box_stands_around_what_is_on_the_screen(
    browser: Browser, pages: Site, square: str, size: dict[str, int]
) -> None:
    with _browsing(browser, pages, "viewer", size) as page:
        _open(page, "SQUARE")
        picture = page.locator(".picture")
        page.wait_for_function(
            "() => { const shown = document.querySelector('.picture img');"
            " return shown.complete && shown.naturalWidth > 0; }"
        )
        # Both at once: the page may still move.
        image, box = picture.locator("rect.box:not(.below)").evaluate(
            "(rect) => { const m = rect.getScreenCTM(), b = rect.getBBox(); return ["
            "rect.closest('.picture').querySelector('img').getBoundingClientRect(), ["
            "b.x * m.a + m.e, b.y * m.d + m.f, (b.x + b.width) * m.a + m.e, (b.y + b.height) * m.d + m.f]]; }"
        )
        scale = image["width"] / 200
        assert image["height"] / 150 == pytest.approx(scale, abs=0.01)
        expected = [LEFT * scale, TOP * scale, RIGHT * scale, BOTTOM * scale]
        corners = [at - by for at, by in zip(box, [image["x"], image["y"]] * 2, strict=True)]
        assert corners == pytest.approx(expected, abs=scale / 2)
        # And against the pixels of the screen themselves, without what is drawn over them.
        page.locator(".picture svg").evaluate("(svg) => svg.remove()")
        shown = np.asarray(Image.open(BytesIO(picture.locator("img").screenshot())).convert("L"), float)
        shown[[0, -1]] = 0  # the edges share pixels with what is around
        shown[:, [0, -1]] = 0
        rows, columns = (np.flatnonzero((shown > 128).mean(axis) > 0.2) for axis in (1, 0))
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert seen == pytest.approx(expected, abs=max(1.5, scale / 2))


def test_boxes_are_named_and_can_be_switched_off(browser: Browser, pages: Site, square: str) -> None:
    with _browsing(browser, pages, "viewer") as page:
        _open(page, "SQUARE")
        mass, fracture = page.locator("rect.box:not(.below)"), page.locator("rect.box.below")
        expect(mass).to_be_visible()
        expect(fracture).to_be_visible()
        page.get_by_label("Show Nodule/Mass").press("Space")
        expect(mass).to_be_hidden()
        expect(fracture).to_be_visible()
        page.get_by_label("Show Nodule/Mass").press("Space")
        expect(mass).to_be_visible()
        page.locator(".findings tr", has_text="Nodule/Mass").hover()
        expect(mass).to_have_class("box label-15 marked")
        expect(page.locator(".findings")).to_contain_text("below its threshold")


def test_an_operator_retries_what_failed(browser: Browser, pages: Site, failed: str) -> None:
    with _browsing(browser, pages, "operator") as page:
        _open(page, "BROKEN")
        page.get_by_role("link", name="Retry…").click()
        page.get_by_role("button", name="Count first").click()
        expect(page.locator(".tally")).to_have_text("1 queued", use_inner_text=True)
        _picture(page, "retry")
        page.get_by_role("button", name="Retry: 1 study").click()
        expect(page.get_by_role("heading", name="Done")).to_be_visible()
        page.get_by_role("link", name="Back").click()
        expect(page.locator(".state.busy").first).to_have_text("queued")
        expect(page.get_by_text("operator: retry: 1 queued")).to_be_visible()
    with pages.records.reading() as session:
        row = session.scalars(select(Analysis).join(Study).where(Study.study_instance_uid == failed)).one()
    assert row.state == AnalysisState.QUEUED


def test_an_operator_has_another_model_read(browser: Browser, pages: Site, tmp_path: Path) -> None:
    uid = pages.take(make_radiograph(AccessionNumber="SECOND"))
    with pages.records.writing() as session:
        admin = Admin(session, pages.settings, "a test")
        admin.add(str(model_copy(tmp_path / "second", "second")))
    with _browsing(browser, pages, "operator") as page:
        _open(page, "SECOND")
        page.get_by_role("link", name="Re-run…").click()
        page.get_by_label("Read by").select_option("litegpt-phantom second")
        _picture(page, "rerun")
        page.get_by_label("Priority").select_option("stat")
        page.get_by_role("button", name="Count first").click()
        expect(page.get_by_role("definition").filter(has_text="phantom second")).to_be_visible()
        page.get_by_role("button", name="Re-run: 1 study").click()
        expect(page.get_by_role("heading", name="Done")).to_be_visible()
        page.get_by_role("link", name="Back").click()
        expect(page.get_by_role("row", name="litegpt-phantom second")).to_contain_text("queued")
    with pages.records.reading() as session:
        rows = select(Analysis).join(Study).where(Study.study_instance_uid == uid).order_by(Analysis.id)
        read_by = [(row.model_version, row.priority) for row in session.scalars(rows)]
    assert read_by[-1] == ("second", 0)


def test_an_operator_orders_a_job_and_steers_it_with_the_keyboard(browser: Browser, pages: Site) -> None:
    images = [make_radiograph(StudyDate="20250102", AccessionNumber=f"OLD{number}") for number in range(2)]
    with (
        scripted_archive(ScriptedArchive(images)) as pacs,
        _browsing(browser, pages, "operator") as page,
    ):
        page.get_by_role("link", name="Jobs").press("Enter")
        page.get_by_role("link", name="New job…").press("Enter")
        page.get_by_label("PACS, as AET@HOST:PORT").fill(pacs.destination)
        page.get_by_label("Accession numbers").fill("OLD0\nOLD1\nLOST")
        page.get_by_role("button", name="Count first").press("Enter")
        expect(page.get_by_role("status")).to_contain_text("2 studies")
        _picture(page, "count")
        page.get_by_role("button", name="Make the job").press("Enter")
        expect(page.get_by_role("heading", level=1)).to_contain_text("Job ")
        page.get_by_role("button", name="Pause").press("Enter")
        expect(page.get_by_role("heading", name="State: paused")).to_be_visible()
        page.get_by_role("button", name="Resume").press("Enter")
        page.get_by_text("Cancel…").press("Enter")
        page.get_by_role("button", name="Cancel job").press("Enter")
        expect(page.get_by_role("heading", name="State: cancelled")).to_be_visible()


def test_a_job_s_page_updates_itself(browser: Browser, pages: Site) -> None:
    job_id = make_job(pages)
    with _browsing(browser, pages, "viewer") as page:
        page.goto(f"http://127.0.0.1:{pages.port}/jobs/{job_id}")
        expect(page.get_by_role("heading", name="State: finding")).to_be_visible()
        fill_job(pages, job_id, studies=4, failed=1)
        expect(page.get_by_role("heading", name="State: running")).to_be_visible(timeout=20_000)
        expect(page.get_by_text("4 of 8")).to_be_visible(timeout=20_000)


def test_a_viewer_finds_no_button(browser: Browser, pages: Site, square: str) -> None:
    with _browsing(browser, pages, "viewer") as page:
        _open(page, "SQUARE")
        assert page.get_by_role("link", name="Retry…").count() == 0
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{pages.port}/actions/retry")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("That is for an operator.")
    context.close()


def test_a_study_s_page_updates_itself(browser: Browser, pages: Site) -> None:
    uid = pages.take(make_radiograph(AccessionNumber="LIVE"))
    with _browsing(browser, pages, "viewer") as page:
        _open(page, "LIVE")
        expect(page.get_by_text("Not read yet.")).to_be_visible()
        pages.read(uid, finding("Cardiomegaly", (5, 5, 20, 20)))
        expect(page.locator("rect.box")).to_have_count(1, timeout=20_000)


@pytest.mark.parametrize(
    ("look", "size", "scheme"),
    [("dark", DESKTOP, "dark"), ("phone", PHONE, "light")],
)
def test_what_a_shadow_found_is_seen_apart(
    browser: Browser, pages: Site, look: str, size: dict[str, int], scheme: str
) -> None:
    image = pydicom.dcmread(phantom_files()[0])
    image.StudyInstanceUID, image.SOPInstanceUID = generate_uid(), generate_uid()
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    uid = pages.take(image)
    heart, base = (271.0, 334.0, 648.0, 631.0), (115.0, 418.0, 344.0, 623.0)
    pages.read(uid, finding("Cardiomegaly", heart))
    read_by_shadow(pages, uid, "9", finding("Cardiomegaly", heart), finding("Pleural effusion", base))
    with _browsing(browser, pages, "viewer", size, scheme) as page:
        page.goto(f"http://127.0.0.1:{pages.port}/studies/{uid}", wait_until="networkidle")
        own = page.get_by_label("Image 1", exact=True)
        shadow = page.get_by_label("Shadow litegpt-phantom 9, image 1")
        expect(own.locator("rect.box")).to_have_count(1)
        expect(shadow).to_be_hidden()
        page.get_by_text("Read by a shadow, litegpt-phantom 9").press("Enter")
        expect(shadow.locator("rect.box")).to_have_count(2)
        expect(shadow.locator("rect.box").first).to_be_visible()
        # Switched off there, it stays where the study's own findings are.
        shadow.get_by_label("Show Cardiomegaly").press("Space")
        expect(shadow.locator("rect.box").first).to_be_hidden()
        expect(own.locator("rect.box")).to_be_visible()
        shadow.get_by_label("Show Cardiomegaly").press("Space")
        _picture(page, f"shadow-{look}")
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_attempts_stay_open_while_the_page_updates_itself(browser: Browser, pages: Site) -> None:
    first = make_radiograph(AccessionNumber="ATTEMPTS")
    uid = pages.take(first, with_other_pixels(first))
    pages.read(uid)
    with pages.records.writing() as session:
        of_study = select(Delivery).join(Result).join(Analysis).join(Study)
        delivery = session.scalars(of_study.where(Study.study_instance_uid == uid)).one()
        away = Ended(AttemptOutcome.NO_ASSOCIATION, "PACS@127.0.0.1:104 does not answer", 5.25)
        note_delivery(session, delivery.id, 1, away)
        note_delivery(session, delivery.id, 2, away)
    with _browsing(browser, pages, "operator") as page:
        _open(page, "ATTEMPTS")
        row = page.locator(".attempts tbody tr")
        expect(row).to_be_hidden()
        page.get_by_text("Attempts: 2").click()
        expect(row).to_contain_text("does not answer")
        expect(page.get_by_role("link", name="Take the later")).to_be_visible()
        page.locator("h1").click()  # nobody's hands are in it: it may update itself
        page.evaluate("document.activeElement.blur()")
        with pages.records.writing() as session:
            note_delivery(session, delivery.id, 3, Ended(AttemptOutcome.SENT, "0000", 0.5))
        expect(row).to_have_count(2, timeout=20_000)
        expect(row.last).to_be_visible()
        _picture(page, "attempts")
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        assert page.evaluate(_TOO_WIDE) == []
        _picture(page, "attempts-phone-dark")


def test_it_can_be_read_without_any_script(browser: Browser, pages: Site, square: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{pages.port}/studies/{square}")
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("rect.box")).to_have_count(2)
    page.get_by_label("Show Nodule/Mass").uncheck()
    expect(page.locator("rect.box:not(.below)")).to_be_hidden()
    context.close()


def test_pictures_of_every_page_for_a_person_to_look_at(browser: Browser, pages: Site, failed: str) -> None:
    uid = pages.take(pydicom.dcmread(phantom_files()[0]))
    heart, base = (271.0, 334.0, 648.0, 631.0), (115.0, 418.0, 344.0, 623.0)
    pages.read(uid, finding("Cardiomegaly", heart), finding("Pleural effusion", base, score=0.97))
    make_job(pages)
    job_id = make_job(pages)
    fill_job(pages, job_id, studies=40, failed=7)
    for look, size, scheme in (
        ("light", DESKTOP, "light"),
        ("dark", DESKTOP, "dark"),
        ("phone", PHONE, "light"),
    ):
        with _browsing(browser, pages, "admin", size, scheme) as page:
            for name, path in (
                ("overview", "/"),
                ("studies", "/studies"),
                ("study", f"/studies/{uid}"),
                ("jobs", "/jobs"),
                ("job", f"/jobs/{job_id}"),
                ("new-job", "/jobs/new"),
                ("audit", "/audit"),
                ("settings", "/settings"),
                ("users", "/users"),
                ("user", "/users/operator"),
                ("api", "/api/v1/docs"),
            ):
                page.goto(f"http://127.0.0.1:{pages.port}{path}", wait_until="networkidle")
                _picture(page, f"{name}-{look}")
                wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                assert wider <= 0, (name, look, page.evaluate(_TOO_WIDE))
