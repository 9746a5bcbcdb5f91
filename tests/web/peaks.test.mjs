import assert from "node:assert/strict";
import { test } from "node:test";
import { peaks } from "../../web/js/peaks.js";

test("each span tells its lowest and its highest sample", () => {
  const samples = Float32Array.from([0.5, -0.25, 0, 0, -1, 1]);
  assert.deepEqual(peaks(samples, 3), [
    [-0.25, 0.5],
    [0, 0],
    [-1, 1],
  ]);
});

test("every sample is seen, however the spans fall", () => {
  for (let length = 1; length < 60; length++) {
    const samples = Float32Array.from({ length }, (_, index) => (index === length - 1 ? 1 : 0));
    for (const columns of [1, 2, 7, 40, 100]) {
      const found = peaks(samples, columns);
      assert.equal(found.length, columns);
      assert.equal(found.at(-1)[1], 1);
    }
  }
});

test("silence and no sound at all are flat", () => {
  assert.deepEqual(peaks(new Float32Array(0), 2), [
    [0, 0],
    [0, 0],
  ]);
});
