// A slider over thresholds: what each of them gives, and which bags are missed and which alarm for nothing.
"use strict";
const MOST_SHOWN = 60;

function makeChoice(choice) {
  const spec = JSON.parse(choice.querySelector("script").textContent), slider = choice.querySelector("input");
  const output = choice.querySelector("output"), percent = (part, whole) => `${((100 * part) / whole).toFixed(1)} %`;

  function fact(name, value, note) {
    const part = document.createElement("div"), number = document.createElement("b");
    number.textContent = value;
    part.append(`${name} `, number, ` ${note}`);
    return part;
  }
  function show() {
    const at = Number(slider.value), threshold = spec.thresholds[at];
    const detected = spec.detectedCounts[at], alarms = spec.falseCounts[at];
    slider.setAttribute("aria-valuetext", `threshold ${threshold}: P_D ${percent(detected, spec.threats)}, P_FA ${percent(alarms, spec.clean)}`);
    output.replaceChildren(
      fact("threshold", threshold, threshold === "none" ? "(nothing alarms)" : ""),
      fact("P_D", percent(detected, spec.threats), `${detected} of ${spec.threats}`),
      fact("P_FA", percent(alarms, spec.clean), `${alarms} of ${spec.clean}`),
    );
    list(choice.querySelector(".missed"), "Missed bags", spec.missed, spec.threats - detected);
    list(choice.querySelector(".false"), "False alarms", spec.false, alarms);
  }
  slider.addEventListener("input", show);
  slider.parentElement.hidden = false;
  show();
}

function list(place, title, bags, count) {
  const head = document.createElement("h4"), names = document.createElement("ul");
  head.textContent = `${title}: ${count}`;
  const shown = bags.slice(0, Math.min(count, MOST_SHOWN));
  names.append(...shown.map(bagEntry));
  place.replaceChildren(head, names);
  if (count > shown.length) {
    const more = document.createElement("p");
    more.className = "more";
    more.textContent = `and ${count - shown.length} more`;
    place.append(more);
  }
}

function bagEntry(bag) {
  const entry = document.createElement("li");
  if (bag.shot) {
    const image = document.createElement("img");
    image.src = bag.shot.source;
    image.alt = `${bag.name}, ${bag.shot.caption}`;
    entry.append(image);
  }
  entry.append(bag.score === null ? `${bag.name}, no score` : `${bag.name}, ${precise(bag.score)}`);
  return entry;
}
document.querySelectorAll(".choice").forEach(makeChoice);
