"""The generated documents: one and two columns, headings of three levels, lists, tables."""

from __future__ import annotations

from .content import (
    Block,
    Cell,
    DrawnDocument,
    Figure,
    Grid,
    Heading,
    Items,
    Paragraph,
    Section,
)
from .prose import Prose


def drawn_set() -> tuple[DrawnDocument, ...]:
    """All of them."""
    return (
        _report(), _paper(), _manual(), _statement(), _tables(), _magazine(), _survey(),
        _minutes(), _catalogue(), _letter(), _handbook(), _forms(),
    )  # fmt: skip


def _paragraphs(prose: Prose, *sentences: int) -> tuple[Block, ...]:
    return tuple(Paragraph(prose.paragraph(count)) for count in sentences)


def _figures(prose: Prose, names: tuple[str, ...], columns: int) -> tuple[tuple[str, ...], ...]:
    return tuple((name, *(prose.number(10, 9000) for _ in range(columns))) for name in names)


_TOWNS = ("Ashford", "Burnley", "Corby", "Dover", "Exeter", "Falmouth", "Grantham", "Harwich")


def _report() -> DrawnDocument:
    prose = Prose(1)
    table = Grid(
        rows=(("Town", "Visits", "Income", "Cost"), *_figures(prose, _TOWNS[:5], 3)),
        caption="Table 1: Visits and income of five towns.",
    )
    return DrawnDocument(
        name="report",
        header="Annual report of the harbour office",
        footer="Page",
        sections=(
            Section(
                (
                    Heading("The Year in the Harbour", 1),
                    *_paragraphs(prose, 4, 3),
                    Heading("Traffic and income", 2),
                    *_paragraphs(prose, 3),
                    table,
                    *_paragraphs(prose, 3),
                    Heading("Repairs", 2),
                    *_paragraphs(prose, 2),
                    Items(prose.phrases(4)),
                    Heading("Outlook", 3),
                    *_paragraphs(prose, 4, 3),
                    Figure("chart", "Figure 1: Ships in each year since the new pier was built."),
                    *_paragraphs(prose, 4),
                )
            ),
        ),
    )


def _paper() -> DrawnDocument:
    prose = Prose(2)
    table = Grid(
        rows=(("Method", "Error", "Time"), *_figures(prose, ("Linear", "Cubic", "Mixed"), 2)),
        rules="horizontal",
        caption="Table 1: Errors of three methods.",
    )
    return DrawnDocument(
        name="paper",
        face="Times",
        footer="",
        header="Journal of Coastal Measurement, volume 12",
        sections=(
            Section((Heading("Measuring Tides with Simple Instruments", 1),)),
            Section(
                (
                    Heading("1 Introduction", 2),
                    *_paragraphs(prose, 5, 4),
                    Heading("2 Methods", 2),
                    *_paragraphs(prose, 5),
                    table,
                    *_paragraphs(prose, 4),
                    Heading("2.1 Calibration", 3),
                    *_paragraphs(prose, 5, 4),
                    Figure("chart", "Figure 1: Mean height of the tide in seven years.", 120),
                    Heading("3 Results", 2),
                    *_paragraphs(prose, 5, 4),
                    Heading("4 Conclusion", 2),
                    *_paragraphs(prose, 4),
                ),
                columns=2,
            ),
        ),
    )


def _manual() -> DrawnDocument:
    prose = Prose(3)
    return DrawnDocument(
        name="manual",
        footer="Operating manual, page",
        size=11,
        sections=(
            Section(
                (
                    Heading("Operating the Water Pump", 1),
                    *_paragraphs(prose, 3),
                    Heading("Before you start", 2),
                    Items(prose.phrases(5), numbered=True),
                    *_paragraphs(prose, 3),
                    Heading("Safety", 2),
                    Items(prose.phrases(4)),
                    Figure("photo", "Figure 2: The pump and its valve.", 170),
                    Heading("Maintenance", 2),
                    *_paragraphs(prose, 3, 2),
                    Heading("Every week", 3),
                    Items(prose.phrases(3), numbered=True),
                    Heading("Every year", 3),
                    *_paragraphs(prose, 2),
                )
            ),
        ),
    )


