// Volcanoes and heat maps: pointer and keyboard walk over the same points, and open them.

const REACH = 24;

function volcano(figure) {
  const plot = figure.querySelector(".cloud");
  const readout = figure.querySelector(".readout");
  const points = [...plot.querySelectorAll("circle")].map((node) => ({ node, item: byId.get(node.dataset.h) })).filter((point) => point.item);
  // Left to right by effect, so that arrows go where they point.
  points.sort((a, b) => a.item.effect.estimate - b.item.effect.estimate || b.item.effect.p - a.item.effect.p);
  let at = -1;
  points.forEach(({ node, item }) => node.setAttribute("aria-label", sentence(item)));

  function go(index) {
    if (at >= 0) points[at].node.classList.remove("at");
    at = Math.min(Math.max(index, 0), points.length - 1);
    const { node, item } = points[at];
    node.classList.add("at");
    node.id = node.id || "point-" + item.id;
    plot.setAttribute("aria-activedescendant", node.id);
    readout.textContent = sentence(item);
  }

  function nearest(event) {
    let best = -1;
    let least = REACH ** 2;
    points.forEach(({ node }, index) => {
      const box = node.getBoundingClientRect();
      const distance = (box.x + box.width / 2 - event.clientX) ** 2 + (box.y + box.height / 2 - event.clientY) ** 2;
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }

  const first = () => points.reduce((best, point, index) => (point.item.effect.p < points[best].item.effect.p ? index : best), 0);
  const moves = { ArrowRight: () => at + 1, ArrowUp: () => at + 1, ArrowLeft: () => at - 1, ArrowDown: () => at - 1, Home: () => 0, End: () => points.length - 1 };
  plot.addEventListener("focus", () => at < 0 && points.length && go(first()));
  plot.addEventListener("keydown", (event) => {
    if (moves[event.key]) go(moves[event.key]());
    else if ((event.key === "Enter" || event.key === " ") && at >= 0) open(points[at].item);
    else return;
    event.preventDefault();
  });
  plot.addEventListener("pointermove", (event) => {
    const index = nearest(event);
    if (index >= 0 && index !== at) go(index);
  });
  plot.addEventListener("click", (event) => {
    const index = nearest(event);
    if (index < 0) return;
    go(index);
    open(points[index].item);
  });
}

function heatmap(grid) {
  const rows = [...grid.tBodies[0].rows].map((row) => [...row.cells].slice(1));
  const cells = rows.flat();
  const first = cells.find((cell) => cell.dataset.h);
  if (first) first.tabIndex = 0;

  function go(row, column) {
    const line = rows[Math.min(Math.max(row, 0), rows.length - 1)];
    const cell = line[Math.min(Math.max(column, 0), line.length - 1)];
    cells.forEach((other) => (other.tabIndex = -1));
    cell.tabIndex = 0;
    cell.focus();
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  grid.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td");
    const row = rows.findIndex((line) => line.includes(cell));
    if (row < 0) return;
    const column = rows[row].indexOf(cell);
    const moves = {
      ArrowRight: [row, column + 1], ArrowLeft: [row, column - 1], ArrowDown: [row + 1, column], ArrowUp: [row - 1, column],
      Home: [row, 0], End: [row, rows[row].length - 1],
    };
    if (moves[event.key]) go(...moves[event.key]);
    else if ((event.key === "Enter" || event.key === " ") && byId.has(cell.dataset.h)) open(byId.get(cell.dataset.h));
    else return;
    event.preventDefault();
  });
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("td[data-h]");
    if (cell && byId.has(cell.dataset.h)) open(byId.get(cell.dataset.h));
  });
}
