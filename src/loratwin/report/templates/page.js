"use strict";
// Search a table: rows without the words are hidden. Without scripts the box is not shown.
for (const label of document.querySelectorAll(".find")) {
  const table = label.closest(".table").querySelector("table"), input = label.querySelector("input");
  label.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(" ").filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
    const found = rows.filter(row => !row.hidden).length;
    label.querySelector(".found").textContent = words.length ? ` ${found} of ${rows.length}` : "";
  });
}
// Values of a plot: the browser shows a <title> late and not at a touch; this shows it at once.
const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
document.body.append(tip);
document.addEventListener("pointerover", event => {
  const spot = event.target.closest(".spot"), title = spot && spot.querySelector("title");
  if (title) {
    spot.dataset.says = title.textContent;
    title.remove();
  }
  tip.hidden = !spot;
  if (spot) tip.textContent = spot.dataset.says;
});
document.addEventListener("pointermove", event => {
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, room))}px`;
  tip.style.top = `${event.clientY + 18}px`;
});
