import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parsed, pointOf, sharesAt, sharesOf, TRIANGLE, withShare, written } from "../../web/js/weights.js";

const CASES = 200;

/** The same numbers from 0 to 1 in every run (a linear congruential generator). */
function* numbers(seed = 1) {
  for (let state = seed; ; ) {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    yield state / 2 ** 32;
  }
}

const random = numbers();
const next = () => random.next().value;
const sum = (shares) => shares.reduce((total, share) => total + share, 0);
const someShares = (count) => sharesOf(Array.from({ length: count }, next));

function close(one, other) {
  assert.equal(one.length, other.length);
  one.forEach((each, index) => assert.ok(Math.abs(each - other[index]) < 1e-9, `${one} against ${other}`));
}

for (const { text, count, shares } of JSON.parse(readFileSync(new URL("weights.json", import.meta.url), "utf8"))) {
  test(`"${text}" for ${count} is what it is for the node`, () => {
    const weights = parsed(text, count);
    assert.deepEqual(weights && sharesOf(weights), shares);
  });
}

test("one share is set and the others keep their ratio", () => {
  for (let round = 0; round < CASES; round++) {
    const shares = someShares(2 + (round % 5));
    const index = round % shares.length;
    const moved = withShare(shares, index, next());
    assert.ok(Math.abs(sum(moved) - 1) < 1e-9);
    const others = (all) => sharesOf(all.filter((_, place) => place !== index));
    if (moved[index] < 1) close(others(moved), others(shares));
  }
});

test("a share stays between 0 and 1, and the others come back evenly from nothing", () => {
  close(withShare([0.5, 0.5], 0, 7), [1, 0]);
  close(withShare([0.5, 0.5], 0, -7), [0, 1]);
  close(withShare([1, 0, 0], 0, 0.5), [0.5, 0.25, 0.25]);
  close(withShare([1], 0, 0.3), [1]);
});

test("what is written is read again to the hundredth, and sums to 1", () => {
  for (let round = 0; round < CASES; round++) {
    const shares = someShares(1 + (round % 16));
    const again = parsed(written(shares), shares.length);
    assert.ok(Math.abs(sum(again) - 1) < 1e-9);
    again.forEach((each, index) => assert.ok(Math.abs(each - shares[index]) < 0.01 + 1e-9));
  }
});

test("three shares and a point of the triangle are the same thing", () => {
  for (let round = 0; round < CASES; round++) {
    const shares = someShares(3);
    close(sharesAt(pointOf(shares)), shares);
  }
  TRIANGLE.forEach((corner, index) => close(sharesAt(corner), [0, 1, 2].map((each) => Number(each === index))));
});

test("a point outside has the shares of one on the edge", () => {
  for (let round = 0; round < CASES; round++) {
    const shares = sharesAt([next() * 9 - 4, next() * 9 - 4]);
    assert.ok(Math.abs(sum(shares) - 1) < 1e-9 && Math.min(...shares) >= 0);
  }
});
