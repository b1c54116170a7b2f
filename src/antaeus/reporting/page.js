"use strict";
// Click through attempts. Everything a model wrote reaches the page through textContent, never as markup.
(() => {
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const { groups, totals, best } = JSON.parse(document.getElementById("attempts").textContent);
  const find = (selector) => viewer.querySelector(selector);
  const [sets, slider, output, filter] = [".sets", ".rounds input", ".rounds output", ".filter"].map(find);
  const SHORT = 1200; // characters shown of a text before one asks for all of it
  const ORDER = ["practice", "anchor", "exam"];
  const OUTCOMES = ["wrong → right", "right → wrong", "right both times", "wrong both times", "not scored"];
  let set, rounds, round;

  const make = (name, className, ...content) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.append(...content.filter((part) => part !== null));
    return element;
  };

  // Only GROUND is shown in the colours of right and wrong: what the model says of itself is neither.
  const tone = (a) => (a.score === null || a.source !== "ground" ? "" : a.score >= 0.5 ? "right" : "wrong");

  const votesBar = (side) => {
    if (side.total === 1) {
      const [a] = side.attempts;
      return make("div", "single", `${side.version} `, make("b", tone(a), a.answer === null ? "no answer" : a.answer));
    }
    const bar = make("div", "votes");
    side.votes.forEach(([answer, n], k) => {
      const part = make("span", answer === null ? "none" : `v${Math.min(k, 4)}`, answer === null ? "no answer" : answer);
      part.title = `${side.version}: ${answer === null ? "no answer" : answer}, ${n} of ${side.total}`;
      part.style.flexGrow = n;
      if (n / side.total < 0.07) part.classList.add("slim");
      bar.append(part);
    });
    return bar;
  };

  const badgeOf = (source) => {
    const known = ["self", "peer", "ground"].includes(source) ? source : "";
    return source ? make("span", `badge ${known}`, source.toUpperCase()) : null;
  };

  const tally = (group) => {
    if (group.change) {
      const changed = { "wrong → right": "right", "right → wrong": "wrong" }[group.change] || "";
      return make("span", "tally", make("b", changed, group.change));
    }
    const scored = group.sides[0].attempts.filter((a) => a.score !== null);
    if (!scored.length) return make("span", "tally", "no verdict");
    const mean = scored.reduce((total, a) => total + a.score, 0) / scored.length;
    return make("span", "tally", `${scored.length > 1 ? "mean " : ""}score ${Number(mean.toFixed(2))} `, badgeOf(scored[0].source));
  };

  const textBox = (text) => {
    const box = make("pre", "", text.slice(0, SHORT));
    if (text.length <= SHORT * 1.1) return [box];
    const more = make("button", "", `show all ${text.length.toLocaleString("en")} characters`);
    more.type = "button";
    more.onclick = () => { box.textContent = text; more.remove(); };
    box.append(" …");
    return [box, more];
  };

  const scoreOf = (a) => make("b", tone(a), a.score === null ? "no verdict" : `score ${Number(a.score.toFixed(3))}`);

  const attemptRow = (a, k) => {
    const stop = { eos: "end token", stop: "stop string", length: "token limit" }[a.stop] || a.stop;
    const facts = make("div", "facts",
      make("div", "", "answer ", make("code", "", a.answer === null ? "none found" : a.answer), " ", scoreOf(a), " ", badgeOf(a.source), stop ? ` · ${stop}` : ""),
      make("div", "", a.why));
    return make("div", "attempt", make("span", "index", String(a.index ?? k)), make("div", "", ...textBox(a.text)), facts);
  };

  const body = (group) => {
    const sides = group.sides.map((side) => {
      const left = side.total - side.attempts.length;
      const head = make("h4", "", `${side.version}: ${side.total} attempt${side.total === 1 ? "" : "s"}${left > 0 ? `, ${side.attempts.length} shown` : ""}`);
      return make("div", "side", head, ...side.attempts.map(attemptRow));
    });
    const whole = group.prompt.trim();
    const prompt = whole.length > 60 || whole.includes("\n") ? make("pre", "", whole) : null; // a short one is in the row above
    return make("div", "body", prompt, ...sides);
  };

  const promptRow = (group) => {
    const last = group.prompt.trim().split("\n").pop();
    const row = make("details", "", make("summary", "", make("code", "", last), make("div", "bars", ...group.sides.map(votesBar)), tally(group)));
    row.addEventListener("toggle", () => { if (row.open && row.children.length === 1) row.append(body(group)); });
    return row;
  };

  const show = () => {
    const here = groups.filter((g) => g.set === set && g.round === round && (!filter.value || g.change === filter.value));
    const total = totals[set][round] || 0;
    const embedded = groups.filter((g) => g.set === set && g.round === round).length;
    output.textContent = `${round}${round === best ? " (best)" : ""}`;
    find(".left-out").textContent = embedded < total ? `${embedded} of this round's ${total} prompts are in this page.` : "";
    find(".prompts").replaceChildren(...here.map(promptRow));
  };

  const pickSet = (name) => {
    set = name;
    rounds = [...new Set(groups.filter((g) => g.set === name).map((g) => g.round))].sort((a, b) => a - b);
    const nearest = rounds.reduce((a, b) => (Math.abs(b - round) < Math.abs(a - round) ? b : a), rounds[0]);
    slider.max = rounds.length - 1;
    slider.value = rounds.indexOf(nearest);
    round = nearest;
    find(".rounds").hidden = name === "exam";
    filter.hidden = name !== "exam";
    filter.value = "";
    for (const button of sets.children) button.setAttribute("aria-pressed", button.dataset.set === name);
    show();
  };

  slider.oninput = () => { round = rounds[slider.value]; show(); };
  filter.onchange = show;
  const count = (outcome) => groups.filter((g) => g.change === outcome).length;
  filter.append(new Option("all outcomes", ""), ...OUTCOMES.filter(count).map((o) => new Option(`${o} (${count(o)})`, o)));
  const present = ORDER.filter((name) => groups.some((g) => g.set === name));
  for (const name of present) {
    const button = make("button", "", name[0].toUpperCase() + name.slice(1));
    button.type = "button";
    button.dataset.set = name;
    button.onclick = () => pickSet(name);
    sets.append(button);
  }
  viewer.hidden = false;
  round = best === null ? 0 : best;
  pickSet(present[0]);
})();
