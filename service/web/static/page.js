// Refreshes what says it changes, and shows which box a line of the table means. All else works without it.
"use strict";

const STOPPED = "The page no longer updates itself: reload it.";

for (const part of document.querySelectorAll("[data-refresh]")) {
  const wait = 1000 * Number(part.dataset.seconds);
  let failures = 0;

  async function refresh() {
    // Neither for nobody, nor under the hands of somebody who is at a button in it.
    if (document.hidden || part.contains(document.activeElement)) return schedule();
    try {
      const answer = await fetch(part.dataset.refresh, { headers: { "X-Refresh": "1" }, redirect: "error" });
      if (answer.status === 401 || answer.status === 403 || answer.status === 404) return stop();
      if (!answer.ok) throw new Error(answer.statusText);
      show(await answer.text());
      failures = 0;
    } catch {
      failures += 1;
      part.classList.toggle("stale", failures > 1);
    }
    schedule();
  }

  function show(text) {
    const fresh = document.createElement("template");
    fresh.innerHTML = text;
    const version = (root) => root.querySelector("[data-version]")?.dataset.version;
    if (version(fresh.content) !== version(part)) return location.reload();
    for (const open of part.querySelectorAll("details[id][open]")) {
      fresh.content.getElementById(open.id)?.setAttribute("open", "");
    }
    part.replaceChildren(fresh.content);
    part.classList.remove("stale");
  }

  function stop() {
    const words = document.createElement("p");
    words.className = "notice warn";
    words.setAttribute("role", "status");
    words.textContent = STOPPED;
    part.prepend(words);
  }

  function schedule() {
    setTimeout(refresh, wait * Math.min(8, 1 + failures));
  }

  schedule();
}

for (const reading of document.querySelectorAll(".reading")) {
  const marked = (label, on) => {
    for (const one of reading.querySelectorAll(`[data-label="${label}"]`)) one.classList.toggle("marked", on);
  };
  for (const one of reading.querySelectorAll("[data-label]")) {
    for (const [name, on] of [["mouseenter", true], ["mouseleave", false], ["focus", true], ["blur", false]]) {
      one.addEventListener(name, () => marked(one.dataset.label, on));
    }
  }
  // One switch a label, however many boxes it has.
  reading.addEventListener("change", (event) => {
    const label = event.target.dataset.label;
    for (const one of reading.querySelectorAll(`input[data-label="${label}"]`)) one.checked = event.target.checked;
  });
}
