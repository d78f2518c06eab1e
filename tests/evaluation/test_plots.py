import warnings
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from hf_autojudge.evaluation import Frontier, plot_frontier
from hf_autojudge.evaluation.acceptance_plot import acceptance_figure
from hf_autojudge.evaluation.panel import STRIP
from hf_autojudge.evaluation.plots import frontier_figure
from hf_autojudge.evaluation.report import Point

WHOLE = Frontier.from_json(Path(__file__).parents[2] / "hub_cards" / "embedded-pair" / "frontier.json")
PUBLISHED = replace(WHOLE, points=[p for p in WHOLE.points if p.n == 500 and p.judge != "draft alone"])
SETTINGS = {"task": "gsm8k", "n": 500, "num_assistant_tokens": 8, "device_name": "a machine"}


def point(judge, accuracy, accepted, speed, threshold=None, half=0.03):
    name = judge if threshold is None else f"{judge}, threshold {threshold}"
    interval = (max(0.0, accuracy - half), min(1.0, accuracy + half))
    around = [(value - half, value + half) for value in (accepted, speed)]
    return Point(
        name, judge, threshold, 500, accuracy, accepted, speed, 90, 1, 0, 0, 1, interval, *around, (0, 0), (1, 1)
    )


def frontier(points, **settings):
    reference = "plain greedy" if points[0].judge == "plain greedy" else "threshold 0"
    return Frontier(points, {}, SETTINGS | {"reference": reference} | settings)


def baselines(accuracy=0.85, half=0.03):
    names = ("plain greedy", "assisted (transformers)", "threshold 0")
    return [point(n, accuracy, a, s, half=half) for n, a, s in zip(names, (1, 4.9, 4.9), (40, 72, 79), strict=True)]


