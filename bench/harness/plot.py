"""Lines over time as an SVG, drawn without a library: a few curves, one limit, axes with units."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 64, 52
COLORS = ("#0b6e99", "#d9730d", "#6940a5", "#0f7b6c")
STEPS = (1, 2, 5)


def step_for(span, most):
    """A round distance of at most `most` ticks over a span."""
    scale = 1
    while True:
        for step in STEPS:
            if span / (step * scale) <= most:
                return step * scale
        scale *= 10


def text(x, y, content, anchor="middle", **style):
    """A text element."""
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{escape(content)}</text>'


def line(x1, y1, x2, y2, **style):
    """A straight line."""
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{attributes}/>'


def draw(title, curves, x_label, y_label, limit, limit_label):
    """An SVG of curves, each a name and points (x, y) from 0 on, and of a limit in y."""
    x_end = max(x for _, points in curves for x, _ in points)
    y_end = max(limit, *(y for _, points in curves for _, y in points)) * 1.08
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(x, y):
        return LEFT + x / x_end * plot_width, bottom - y / y_end * plot_height

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#37352f">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 20, title, "start", font_size=15, font_weight="bold"),
    ]
    y_step = step_for(y_end, 7)
    for tick in range(0, int(y_end) + 1, y_step):
        _, y = at(0, tick)
        out.append(line(LEFT, y, right, y, stroke="#e3e2e0"))
        out.append(text(LEFT - 8, y + 4, f"{tick:,}", "end"))
    x_step = step_for(x_end, 10)
    for tick in range(0, int(x_end) + 1, x_step):
        x, _ = at(tick, 0)
        out.append(line(x, bottom, x, bottom + 5, stroke="#37352f"))
        out.append(text(x, bottom + 19, f"{tick:,}"))
    out.append(line(LEFT, bottom, right, bottom, stroke="#37352f"))
    out.append(text(LEFT + plot_width / 2, HEIGHT - 12, x_label))
    out.append(text(16, TOP + plot_height / 2, y_label, transform=f"rotate(-90 16 {TOP + plot_height / 2:.1f})"))
    _, y = at(0, limit)
    out.append(line(LEFT, y, right, y, stroke="#c4161c", stroke_dasharray="7 4", stroke_width=1.5))
    out.append(text(right - 4, y - 6, limit_label, "end", fill="#c4161c"))
    for number, (name, points) in enumerate(curves):
        color = COLORS[number % len(COLORS)]
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6" stroke-linejoin="round"/>')
        x = LEFT + number * plot_width / len(curves)
        out.append(line(x, 41, x + 22, 41, stroke=color, stroke_width=3))
        out.append(text(x + 28, 45, name, "start"))
    return "\n".join([*out, "</svg>", ""])
