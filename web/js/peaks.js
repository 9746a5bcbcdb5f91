// What a drawn sound reckons with.

/**
 * The lowest and the highest sample in each of `columns` equal spans of a sound, 0 for spans without any. As [low, high].
 */
export function peaks(samples, columns) {
  return Array.from({ length: columns }, (_, column) => {
    const span = samples.subarray(
      Math.floor((column * samples.length) / columns),
      Math.ceil(((column + 1) * samples.length) / columns),
    );
    let [low, high] = [0, 0];
    for (const sample of span) [low, high] = [Math.min(low, sample), Math.max(high, sample)];
    return [low, high];
  });
}