THRESHOLDS = (0.0004, 0.001, 0.012, 0.036, 0.056, 0.076, 0.11, 0.2, 0.33, 0.75, 0.85, 0.93, 0.96, 0.975, 0.99, 0.9974)
CURVE = [point("judge", 0.85 - 0.4 * (i / 15) ** 3, 5 + i / 5, 80 + 2 * i, t) for i, t in enumerate(THRESHOLDS)]
RULES = [point(f"rule {i}", 0.86 - 0.04 * i, 5 + (7 * i % 14) / 4, 80 + 3 * (5 * i % 14)) for i in range(14)]
CASES = {
    "published": PUBLISHED,
    "one judge, no baselines": frontier([baselines()[2], *CURVE[3:6]]),
    "one point": frontier([baselines()[2], CURVE[4]]),
    "threshold 0 alone": frontier(baselines()[2:]),
    "one question": frontier(
        [*baselines(1.0, 0), point("judge", 1, 6, 90, 0.1, 0), point("judge", 0, 8, 99, 0.3, 0)], n=1
    ),
    "nothing right": frontier([*baselines(0.0, 0), *(replace(p, accuracy=0.0) for p in CURVE[:3])]),
    "14 rules": frontier([*baselines(), *CURVE[2:7], *RULES]),
    "rules at the edge of the range": frontier(
        [*baselines(), *CURVE[2:7], *(point(f"{a}", a, 6, 90) for a in (0.77, 0.748))]
    ),
    "rules only": frontier([*baselines(), *RULES[:4]]),
    "16 thresholds": frontier([*baselines(), *CURVE, *RULES[:2]]),
    "two judges": frontier(
        [*baselines(), *CURVE[:8], *(replace(p, judge="b", name=f"b {p.name}") for p in CURVE[:7])]
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return CASES[request.param], frontier_figure(CASES[request.param], 0.01)


def fields(figure):
    return zip(figure.axes, ("accepted", "tokens_per_second"), strict=True)


def markers(axes):
    """Position of every marker, by label; those of the strip have none."""
    curves = [(line.get_label(), xy) for line in axes.lines if line.get_marker() == "o" for xy in line.get_xydata()]
    scattered = [(c.get_label(), xy) for c in axes.collections if hasattr(c, "get_sizes") for xy in c.get_offsets()]
    return [(label, tuple(xy)) for label, xy in curves + scattered]


def strip(axes):
    """Bottom and top of the grey strip, or two times the bottom of the panel."""
    found = [
        p.get_bbox() for p in axes.patches if p.get_facecolor()[:3] == pytest.approx([int(STRIP[1:3], 16) / 255] * 3)
    ]
    return (found[0].y0, found[0].y1) if found else (axes.get_ylim()[0],) * 2


def test_every_point_is_drawn_where_it_belongs(case):
    measured, figure = case
    for axes, field in fields(figure):
        (left, right), (_, high) = axes.get_xlim(), axes.get_ylim()
        low = strip(axes)[1]
        drawn = [xy for _, xy in markers(axes)]
        for p in measured.points:
            x, y = getattr(p, field), 100 * p.accuracy
            if p.judge == "plain greedy":
                continue
            assert left < x < right
            if p.threshold is not None or p.judge in ("threshold 0", "assisted (transformers)") or y > low:
                assert low < y < high and pytest.approx((x, y)) in drawn
                assert 100 * p.accuracy_interval[1] < high
            else:  # in the strip, with its accuracy beside
                assert any(pytest.approx(x) == a and b < low for a, b in drawn)
                assert f"{y:.1f}%" in [t.get_text() for t in axes.texts]
        assert all(low <= tick <= high and 0 <= tick <= 100 for tick in axes.get_yticks())


def test_texts_overlap_nothing(case):
    measured, figure = case
    figure.canvas.draw()
    for axes, field in fields(figure):
        texts = [t for t in axes.texts if t.get_text().replace(".", "").isdigit()]
        written = [t.get_window_extent() for t in texts]
        assert not any(a.overlaps(b) for a, b in combinations(written, 2))
        figures = [
            t.get_window_extent() for t in axes.texts if t.get_text().endswith("%") and t.xy[1] < strip(axes)[1]
        ]
        assert not any(a.overlaps(b) for a, b in combinations(figures, 2))
        for p in measured.points:
            if p.judge != "plain greedy" and 100 * p.accuracy > strip(axes)[1]:
                x, y = axes.transData.transform((getattr(p, field), 100 * p.accuracy))
                assert not any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in written)
        for text in texts:  # each stands at a point with this threshold
            at = [p.threshold for p in measured.points if text.xy == (getattr(p, field), 100 * p.accuracy)]
            assert any(t is not None and float(text.get_text()) == pytest.approx(t, rel=0.05) for t in at)
        assert "1" not in {t.get_text() for t in texts}


def test_one_legend_outside_of_the_panels_and_everything_inside_of_the_picture(case):
    measured, figure = case
    figure.canvas.draw()
    (legend,) = figure.legends
    assert not any(axes.get_legend() for axes in figure.axes)
    assert len(legend.get_texts()) == len({p.judge for p in measured.points})
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.bbox) for axes in figure.axes)
    whole = figure.get_tightbbox()
    assert figure.get_figwidth() == 8 and figure.dpi == 160
    assert whole.x0 >= 0 and whole.x1 <= 8 and whole.y0 >= 0 and whole.y1 <= figure.get_figheight()
    assert all(axes.bbox.width > 440 and axes.bbox.height > 380 for axes in figure.axes)


def test_target_alone_and_limit():
    left, right = frontier_figure(PUBLISHED, 0.01).axes
    for axes in (left, right):
        heights = {line.get_linestyle(): line.get_ydata()[0] for line in axes.lines if line.get_marker() == "None"}
        assert heights == {"-": pytest.approx(97.2), "--": pytest.approx(96.2)}
    assert left.get_xlim()[0] > 13  # the target alone yields 1 token per call
    assert not any(label.startswith("target alone") for label, _ in markers(left))
    alone = PUBLISHED["plain greedy"]
    assert ("target alone (greedy)", pytest.approx((alone.tokens_per_second, 97.2))) in markers(right)
    assert {"target alone\n97.2%", "limit:\n-1 point"} <= {t.get_text() for t in right.texts}


def test_without_a_limit_and_with_a_wrong_one():
    axes = frontier_figure(PUBLISHED).axes[0]
    assert [line.get_linestyle() for line in axes.lines if line.get_marker() == "None"] == ["-"]
    assert "limit:\n-2.5 points" in {t.get_text() for t in frontier_figure(PUBLISHED, 0.025).axes[1].texts}
    for wrong in (0, 1, -0.01):
        with pytest.raises(ValueError, match="a share in"):
            frontier_figure(PUBLISHED, wrong)


