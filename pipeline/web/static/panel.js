// A panel asks one question, draws its answer, and keeps what goes wrong to itself.

import { get, Problem } from "./api.js";
import { h } from "./dom.js";

export class Panel {
  #abort = null;
  #answered = null; // the request whose answer is on show
  #fault = null;
  answer = null; // what is on show; null while there is a fault in its place
  problem = null; // that fault

  /**
   * `request(view)` says what to ask: {path, parameters}, or null where nothing need be asked.
   * `draw(answer, view)` shows it; it gets null where nothing was asked. `view.refused(problem)` says of a
   * fault that can never pass what is wrong, and the way out: {message, label, act, isOfAll}; null where it may pass.
   * `redraws`: what is drawn depends on more of the view than the question does.
   */
  constructor(root, { request, draw, redraws = false }) {
    this.root = root;
    this.body = root.querySelector(".panel-body");
    this.request = request;
    this.draw = draw;
    this.redraws = redraws;
  }

  /** Show `view`. What is there stays until the new answer has come; an answer already on show is not asked for again, unless `anew`. */
  async show(view, { anew = false } = {}) {
    const request = this.request(view);
    const key = JSON.stringify(request);
    if (!anew && key === this.#answered) {
      if (this.redraws && this.answer) this.draw(this.answer, view);
      return;
    }
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    this.#ask(true);
    try {
      const answer = request && (await get(request.path, request.parameters, abort.signal));
      if (abort.signal.aborted) return;
      this.#settle(null, view);
      this.draw(answer, view);
      this.answer = answer;
      this.problem = null;
      this.#answered = key;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#answered = this.answer = null;
      this.problem = error;
      this.#settle(error, view);
      if (!(error instanceof Problem)) reportError(error);
    } finally {
      if (this.#abort === abort) this.#ask(false);
    }
  }

  #ask(isAsking) {
    this.root.setAttribute("aria-busy", String(isAsking));
    this.root.classList.toggle("is-asking", isAsking);
  }

  #settle(error, view) {
    const hadFocus = this.#fault?.contains(document.activeElement);
    const height = (this.#fault ?? this.body).offsetHeight; // a fault takes the room of what it stands for
    this.#fault?.remove();
    this.#fault = error && (view.refused(error)?.isOfAll ? saidAbove() : fault(error, () => this.show(view, { anew: true }), view.refused));
    this.body.hidden = error !== null;
    if (this.#fault) {
      this.#fault.style.minHeight = `${height}px`;
      this.body.after(this.#fault);
    }
    if (hadFocus) (this.#fault?.querySelector("button") ?? this.#focusable()).focus();
  }

  #focusable() {
    this.root.tabIndex = -1;
    return this.root;
  }
}

/** What concerns the whole page is said once, above all panels. */
const saidAbove = () => h("div", { class: "fault" }, h("p", { class: "note" }, "Not shown: the reason is given above."));

/** What went wrong, with the button that tries again, or leads out of it. */
export function fault(error, retry, refused = () => null) {
  const { message, label, act } = refused(error) ?? { message: error.message, label: "Retry", act: retry };
  return h(
    "div",
    { class: "fault", role: "alert" },
    h("p", {}, message),
    h("button", { class: "action", type: "button", onclick: act }, label),
  );
}
