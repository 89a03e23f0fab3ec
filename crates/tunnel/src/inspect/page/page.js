// The list follows what happens; details are asked for when one is chosen. All that comes
// from requests is put into the page as text.
"use strict";

const KEPT = 200;
const RETRY_MS = 1000;

const by = (id) => document.getElementById(id);
const requests = new Map();
const rows = new Map();
let chosen = null;
let shownAt = null;

const size = (bytes) => {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
};

const took = (ms) => {
  if (ms === null) return "…";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
};

const time = (ts) => new Date(ts).toLocaleTimeString([], { hour12: false });

const element = (name, text, ...classes) => {
  const made = document.createElement(name);
  made.textContent = text;
  made.classList.add(...classes.filter(Boolean));
  return made;
};

const statusOf = (request) => {
  if (request.status !== null) return [String(request.status), `s${Math.floor(request.status / 100)}`];
  return request.state === "failed" ? ["failed", "failed"] : ["…", ""];
};

const matches = (request, words) => {
  const text = `${request.method} ${request.path} ${request.status ?? request.state} ${request.client ?? ""}`.toLowerCase();
  return words.every((word) => text.includes(word));
};

const fill = (row, request) => {
  const what = document.createElement("td");
  what.title = `${request.method} ${request.path}`;
  if (request.replay_of !== null) {
    const mark = element("span", "↻ ", "replayed");
    mark.title = `a replay of request ${request.replay_of}`;
    what.append(mark);
  }
  what.append(element("span", request.method, "method"), ` ${request.path}`);
  const [status, look] = statusOf(request);
  row.replaceChildren(
    element("td", time(request.ts)),
    what,
    element("td", status, look, request.state === "failed" && "failed"),
    element("td", took(request.duration_ms), "number"),
    element("td", size(request.response_bytes), "number"),
    element("td", request.client ?? ""),
  );
};

const filter = () => {
  const words = by("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let any = false;
  for (const [id, row] of rows) {
    row.hidden = !matches(requests.get(id), words);
    any ||= !row.hidden;
  }
  by("none").hidden = any;
  by("none").textContent = rows.size === 0
    ? "No requests yet. They are listed here as they come."
    : "None of the requests is like this.";
};

const forget = (id) => {
  rows.get(id)?.remove();
  rows.delete(id);
  requests.delete(id);
};

const take = (request) => {
  requests.set(request.id, request);
  let row = rows.get(request.id);
  if (!row) {
    row = document.createElement("tr");
    row.tabIndex = 0;
    row.addEventListener("click", () => choose(request.id));
    row.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(request.id);
      }
      const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
      if (next) { event.preventDefault(); next.focus(); }
    });
    rows.set(request.id, row);
    const after = [...by("rows").children].find((other) => Number(other.dataset.id) < request.id);
    row.dataset.id = request.id;
    by("rows").insertBefore(row, after ?? null);
    if (rows.size > KEPT) forget(Math.min(...rows.keys()));
  }
  fill(row, request);
  row.setAttribute("aria-selected", String(request.id === chosen));
  if (request.id === chosen) show(chosen);
};

const pretty = (text, headers) => {
  const type = headers.find((header) => header.name === "content-type")?.value ?? "";
  if (!/json/.test(type)) return text;
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
};

const part = (side, it) => {
  const headers = it?.headers ?? [];
  by(`${side}-headers`).replaceChildren(...headers.flatMap((header) => [
    element("dt", header.name),
    element("dd", header.value, header.redacted && "hidden"),
  ]));
  const body = it?.body;
  const notes = [];
  if (!it) notes.push("There is none.");
  if (body?.bytes > 0) notes.push(size(body.bytes));
  if (body?.cut) notes.push("only the beginning is kept");
  if (body && !body.complete && !body.cut && body.bytes > 0) notes.push("not to its end");
  if (body?.base64) notes.push("no text, shown in base64");
  by(`${side}-note`).textContent = notes.join(", ");
  by(`${side}-body`).textContent = body?.text !== undefined ? pretty(body.text, headers) : body?.base64 ?? "";
};

const choose = (id) => {
  chosen = id;
  shownAt = null;
  history.replaceState(null, "", `#${id}`);
  for (const [other, row] of rows) row.setAttribute("aria-selected", String(other === id));
  show(id);
};

const show = async (id) => {
  const answer = await fetch(`/api/requests/${id}`);
  if (id !== chosen || !answer.ok) return;
  const details = await answer.json();
  if (id !== chosen) return;
  const isFirst = shownAt !== id;
  shownAt = id;
  by("details").hidden = false;
  by("what").textContent = `${details.method} ${details.path}`;
  const about = [time(details.ts), statusOf(details)[0], took(details.duration_ms)];
  if (details.client) about.push(`from ${details.client}`);
  if (details.replay_of !== null) about.push(`replay of request ${details.replay_of}`);
  by("about").textContent = about.join(" · ");
  by("problem").hidden = !details.error;
  by("problem").textContent = details.error ?? "";
  by("replay").disabled = details.no_replay !== null;
  by("replay").title = details.no_replay === null ? "Send it to the program again" : `It cannot be sent again: ${details.no_replay}`;
  part("request", details.request);
  part("response", details.response);
  if (isFirst) by("details").scrollTop = 0;
};

const replay = async () => {
  const answer = await fetch(`/api/requests/${chosen}/replay`, { method: "POST" });
  const document = await answer.json();
  if (answer.ok) return choose(document.id);
  by("problem").hidden = false;
  by("problem").textContent = document.detail;
};

const state = (text, isLost) => {
  by("state").textContent = text;
  by("state").classList.toggle("lost", isLost);
};

// Another agent may be there after a restart, with other requests.
const follow = async () => {
  const answer = await fetch("/api/requests?follow=true");
  for (const id of [...rows.keys()]) forget(id);
  filter();
  state("live", false);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) take(JSON.parse(line).request);
    filter();
  }
};

const live = async () => {
  for (;;) {
    try { await follow(); } catch { /* told below */ }
    state("not running", true);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
};

const linked = /^#(\d+)$/.exec(location.hash);
if (linked) choose(Number(linked[1]));
by("filter").addEventListener("input", filter);
by("replay").addEventListener("click", replay);
live();
