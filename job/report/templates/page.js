"use strict";
// Sorts and filters the table of clusters; the clusters below it follow.
{
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const cards = document.getElementById("cards");
  const find = document.getElementById("find");
  const merging = document.getElementById("merging");
  const entries = [...body.rows].map((row) => {
    const card = document.getElementById(`cluster-${row.dataset.cluster}`);
    const words = [...row.querySelectorAll("[data-word]")];
    const members = [...card.querySelectorAll(".member")];
    return {
      row,
      card,
      words: words.map((word) => word.textContent.trim().toLowerCase()),
      ids: members.map((member) => (member.alt ?? member.textContent).toLowerCase()),
    };
  });
  const names = new Intl.Collator("en", { numeric: true });

  function compare(a, b) {
    const numbers = a !== "" && b !== "" && Number.isFinite(a - b);
    return numbers ? a - b : names.compare(a, b);
  }

  function sort(header) {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) {
      other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = ({ row }) => row.dataset[header.dataset.key] ?? "";
    const sorted = [...entries].sort((a, b) => (down ? -1 : 1) * compare(value(a), value(b)));
    body.append(...sorted.map(({ row }) => row));
    cards.append(...sorted.map(({ card }) => card));
  }

  function matches({ row, words, ids }, text) {
    if (merging?.checked && !("merges" in row.dataset)) return false;
    const whole = /^\d+$/.test(text); // 1 is cluster 1, not also 10 to 19
    return (
      words.some((word) => (whole ? word === text : word.includes(text))) ||
      (text.length >= 4 && ids.some((id) => id.includes(text)))
    );
  }

  function filter() {
    const text = find.value.trim().toLowerCase();
    let shown = 0;
    for (const entry of entries) {
      const match = matches(entry, text);
      entry.row.hidden = entry.card.hidden = !match;
      shown += match;
    }
    document.getElementById("count").textContent = `${shown.toLocaleString("en")} of ${entries.length.toLocaleString("en")} shown`;
    document.getElementById("none").hidden = shown > 0;
  }

  for (const header of table.tHead.querySelectorAll("[aria-sort]")) {
    header.querySelector("button").addEventListener("click", () => sort(header));
  }
  find.addEventListener("input", filter);
  merging?.addEventListener("change", filter);
}
