// What an operator can do, behind the token. The token is kept in this page's
// memory only, and is gone with it.

import { $, h, text, attribute, show } from "./dom.js";

let token = "";

// headers are those of each request to the API.
export const headers = () => (token ? { Authorization: "Bearer " + token } : {});

export const unlocked = () => token !== "";

// post asks for an action and returns what to tell people.
async function post(path, body) {
  try {
    const response = await fetch("/api/v1/" + path, {
      method: "POST",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const answer = await response.json();
    return { ok: response.ok, text: response.ok ? answer.done : answer.error };
  } catch (error) {
    return { ok: false, text: "The proxy can't be reached: " + error.message };
  }
}

function tell(result) {
  attribute($("dialog-result"), "data-tone", result.ok ? "good" : "bad");
  text($("dialog-result"), result.text);
}

let onUnlock = () => {};

// prepare wires the dialog; unlocked is called when a token is taken or dropped.
export function prepare(whenUnlocked) {
  onUnlock = whenUnlocked;
  $("dialog-close").addEventListener("click", () => $("dialog").close());
}

// open shows the dialog with what build returns, after the token if it is needed.
function open(title, build) {
  text($("dialog-title"), title);
  text($("dialog-result"), "");
  $("dialog-body").replaceChildren(...(unlocked() ? build() : [tokenForm(() => open(title, build))]));
  if (!$("dialog").open) $("dialog").showModal();
  $("dialog-body").querySelector("input, button")?.focus();
}

function tokenForm(then) {
  const input = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  return h("form", {
    class: "token",
    onsubmit: async (e) => {
      e.preventDefault();
      token = input.value.trim();
      const result = await post("token", {});
      if (!result.ok) {
        token = "";
        tell(result);
        return;
      }
      onUnlock();
      then();
    },
  },
  h("label", { for: "token" }, "The token, as it is in the file that admin.token_file names. It stays in this page and is forgotten when you leave it."),
  h("div", { class: "inputs" }, input, h("button", { id: "unlock", class: "button main" }, "Unlock")));
}

// askToken is for those who may not even read without it.
export function askToken() {
  open("Token", () => {
    $("dialog").close();
    return [];
  });
}

// choice is one thing to do: what it does, its inputs and its button.
function choice({ name, title, about, inputs = [], body = () => ({}), danger = false }) {
  const button = h("button", { class: "button" + (danger ? " danger" : ""), "data-action": name }, title);
  return h("form", {
    class: "choice",
    onsubmit: async (e) => {
      e.preventDefault();
      button.disabled = true;
      tell({ ok: true, text: "…" });
      tell(await post("actions/" + name, body()));
      button.disabled = false;
    },
  },
  h("div", {}, h("h3", {}, title), h("p", {}, about)),
  h("div", { class: "inputs" }, ...inputs, button));
}

// can reports whether the proxy offers an action.
const can = (status, name) => status.acting.actions.includes(name);

// openBackend offers what can be done with one backend.
export function openBackend(status, name) {
  const backend = status.backends.find((b) => b.name === name);
  if (!backend) return;
  const body = () => ({ backend: name });
  const weight = h("input", { type: "number", min: "1", max: "1000", required: true, value: String(backend.weight || 1), "aria-label": "Weight" });
  const choices = [
    { name: "drain", title: "Drain", about: "It gets no sessions any more; those it has are brought over. Do this before you patch or stop it.", if: backend.state !== "draining" && backend.weight > 0 },
    { name: "undrain", title: "Undrain", about: "It owns its share of sessions again.", if: backend.state === "draining" },
    { name: "weight", title: "Set weight", about: "A larger weight owns more of the sessions.", inputs: [weight], body: () => ({ backend: name, weight: Number(weight.value) }), if: backend.weight > 0 },
    { name: "eject", title: "Eject", about: "Out of service at once. Sessions it holds can't be read until it is readmitted; their users start anew.", danger: true, if: backend.state !== "down" },
    { name: "readmit", title: "Readmit", about: "Ends an ejection by hand.", if: Boolean(backend.health?.by_hand) },
  ];
  open(name, () => offered(status, choices.map((c) => ({ body, ...c }))));
}

// openWindow offers to end the handoff of a pool.
export function openWindow(status, pool) {
  open("Handoff of " + pool, () => offered(status, [{
    name: "close-window", title: "Close window", danger: true, if: true, body: () => ({ pool }),
    about: "Former owners are not asked any more. Sessions that were not used since the change are lost.",
  }]));
}

// openProxy offers what concerns the whole proxy.
export function openProxy(status) {
  const level = h("select", { "aria-label": "Log level" }, ...["debug", "info", "warn", "error"].map((l) =>
    h("option", { value: l, selected: l === status.acting.log_level }, l)));
  open("Operate", () => [
    ...offered(status, [
      { name: "reload", title: "Reload config", about: "Reads the config file now and takes it. What was changed here ends.", if: true },
      { name: "log-level", title: "Set log level", about: "Until the next reload or restart.", inputs: [level], body: () => ({ level: level.value }), if: true },
    ]),
    h("p", { class: "muted" }, "Backends and handoffs have their own buttons."),
    h("button", {
      class: "button plain", id: "lock", type: "button",
      onclick: () => {
        token = "";
        onUnlock();
        $("dialog").close();
      },
    }, "Forget the token"),
  ]);
}

function offered(status, choices) {
  const list = choices.filter((c) => c.if && can(status, c.name)).map(choice);
  return list.length ? list : [h("p", { class: "muted" }, "Nothing can be done here.")];
}

// showOperate shows the button for what concerns the whole proxy.
export function showOperate(status) {
  show($("operate"), status.acting.enabled);
  text($("operate"), unlocked() ? "Operate" : "Unlock");
}
