// Failures of one place of the page: one message with a way to try again, and nothing hides another's failure.
import { make, passFocus } from "./dom.js";
import { Problem } from "./problems.js";

const WAITS = [5, 10, 20, 30];
const RETURNING = new Set([0, 502, 503]);
const INPUT = new Set(["damaged", "foreign", 400, 413, 415, 422]);

let working = 0;
let moment = 0;

/**
 * Wraps what is done in a part of the page: the page shows that it works, and a failure is shown in `place` until the
 * same work succeeds. Where a service is away it is tried again by itself too; what was wrong with an input is over
 * with the next success of anything.
 */
export function guardFor(place) {
  const failures = new Map();
  const text = make("p", { role: "alert" });
  const retry = make("button", { type: "button", onclick: () => tryAgain(failures.keys()) }, "Retry");
  place.replaceChildren(text, retry);
  let timer = 0;
  let attempts = 0;

  const away = () => [...failures].filter(([, { problem }]) => RETURNING.has(problem.status)).map(([work]) => work);

  function tryAgain(works) {
    for (const work of [...works]) failures.get(work)?.again();
  }

  function show() {
    const latest = [...failures.values()].at(-1);
    if (!latest) passFocus(retry, ...document.querySelectorAll("h1"), document.getElementById("content"));
    const words = latest?.problem.message ?? "";
    if (text.textContent !== words) text.textContent = words;
    place.hidden = !latest;
    clearTimeout(timer);
    if (!away().length) attempts = 0;
    else timer = setTimeout(() => tryAgain(away()), WAITS[Math.min(attempts++, WAITS.length - 1)] * 1000);
  }

  addEventListener("online", () => tryAgain(away()));

  return (work) => async function run(...values) {
    const began = (moment += 1);
    working += 1;
    document.documentElement.toggleAttribute("data-busy", true);
    try {
      await work(...values);
      failures.delete(work);
      for (const [other, { problem, at }] of failures) {
        if (at < began && INPUT.has(problem.status)) failures.delete(other);
      }
    } catch (error) {
      failures.delete(work); // so that it comes last
      const problem = asProblem(error);
      const again = () => run(...(problem.left ? [problem.left] : values));
      failures.set(work, { problem, at: (moment += 1), again });
    } finally {
      working -= 1;
      document.documentElement.toggleAttribute("data-busy", working > 0);
      show();
    }
  };
}

/** A failure in words for people; what nobody has foreseen is told to developers too. */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem("page");
}
