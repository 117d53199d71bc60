// Numbers as people read them: the same answers as figures.py; a test compares both.

const MINUS = "\u2212";
const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
const plural = (value, one, many = one + "s") => `${count(value)} ${value === 1 ? one : many}`;

const digitsOf = (value) => (Math.abs(value) >= 0.0095 ? 3 : Math.abs(value) >= 0.00095 ? 4 : 5);

function signed(value, digits = digitsOf(value)) {
  const text = Math.abs(value).toFixed(digits);
  if (!/[1-9]/.test(text)) return "0";
  return (value > 0 ? "+" : MINUS) + text;
}

function interval({ low, high }) {
  const digits = digitsOf(Math.max(Math.abs(low), Math.abs(high)));
  return `[${signed(low, digits)}, ${signed(high, digits)}]`;
}

function probability(value) {
  if (value <= 0) return "under 10⁻³⁰⁰";
  if (value >= 0.001) return value < 0.9995 ? value.toFixed(3) : "1";
  let exponent = Math.floor(Math.log10(value));
  let mantissa = exponent > -300 ? Math.floor(value / 10 ** exponent + 0.5) : 1;
  if (mantissa >= 10) [mantissa, exponent] = [1, exponent + 1];
  const power = "10" + [...String(exponent)].map((digit) => SUPERSCRIPTS[digit]).join("");
  return mantissa === 1 ? power : `${mantissa}\u202f×\u202f${power}`;
}

const percent = (value) => (value > 0 && value < 0.005 ? "under 1%" : `${Math.round(100 * value)}%`);