def _statement() -> DrawnDocument:
    prose = Prose(4)
    wide = Grid(
        rows=(
            ("Position", "Description", "Amount"),
            ("1", "Delivery of coal to the pumping station on the island", "1,250.00"),
            ("2", "Repair of the east gate", "310.50"),
            ("3", "Hire of two boats for the summer survey of the northern banks", "2,480.00"),
            ("4", "Cleaning", "95.00"),
            ("", "Total", "4,135.50"),
        ),
        rules="none",
        shares=(1, 3, 1),
    )
    return DrawnDocument(
        name="statement",
        sections=(
            Section(
                (
                    Heading("Statement of Account", 1),
                    *_paragraphs(prose, 2),
                    wide,
                    *_paragraphs(prose, 3),
                    Heading("Terms of payment", 2),
                    *_paragraphs(prose, 2, 3),
                )
            ),
        ),
    )


def _tables() -> DrawnDocument:
    prose = Prose(5)
    spans = Grid(
        rows=(
            (Cell("Region", rowspan=2), Cell("First half", colspan=2), Cell("Second half", 2)),
            ("Sales", "Returns", "Sales", "Returns"),
            *_figures(prose, ("North", "South", "East", "West"), 4),
            (Cell("All regions together", colspan=3), "9,871", "402"),
        ),
        header_rows=2,
        caption="Table 1: Sales by region and half-year.",
    )
    grouped = Grid(
        rows=(
            ("Class", "Vessel", "Length", "Crew"),
            (Cell("Ferries", rowspan=3), "Heron", "62", "14"),
            ("Plover", "48", "11"),
            ("Curlew", "55", "12"),
            (Cell("Tugs", rowspan=2), "Badger", "21", "5"),
            ("Otter", "19", "4"),
        ),
        caption="Table 2: Vessels by class.",
    )
    booktabs = Grid(
        rows=(
            (Cell("Model", rowspan=2), Cell("Training", colspan=2), Cell("Test", colspan=2)),
            ("Loss", "Score", "Loss", "Score"),
            *_figures(prose, ("Small", "Medium", "Large"), 4),
        ),
        header_rows=2,
        rules="horizontal",
        caption="Table 3: Loss and score of three models.",
    )
    return DrawnDocument(
        name="tables",
        header="Statistical yearbook",
        footer="Page",
        sections=(
            Section(
                (
                    Heading("Tables of the Year", 1),
                    *_paragraphs(prose, 2),
                    spans,
                    Heading("Vessels", 2),
                    grouped,
                    *_paragraphs(prose, 2),
                    Heading("Models", 2),
                    booktabs,
                    *_paragraphs(prose, 3),
                )
            ),
        ),
    )


def _magazine() -> DrawnDocument:
    prose = Prose(6)
    return DrawnDocument(
        name="magazine",
        footer="The Lighthouse, page",
        sections=(
            Section((Heading("Letters from the Lantern Room", 1), *_paragraphs(prose, 3))),
            Section(
                (
                    Heading("A quiet winter", 2),
                    *_paragraphs(prose, 5, 4),
                    Figure("photo", "The keeper's boat in the evening light.", 130),
                    *_paragraphs(prose, 4),
                    Heading("What the log tells", 2),
                    *_paragraphs(prose, 4, 3),
                    Items(prose.phrases(3)),
                    *_paragraphs(prose, 3),
                ),
                columns=2,
            ),
            Section((Heading("Events of the coming month", 2), *_paragraphs(prose, 3))),
        ),
    )


def _survey() -> DrawnDocument:
    prose = Prose(7)
    return DrawnDocument(
        name="survey",
        face="Times",
        size=11,
        footer="",
        header="Survey of inland waters",
        sections=(
            Section((Heading("Rivers and Their Towns", 1),)),
            Section(
                (
                    Heading("Summary", 2),
                    *_paragraphs(prose, 4, 4, 3),
                    Heading("Sites", 2),
                    *_paragraphs(prose, 4),
                    Items(prose.phrases(4), numbered=True),
                    *_paragraphs(prose, 4),
                    Heading("Observations", 2),
                    *_paragraphs(prose, 4, 3),
                ),
                columns=2,
            ),
        ),
    )


