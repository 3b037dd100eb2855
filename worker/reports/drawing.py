"""A report's regions drawn over their image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from litegpt.overlay import label_colour
from litegpt.radiograph import Radiograph
from worker.reports.group import Group

_BLACK = (0, 0, 0)


def draw_regions(radiograph: Radiograph, sop_instance_uid: str, groups: Sequence[Group]) -> Image.Image:
    """Draws every region of an image, each with the number of its group and its finding.

    Args:
        radiograph: The image as displayed.
        sop_instance_uid: Its own; regions of other images are left out.
        groups: Numbered from 1 in this order, as they are printed.

    Returns:
        RGB, the size of the radiograph.
    """
    picture = Image.fromarray(radiograph.pixels).convert("RGB")
    draw = ImageDraw.Draw(picture)
    side = min(picture.size)
    width, height = max(1, round(side / 400)), max(8, round(side / 46))
    font = ImageFont.load_default(height)
    for number, group in enumerate(groups, start=1):
        colour = label_colour(group.finding or group.tracking_identifier)
        for region in group.regions:
            if region.image not in ("", sop_instance_uid):
                continue
            line = region.line
            if region.kind in ("POINT", "MULTIPOINT"):
                for x, y in line:
                    reach = 4 * width
                    draw.line([(x - reach, y), (x + reach, y)], colour, width)
                    draw.line([(x, y - reach), (x, y + reach)], colour, width)
            else:
                draw.line(line, colour, width)
            left, top, _, _ = region.bounds
            words = f"{number} {group.finding}"
            box = draw.textbbox((left, max(0.0, top - height - 3 * width)), words, font=font)
            draw.rectangle(box, fill=colour)
            draw.text(box[:2], words, fill=_BLACK, font=font, anchor="lt")
    return picture
