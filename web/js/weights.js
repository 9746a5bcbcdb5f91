// The arithmetic of the mixing panel. Shares are weights that sum to 1.

const HUNDREDTHS = 100;
const HEIGHT = Math.sqrt(3) / 2;
/** Corners of the triangle in which three shares are a point: sides of length 1, y downwards. */
export const TRIANGLE = [
  [0.5, 0],
  [0, HEIGHT],
  [1, HEIGHT],
];

/** The weights in a text such as "1, 0.5", equal ones of an empty text; null unless it holds `count` of them. */
export function parsed(text, count) {
  if (!text.trim()) return Array(count).fill(1);
  const weights = text.split(",").map((part) => (part.trim() ? Number(part) : NaN));
  return weights.length === count && weights.every((weight) => weight >= 0 && weight < Infinity) ? weights : null;
}

/** Shares of weights; null if all are zero. */
export function sharesOf(weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return total > 0 ? weights.map((weight) => weight / total) : null;
}

/** The shares with one of them set; the others keep their ratio. */
export function withShare(shares, index, share) {
  const set = Math.min(1, Math.max(0, share));
  const others = shares.reduce((sum, each, place) => (place === index ? sum : sum + each), 0);
  return shares.map((each, place) => {
    if (place === index) return shares.length === 1 ? 1 : set;
    return (1 - set) * (others > 0 ? each / others : 1 / (shares.length - 1));
  });
}

/** Shares in whole hundredths that still sum to 1, as the text of the field. */
export function written(shares) {
  const parts = shares.map((share) => Math.floor(share * HUNDREDTHS));
  const missing = HUNDREDTHS - parts.reduce((sum, part) => sum + part, 0);
  const byLoss = shares.map((share, index) => index).sort((a, b) => loss(shares, parts, b) - loss(shares, parts, a));
  for (const index of byLoss.slice(0, missing)) parts[index] += 1;
  return parts.map((part) => String(part / HUNDREDTHS)).join(", ");
}

function loss(shares, parts, index) {
  return shares[index] * HUNDREDTHS - parts[index];
}

/** Where three shares lie in TRIANGLE. */
export function pointOf(shares) {
  return [0, 1].map((axis) => shares.reduce((sum, share, index) => sum + share * TRIANGLE[index][axis], 0));
}

/** The shares of a point; of one outside, those of a point on the edge. */
export function sharesAt([x, y]) {
  const top = 1 - y / HEIGHT;
  const right = x - top / 2;
  const inside = [top, 1 - top - right, right].map((share) => Math.max(0, share));
  return sharesOf(inside);
}
