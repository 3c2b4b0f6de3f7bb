// Pictures' sides are multiples of 8.

const MULTIPLE = 8;

/** The largest multiple of 8 that is not above `side`, and at least 8. */
export function multipleBelow(side) {
  return Math.max(MULTIPLE, Math.floor(side / MULTIPLE) * MULTIPLE);
}
