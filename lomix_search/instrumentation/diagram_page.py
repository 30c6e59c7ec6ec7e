"""A page for a picture of a network: all of it at once, however large it is, and any part of it as large as wanted."""

import html

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  html, body {{ margin: 0; height: 100%; overflow: hidden; background: #fff; color: #222 }}
  svg {{ width: 100%; height: 100%; cursor: move; touch-action: none; user-select: none; -webkit-user-select: none }}
  svg[hidden] {{ display: none }}
  nav {{ position: fixed; right: 12px; bottom: 12px; display: flex; gap: 6px }}
  button {{ font: 15px sans-serif; min-width: 44px; height: 44px; padding: 0 12px; border: 1px solid #789;
    border-radius: 8px; background: #fff; color: #222; cursor: pointer }}
  button[hidden] {{ display: none }}
  @media (prefers-color-scheme: dark) {{
    html, body {{ background: #14181f; color: #e8eef6 }}
    svg text {{ fill: #e8eef6 }} svg .soft {{ fill: #b4c2d2 }} svg .unsure {{ fill: #ffb454 }}
    svg .page {{ fill: #14181f }} svg .arrow {{ stroke: #6d86a3 }}
    svg .box {{ fill: #223044; stroke: #5b7697 }} svg .folded {{ fill: #20362f; stroke: #5f8878 }}
    svg .stage {{ fill: #6b3f00; stroke: #ffb454 }} svg .other {{ stroke: #ffb454 }}
    button {{ background: #223044; color: #e8eef6 }}
  }}
</style>
{drawn}
<nav>
  <button id="fold" aria-pressed="true">unfold the encoder</button>
  <button id="out" aria-label="zoom out">&minus;</button>
  <button id="in" aria-label="zoom in">+</button>
  <button id="all">all</button>
</nav>
<script>
const drawings = [...document.querySelectorAll("svg")], held = new Map(), fold = document.getElementById("fold")
let svg, box, whole
function choose(number) {{
  drawings.forEach((one, i) => one.toggleAttribute("hidden", i !== number))
  svg = drawings[number]; box = svg.viewBox.baseVal; whole = svg.whole ??= [box.x, box.y, box.width, box.height]
  fold.textContent = number ? "fold the encoder" : "unfold the encoder"; fold.ariaPressed = number === 0
}}
const at = (x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM().inverse())
const show = (x, y, width, height) => Object.assign(box, {{ x, y, width, height }})
function zoom(by, x = innerWidth / 2, y = innerHeight / 2) {{
  const point = at(x, y)
  show(point.x - (point.x - box.x) * by, point.y - (point.y - box.y) * by, box.width * by, box.height * by)
}}
function middle() {{
  const points = [...held.values()], [a, b] = [points[0], points.at(-1)]
  return {{ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) }}
}}
addEventListener("wheel", event => {{
  event.preventDefault()
  zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, event.clientX, event.clientY)
}}, {{ passive: false }})
document.addEventListener("pointerdown", event => {{
  if (event.target.closest("svg")) held.set(event.pointerId, event)
}})
for (const over of ["pointerup", "pointercancel"]) addEventListener(over, event => held.delete(event.pointerId))
addEventListener("pointermove", event => {{
  if (!held.has(event.pointerId)) return
  const before = middle()
  held.set(event.pointerId, event)
  const now = middle()
  if (held.size > 1 && now.apart) zoom(before.apart / now.apart, now.x, now.y)
  const from = at(before.x, before.y), to = at(now.x, now.y)
  show(box.x + from.x - to.x, box.y + from.y - to.y, box.width, box.height)
}})
document.addEventListener("dblclick", event => {{ if (!event.target.closest("nav")) show(...whole) }})
addEventListener("keydown", event => {{
  const step = {{ ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }}[event.key]
  if (step) show(box.x + step[0] * box.width, box.y + step[1] * box.height, box.width, box.height)
  if (event.key === "+" || event.key === "=") zoom(1 / 1.2)
  if (event.key === "-") zoom(1.2)
  if (event.key === "0") show(...whole)
}})
document.getElementById("in").onclick = () => zoom(1 / 1.5)
document.getElementById("out").onclick = () => zoom(1.5)
document.getElementById("all").onclick = () => show(...whole)
fold.onclick = () => choose(1 - drawings.indexOf(svg))
fold.hidden = drawings.length < 2
choose(0)
</script>
</html>
"""


def zoomable(title: str, drawn: str, unfolded: str = "") -> str:
    """Put a picture into a page that shows all of it at once.

    The wheel, two fingers, + and - zoom; dragging and the arrows move; a double click and 0 show all again.

    Args:
        title: Of the page.
        drawn: As from :func:`lomix_search.instrumentation.diagram.draw`.
        unfolded: The same with the encoder unfolded, to which a button turns; "" for none.

    Returns:
        The text of an HTML file that needs nothing else.
    """
    both = drawn if unfolded in ("", drawn) else f"{drawn}\n{unfolded}"
    return _PAGE.format(title=html.escape(title), drawn=both)
