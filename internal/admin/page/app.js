// The dashboard: follows the live stream and shows what it tells.

import { $, h, text, attribute, show, list, count, percent, when } from "./dom.js";
import { data, follow, again } from "./live.js";
import { showLive, showVerdict, showPlots, showFacts, showBackends, showMoves } from "./view.js";
import { showSessions } from "./sessions.js";
import { prepare, headers, openProxy, showOperate, askToken, unlocked } from "./actions.js";

const eventsAtFirst = 12;
const enoughPoints = 12; // of the hour, to show it at first

const chosen = { fine: null, events: eventsAtFirst, asked: false, reloadsOf: "" };

function render() {
  showLive();
  if (data.live === "refused" && !chosen.asked && !unlocked()) {
    chosen.asked = true;
    if (data.refusal === "token_needed") askToken();
  }
  const { status } = data;
  if (!status || !data.coarse || !data.fine) return;
  const fine = chosen.fine ?? data.coarse.at.length < enoughPoints;
  attribute($("span-fine"), "aria-pressed", String(fine));
  attribute($("span-coarse"), "aria-pressed", String(!fine));
  text($("version"), status.build.version);
  text($("build"), `stateproxy ${status.build.version}, commit ${status.build.commit.slice(0, 12)}, ${status.build.go_version}`);
  showVerdict(status);
  showPlots(fine);
  showFacts(status);
  showBackends(status);
  showSessions(data.sessions);
  showMoves(status);
  showEvents();
  showFailed(status.requests.failed);
  showConfig(status.config);
  showOperate(status);
}

// titleOf is what an event is called: that of a finding names the finding.
function titleOf({ kind, finding }) {
  const name = (finding ?? kind).replaceAll("_", " ");
  return kind === "finding_ended" ? name + " is over" : name;
}

function showEvents() {
  show($("no-events"), data.events.length === 0);
  show($("more-events"), data.events.length > chosen.events);
  list($("events"), data.events.slice(0, chosen.events), (e) => `${e.id} ${e.time}`, (e) => ({
    node: h("li", { "data-level": e.level, "data-kind": e.kind },
      h("span", { class: "dot", "aria-hidden": "true" }),
      h("div", { class: "line" }, h("span", {}, h("span", { class: "kind" }, titleOf(e)), e.backend ? " " + e.backend : ""),
        h("time", { class: "when", datetime: e.time }, when(e.time))),
      h("div", { class: "text muted" }, e.text)),
  }));
}

// meanings tells people what a reason is.
const meanings = {
  malformed: "the client sent what is no request of the protocol",
  request_too_large: "the client sent more than limits.body allows",
  client_stalled: "the client stopped in the middle",
  client_gone: "the client left before its answer",
  client_tls: "no TLS handshake with the client, broken TLS after it, or TLS where none is spoken",
  no_backend: "no backend may own the session: all of the pool are out",
  cut_tail: "the backend broke off in the middle of a long answer",
  handoff_blocked: "a former owner that may hold the session can't be asked",
  no_time: "the proxy before this one left no time",
  app_access: "a rule of access keeps the client's address from the application",
  request_rate_per_client: "the client's address sends far more than it may",
  dial_refused: "the backend's machine is there, the state service is not",
  dial_timeout: "the backend's machine does not answer: down, or a firewall",
  dial_error: "no connection to the backend could be made",
  tls_name: "the backend's certificate is for another name",
  tls_untrusted: "the backend's certificate is of no CA that is trusted",
  tls_expired: "the backend's certificate is not valid at this time",
  tls_plain: "the backend does not speak TLS",
  tls_refused: "the backend refused the TLS handshake or the certificate shown to it",
  tls_handshake: "the TLS handshake with the backend did not come about",
  queue_full: "too many requests wait for the backend already",
  wait_timeout: "no connection to the backend became free in time",
  send_error: "the connection broke while the request was sent",
  relay_error: "the connection broke while a body was passed on",
  closed: "the backend closed the connection instead of an answer",
  cut_answer: "the backend's answer broke off",
  timeout: "the backend did not answer in time",
  odd_status: "the backend answered with a status that is not of the protocol",
  bad_answer: "the backend's answer is not of the protocol",
  empty_answer: "the backend's answer was empty",
  long_answer: "the backend sent more than it had said",
  answer_too_large: "the backend's answer is above a limit",
};

function showFailed(failed) {
  const rows = Object.entries(failed).sort((a, b) => b[1] - a[1]);
  show($("no-failed"), rows.length === 0);
  list($("failed"), rows, (r) => r[0], (r) => {
    const n = h("span", { class: "number" });
    return { node: h("li", {}, h("span", {}, r[0]), n, h("small", {}, meanings[r[0]] ?? "")), update: (r) => text(n, count(r[1])) };
  });
}

function showConfig(config) {
  const file = config.file || "no file";
  text($("config-line"), config.loaded_at ? `${file}, in force since ${when(config.loaded_at)}` : `${file}, nothing in force yet`);
  const last = config.last_load?.at ?? "";
  if (last === chosen.reloadsOf) return;
  chosen.reloadsOf = last;
  loadReloads();
  if ($("config-details").open) loadConfig();
}

// ask returns an answer of the API, null if there is none.
async function ask(path) {
  const response = await fetch("/api/v1/" + path, { headers: headers() }).catch(() => null);
  return response?.ok ? response : null;
}

async function loadReloads() {
  const response = await ask("reloads");
  if (!response) {
    chosen.reloadsOf = ""; // try again with the next news
    return;
  }
  const { reloads } = await response.json();
  list($("reloads"), reloads.slice(0, 6), (r) => r.at, (r) => ({
    node: h("li", { "data-ok": String(r.ok) },
      h("div", { class: "line" }, h("span", { class: "tag", "data-tone": r.ok ? "good" : "bad" }, r.ok ? "taken" : "refused"), h("time", { class: "when", datetime: r.at }, when(r.at))),
      h("p", { class: "text" }, r.ok ? [...r.changes, ...(r.moved ? [`${percent(r.moved)} of sessions got another owner`] : [])].join("\n") : r.error)),
  }));
}

async function loadConfig() {
  const response = await ask("config");
  text($("config-text"), response ? await response.text() : "The config is not available.");
}

$("span-fine").addEventListener("click", () => {
  chosen.fine = true;
  render();
});
$("span-coarse").addEventListener("click", () => {
  chosen.fine = false;
  render();
});
$("more-events").addEventListener("click", () => {
  chosen.events += 50;
  render();
});
$("operate").addEventListener("click", () => openProxy(data.status));
$("live").addEventListener("click", () => data.live === "refused" && askToken());
$("config-details").addEventListener("toggle", () => $("config-details").open && loadConfig());
prepare(() => {
  again();
  render();
});

let asked = false;
follow(() => {
  if (asked) return;
  asked = true;
  setTimeout(() => { // not an animation frame: the title tells in a hidden tab, too
    asked = false;
    render();
  }, 20);
});
