// Figures and times as words for people.

const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (value) => whole.format(value);
export const percent = (value) => `${whole.format(value * 100)} %`;
export const perSecond = (value) => (value >= 0.9995 ? `${tenths.format(value)} s/s` : `${whole.format(value * 1000)} ms/s`);
export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

/** Seconds in the unit that fits: 420 µs, 7.3 ms, 612 ms, 1.5 s. */
export function duration(value) {
  if (value === 0) return "0 ms";
  if (value < 0.0009995) return `${whole.format(value * 1e6)} µs`;
  if (value < 0.00995) return `${tenths.format(value * 1000)} ms`;
  if (value < 0.9995) return `${whole.format(value * 1000)} ms`;
  return `${value < 100 ? tenths.format(value) : whole.format(value)} s`;
}

/** The function and the short place of a frame: `/a/b/demo/stage.py:176 render` is `render` in `demo/stage.py:176`. */
export function frame(text) {
  const cut = text.lastIndexOf(" ");
  return { name: text.slice(cut + 1), place: text.slice(0, cut).split("/").slice(-2).join("/") };
}

/** Whether a frame is of Python or of an installed package, and not of the application. */
export const foreign = (text) => /\/(site|dist)-packages\/|\/lib\/python\d|^</.test(text);
