"use strict";
const byId = (id) => document.getElementById(id);
const figure = (number) => number.toLocaleString("en");
const MIN_ID = 4; // characters that find an id

// Shows an image in large, with what is known of it.
const large = byId("large");
function enlarge({ id, label, cluster, distance, also }, picture) {
  byId("large-id").textContent = id;
  const same = also?.replaceAll("\n", ", ");
  const said = { Label: label, Cluster: cluster, Distance: distance, "Same pixels:": same };
  large.querySelector(".facts").textContent = Object.entries(said)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${value}`)
    .join(" · ");
  large.querySelector(".picture").replaceChildren(...(picture ? [picture] : []));
  const file = large.querySelector(".file");
  file.hidden = !("base" in file.dataset) || !/\.\w{2,5}$/.test(id) || id.includes("…");
  if (!file.hidden) {
    file.href = `${file.dataset.base}/${id.split("/").map(encodeURIComponent).join("/")}`;
  }
  large.showModal();
}
document.addEventListener("click", (event) => {
  const opener = event.target.closest("button.open");
  if (opener) {
    const picture = opener.querySelector("img, canvas");
    let shown = picture?.cloneNode();
    if (picture?.tagName === "CANVAS") shown.getContext("2d").drawImage(picture, 0, 0);
    shown?.removeAttribute("title");
    enlarge(opener.dataset, shown);
  }
  const more = event.target.closest("button.more");
  if (more) {
    more.replaceWith(more.previousElementSibling.content);
  }
});
large.addEventListener("click", (event) => event.target === large && large.close());
byId("copy").addEventListener("click", async () => {
  const text = byId("large-id");
  getSelection().selectAllChildren(text);
  await navigator.clipboard?.writeText(text.textContent).catch(() => {});
});

// Sorts, filters and pages the table of clusters; the clusters below it follow.
const clusters = (() => {
  const table = byId("table");
  const body = table.tBodies[0];
  const cards = byId("cards");
  const find = byId("find");
  const merging = byId("merging");
  const rest = byId("rest")?.content;
  const size = rest ? body.rows.length : Infinity;
  const rows = [...body.rows, ...(rest?.querySelectorAll("tr") ?? [])];
  const lower = (element) => element.textContent.trim().toLowerCase();
  // A template looks for an id from its beginning: ten thousand times, that takes minutes.
  const all = [...cards.children, ...(rest?.querySelectorAll("article") ?? [])];
  const byCluster = new Map(all.map((card) => [card.id, card]));
  const entries = rows.map((row) => {
    const card = byCluster.get(`cluster-${row.dataset.cluster}`);
    return {
      row,
      card,
      words: [...row.querySelectorAll("[data-word]")].map((element) => [lower(element), element]),
      ids: [...card.querySelectorAll("button.open")].map((element) => [
        element.dataset.id.toLowerCase(),
        element,
      ]),
    };
  });
  const elsewhere = [...document.querySelectorAll(".strip button.open")].map((element) => [
    `${element.dataset.id}\n${element.dataset.also ?? ""}`.toLowerCase(),
    element,
  ]);
  const names = new Intl.Collator("en", { numeric: true });
  let order = entries;
  let shown = entries;
  let page = 0;

  function compare(a, b) {
    const numbers = a !== "" && b !== "" && Number.isFinite(a - b);
    return numbers ? a - b : names.compare(a, b);
  }

  function draw() {
    const start = page * size || 0;
    const part = shown.slice(start, start + size);
    body.replaceChildren(...part.map(({ row }) => row));
    cards.replaceChildren(...part.map(({ card }) => card));
    if (!rest) return;
    const last = Math.min(start + size, shown.length);
    byId("page").textContent = `${figure(Math.min(start + 1, last))} to ${figure(last)}`;
    byId("before").disabled = page === 0;
    byId("after").disabled = last === shown.length;
  }

  function turn(to) {
    page = to;
    draw();
    table.scrollIntoView();
  }

  function sort(header) {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) {
      other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = ({ row }) => row.dataset[header.dataset.key] ?? "";
    order = [...entries].sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b)));
    filter();
  }

  function mark(pairs, test) {
    let count = 0;
    for (const [text, element] of pairs) {
      const match = test(text);
      element.classList.toggle("found", match);
      count += match;
    }
    return count;
  }

  function filter() {
    const text = find.value.trim().toLowerCase();
    const whole = /^\d+$/.test(text); // 1 is cluster 1, not also 10 to 19
    const ofWord = (word) => text !== "" && (whole ? word === text : word.includes(text));
    const ofId = (id) => text.length >= MIN_ID && id.includes(text);
    let ids = mark(elsewhere, ofId);
    shown = order.filter((entry) => {
      const inWords = mark(entry.words, ofWord);
      const inIds = mark(entry.ids, ofId);
      ids += inIds;
      if (merging?.checked && !("merges" in entry.row.dataset)) return false;
      return text === "" || inWords + inIds > 0;
    });
    page = 0;
    draw();
    const searched = text.length >= MIN_ID;
    const onMap = images?.mark(searched ? ofId : null) ?? 0;
    byId("count").textContent =
      `${figure(shown.length)} of ${figure(entries.length)} shown` +
      (searched ? `; ${figure(ids)} pictures and ${figure(onMap)} points of the map found` : "");
    byId("none").hidden = shown.length > 0;
  }

  function reveal(id) {
    let place = shown.findIndex(({ card }) => card.id === id);
    if (place < 0) {
      find.value = "";
      if (merging) merging.checked = false;
      filter();
      place = shown.findIndex(({ card }) => card.id === id);
    }
    if (place < 0) return;
    if (Number.isFinite(size) && Math.floor(place / size) !== page) {
      page = Math.floor(place / size);
      draw();
    }
    byId(id).scrollIntoView();
  }

  for (const header of table.tHead.querySelectorAll("[aria-sort]")) {
    header.querySelector("button").addEventListener("click", () => sort(header));
  }
  find.addEventListener("input", filter);
  merging?.addEventListener("change", filter);
  byId("before")?.addEventListener("click", () => turn(page - 1));
  byId("after")?.addEventListener("click", () => turn(page + 1));
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#cluster-"]');
    if (link) reveal(link.getAttribute("href").slice(1));
  });
  if (rest) draw();
  return { reveal };
})();

// The map of the images.
const images = (() => {
  const canvas = byId("plane");
  if (!canvas) return null;
  const points = JSON.parse(byId("points").textContent);
  const sheet = byId("sheet");
  const count = points.id.length;
  const GRID = 10000;
  const context = canvas.getContext("2d");
  const colours = byId("colour");
  const tools = [byId("lasso"), byId("rectangle")];
  const MAX_THUMBS = 400; // more of them would cover each other
  const MAX_LISTED = 200;
  const REACH = 20, TREMBLE = 6; // pixels
  let view = { scale: 1, x: 0, y: 0 };
  let fit = 1;
  let found = null;
  let chosen = [];
  let outline = null; // of a selection that is being drawn: its kind and corners
  let queued = false;

  const colour = (value) =>
    value < 0 ? "gray" : `hsl(${(value * 137.5) % 360} 65% ${dark.matches ? 62 : 42}%)`;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const across = (i) => (points.x[i] * fit) * view.scale + view.x;
  const down = (i) => ((GRID - points.y[i]) * fit) * view.scale + view.y;

  function whole() {
    fit = Math.min(canvas.clientWidth, canvas.clientHeight) * 0.94 / GRID;
    view = {
      scale: 1,
      x: (canvas.clientWidth - GRID * fit) / 2,
      y: (canvas.clientHeight - GRID * fit) / 2,
    };
    redraw();
  }

  const rectangle = ([left, top], [right, bottom]) => [
    [left, top], [right, top], [right, bottom], [left, bottom],
  ];
  function inside(corners) {
    const within = (x, y) => {
      let crossed = false; // by a ray to the right, an odd number of times
      corners.forEach(([x1, y1], n) => {
        const [x2, y2] = corners[(n || corners.length) - 1];
        if (y1 > y !== y2 > y && x < x1 + ((x2 - x1) * (y - y1)) / (y2 - y1)) crossed = !crossed;
      });
      return crossed;
    };
    return [...points.id.keys()].filter((i) => within(across(i), down(i)));
  }
  const seen = () => inside(rectangle([0, 0], [canvas.clientWidth, canvas.clientHeight]));

  function thumb(target, i, x, y, width, height) {
    const column = i % points.columns, row = Math.floor(i / points.columns);
    const from = [column * points.width, row * points.height, points.width, points.height];
    target.drawImage(sheet, ...from, x, y, width, height);
  }

  function picture(i) {
    const drawn = document.createElement("canvas");
    [drawn.width, drawn.height] = [points.width, points.height];
    thumb(drawn.getContext("2d"), i, 0, 0, points.width, points.height);
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", points.id[i]);
    return drawn;
  }

  function draw() {
    queued = false;
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    const drawn = seen();
    const pictures = sheet && drawn.length <= MAX_THUMBS && view.scale > 1;
    const values = points[colours.value];
    const side = Math.min(48, 20 * Math.sqrt(view.scale));
    for (const i of drawn) {
      const x = across(i), y = down(i);
      context.fillStyle = context.strokeStyle = colour(values[i]);
      if (pictures) {
        const w = side * points.width / Math.max(points.width, points.height);
        const h = side * points.height / Math.max(points.width, points.height);
        thumb(context, i, x - w / 2, y - h / 2, w, h);
        context.lineWidth = 2;
        context.strokeRect(x - w / 2, y - h / 2, w, h);
      } else {
        context.fillRect(x - 2, y - 2, 4, 4);
      }
    }
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = 2;
    for (const i of found ?? []) {
      context.beginPath();
      context.arc(across(i), down(i), 9, 0, 7);
      context.stroke();
    }
    if (outline) {
      context.beginPath();
      for (const corner of outline.corners) context.lineTo(...corner);
      context.closePath();
      context.stroke();
    }
  }
  function redraw() {
    if (!queued) requestAnimationFrame(draw);
    queued = true;
  }

  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const scale = Math.min(200, Math.max(0.5, view.scale * factor));
    const change = scale / view.scale;
    view = { scale, x: x - (x - view.x) * change, y: y - (y - view.y) * change };
    redraw();
  }

  function describe(i) {
    const data = { id: points.id[i], cluster: points.cluster[i], distance: points.distance[i] };
    return points.label[i] < 0 ? data : { ...data, label: points.names[points.label[i]] };
  }

  function choose(all) {
    chosen = all;
    byId("selection").hidden = false;
    const listed = all.length > MAX_LISTED ? `, of which ${MAX_LISTED} are shown` : "";
    byId("selected").textContent = `${figure(all.length)} images${listed}`;
    byId("inside").replaceChildren(
      ...all.slice(0, MAX_LISTED).map((i) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "open";
        Object.assign(button.dataset, describe(i));
        button.title = points.id[i];
        if (sheet) {
          button.append(picture(i));
        } else {
          button.textContent = points.id[i];
        }
        return button;
      }),
    );
  }

  function save() {
    const cell = (text) => `"${String(text).replaceAll('"', '""')}"`;
    const lines = chosen.map((i) => `${cell(points.id[i])},${points.cluster[i]}`);
    const text = ["id,cluster", ...lines].join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "selection.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // Opens the image nearest to a place, if it is near enough for a finger.
  function open(x, y) {
    const apart = (i) => Math.hypot(across(i) - x, down(i) - y);
    const nearest = seen().reduce((best, i) => (apart(i) < apart(best) ? i : best), 0);
    if (apart(nearest) <= REACH) enlarge(describe(nearest), sheet && picture(nearest));
  }

  const held = new Map(); // pointers that are down
  let pressed = null; // where the only one went down, as long as it has not moved
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.offsetX, event.offsetY]);
    const tool = tools.find((button) => button.getAttribute("aria-pressed") === "true");
    const kind = event.shiftKey ? "rectangle" : tool?.id;
    if (kind) outline = { kind, corners: [[event.offsetX, event.offsetY]] };
    pressed = held.size === 1 && !kind ? [event.offsetX, event.offsetY] : null;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const now = [event.offsetX, event.offsetY];
    // A finger trembles: up to a few pixels are a tap, and move nothing.
    if (pressed && Math.hypot(now[0] - pressed[0], now[1] - pressed[1]) < TREMBLE) return;
    pressed = null;
    if (outline) {
      const { kind, corners } = outline;
      outline.corners = kind === "lasso" ? [...corners, now] : rectangle(corners[0], now);
    } else if (held.size === 2) {
      const [other] = [...held].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
      zoom(apart(now) / apart(last), ...other);
    } else {
      view.x += now[0] - last[0];
      view.y += now[1] - last[1];
    }
    held.set(event.pointerId, now);
    redraw();
  });
  function release(event) {
    held.delete(event.pointerId);
    if (pressed && event.type === "pointerup") open(...pressed);
    pressed = null;
    if (!outline) return;
    const { corners } = outline;
    outline = null;
    redraw();
    if (event.type !== "pointercancel" && corners.length > 2) choose(inside(corners));
  }
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    if (event.key in steps) {
      view.x += steps[event.key][0];
      view.y += steps[event.key][1];
      redraw();
    } else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else return;
    event.preventDefault();
  });
  for (const tool of tools) {
    tool.addEventListener("click", () => {
      const pressed = tool.getAttribute("aria-pressed") === "true";
      for (const each of tools) each.setAttribute("aria-pressed", each === tool && !pressed);
    });
  }
  byId("seen").addEventListener("click", () => choose(seen()));
  byId("closer").addEventListener("click", () => zoom(1.6));
  byId("farther").addEventListener("click", () => zoom(1 / 1.6));
  byId("whole").addEventListener("click", whole);
  byId("csv").addEventListener("click", save);
  colours.addEventListener("change", redraw);
  dark.addEventListener("change", redraw);
  let size = `${canvas.clientWidth} ${canvas.clientHeight}`;
  addEventListener("resize", () => {
    // A phone's bars come and go while one scrolls: the map stays as large as it was.
    if (size !== (size = `${canvas.clientWidth} ${canvas.clientHeight}`)) whole();
  });
  sheet?.decode().then(redraw, () => {});
  whole();

  function mark(test) {
    found = test ? points.id.flatMap((id, i) => (test(id.toLowerCase()) ? [i] : [])) : null;
    redraw();
    return found?.length ?? 0;
  }
  return { mark };
})();
if (location.hash.startsWith("#cluster-")) clusters.reveal(location.hash.slice(1));