def test_rules_far_below_are_in_the_strip_with_their_accuracy():
    for axes in frontier_figure(PUBLISHED).axes:
        bottom, top = strip(axes)
        assert axes.get_ylim()[0] == bottom and top > 92
        in_strip = {t.get_text() for t in axes.texts if bottom < t.xy[1] < top}
        assert in_strip == {"65.8%"}
        assert "Grey strip" in frontier_figure(PUBLISHED).axes[0].get_title(loc="left")
    without = frontier_figure(CASES["one judge, no baselines"])
    assert "Grey strip" not in without.axes[0].get_title(loc="left") and not without.axes[0].patches


def test_all_thresholds_of_the_published_judge_are_written():
    for axes in frontier_figure(PUBLISHED, 0.01).axes:
        assert {"0.019", "0.036", "0.076", "0.12", "0.25"} <= {t.get_text() for t in axes.texts}


def test_a_much_slower_target_alone_is_an_arrow_at_the_edge():
    points = [point("plain greedy", 0.85, 1, 31), *baselines()[1:], *CURVE[:5]]
    axes = frontier_figure(frontier(points)).axes[1]
    assert axes.get_xlim()[0] > 60
    (text,) = [t for t in axes.texts if t.get_text() == "\N{LEFTWARDS ARROW} 31"]
    assert axes.get_xlim()[0] < text.xy[0] < 72 and text.xy[1] == 85


def test_rules_differ_in_color_or_marker():
    axes = frontier_figure(CASES["14 rules"]).axes[1]
    handles = {}
    for c in axes.collections:
        if hasattr(c, "get_sizes") and not str(c.get_label()).startswith("_"):
            handles[c.get_label()] = (tuple(c.get_facecolor().round(3)[0]), c.get_paths()[0].vertices.tobytes())
    assert len(handles) == 17 and len(set(handles.values())) == 17


def test_what_is_not_drawn():
    assert len(frontier_figure(WHOLE).legends[0].get_texts()) == len({p.judge for p in PUBLISHED.points})
    draft = replace(point("draft alone", 0.3, 1, 400), accepted=None, accepted_interval=None)
    plain, assisted, exact = baselines()
    fewer = replace(assisted, n=16, accuracy_interval=(0.2, 1.0))
    drawn = frontier_figure(frontier([plain, draft, fewer, exact, *CURVE[:3]]))
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels == ["judge", "target alone (greedy)", "threshold 0 (lossless)"]
    assert drawn.axes[0].get_ylim()[0] > 70 and drawn.axes[1].get_xlim()[1] < 100


def test_acceptance_by_position():
    shares = [[0.9, 0.5, 0.25], [0.95, 0.75], [0.8]]
    points = [
        replace(p, acceptance_by_position=s) for p, s in zip([*baselines()[2:], *CURVE[:2]], shares, strict=True)
    ]
    drawn = acceptance_figure(frontier([*baselines()[:2], *points]))
    lines = {line.get_label(): line for line in drawn.axes[0].lines}
    assert list(lines) == ["judge @ 0.0004", "judge @ 0.001", "threshold 0 (lossless)"]
    for line, expected in zip(lines.values(), [shares[1], shares[2], shares[0]], strict=True):
        assert line.get_xdata().tolist() == list(range(1, len(expected) + 1))
        assert line.get_ydata() == pytest.approx([100 * share for share in expected])
    drawn.draw_without_rendering()
    whole = drawn.get_tightbbox()
    assert whole.x0 >= 0 and whole.x1 <= 8 and whole.y0 >= 0 and whole.y1 <= 4
    with pytest.raises(ValueError, match="holds no acceptance by position"):
        acceptance_figure(frontier(baselines()))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_written_atomically(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"f{suffix}"
    plot_frontier(PUBLISHED, path, 0.01)
    written = path.read_bytes()
    assert written.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    save = Figure.savefig

    def interrupted(figure, beside, **options):
        save(figure, beside, **options)
        raise RuntimeError

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(RuntimeError):
        plot_frontier(CASES["one point"], path)
    assert path.read_bytes() == written and [p.name for p in tmp_path.iterdir()] == [path.name]
