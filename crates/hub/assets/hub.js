// Keeps the page fresh in place, and marks where one is. Without it the page is whole, and as old as it is.
"use strict";
const here = location.pathname.split("/")[1];
for (const link of document.querySelectorAll(".pages a")) {
  if (link.getAttribute("href").split("/")[1] === here) link.setAttribute("aria-current", "page");
}

// What somebody is in the middle of stays as it is.
const busy = (part) => {
  const chosen = getSelection();
  const marked = chosen && !chosen.isCollapsed && chosen.containsNode(part, true);
  return marked || part.querySelector("details[open]") || (part !== document.activeElement && part.contains(document.activeElement));
};
const parts = (of) => new Map([...of.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));

let asking = false;
async function refresh() {
  if (document.hidden || asking) return;
  asking = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = document.getElementById("main");
    const next = fresh.getElementById("main");
    const [old, now] = [parts(main), parts(next)];
    if ([...old.keys()].join() === [...now.keys()].join()) {
      for (const [name, part] of old) {
        if (part.outerHTML !== now.get(name).outerHTML && !busy(part)) part.replaceWith(now.get(name));
      }
    } else if (!busy(main)) {
      main.replaceWith(next);
    }
    if (document.title !== fresh.title) {
      document.title = fresh.title;
      document.getElementById("news").textContent = fresh.title.replace(/ · evenkeel$/, "");
    }
  } catch {
    // The hub is away: what is shown stays, and the next turn tries again.
  } finally {
    asking = false;
  }
}

// Told when something changed; each page waits a moment of its own, so that they do not all ask at once.
let due;
const soon = () => {
  clearTimeout(due);
  due = setTimeout(refresh, Math.random() * 500);
};
// A browser has few connections to one hub for all its tabs: only a page that is looked at holds one.
let news;
const listen = () => {
  if (news || document.hidden) return;
  news = new EventSource("/live");
  news.addEventListener("change", soon);
};
const rest = () => {
  news?.close();
  news = undefined;
};
// Addresses of a sign-in carry what is good for one time, and there is nothing on them to keep fresh.
if (here !== "sign-in") {
  addEventListener("pagehide", rest);
  addEventListener("pageshow", listen);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return rest();
    listen();
    soon();
  });
  // Silence is no event: nodes that fall silent are found by asking.
  setInterval(refresh, 20000);
}