def _minutes() -> DrawnDocument:
    prose = Prose(8)
    return DrawnDocument(
        name="minutes",
        face="Times",
        size=12,
        sections=(
            Section(
                (
                    Heading("Minutes of the Spring Meeting", 1),
                    *_paragraphs(prose, 2),
                    Heading("Present", 2),
                    Items(
                        (
                            "Margaret Hale, chair",
                            "Thomas Reed, treasurer",
                            "Anna Lindqvist, secretary",
                            "Four guests of the reading circle",
                        )
                    ),
                    Heading("Decisions", 2),
                    Items(prose.phrases(6), numbered=True),
                    Heading("Next meeting", 2),
                    *_paragraphs(prose, 2),
                )
            ),
        ),
    )


def _catalogue() -> DrawnDocument:
    prose = Prose(9)
    return DrawnDocument(
        name="catalogue",
        header="Catalogue of the summer exhibition",
        footer="Page",
        sections=(
            Section((Heading("Paintings of the Coast", 1), *_paragraphs(prose, 2))),
            Section(
                (
                    Figure("photo", "Figure 1: Storm over the western bank.", 120),
                    *_paragraphs(prose, 3),
                    Figure("photo", "Figure 2: Fishermen at dawn.", 120),
                    *_paragraphs(prose, 3),
                    Figure("chart", "Figure 3: Works acquired in each year.", 120),
                    *_paragraphs(prose, 3),
                    Heading("Prices", 2),
                    Grid(
                        rows=(
                            ("Work", "Price"),
                            *_figures(prose, ("Storm", "Fishermen", "Harbour"), 1),
                        ),
                        caption="Table 1: Prices on request.",
                    ),
                ),
                columns=2,
            ),
        ),
    )


def _letter() -> DrawnDocument:
    prose = Prose(10)
    return DrawnDocument(
        name="letter",
        size=11,
        sections=(
            Section(
                (
                    Paragraph("Dear members of the reading circle,"),
                    *_paragraphs(prose, 3, 4, 2),
                    Paragraph("With kind regards, the keeper of the northern light"),
                )
            ),
        ),
    )


def _handbook() -> DrawnDocument:
    prose = Prose(11)
    plain = Grid(
        rows=(("Signal", "Meaning", "Answer"), *(
            ("One long blast", "Vessel leaves the quay", "None"),
            ("Two short blasts", "Turning to port", "Two short blasts"),
            ("Five short blasts", "Danger", "Stop engines"),
            ("Bell", "At anchor in fog", "Keep clear"),
        )),
        rules="none",
        caption="Table 4: Signals in the harbour.",
    )  # fmt: skip
    return DrawnDocument(
        name="handbook",
        face="Times",
        size=11,
        header="Handbook for pilots",
        footer="Page",
        sections=(
            Section(
                (
                    Heading("Chapter 3: Signals", 1),
                    *_paragraphs(prose, 3),
                    Heading("3.1 Sound signals", 2),
                    *_paragraphs(prose, 2),
                    plain,
                    *_paragraphs(prose, 2),
                    Heading("3.2 Light signals", 2),
                    *_paragraphs(prose, 3),
                    Items(prose.phrases(3)),
                    *_paragraphs(prose, 2),
                    Heading("3.2.1 At night", 3),
                    *_paragraphs(prose, 4),
                )
            ),
        ),
    )


def _forms() -> DrawnDocument:
    prose = Prose(12)
    wrapped = Grid(
        rows=(
            ("Article", "Description", "Stock", "Price"),
            ("Rope", prose.sentence(), "120", "14.50"),
            ("Lamp", prose.sentence(), "8", "89.00"),
            ("Anchor chain", prose.sentence(), "3", "412.00"),
        ),
        shares=(1, 2.6, 0.8, 0.8),
        caption="Table 1: Articles in store.",
    )
    lines = Grid(
        rows=(("Week", "Early shift", "Late shift"), *_figures(prose, ("10", "11", "12"), 2)),
        rules="horizontal",
    )
    return DrawnDocument(
        name="store",
        footer="Sheet",
        sections=(
            Section(
                (
                    Heading("Inventory of the Store", 1),
                    *_paragraphs(prose, 2),
                    wrapped,
                    Heading("Hours", 2),
                    *_paragraphs(prose, 2),
                    lines,
                    *_paragraphs(prose, 3),
                )
            ),
        ),
    )
