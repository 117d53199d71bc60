// What a reader with other eyes or hands needs, checked in the page as it stands. Returns complaints.

() => {
  const complaints = [];
  const shown = (node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const say = (what, node) => complaints.push(`${what}: ${node.outerHTML.slice(0, 140)}`);

  // Contrast of every text with what lies behind it.
  const channels = (colour) => {
    const parts = colour.match(/[\d.]+/g).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const { rgb, alpha } = channels(getComputedStyle(at).backgroundColor);
      if (alpha === 1) return rgb;
      if (alpha !== 0) say("half transparent", at);
    }
    return [255, 255, 255];
  };
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || ["SCRIPT", "OPTION"].includes(node.tagName) || !shown(node) || node.closest(".sr")) continue;
    const style = getComputedStyle(node);
    const colour = node instanceof SVGElement ? style.fill : style.color;
    const found = ratio(channels(colour).rgb, behind(node));
    texts += 1;
    if (found < 4.5) say(`contrast ${found.toFixed(2)}`, node);
  }
  // Marks that carry meaning need 3 to 1.
  for (const node of document.querySelectorAll(".dot, .whisker, .cloud circle, .bar rect")) {
    if (!shown(node)) continue;
    const style = getComputedStyle(node);
    const colours = [style.fill, style.stroke].filter((colour) => colour !== "none").map((colour) => ratio(channels(colour).rgb, behind(node)));
    if (Math.max(...colours) < 3) say("mark too faint", node);
  }

  // Names of what can be operated.
  const name = (node) => {
    const labelled = (node.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join("");
    const own = [...(node.labels || [])].flatMap((one) => [...one.childNodes]).filter((child) => !child.contains(node));
    const label = own.map((child) => child.textContent).join("");
    const content = /^(INPUT|SELECT|TABLE|DIALOG)$/.test(node.tagName) ? "" : node.textContent;
    return (node.getAttribute("aria-label") || labelled || label || content || node.title).trim();
  };
  for (const node of document.querySelectorAll("a, button, input, select, summary, [tabindex], dialog[open], [role=grid], [role=listbox]")) {
    if (shown(node) && !name(node)) say("no name", node);
  }
  for (const node of document.querySelectorAll("svg")) {
    if (!node.closest("[aria-hidden=true]") && !name(node)) say("drawing without a text", node);
  }
  for (const node of document.querySelectorAll("table")) {
    if (!node.caption && !name(node)) say("table without a caption", node);
    if ([...node.querySelectorAll("th")].some((cell) => !cell.hasAttribute("scope"))) say("head without a scope", node);
  }

  // Structure.
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  ids.filter((id, place) => ids.indexOf(id) !== place).forEach((id) => complaints.push("two of id " + id));
  for (const node of document.querySelectorAll("[aria-labelledby], [aria-activedescendant]")) {
    const target = node.getAttribute("aria-labelledby") || node.getAttribute("aria-activedescendant");
    if (shown(node) && !document.getElementById(target)) say("points at nothing", node);
  }
  let level = 0;
  for (const node of document.querySelectorAll("header h1, header h2, main h2, main h3, main h4")) {
    const here = Number(node.tagName[1]);
    if (here > level + 1) say("heading skips a level", node);
    level = here;
  }
  if (document.querySelectorAll("h1").length !== 1) complaints.push("not one h1");
  for (const landmark of ["main", "nav", "header", "footer"]) {
    if (document.querySelectorAll("body > " + landmark).length !== 1) complaints.push("not one " + landmark);
  }
  if (!document.documentElement.lang || !document.title) complaints.push("no language or title");
  if (texts < 40) complaints.push(`only ${texts} texts seen`);

  // Roles that need a parent.
  const parents = { option: "[role=listbox]", gridcell: "[role=grid]", row: "[role=table], [role=grid]", cell: "[role=row]", rowheader: "[role=row]" };
  for (const [role, parent] of Object.entries(parents)) {
    for (const node of document.querySelectorAll(`[role=${role}]`)) {
      if (!node.parentElement.closest(parent)) say("role without its parent", node);
    }
  }
  return [...new Set(complaints)];
}
